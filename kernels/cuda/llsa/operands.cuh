// What attention kernels read: strided heads, and the attended set of every query.
//
// Full attention is the case L = 0: level 0 is then the coarsest level, and every query attends to all of its
// tokens or, in causal attention, to those up to its own place.
#pragma once

#include <cmath>

#include "../device/launch.cuh"
#include "../device/types.cuh"
#include "llsa.h"

namespace llsa::kernels::cuda {

/// A tensor [b,H,N,D] with unit stride in D; heads are numbered over (b, H).
template <class T>
struct HeadRows {
  T* data = nullptr;
  std::int64_t batch_stride = 0, head_stride = 0, stride = 0;
  int heads = 1;

  HeadRows() = default;
  explicit HeadRows(const Tensor& x)
      : data(device_data<T>(x)),
        batch_stride(x.stride(0)),
        head_stride(x.stride(1)),
        stride(x.stride(2)),
        heads(static_cast<int>(x.size(1))) {}

  __device__ T* head(std::int64_t h) const {
    const auto all = static_cast<unsigned>(h), per_sample = static_cast<unsigned>(heads);
    return data + all / per_sample * batch_stride + all % per_sample * head_stride;
  }
};

/// Coarse levels that fit a kernel's parameters: 2^32 tokens in blocks of two.
constexpr int kMaxLevels = 32;

/// The attended set. At level l < L, a query's list holds the children of the picks I_{l+1} of its node; at
/// level L it holds every token. The last block of a level may be partly filled. Picks ascend, so that block
/// comes last.
template <class T>
struct AttendedSet {
  struct Level {
    const T* k = nullptr;  ///< [b,H,n_l,D] for l >= 1
    const T* v = nullptr;
    const std::int32_t* picks = nullptr;  ///< I_l, [b,H,n_l,w_l], for l >= 1
    std::int64_t count = 0;               ///< n_l
    std::int64_t span = 0;                ///< B^l, or all tokens where that is less
    int width = 0;                        ///< w_l
  };

  HeadRows<const T> q, k0, v0;
  const std::uint16_t* words = nullptr;  ///< R_1 in units of 16 bits, or null
  std::int64_t queries = 0;              ///< N
  int d = 0, block = 1, levels = 0, enriched = 0;
  bool reweight = false, causal = false;
  Level level[kMaxLevels + 1];

  AttendedSet() = default;
  explicit AttendedSet(const LlsaState& args)
      : q(args.q),
        k0(args.k[0]),
        v0(args.v[0]),
        queries(args.plan.tokens),
        d(static_cast<int>(args.q.size(3))),
        block(args.plan.block),
        levels(args.plan.levels),
        enriched(args.plan.enriched),
        reweight(args.plan.reweight),
        causal(args.causal) {
    if (levels > kMaxLevels)
      throw ValueError(
          cat("[llsa_attention] expected at most ", kMaxLevels, " levels on a CUDA device, got ", levels),
          "use fewer levels");
    if (!args.words.empty()) words = device_data<const std::uint16_t>(args.words[0]);
    std::int64_t span = 1;
    for (int l = 0; l <= levels; ++l) {
      const auto at = static_cast<std::size_t>(l);
      level[l].count = args.plan.count[at];
      level[l].span = span;
      if (l < levels) span = std::min(span * block, queries);
      if (l == 0) continue;
      level[l].picks = args.index[at - 1].template data<std::int32_t>();
      level[l].width = args.plan.width[at - 1];
      if (l > enriched) continue;
      level[l].k = device_data<const T>(args.k[at]);
      level[l].v = device_data<const T>(args.v[at]);
    }
  }

  __device__ bool attends(int l) const { return l <= enriched; }

  /// Causal attention of M keys: a query sees this many of the first ones. Key s is seen by the queries t
  /// with s < seen_by(t), that is from t = s - M + N on.
  __device__ std::int64_t seen_by(std::int64_t query) const { return query + 1 + level[0].count - queries; }

  /// First row of a level's keys for a head, and the distance of rows.
  __device__ const T* k_head(int l, std::int64_t head) const {
    return l == 0 ? k0.head(head) : level[l].k + head * level[l].count * d;
  }
  __device__ const T* v_head(int l, std::int64_t head) const {
    return l == 0 ? v0.head(head) : level[l].v + head * level[l].count * d;
  }
  __device__ std::int64_t k_stride(int l) const { return l == 0 ? k0.stride : d; }
  __device__ std::int64_t v_stride(int l) const { return l == 0 ? v0.stride : d; }

  /// The picks of the node above `query` from which the list of level l < L comes.
  __device__ const std::int32_t* picks_above(int l, std::int64_t head, std::int64_t query) const {
    const Level& above = level[l + 1];
    return above.picks + (head * above.count + query / above.span) * above.width;
  }

  /// c_l[token]
  __device__ std::int64_t covered(int l, std::int64_t token) const {
    const std::int64_t rest = queries - token * level[l].span;
    return l == 0 ? 1 : rest < level[l].span ? rest : level[l].span;
  }
  /// What is added to the base-2 score of a key: log2 c_l, 0 for fine tokens and without re-weighting.
  template <class A>
  __device__ A bias(int l, std::int64_t token) const {
    return l == 0 || !reweight ? A(0) : std::log2(static_cast<A>(covered(l, token)));
  }
};

/// log2(e), and its inverse: scores and LSE are kept in base 2 inside the kernels, `lse` tensors are natural.
template <class A>
constexpr A kLog2e = A(1.44269504088896340736);
template <class A>
constexpr A kLn2 = A(0.69314718055994530942);

/// Where maxima of scores begin: finite, so that differences are never inf - inf.
template <class A>
constexpr A kLowest = A(-3e38);

/// Whether all rows of x [b,H,N,D] can be read in packs of 16 bytes.
template <class T>
bool rows_in_packs(const Tensor& x) {
  bool fits = packable(x.size(3), device_data<const T>(x));
  for (int axis = 0; axis < 3; ++axis) fits = fits && (x.size(axis) == 1 || x.stride(axis) % kPack<T> == 0);
  return fits;
}

/// A grid of `blocks` blocks for each head, heads in y.
inline dim3 head_grid(std::int64_t blocks, std::int64_t heads) {
  if (heads > 65535)
    throw ShapeError(cat("[cuda] expected at most 65535 heads over all samples, got ", heads),
                     "use a smaller batch");
  dim3 grid = grid_of(blocks);
  grid.y = static_cast<unsigned>(heads);
  return grid;
}

/// Bytes of shared memory that a block of any supported device can be given.
constexpr std::int64_t kSharedBytes = 96 * 1024;

}  // namespace llsa::kernels::cuda
