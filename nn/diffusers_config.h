// The JSON files of the published checkpoint directory (diffusers layout), from and to DitConfig.
#pragma once

#include <string>
#include <vector>

#include "dit_config.h"

namespace llsa::nn {

/// denoiser/config.json for a resolved configuration. Full attention is "pixel", LLSA of L levels
/// "sparse_l<L>"; what these keys cannot say (enrichment, re-weighting, position embedding) goes into extra
/// keys.
std::string diffusers_config_json(const DitConfig& config);

struct DiffusersConfig {
  DitConfig config;
  std::vector<std::string> notes;  ///< keys that were ignored, one sentence each
};

/// Reads denoiser/config.json, with the published defaults for missing keys. Throws ValueError for what this
/// model cannot do (VSA, SLA, predicted x0, other RoPE axes or activations, ..) and for wrong types.
DiffusersConfig parse_diffusers_config(const std::string& text, const std::string& where);

/// Empty when the published program can load such a model, otherwise why not.
std::string published_reader_obstacle(const DitConfig& config);

/// scheduler/scheduler_config.json.
std::string scheduler_config_json(double noise_rescale);
/// Its noise_rescale (1 when missing). Throws ValueError for a shift or image_rescale other than 1, or
/// predicted x0.
double parse_scheduler_config(const std::string& text, const std::string& where);
/// model_index.json.
std::string model_index_json();

}  // namespace llsa::nn
