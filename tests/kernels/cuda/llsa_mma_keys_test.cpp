// The key-major half of the backward pass on tensor cores, called by its own name, and its work lists.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>

#include "kernels/cuda/llsa/llsa.h"
#include "tests/kernels/cuda/contexts.h"
#include "tests/kernels/cuda/llsa_bf16_reference.h"
#include "tests/kernels/cuda/orders.h"

using namespace llsa;
using namespace llsa::kernels;
using namespace llsa::test;

namespace {

const Device kGpu{DeviceType::cuda, 0};

LlsaCase sized(std::int64_t n, std::int64_t d, std::int64_t block, std::int64_t k, int levels, int enriched,
               bool reweight = true) {
  return {n,      d,        block,   std::vector<std::int64_t>(static_cast<std::size_t>(levels), k),
          levels, enriched, reweight};
}

/// Values that bf16 holds.
LlsaProblem rounded_problem(LlsaProblem p) {
  for (Matrix* x : {&p.q, &p.k, &p.v, &p.g})
    for (double& value : *x) value = rounded(value);
  return p;
}

/// All queries choose one block: its keys point where all queries do.
LlsaProblem crowded(const LlsaCase& c, std::int64_t heads, std::int64_t block) {
  LlsaProblem p(c, 1, heads, 1);
  for (std::size_t i = 0; i < p.k.size(); ++i) {
    p.q[i] = std::abs(p.q[i]);
    const auto token = static_cast<std::int64_t>(i) / c.d % c.n;
    if (token / c.block == block) p.k[i] += 5;
  }
  return rounded_problem(p);
}

/// A problem on the device, forward done.
struct OnDevice {
  Context& gpu;
  LlsaPlan plan;
  LlsaIndices indices;
  Tensor q, k, v, g;
  LlsaResult forward;

  OnDevice(Context& ctx, const LlsaProblem& p, const std::vector<PickTable>& picks)
      : gpu(ctx), plan(llsa_plan(p.c.n, options_of(p.c))), indices(indices_of(ctx, p, picks, plan)) {
    q = tensor_of(ctx, p.q, p.shape(), DType::bf16);
    k = tensor_of(ctx, p.k, p.shape(), DType::bf16);
    v = tensor_of(ctx, p.v, p.shape(), DType::bf16);
    g = tensor_of(ctx, p.g, p.shape(), DType::bf16);
    forward = llsa_attend(ctx, q, k, v, indices, plan);
  }

  /// dk, then dv, by the tensor-core kernels, written over NaN.
  Matrix keys_backward() {
    const LlsaState& args = *forward.state;
    REQUIRE(kernels::cuda::fits_mma(args, g));
    const Matrix nan(static_cast<std::size_t>(k.numel()), std::numeric_limits<double>::quiet_NaN());
    const Tensor dk = tensor_of(gpu, nan, k.shape(), DType::bf16),
                 dv = tensor_of(gpu, nan, k.shape(), DType::bf16);
    const kernels::cuda::QueryTerms terms = kernels::cuda::query_terms(gpu, g, forward.o, forward.lse);
    kernels::cuda::keys_backward_mma(gpu, args, g, terms, dk, dv);
    Matrix both = to_vector<double>(gpu, dk);
    append(both, to_vector<double>(gpu, dv));
    return both;
  }

