// Every differentiable op, for code that uses many.
#pragma once

#include "attention.h"
#include "conv.h"
#include "copy.h"
#include "elementwise.h"
#include "index.h"
#include "loss.h"
#include "matmul.h"
#include "norm.h"
#include "pool.h"
#include "reduce.h"
#include "rope.h"
#include "softmax.h"
#include "view.h"
