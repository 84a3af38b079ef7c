// The recipe of `make demo`, as examples/demo.json has it (a test compares them).
#pragma once

#include "nn/train_options.h"

namespace llsa::apps {

nn::TrainOptions demo_recipe();

}  // namespace llsa::apps
