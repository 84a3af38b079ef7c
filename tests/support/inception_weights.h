// Weights of the Inception network by a formula, as tests/golden/metrics.safetensors was made with: element i of the
// tensor called name is a function of a 64-bit hash of name and i.
#pragma once

#include <cmath>
#include <cstdint>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "core/context.h"
#include "core/safetensors.h"

namespace llsa::test {

inline std::uint64_t hash_of(const std::string& name) {
  std::uint64_t h = 0xcbf29ce484222325u;
  for (const char c : name) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return h;
}

/// The i-th 64-bit word of a name with this hash.
inline std::uint64_t word_of(std::uint64_t hash, std::uint64_t i) {
  std::uint64_t z = hash + (i + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

inline bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

inline Tensor inception_tensor(Context& ctx, const std::string& name, const Shape& shape) {
  const Tensor x = ctx.empty(shape, DType::f32);
  const bool product = ends_with(name, "conv.weight") || ends_with(name, "fc.weight");
  const bool positive = ends_with(name, "bn.weight") || ends_with(name, "bn.running_var");
  const double bound = std::sqrt(6.0 * static_cast<double>(shape[0]) / static_cast<double>(shape.numel()));
  const bool last_bias = name == "fc.bias";
  const std::uint64_t hash = hash_of(name);
  float* const to = x.data<float>();
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    const double u = static_cast<double>(word_of(hash, static_cast<std::uint64_t>(i)) >> 40) / 0x1p24;
    to[i] = static_cast<float>(product     ? bound * (2 * u - 1)
                               : positive  ? 0.5 + u
                               : last_bias ? u - 0.5
                                           : 0.2 * (u - 0.5));
  }
  return x;
}

/// All tensors by the list of names and shapes.
inline std::vector<std::pair<std::string, Tensor>> inception_tensors(Context& ctx) {
  std::ifstream list(LLSA_SOURCE_DIR "/tests/golden/inception_tensors.txt");
  std::vector<std::pair<std::string, Tensor>> all;
  for (std::string line; std::getline(list, line);) {
    std::istringstream words(line);
    std::string name, number;
    words >> name;
    std::vector<std::int64_t> extents;
    while (words >> number) extents.push_back(std::stoll(number.substr(number[0] == '[' ? 1 : 0)));
    all.emplace_back(name, inception_tensor(ctx, name, Shape(extents)));
  }
  return all;
}

}  // namespace llsa::test
