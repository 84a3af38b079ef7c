// Golden files of models: weights under "w." and the names of the parameters.
#pragma once

#include <doctest/doctest.h>

#include "core/safetensors.h"
#include "nn/parameters.h"

namespace llsa::test {

/// The parameters have the names and shapes of the file's weights, and the file has no others.
inline void check_parameters(const nn::Parameters& parameters, const SafetensorsFile& file) {
  std::size_t weights = 0;
  for (const auto& [name, tensor] : file.tensors()) weights += name.rfind("w.", 0) == 0;
  CHECK(parameters.all().size() == weights);
  for (const nn::Parameter& p : parameters.all()) {
    CAPTURE(p.name);
    REQUIRE(file.contains("w." + p.name));
    CHECK(file.at("w." + p.name).shape() == p.shape);
  }
}

}  // namespace llsa::test