  /// The work list of the keys of a level.
  kernels::cuda::WorkList work_list(int level, int node_shift, int cap) {
    const auto above = static_cast<std::size_t>(level);
    return kernels::cuda::work_list(gpu, index_transpose(gpu, indices.level[above], plan.count[above + 1]),
                                    plan.tokens, node_shift, cap);
  }
};

/// Errors at most twice those of a plain bf16 implementation, and the kernels are those that users get.
void check_keys(const LlsaProblem& problem) {
  const LlsaProblem p = rounded_problem(problem);
  CAPTURE(p.c.n);
  CAPTURE(p.c.d);
  CAPTURE(p.c.block);
  CAPTURE(p.c.levels);
  CAPTURE(p.c.enriched);
  Context gpu(kGpu);
  const OracleAll exact = run_oracle(p);
  const KernelRun plain = run_bf16_reference(p, exact.picks);
  OnDevice x(gpu, p, exact.picks);
  const Matrix found = x.keys_backward();
  const auto middle = found.begin() + static_cast<std::ptrdiff_t>(found.size() / 2);
  const Matrix dk(found.begin(), middle), dv(middle, found.end());
  CHECK(largest_difference(dk, exact.result.dk) <= 2 * largest_difference(plain.dk, exact.result.dk) + 1e-6);
  CHECK(largest_difference(dv, exact.result.dv) <= 2 * largest_difference(plain.dv, exact.result.dv) + 1e-6);
  const AttentionGrads all = llsa_attention_backward(gpu, x.g, *x.forward.state);
  CHECK(to_vector<double>(gpu, all.dk) == dk);
  CHECK(to_vector<double>(gpu, all.dv) == dv);
}

using Lists = std::vector<std::vector<std::int32_t>>;  // of one head, by key

IndexTranspose transpose_of(Context& ctx, const std::vector<Lists>& heads, std::int64_t entries) {
  std::vector<std::int32_t> offset, query;
  for (const Lists& lists : heads) {
    std::vector<std::int32_t> all;
    for (const auto& list : lists) {
      offset.push_back(static_cast<std::int32_t>(all.size()));
      all.insert(all.end(), list.begin(), list.end());
    }
    offset.push_back(static_cast<std::int32_t>(all.size()));
    all.resize(static_cast<std::size_t>(entries), -7);
    query.insert(query.end(), all.begin(), all.end());
  }
  const auto h = static_cast<std::int64_t>(heads.size());
  return {from_vector(ctx, offset, {1, h, static_cast<std::int64_t>(heads[0].size()) + 1}),
          from_vector(ctx, query, {1, h, entries})};
}

/// Query nodes of 2^shift queries choose `k` of the blocks; one block of three is twenty times as popular.
std::vector<Lists> random_lists(std::int64_t heads, std::int64_t blocks, std::int64_t nodes, int k,
                                std::uint64_t seed) {
  const Matrix dice = random_matrix(heads * nodes * blocks, seed);
  std::vector<Lists> all(static_cast<std::size_t>(heads), Lists(static_cast<std::size_t>(blocks)));
  std::size_t at = 0;
  for (Lists& lists : all)
    for (std::int64_t i = 0; i < nodes; ++i) {
      std::vector<std::pair<double, std::int64_t>> order;
      for (std::int64_t j = 0; j < blocks; ++j) order.emplace_back(dice[at++] + (j % 3 == 1 ? 3 : 0), j);
      std::sort(order.rbegin(), order.rend());
      for (int e = 0; e < std::min(k, static_cast<int>(blocks)); ++e)
        lists[static_cast<std::size_t>(order[static_cast<std::size_t>(e)].second)].push_back(
            static_cast<std::int32_t>(i));
    }
  return all;
}

/// One head's items and slots, in the order of the contract.
struct ExpectedWork {
  std::vector<std::int32_t> item, split;

  ExpectedWork(const Lists& lists, std::int64_t queries, int node_shift, int cap) {
    using Item = std::array<std::int32_t, 4>;
    std::vector<Item> items;
    for (std::size_t j = 0; j < lists.size(); ++j) {
      int tiles = 0;
      for (std::int64_t node : lists[j]) {
        const std::int64_t begin = node << node_shift, end = std::min(queries, (node + 1) << node_shift);
        tiles += static_cast<int>((end - begin + 15) / 16);
      }
      const int pieces = std::max(1, (tiles + cap - 1) / cap);
      for (int p = 0; p < pieces; ++p) {
        items.push_back({static_cast<std::int32_t>(j), p * cap, std::min(cap, tiles - p * cap),
                         pieces > 1 ? static_cast<std::int32_t>(split.size() / 2) : -1});
        if (pieces == 1) continue;
        split.push_back(static_cast<std::int32_t>(j));
        split.push_back(p == 0 ? pieces : 0);
      }
    }
    std::stable_sort(items.begin(), items.end(), [&](const Item& a, const Item& b) {
      return (cap - a[2]) * 15 / cap < (cap - b[2]) * 15 / cap;
    });
    for (const Item& i : items) item.insert(item.end(), i.begin(), i.end());
  }
};

std::vector<std::int32_t> part(const std::vector<std::int32_t>& all, std::size_t first, std::size_t size) {
  REQUIRE(first + size <= all.size());
  const auto begin = all.begin() + static_cast<std::ptrdiff_t>(first);
  return {begin, begin + static_cast<std::ptrdiff_t>(size)};
}

}  // namespace

