// The sizes of the attention benchmark on a device: shapes, what was predicted for them, what is aimed at.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/llsa_plan.h"

namespace llsa::apps {

/// Milliseconds of the forward pass, and of forward with backward; 0 = none.
struct PassTimes {
  double forward = 0, both = 0;
};

struct AttentionSize {
  std::int64_t batch = 1, heads = 6, tokens = 0;
  int block = 16, topk = 8, levels = 2;
  bool beside_full = true;  ///< full attention of the same shape is measured too
  /// By a model of the kernels made before they ran, on an H200, pooling and selection included.
  PassTimes predicted = {};
  PassTimes goal = {};     ///< not to be exceeded
  PassTimes stretch = {};  ///< the same, harder
  std::int64_t head_dim = 64;

  LlsaOptions llsa() const;
  LlsaPlan plan() const;
  /// "(1, 6, 65536)", "B16 K8 L2", and both for a key: "b1_h6_n65536_b16_k8_l2".
  std::string shape() const;
  std::string options() const;
  std::string key() const;
};

/// In order of importance: where time is short, the last are left out first.
const std::vector<AttentionSize>& attention_sizes();

/// Full attention with gradients is not measured beyond; forward is.
constexpr std::int64_t kLongestFullBackward = 131072;

}  // namespace llsa::apps
