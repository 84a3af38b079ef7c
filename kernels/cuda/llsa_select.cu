// Hierarchical selection: twin of kernels/cpu/llsa_select.cpp, coarsest level first.
//
//     score   key[i][c] = ordered(Q^(l)[i] . K^(l)[candidate c])        a thread per score
//     pick    I_l[i] = the K largest, ties to the lower candidate         a warp per row
//
// ordered() maps scores to unsigned integers of the same order, with NaN below all numbers and -0 equal to
// +0; 0 stands for "no candidate". The K-th largest is built bit by bit, each bit decided by counting;
// candidates ascend, so rows come out ascending. Any K and any number of candidates.
//
// Scores go through global memory, a bounded number of rows at a time. FLOPs: 2 D per candidate; bytes: K^(l)
// rows from L1/L2, since the children of a parent share their candidates. Bound by the latency of the loops,
// small beside the attention: at most K B candidates per row below the coarsest level.
#include "kernels/cuda/llsa.h"
#include "kernels/cuda/llsa_operands.cuh"

namespace llsa::kernels::cuda {
namespace {

constexpr std::int64_t kScoreBytes = std::int64_t{64} << 20;  // scores that are kept at a time

template <class A>
struct OrderedOf {
  using Key = std::uint32_t;
  static constexpr int kBits = 32;
  __device__ static Key bits(float x) { return __float_as_uint(x); }
};
template <>
struct OrderedOf<double> {
  using Key = unsigned long long;
  static constexpr int kBits = 64;
  __device__ static Key bits(double x) { return static_cast<Key>(__double_as_longlong(x)); }
};

/// NaN is 1; numbers are larger.
template <class A>
__device__ auto ordered(A x) {
  using O = OrderedOf<A>;
  using Key = typename O::Key;
  constexpr Key kSign = Key{1} << (O::kBits - 1);
  if (x != x) return Key{1};
  const Key bits = O::bits(x + A(0));  // -0 becomes +0
  return (bits & kSign) ? static_cast<Key>(~bits) : static_cast<Key>(bits | kSign);
}

/// One level of all heads; row r is query r % count of head r / count.
template <class T>
struct SelectLevel {
  const T* q = nullptr;                   // [heads, n_l, D]
  const T* k = nullptr;                   // [heads, n_l, D]
  const std::int32_t* parents = nullptr;  // I_{l+1}; null at the coarsest level: all keys are candidates
  std::int64_t count = 0, parent_count = 0, candidates = 0;
  int d = 0, block = 1, parent_width = 0, topk = 0, width = 0;

  /// The key that is candidate c of a row, or -1.
  __device__ std::int64_t candidate(std::int64_t row, std::int64_t c) const {
    if (!parents) return c;
    const std::int64_t parent = row / count * parent_count + row % count / block;
    const std::int32_t j = parents[parent * parent_width + c / block];
    const std::int64_t key = j * static_cast<std::int64_t>(block) + c % block;
    return j < 0 || key >= count ? -1 : key;
  }
};

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
  const T* const q = s.q + row * s.d;
  const T* const k = s.k + (row / s.count * s.count + key) * s.d;
  A sum = 0;
  for (int j = 0; j < s.d; ++j) sum += static_cast<A>(q[j]) * static_cast<A>(k[j]);
  keys[at] = ordered(sum);
}

template <class T, class Key>
__global__ void pick_best(SelectLevel<T> s, std::int64_t first, std::int64_t rows, const Key* keys,
                          std::int32_t* out) {
  const std::int64_t at = piece_of_warp();
  if (at >= rows) return;  // whole warps leave
  const int lane = lane_of_thread();
  const Key* const key = keys + at * s.candidates;
  const std::int64_t row = first + at;
  std::int32_t* const to = out + row * s.width;

  const auto reaching = [&](Key limit) {  // how many keys are at least this
    int n = 0;
    for (std::int64_t c = lane; c < s.candidates; c += 32) n += key[c] >= limit;
    return __reduce_add_sync(kAllLanes, n);
  };
  const int valid = reaching(1);
  const int best = s.topk < valid ? s.topk : valid;
  Key limit = best < valid ? 0 : 1;
  if (best < valid) {
    for (int bit = OrderedOf<accumulator_t<T>>::kBits - 1; bit >= 0; --bit) {
      const Key trial = limit | Key{1} << bit;
      const int n = reaching(trial);
      if (n >= best) limit = trial;
      if (n == best) break;
    }
  }
  // Everything above the limit, and of those that equal it the first ones.
  int room = best < valid ? best - reaching(limit + 1) : valid;
  int taken = 0;
  for (std::int64_t base = 0; base < s.candidates && taken < best; base += 32) {
    const std::int64_t c = base + lane;
    const Key value = c < s.candidates ? key[c] : 0;
    const unsigned before = (1u << lane) - 1;
    const unsigned equal = __ballot_sync(kAllLanes, value == limit);
    const bool chosen = value > limit || (value == limit && __popc(equal & before) < room);
    const unsigned all = __ballot_sync(kAllLanes, chosen);
    if (chosen) to[taken + __popc(all & before)] = static_cast<std::int32_t>(s.candidate(row, c));
    taken += __popc(all);
    room -= min(room, __popc(equal));
  }
  for (int e = taken + lane; e < s.width; e += 32) to[e] = -1;
}

}  // namespace

void llsa_select(Context& ctx, const LlsaPlan& plan, const std::vector<Tensor>& q,
                 const std::vector<Tensor>& k, const std::vector<Tensor>& index) {
  visit_device(q[0].dtype(), "llsa_select", [&]<class T>() {
    using Key = typename OrderedOf<accumulator_t<T>>::Key;
    for (int level = plan.levels; level >= 1; --level) {
      const auto at = static_cast<std::size_t>(level - 1);
      SelectLevel<T> s;
      s.q = device_data<const T>(q[at]);
      s.k = device_data<const T>(k[at]);
      s.count = plan.count[at + 1];
      s.candidates = s.count;
      s.d = static_cast<int>(q[at].size(3));
      s.block = plan.block;
      s.topk = plan.topk[at];
      s.width = plan.width[at];
      if (level < plan.levels) {
        s.parents = index[at + 1].data<std::int32_t>();
        s.parent_count = plan.count[at + 2];
        s.parent_width = plan.width[at + 1];
        s.candidates = static_cast<std::int64_t>(s.parent_width) * s.block;
      }
      const std::int64_t all_rows = q[at].size(0) * q[at].size(1) * s.count;
      const std::int64_t row_bytes = s.candidates * static_cast<std::int64_t>(sizeof(Key));
      const std::int64_t rows = std::clamp<std::int64_t>(kScoreBytes / row_bytes, 1, all_rows);
      const Tensor keys = ctx.empty({rows * row_bytes}, DType::u8);
      for (std::int64_t first = 0; first < all_rows; first += rows) {
        const std::int64_t now = std::min(rows, all_rows - first);
        launch_threads(ctx, score_candidates<T, Key>, now * s.candidates, s, first, now,
                       device_data<Key>(keys));
        launch_warps(ctx, pick_best<T, Key>, now, s, first, now, device_data<const Key>(keys),
                     index[at].data<std::int32_t>());
      }
    }
  });
}

}  // namespace llsa::kernels::cuda