TEST_SUITE_BEGIN("kernels/cuda/llsa_mma_keys");

TEST_CASE("work lists: a host loop's items and slots, in all orders") {
  if (!cuda_device()) return;
  struct Sizes {
    std::int64_t heads, queries, blocks;
    int node_shift, k, cap;
  };
  for (const Sizes& s :
       {Sizes{2, 1000, 63, 4, 3, 8}, Sizes{1, 1, 1, 4, 1, 4}, Sizes{2, 5000, 40, 8, 2, 32},
        Sizes{1, 4100, 700, 5, 5, 16}, Sizes{3, 333, 1, 30, 1, 4}, Sizes{1, 4096, 5, 10, 2, 256},
        Sizes{1, 2000, 300, 4, 20, 64}, Sizes{1, 1237, 5003, 4, 9, 2}, Sizes{1, 320, 17000, 5, 3, 2}}) {
    CAPTURE(s.queries);
    CAPTURE(s.cap);
    const std::int64_t nodes = (s.queries + (std::int64_t{1} << s.node_shift) - 1) >> s.node_shift;
    const std::vector<Lists> heads = random_lists(s.heads, s.blocks, nodes, s.k, 7);
    const std::int64_t entries = nodes * std::min<std::int64_t>(s.k, s.blocks);
    for_all_orders([&] {
      Context gpu(kGpu);
      const kernels::cuda::WorkList list =
          kernels::cuda::work_list(gpu, transpose_of(gpu, heads, entries), s.queries, s.node_shift, s.cap);
      const auto item = to_vector<std::int32_t>(gpu, list.item),
                 split = to_vector<std::int32_t>(gpu, list.split),
                 count = to_vector<std::int32_t>(gpu, list.count);
      std::vector<std::int32_t> all;
      for (std::size_t h = 0; h < heads.size(); ++h) {
        const ExpectedWork expected(heads[h], s.queries, s.node_shift, s.cap);
        REQUIRE(count[2 * h] == static_cast<std::int32_t>(expected.item.size() / 4));
        REQUIRE(count[2 * h + 1] == static_cast<std::int32_t>(expected.split.size() / 2));
        REQUIRE(count[2 * h] <= list.item.size(2));
        REQUIRE(count[2 * h + 1] <= list.split.size(2));
        const auto items =
            part(item, h * static_cast<std::size_t>(list.item.size(2)) * 4, expected.item.size());
        CHECK(items == expected.item);
        CHECK(part(split, h * static_cast<std::size_t>(list.split.size(2)) * 2, expected.split.size()) ==
              expected.split);
        all.insert(all.end(), items.begin(), items.end());
      }
      return all;
    });
  }
}

TEST_CASE("blocks of 16, all D: ragged N, odd K, L_e from 0 to L, K per level, re-weighting off") {
  if (!cuda_device()) return;
  for (int enriched = 0; enriched <= 2; ++enriched)
    check_keys(LlsaProblem(sized(300, 64, 16, 3, 2, enriched), 1, 2, 1));
  check_keys(LlsaProblem(sized(523, 32, 16, 5, 2, 1), 1, 1, 2));
  check_keys(LlsaProblem(sized(257, 128, 16, 2, 2, 2, false), 1, 1, 3));
  check_keys(LlsaProblem(sized(290, 128, 16, 3, 1, 1), 2, 1, 4));
  check_keys(LlsaProblem(sized(1200, 32, 16, 4, 1, 1), 1, 1, 5));
  check_keys(LlsaProblem({600, 64, 16, {5, 1}, 2, 2, true}, 1, 1, 6));
  check_keys(LlsaProblem(sized(31, 64, 16, 100, 1, 1), 1, 1, 7));
  for (int enriched : {1, 3}) check_keys(LlsaProblem({4200, 32, 16, {1, 2, 1}, 3, enriched, true}, 1, 1, 8));
}

