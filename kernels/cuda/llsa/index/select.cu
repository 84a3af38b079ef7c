// Hierarchical selection: the counterpart of kernels/cpu/llsa_stages.cpp, coarsest level first.
//
//     score   key[i][c] = ordered(Q^(l)[i] . K^(l)[candidate c])        a thread per score
//     pick    I_l[i] = the K largest, ties to the lower candidate         a warp per row
//
// Candidates ascend, so rows come out ascending. Any K, any number of candidates, any dtype; most bf16
// problems go to mma/select.cu. The picks of the levels below the coarsest are written as bit words, too,
// from the finished tables (index/words.cu).
//
// Scores go through global memory, a bounded number of rows at a time. FLOPs: 2 D per candidate. Bytes: K^(l)
// rows come from L1/L2, since the children of a parent share their candidates; 4 per score (8 in f64) are
// written, and read up to 35 (67) times from caches, since the K-th largest is found bit by bit. Bound by the
// latency of the loops. Small beside the attention: at most K B candidates per row below the coarsest level.
#include "kernels/cuda/llsa/index/select.cuh"
#include "kernels/cuda/llsa/llsa.h"

namespace llsa::kernels::cuda {
namespace {

constexpr std::int64_t kScoreBytes = std::int64_t{64} << 20;  // scores that are kept at a time

/// Scores of rows [first, first + rows).
template <class T, class Key>
__global__ void score_candidates(SelectLevel<T> s, std::int64_t first, std::int64_t rows, Key* keys) {
  using A = accumulator_t<T>;
  const std::int64_t at = piece_of_thread();
  if (at >= rows * s.candidates) return;
  const std::int64_t row = first + at / s.candidates;
  const std::int64_t key = s.candidate(row, at % s.candidates);
  if (key < 0) {
    keys[at] = 0;
    return;
  }
  if (s.own && key == row % s.count) {
    keys[at] = kFirst<Key>;
    return;
  }
  const T* const q = s.q + row * s.d;
  const T* const k = s.k + (row / s.count * s.count + key) * s.d;
  A sum = 0;
  for (int j = 0; j < s.d; ++j) sum += static_cast<A>(q[j]) * static_cast<A>(k[j]);
  keys[at] = ordered(sum);
}

/// Keys in memory.
template <class K>
struct MemoryRow {
  using Key = K;
  const Key* keys;
  std::int64_t count;

  __device__ Key at(std::int64_t c) const { return c < count ? keys[c] : 0; }
  template <class F>
  __device__ void each(F f) const {
    for (std::int64_t c = lane_of_thread(); c < count; c += 32) f(keys[c]);
  }
};

template <class T, class Key>
__global__ void pick_best(SelectLevel<T> s, std::int64_t first, std::int64_t rows, const Key* keys,
                          std::int32_t* out) {
  const std::int64_t at = piece_of_warp();
  if (at >= rows) return;  // whole warps leave
  const int lane = lane_of_thread();
  const MemoryRow<Key> row = {keys + at * s.candidates, s.candidates};
  std::int32_t* const to = out + (first + at) * s.width;

  Taker<Key> taker = {cut_by_counting(row, s.topk)};
  for (std::int64_t base = 0; base < s.candidates && taker.taken < s.topk; base += 32) {
    const int number = taker.number(row.at(base + lane));
    if (number >= 0) to[number] = static_cast<std::int32_t>(s.candidate(first + at, base + lane));
  }
  for (int e = taker.taken + lane; e < s.width; e += 32) to[e] = -1;
}

template <class T>
void select_level_plain(Context& ctx, const SelectLevel<T>& s, std::int32_t* out) {
  using Key = typename OrderedOf<accumulator_t<T>>::Key;
  const std::int64_t all_rows = s.heads * s.count;
  const std::int64_t row_bytes = s.candidates * static_cast<std::int64_t>(sizeof(Key));
  const std::int64_t rows =
      std::clamp<std::int64_t>(kScoreBytes / row_bytes, 1, std::max<std::int64_t>(all_rows, 1));
  const Tensor keys = ctx.empty({rows * row_bytes}, DType::u8);
  for (std::int64_t first = 0; first < all_rows; first += rows) {
    const std::int64_t now = std::min(rows, all_rows - first);
    launch_threads(ctx, score_candidates<T, Key>, now * s.candidates, s, first, now, device_data<Key>(keys));
    launch_warps(ctx, pick_best<T, Key>, now, s, first, now, device_data<const Key>(keys), out);
  }
}

}  // namespace

void llsa_select(Context& ctx, const std::vector<Tensor>& q, const std::vector<Tensor>& k, LlsaState& state) {
  const LlsaPlan& plan = state.plan;
  const std::vector<Tensor>& index = state.index;
  state.words = empty_words(ctx, plan, index);
  Profiler::add_work(llsa_flops(plan, q[0].size(0) * q[0].size(1), q[0].size(3)).selection);
  visit_device(q[0].dtype(), "llsa_select", [&]<class T>() {
    for (int level = plan.levels; level >= 1; --level) {
      const auto at = static_cast<std::size_t>(level - 1);
      SelectLevel<T> s;
      s.q = device_data<const T>(q[at]);
      s.k = device_data<const T>(k[at]);
      s.heads = q[at].size(0) * q[at].size(1);
      s.count = plan.count[at + 1];
      s.candidates = s.count;
      s.d = static_cast<int>(q[at].size(3));
      s.block = plan.block;
      s.topk = plan.topk[at];
      s.width = plan.width[at];
      s.own = plan.own;
      if (level < plan.levels) {
        s.parents = index[at + 1].data<std::int32_t>();
        s.parent_count = plan.count[at + 2];
        s.parent_width = plan.width[at + 1];
        s.candidates = static_cast<std::int64_t>(s.parent_width) * s.block;
      }
      const bool with_words = at < state.words.size();
      if (with_words) {
        s.words = device_data<std::uint16_t>(state.words[at]);
        s.word_units = word_bytes(plan.block) / 2;
      }
      std::int32_t* const out = index[at].data<std::int32_t>();
      if constexpr (std::is_same_v<T, __nv_bfloat16>) {
        if (fits_mma_select(s)) {
          select_level_mma(ctx, s, out);
          continue;
        }
      }
      select_level_plain(ctx, s, out);
      if (with_words) mark_words(ctx, plan, index[at], index[at + 1], state.words[at]);
    }
  });
}

}  // namespace llsa::kernels::cuda
