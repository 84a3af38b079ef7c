// Resolves LlsaOptions for a number of tokens, in integer arithmetic.
#include "kernels/llsa_plan.h"

#include <algorithm>
#include <array>
#include <limits>

namespace llsa {

std::int64_t LlsaPlan::covered(int level, std::int64_t i) const {
  std::int64_t span = 1;
  for (int l = 0; l < level && span < tokens; ++l) span *= block;
  return std::min(span, tokens - i * span);
}

std::int64_t LlsaPlan::keys_per_query() const {
  if (levels == 0) return tokens;
  std::int64_t keys = 0;
  for (int l = 0; l < levels; ++l)
    if (attends(l))
      keys += std::min(count[static_cast<std::size_t>(l)],
                       static_cast<std::int64_t>(block) * width[static_cast<std::size_t>(l)]);
  return attends(levels) ? keys + count.back() : keys;
}

namespace kernels {
namespace {

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a - 1) / b + 1; }

/// max(0, m - 1), m the largest integer with B^m <= N.
int auto_levels(std::int64_t tokens, std::int64_t block) {
  int m = 0;
  for (std::int64_t left = tokens; left >= block; left /= block) ++m;
  return std::max(0, m - 1);
}

void check_sizes(std::int64_t tokens, int block) {
  constexpr std::int64_t kMaxTokens = std::int64_t{1} << 40;
  if (tokens < 1 || tokens > kMaxTokens)
    throw ValueError(cat("[llsa] expected 1 to 2^40 tokens, got ", tokens));
  if (block < 2) throw ValueError(cat("[llsa] expected a block size of at least 2, got ", block));
}

void check_blocks(std::int64_t blocks) {
  if (blocks > std::numeric_limits<std::int32_t>::max())
    throw ValueError(cat("[llsa] ", blocks, " blocks do not fit 32-bit indices"), "use a larger block");
}

void check_topk(int topk) {
  if (topk < 1) throw ValueError(cat("[llsa] expected top-k >= 1, got ", topk));
}

}  // namespace

LlsaPlan llsa_plan(std::int64_t tokens, const LlsaOptions& options) {
  check_sizes(tokens, options.block);
  if (options.levels < -1)
    throw ValueError(cat("[llsa] expected levels >= 0, or -1 for automatic, got ", options.levels));

  LlsaPlan plan;
  plan.tokens = tokens;
  plan.block = options.block;
  plan.levels = options.levels == -1 ? auto_levels(tokens, options.block) : options.levels;
  plan.reweight = options.reweight;
  plan.own = options.own;
  plan.count = {tokens};
  for (int l = 1; l <= plan.levels; ++l) {
    if (plan.count.back() == 1)
      throw ValueError(cat("[llsa] ", plan.levels, " levels do not fit ", tokens, " tokens in blocks of ",
                           plan.block, ": at most ", l - 1),
                       "use fewer levels, or -1 for automatic");
    plan.count.push_back(ceil_div(plan.count.back(), plan.block));
  }
  if (plan.levels > 0) check_blocks(plan.count[1]);

  plan.enriched = options.enriched == -1 ? plan.levels : options.enriched;
  if (plan.enriched < 0 || plan.enriched > plan.levels)
    throw ValueError(
        cat("[llsa] expected 0 to ", plan.levels, " enriched levels, or -1 for all, got ", options.enriched));
  if (plan.levels == 0) return plan;

  const auto levels = static_cast<std::size_t>(plan.levels);
  if (options.topk.size() != 1 && options.topk.size() != levels)
    throw ValueError(
        cat("[llsa] expected one top-k or one for each of ", levels, " levels, got ", options.topk.size()));
  plan.topk.resize(levels);
  for (std::size_t l = 0; l < levels; ++l) {
    plan.topk[l] = options.topk[options.topk.size() == 1 ? 0 : l];
    check_topk(plan.topk[l]);
  }
  plan.width.resize(levels);
  std::int64_t candidates = plan.count[levels];
  for (std::size_t l = levels; l-- > 0;) {
    const std::int64_t n = std::min({static_cast<std::int64_t>(plan.topk[l]), candidates, plan.count[l + 1]});
    plan.width[l] = static_cast<int>(n);
    candidates = n * plan.block;
  }
  return plan;
}

