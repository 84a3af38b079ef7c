// All that a program needs which embeds the library: #include <llsa/llsa.h>.
//
// This header only includes others. A program may include those alone instead: each works by itself, and as <llsa/...>, too.
// No header here needs one of CUDA.
#pragma once

// Contexts, devices, tensors, errors.
#include "core/context.h"
#include "core/device_choice.h"
#include "core/error.h"
#include "core/safetensors.h"
#include "core/tensor.h"

// Makers of tensors: zeros, randn, from_vector.
#include "kernels/make.h"

// Variables, ops on them, and gradients.
#include "autograd/gradcheck.h"
#include "autograd/ops.h"
#include "autograd/recompute.h"
#include "autograd/var.h"

// Layers, optimisers, averages, schedules.
#include "nn/attention.h"
#include "nn/ema.h"
#include "nn/modules.h"
#include "nn/optim.h"
#include "nn/parameter_file.h"
#include "nn/schedule.h"

// Images from a model, and the parts that train one: data, loss, training step, checkpoints.
#include "nn/checkpoint/diffusers.h"
#include "nn/checkpoint/init_from.h"
#include "nn/checkpoint/training_state.h"
#include "nn/class_names.h"
#include "nn/data/grid.h"
#include "nn/data/loader.h"
#include "nn/data/shapes.h"
#include "nn/diffusion/cascade.h"
#include "nn/diffusion/cascade_sampler.h"
#include "nn/diffusion/flow.h"
#include "nn/diffusion/sampler.h"
#include "nn/dit.h"
#include "nn/image_model.h"
#include "nn/pixelflow.h"
#include "nn/train_step.h"
