// Whole configurations by name, for `llsa train --preset NAME`. Flags come on top of them.
#pragma once

#include <string>
#include <vector>

#include "nn/train_options.h"

namespace llsa::apps {

struct Preset {
  const char* name;
  const char* help;  ///< "DiT-S at 128 x 128, .."
  nn::TrainOptions (*options)();
};
const std::vector<Preset>& presets();

/// The options of a preset. For an unknown name, throws UsageError that names all presets.
nn::TrainOptions preset(const std::string& name);

}  // namespace llsa::apps
