// The JSON files of a checkpoint directory in the diffusers layout, from and to DitConfig.
#pragma once

#include <string>
#include <vector>

#include "dit_config.h"

namespace llsa::nn {

/// denoiser/config.json for a resolved configuration, of a PixelFlow that of its last stage. Full attention is "pixel",
/// LLSA of L levels "sparse_l<L>". Enrichment, re-weighting and position embedding go into extra keys.
std::string diffusers_config_json(const DitConfig& config, ModelKind kind = ModelKind::dit);

struct DiffusersConfig {
  ModelKind kind = ModelKind::dit;
  DitConfig config;                ///< of a PixelFlow: its last stage
  std::vector<std::string> notes;  ///< keys that were ignored, one sentence each
};

/// Reads denoiser/config.json, with the defaults of that layout for missing keys. Throws ValueError for what
/// this model cannot do (other RoPE axes or activations, ..) and for wrong types.
DiffusersConfig parse_diffusers_config(const std::string& text, const std::string& where);

/// Whether a document is such a file. A configuration of llsa has other keys for the attention.
bool is_diffusers_config(const std::string& text, const std::string& where);

/// The kind of model that a denoiser/config.json names; without a name a Dit.
ModelKind diffusers_model_kind(const std::string& text, const std::string& where);

/// The reason why the published program does not compute the same with such a model; empty if it does.
std::string diffusers_reader_obstacle(const DitConfig& config, ModelKind kind = ModelKind::dit);

/// scheduler/scheduler_config.json.
std::string scheduler_config_json(double noise_rescale);
struct SchedulerConfig {
  double noise_rescale = 1.0;
  bool pred_x0 = false;                 ///< as in denoiser/config.json; either file may set it
  std::vector<std::string> notes = {};  ///< keys that were ignored
};
/// Throws ValueError for what changes how images are drawn: a shift or image_rescale other than 1, other
/// spacings of the noise levels, another scheduler.
SchedulerConfig parse_scheduler_config(const std::string& text, const std::string& where);
/// The same file of a PixelFlow, whose sampler has no settings but the number of stages.
std::string cascade_scheduler_config_json();
/// Throws ValueError for another number of stages or of time steps.
void check_cascade_scheduler_config(const std::string& text, const std::string& where);
/// model_index.json.
std::string model_index_json(ModelKind kind = ModelKind::dit);

}  // namespace llsa::nn
