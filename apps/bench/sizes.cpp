#include "apps/bench/sizes.h"

#include "core/error.h"

namespace llsa::apps {

LlsaOptions AttentionSize::llsa() const {
  LlsaOptions options;
  options.block = block;
  options.topk = {topk};
  options.levels = levels;
  return options;
}

LlsaPlan AttentionSize::plan() const { return kernels::llsa_plan(tokens, llsa()); }

std::string AttentionSize::shape() const { return cat("(", batch, ", ", heads, ", ", tokens, ")"); }
std::string AttentionSize::options() const { return cat("B", block, " K", topk, " L", levels); }
std::string AttentionSize::key() const {
  return cat("b", batch, "_h", heads, "_n", tokens, "_b", block, "_k", topk, "_l", levels);
}

const std::vector<AttentionSize>& attention_sizes() {
  static const std::vector<AttentionSize> sizes = [] {
    const auto size = [](std::int64_t batch, std::int64_t heads, std::int64_t tokens, int levels,
                         PassTimes predicted = {}) {
      AttentionSize c;
      c.batch = batch;
      c.heads = heads;
      c.tokens = tokens;
      c.levels = levels;
      c.predicted = predicted;
      return c;
    };
    // 256 x 256 pixels, the published case: full attention takes 50 times the goal.
    AttentionSize first = size(1, 6, 65536, 2, {0.315, 1.094});
    first.goal = {0.41, 1.5};
    first.stretch = {0.20, 0.70};
    std::vector<AttentionSize> list = {
        first,
        // Two images of 128, 256 and 512 pixels a side, then how time grows with N, then a batch.
        size(2, 4, 16384, 2),
        size(2, 4, 65536, 2),
        size(2, 4, 262144, 2),
        size(1, 6, 16384, 2, {0.073, 0.244}),
        size(1, 6, 131072, 2, {0.810, 2.842}),
        size(1, 6, 262144, 2, {2.395, 8.451}),
        size(1, 6, 262144, 3, {1.108, 4.269}),
        size(4, 6, 65536, 2, {1.229, 4.267}),
        // Many short sequences; a single level.
        size(16, 6, 16384, 2, {1.117, 3.733}),
        size(1, 6, 16384, 1),
        size(1, 6, 65536, 1),
    };
    // Larger blocks, more picks, a length that is no power of two: no full attention beside them.
    const auto ours = [&](std::int64_t tokens, int block, int topk) {
      AttentionSize c = size(1, 6, tokens, 2);
      c.block = block;
      c.topk = topk;
      c.beside_full = false;
      list.push_back(c);
    };
    ours(65536, 64, 8);
    list.back().goal = {0.30, 0};
    list.back().stretch = {0.22, 0};
    ours(131072, 64, 8);
    ours(65536, 16, 32);
    ours(50000, 16, 8);
    ours(65536, 32, 8);
    return list;
  }();
  return sizes;
}

}  // namespace llsa::apps