LlsaPlan picked_blocks_plan(std::int64_t tokens, int block, int topk) {
  check_sizes(tokens, block);
  check_topk(topk);
  LlsaPlan plan;
  plan.tokens = tokens;
  plan.block = block;
  plan.levels = 1;
  plan.count = {tokens, ceil_div(tokens, block)};
  check_blocks(plan.count[1]);
  plan.topk = {topk};
  plan.width = {static_cast<int>(std::min<std::int64_t>(topk, plan.count[1]))};
  return plan;
}

AttentionFlops llsa_flops(const LlsaPlan& plan, std::int64_t batch_heads, std::int64_t d) {
  const double product = 2.0 * static_cast<double>(batch_heads) * static_cast<double>(d);
  const double pairs = static_cast<double>(plan.tokens) * static_cast<double>(plan.keys_per_query());
  double scores = 0;
  for (int l = 1; l <= plan.levels; ++l) {
    const auto at = static_cast<std::size_t>(l);
    const double n = static_cast<double>(plan.count[at]);
    scores += n * (l == plan.levels ? n : std::min(n, static_cast<double>(plan.block) * plan.width[at]));
  }
  return {product * scores, 2 * product * pairs, 5 * product * pairs};
}

// ---- tensor cores ---------------------------------------------------------------------------------------

namespace {

constexpr std::array<std::int64_t, 3> kHeadDims = {32, 64, 128};
constexpr std::array<std::int64_t, 3> kBlocks = {16, 32, 64};
constexpr int kMostPicks = 64;  // they are kept in registers
constexpr int kPieceKeys = 16;  // the candidates of one matrix product have one parent

template <std::size_t n>
std::string unless_one_of(const std::array<std::int64_t, n>& good, const char* what, std::int64_t value) {
  if (std::find(good.begin(), good.end(), value) != good.end()) return "";
  std::string all;
  for (const std::int64_t one : good) all += (all.empty() ? "" : ", ") + std::to_string(one);
  return cat(what, " ", value, " is not one of ", all);
}

/// What attention and selection have in common.
std::string operand_obstacle(std::int64_t d, DType dtype) {
  if (dtype != DType::bf16) return cat("dtype ", name_of(dtype), " is not bf16");
  return unless_one_of(kHeadDims, "head dimension", d);
}

}  // namespace

std::string attend_obstacle(const LlsaPlan& plan, std::int64_t d, DType dtype) {
  if (std::string obstacle = operand_obstacle(d, dtype); !obstacle.empty()) return obstacle;
  if (plan.levels > 0)
    if (std::string obstacle = unless_one_of(kBlocks, "block", plan.block); !obstacle.empty())
      return obstacle;
  if (const std::int64_t tokens = std::max(plan.tokens, plan.count[0]); tokens >= kTensorCoreTokens)
    return cat(tokens, " tokens are not fewer than ", kTensorCoreTokens);
  return "";
}

std::string select_obstacle(int width, int block, bool coarsest, std::int64_t d, DType dtype) {
  if (std::string obstacle = operand_obstacle(d, dtype); !obstacle.empty()) return obstacle;
  if (width > kMostPicks) return cat(width, " picks are more than ", kMostPicks);
  if (!coarsest && block % kPieceKeys != 0) return cat("block ", block, " is not a multiple of ", kPieceKeys);
  return "";
}

std::string plain_kernels_text(const LlsaPlan& plan, std::int64_t d, DType dtype) {
  if (plan.levels == 0) return "";
  const auto text = [](const char* what, const std::string& obstacle) {
    return cat(what, " runs on the plain kernels, which are slower: ", obstacle);
  };
  if (const std::string obstacle = attend_obstacle(plan, d, dtype); !obstacle.empty())
    return text("LLSA attention", obstacle);
  for (int level = plan.levels; level >= 1; --level) {
    const int width = plan.width[static_cast<std::size_t>(level - 1)];
    const std::string obstacle = select_obstacle(width, plan.block, level == plan.levels, d, dtype);
    if (!obstacle.empty()) return text("LLSA selection", cat(obstacle, " (level ", level, ")"));
  }
  return "";
}

}  // namespace kernels
}  // namespace llsa
