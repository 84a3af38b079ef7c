#include "kernels/llsa_tensor_cores.h"

#include <algorithm>
#include <array>

#include "core/error.h"

namespace llsa::kernels {
namespace {

constexpr std::array<std::int64_t, 3> kHeadDims = {32, 64, 128};
constexpr std::array<std::int64_t, 3> kBlocks = {16, 32, 64};
constexpr int kMostPicks = 64;  // kept in registers
constexpr int kPieceKeys = 16;  // candidates of a matrix product have one parent

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

}  // namespace llsa::kernels
