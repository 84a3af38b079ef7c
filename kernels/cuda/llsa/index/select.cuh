// What the kernels of the selection share: a level's problem, the order of scores, and the K best of a row.
//
// ordered() maps scores to unsigned integers of the same order, with NaN below all numbers and -0 equal to
// +0; 0 stands for "no candidate". A Cut describes the K best of a row: everything above the K-th largest
// key, and the first of those that equal it. One warp walks over a row, which may lie in any memory: a Row
// has a type Key, and its each(f) calls f(key) for the keys of the lane.
#pragma once

#include "../../device/launch.cuh"
#include "../../device/types.cuh"

namespace llsa::kernels::cuda {

/// One level of all heads; row r is query r % count of head r / count.
template <class T>
struct SelectLevel {
  const T* q = nullptr;                   // [heads, n_l, D]
  const T* k = nullptr;                   // [heads, n_l, D]
  const std::int32_t* parents = nullptr;  // I_{l+1}; null at the coarsest level: all keys are candidates
  std::uint16_t* words = nullptr;         // R_l, words in units of 16 bits, by parent and candidate; or null
  std::int64_t heads = 0, count = 0, parent_count = 0, candidates = 0;
  int d = 0, block = 1, parent_width = 0, topk = 0, width = 0, word_units = 0;
  bool own = false;  // the query's own node comes before all others

  /// The picks whose children are the candidates of a row, below the coarsest level.
  __device__ const std::int32_t* picks_above(std::int64_t row) const {
    return parents + (row / count * parent_count + row % count / block) * parent_width;
  }
  /// The key that is candidate c of a row, or -1.
  __device__ std::int64_t candidate(std::int64_t row, std::int64_t c) const {
    if (!parents) return c;
    const std::int32_t j = picks_above(row)[c / block];
    const std::int64_t key = j * static_cast<std::int64_t>(block) + c % block;
    return j < 0 || key >= count ? -1 : key;
  }
};

template <class A>
struct OrderedOf {
  using Key = std::uint32_t;
  __device__ static Key bits(float x) { return __float_as_uint(x); }
};
template <>
struct OrderedOf<double> {
  using Key = unsigned long long;
  __device__ static Key bits(double x) { return static_cast<Key>(__double_as_longlong(x)); }
};

/// NaN is 1; numbers are larger.
template <class A>
__device__ __forceinline__ auto ordered(A x) {
  using O = OrderedOf<A>;
  using Key = typename O::Key;
  constexpr Key kSign = Key{1} << (8 * sizeof(Key) - 1);
  if (x != x) return Key{1};
  const Key bits = O::bits(x + A(0));  // -0 becomes +0
  return (bits & kSign) ? static_cast<Key>(~bits) : static_cast<Key>(bits | kSign);
}

/// Above all scores: of a query's own node, where it is always picked.
template <class Key>
constexpr Key kFirst = static_cast<Key>(~Key{0});

/// The best of a row: all keys above `key`, and the first `room` of those that equal it.
template <class Key>
struct Cut {
  Key key;
  int room;
};

/// The cut that leaves the k best, or all if there are fewer: the k-th largest key is built bit by bit, each
/// bit decided by counting.
template <class Row>
__device__ auto cut_by_counting(const Row& row, int k) {
  using Key = typename Row::Key;
  const auto reaching = [&](Key limit) {  // how many keys are at least this
    int n = 0;
    row.each([&](Key key) { n += key >= limit; });
    return __reduce_add_sync(kAllLanes, n);
  };
  const int valid = reaching(1);
  if (valid <= k) return Cut<Key>{1, valid};
  Key limit = 0;
  for (int bit = 8 * static_cast<int>(sizeof(Key)) - 1; bit >= 0; --bit) {
    const Key trial = limit | Key{1} << bit;
    const int n = reaching(trial);
    if (n >= k) limit = trial;
    if (n == k) break;
  }
  return Cut<Key>{limit, k - reaching(limit + 1)};
}

/// Walks over a row, 32 neighbouring candidates at a time, and numbers those that a cut leaves.
template <class Key>
struct Taker {
  Cut<Key> cut;
  int taken = 0;  // so far

  /// The number of the candidate in this lane, or -1; `key` is 0 in lanes beyond the row.
  __device__ int number(Key key) {
    const unsigned before = (1u << lane_of_thread()) - 1;
    const unsigned equal = __ballot_sync(kAllLanes, key == cut.key);
    const bool chosen = key > cut.key || (key == cut.key && __popc(equal & before) < cut.room);
    const unsigned all = __ballot_sync(kAllLanes, chosen);
    const int number = chosen ? taken + __popc(all & before) : -1;
    taken += __popc(all);
    cut.room -= min(cut.room, __popc(equal));
    return number;
  }
};

// ---- selection on tensor cores (mma/select.cu) ------------------------------------------------------------
//
// bf16 with f32 accumulation, D = 32, 64 or 128, at most 64 picks, any number of candidates; below the
// coarsest level B a multiple of 16.

/// Whether the kernels take a level.
bool fits_mma_select(const SelectLevel<__nv_bfloat16>& s);

/// One level: out i32 [heads, n_l, w_l] becomes I_l, and s.words, if there are any, R_l.
void select_level_mma(Context& ctx, const SelectLevel<__nv_bfloat16>& s, std::int32_t* out);

}  // namespace llsa::kernels::cuda
