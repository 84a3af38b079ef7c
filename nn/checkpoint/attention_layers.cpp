#include "nn/checkpoint/attention_layers.h"

#include <algorithm>

#include "core/error.h"
#include "kernels/make.h"

namespace llsa::nn {

using TensorMap = std::map<std::string, Tensor>;

bool belongs_to_layer(const std::string& name, const char* layer) {
  return name.find(cat(".attn1.", layer, ".")) != std::string::npos;
}

const char* attention_layer_of(const DitConfig& config) {
  if (config.attention == AttentionKind::vsa && config.vsa_gate) return kAttentionLayers[0];
  return config.attention == AttentionKind::sla ? kAttentionLayers[1] : nullptr;
}

std::vector<std::string> add_missing_layers(const Parameters& store, TensorMap& tensors) {
  std::vector<std::string> added;
  for (const char* layer : kAttentionLayers) {
    const auto has = [layer](const auto& entry) { return belongs_to_layer(entry.first, layer); };
    if (std::any_of(tensors.begin(), tensors.end(), has)) continue;
    const std::size_t before = tensors.size();
    for (const Parameter& parameter : store.all())
      if (belongs_to_layer(parameter.name, layer))
        tensors[parameter.name] =
            to_host(store.context(), store.context().zeros(parameter.shape, DType::f32));
    if (tensors.size() > before) added.emplace_back(layer);
  }
  return added;
}

}  // namespace llsa::nn
