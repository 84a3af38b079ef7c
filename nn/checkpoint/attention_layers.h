// Layers that only one kind of attention has: VSA's gate and SLA's projection. They start at zero, so weights of another
// kind of attention can be read without them.
#pragma once

#include <array>
#include <map>
#include <string>
#include <vector>

#include "../../core/tensor.h"
#include "../dit_config.h"
#include "../parameters.h"

namespace llsa::nn {

inline constexpr std::array<const char*, 2> kAttentionLayers = {"to_gate_compress", "proj_l"};

/// Whether a tensor of that name is one of the layer's.
bool belongs_to_layer(const std::string& name, const char* layer);

/// The layer that a model has, or null.
const char* attention_layer_of(const DitConfig& config);

/// Adds zeros for the layers of the model that the tensors lack altogether. Returns the names of these layers.
std::vector<std::string> add_missing_layers(const Parameters& store, std::map<std::string, Tensor>& tensors);

}  // namespace llsa::nn