TEST_CASE("blocks of 32 and 64") {
  if (!cuda_device()) return;
  check_keys(LlsaProblem(sized(300, 64, 32, 2, 1, 1), 1, 1, 11));
  check_keys(LlsaProblem(sized(1100, 32, 32, 2, 2, 2), 1, 1, 12));
  check_keys(LlsaProblem(sized(1060, 128, 32, 3, 2, 1, false), 1, 1, 13));
  check_keys(LlsaProblem(sized(333, 32, 64, 2, 1, 1), 1, 1, 14));
  check_keys(LlsaProblem(sized(333, 64, 64, 3, 2, 2), 1, 2, 15));
  check_keys(LlsaProblem(sized(70, 128, 64, 1, 1, 0), 1, 1, 16));
  check_keys(LlsaProblem(sized(150, 128, 64, 1, 2, 2), 1, 1, 17));
}

TEST_CASE("full attention, all D: few keys, several groups, queries in chunks") {
  if (!cuda_device()) return;
  std::uint64_t seed = 20;
  for (std::int64_t d : {32, 64, 128})
    for (std::int64_t n : {1, 17, 50, 143, 300})
      check_keys(LlsaProblem(sized(n, d, 16, 1, 0, 0), 1, 1, ++seed));
  check_keys(LlsaProblem(sized(1100, 32, 16, 1, 0, 0), 1, 2, ++seed));
}

TEST_CASE("a fine block that all queries pick is cut; the others get zeros or what lies above") {
  if (!cuda_device()) return;
  const LlsaProblem p = crowded(sized(1500, 32, 16, 1, 1, 1), 2, 40);
  check_keys(p);
  const std::vector<PickTable> picks = run_oracle(p).picks;
  Context gpu(kGpu);
  OnDevice x(gpu, p, picks);
  const kernels::cuda::WorkList list = x.work_list(0, 4, 64);
  CHECK(to_vector<std::int32_t>(gpu, list.count) == std::vector<std::int32_t>{95, 2, 95, 2});  // 94 blocks

  LlsaProblem fine_only = p;
  fine_only.c.enriched = 0;
  check_keys(fine_only);
  OnDevice y(gpu, fine_only, picks);
  const Matrix both = y.keys_backward();
  for (std::size_t i = 0; i < both.size(); ++i) REQUIRE((both[i] != 0) == (i / 32 % 1500 / 16 == 40));
}

TEST_CASE("a block of 32 keys, two warps, whose list is cut") {
  if (!cuda_device()) return;
  const LlsaProblem p = crowded(sized(2200, 32, 32, 1, 1, 0), 1, 30);
  check_keys(p);
  Context gpu(kGpu);
  OnDevice x(gpu, p, run_oracle(p).picks);
  // 69 nodes, the last of 24 queries: 138 tiles.
  CHECK(to_vector<std::int32_t>(gpu, x.work_list(0, 5, 128).count) == std::vector<std::int32_t>{70, 2});
}

TEST_CASE("a block of a selected level that all queries pick is cut") {
  if (!cuda_device()) return;
  const LlsaProblem p = crowded(sized(4400, 32, 16, 1, 2, 2), 1, 100);
  check_keys(p);
  Context gpu(kGpu);
  OnDevice x(gpu, p, run_oracle(p).picks);
  // All 18 nodes of level 2, 275 tiles, hold node 6.
  CHECK(to_vector<std::int32_t>(gpu, x.work_list(1, 8, 256).count) == std::vector<std::int32_t>{19, 2});
  CHECK(to_vector<std::int32_t>(gpu, x.work_list(0, 4, 64).count)[1] == 5);
}

TEST_CASE("equal bits in all lane and block orders") {
  if (!cuda_device()) return;
  for (const LlsaProblem& p : {crowded(sized(1100, 32, 16, 2, 2, 2), 1, 30),
                               rounded_problem(LlsaProblem(sized(200, 64, 32, 2, 2, 2), 1, 2, 31)),
                               rounded_problem(LlsaProblem(sized(150, 128, 64, 2, 1, 1), 1, 1, 32)),
                               rounded_problem(LlsaProblem(sized(600, 64, 16, 1, 0, 0), 1, 1, 33))}) {
    CAPTURE(p.c.n);
    const std::vector<PickTable> picks = run_oracle(p).picks;
    for_all_orders([&] {
      Context gpu(kGpu);
      return OnDevice(gpu, p, picks).keys_backward();
    });
  }
}

TEST_SUITE_END();
