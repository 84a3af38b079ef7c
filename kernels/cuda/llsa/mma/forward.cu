// Attention forward on tensor cores.
//
//     s_j = q . k_j log2(e)/sqrt(D) + log2 w_j;   O = sum_j 2^(s_j - m) v_j / sum_j 2^(s_j - m);
//     LSE = ln 2 (m + log2 sum_j 2^(s_j - m)),   m about the largest s_j so far (online softmax)
//
// m need not be the exact maximum. A warp rescales O only when a score exceeds the m of its row by more than
// kSlack, which hardly ever happens after the first tiles. Only then do lanes exchange maxima. From a product
// of q and k to its s - m is one multiply-add.
//
// Causal attention (L = 0 only): the tiles of a block end with the last key that one of its queries sees, a
// warp skips the pieces of 16 keys that none of its queries sees, and pieces on the diagonal are masked
// (mma/mma.cuh). Each row rescales by itself, so that its bits do not depend on later rows.
//
// Tiling: a warp has 16 queries (at B = 16 one query block). 8 warps (4 at D = 128) are siblings and share
// the tiles of the coarse levels, 64 keys (32), double-buffered. Fine blocks come by bit words, each once for
// all warps, in two or three stages of 128 keys (64), one in the place of the coarse tiles (mma/words.cuh). Or
// they come by rows, in a ring of 2 x B keys for each query block, which at B = 32 and 64 is two and four
// warps (mma/rows.cuh). Q, O and the probabilities stay in registers.
//
// Per 16 x 16 pair at D = 64: 16 mma (65,536 FLOP), 256 exponentials, 8 ldmatrix, 4 KB of K and V from L2.
// Coarse keys are read once per block of threads; fine ones once per query block by rows, or per distinct key
// block by words, which is about 0.5 to 0.8 of that at B = 16. Per query 2 D bytes each of Q and O, and 4 of
// LSE. Bound by ldmatrix and, on the fine level, the fill of shared memory together, or by issuing instructions.
// 96 KiB of shared memory (64 with two stages), 3 more for lists, and at most 128 registers: two blocks per
// multiprocessor, but one where it has only 100 KiB and D is 64 or 128. Causal attention needs more registers
// for the diagonal and runs one block.
#include "kernels/cuda/llsa/mma/choose_walk.cuh"

namespace llsa::kernels::cuda {
namespace {

/// How far a base-2 score may exceed the m of its row. Probabilities stay below 2^kSlack, with the same
/// relative precision as below 1.
constexpr float kSlack = 8;

template <class Fine>
__global__ void __launch_bounds__(Fine::Q::kThreads, Fine::kCausal ? 1 : Fine::Q::kPerProcessor)
    attend(AttendedSet<Element> set, int log2_block, float scale, HeadRows<Element> o, float* lse) {
  SIMT_DYNAMIC_SHARED(memory);
  using Q = typename Fine::Q;
  constexpr int D = Q::kD;
  const WarpQueries<Q> mine(static_cast<int>(threadIdx.x), set.queries);
  const int head = static_cast<int>(blockIdx.y), lane = mine.lane;

  std::uint32_t q[D / 16][4];
  load_left<D>(q, set.q.head(head) + mine.first * set.q.stride, set.q.stride, mine.rows, lane);
  float sum[D / 8][4];
  SIMT_UNROLL
  for (int c = 0; c < D / 8; ++c) SIMT_UNROLL
  for (int i = 0; i < 4; ++i) sum[c][i] = 0;
  float top[2] = {kLowest<float>, kLowest<float>}, total[2] = {0, 0};  // of rows g and g + 8

  [[maybe_unused]] const int ahead = Fine::kCausal ? diagonal_ahead(set, mine) : 0;

  const auto step = [&](auto pieces, unsigned tile, auto tile_keys) {
    constexpr int kPieces = decltype(pieces)::value;
    int diagonal = 0;
    if constexpr (Fine::kCausal) {
      diagonal = ahead + tile_keys().valid;
      if (diagonal + 15 <= 0) return;
    }
    float s[kPieces][2][4];
    SIMT_UNROLL
    for (int u = 0; u < kPieces; ++u) left_times_rows<D>(s[u], q, tile, 2 * u, lane);
    const auto keys = tile_keys();
    SIMT_UNROLL
    for (int u = 0; u < kPieces; ++u) mind_end(s[u], keys, u, lane);
    if (Fine::kCausal && diagonal < 16 * kPieces) {
      SIMT_UNROLL
      for (int h = 0; h < 2 * kPieces; ++h)
        leave_out<true>(s[h / 2][h % 2], -INFINITY, h % 2, diagonal - h / 2 * 16, lane);
    }

    float less[2] = {keys.bias_less(top[0]), keys.bias_less(top[1])};  // a score less m: scale s + less
    float highest[2] = {s[0][0][0], s[0][0][2]};                       // of this lane; scale is positive
    SIMT_UNROLL
    for (int u = 0; u < kPieces; ++u) SIMT_UNROLL
    for (int h = 0; h < 2; ++h) SIMT_UNROLL
    for (int i = 0; i < 4; ++i) highest[i / 2] = fmaxf(highest[i / 2], s[u][h][i]);
    const bool beyond =
        fmaf(highest[0], scale, less[0]) > kSlack || fmaf(highest[1], scale, less[1]) > kSlack;
    if (__any_sync(kAllLanes, beyond)) {
      SIMT_UNROLL
      for (int r = 0; r < 2; ++r) {  // of the row, which four lanes share
        highest[r] = fmaxf(highest[r], __shfl_xor_sync(kAllLanes, highest[r], 1));
        highest[r] = fmaxf(highest[r], __shfl_xor_sync(kAllLanes, highest[r], 2));
      }
      SIMT_UNROLL
      for (int r = 0; r < 2; ++r) {
        // A row's bits must not depend on later rows.
        if (Fine::kCausal && !(fmaf(highest[r], scale, less[r]) > kSlack)) continue;
        const float higher = fmaxf(top[r], keys.score(highest[r], scale));
        const float shrink = ptx::exp2_approx(top[r] - higher);
        top[r] = higher;
        less[r] = keys.bias_less(higher);
        total[r] *= shrink;
        SIMT_UNROLL
        for (int c = 0; c < D / 8; ++c) {
          sum[c][2 * r] *= shrink;
          sum[c][2 * r + 1] *= shrink;
        }
      }
    }
    SIMT_UNROLL
    for (int u = 0; u < kPieces; ++u) {
      SIMT_UNROLL
      for (int h = 0; h < 2; ++h) SIMT_UNROLL
      for (int i = 0; i < 4; ++i) {
        s[u][h][i] = ptx::exp2_approx(fmaf(s[u][h][i], scale, less[i / 2]));
        total[i / 2] += s[u][h][i];
      }
      const std::uint32_t p[4] = {pack_bf16(s[u][0][0], s[u][0][1]), pack_bf16(s[u][0][2], s[u][0][3]),
                                  pack_bf16(s[u][1][0], s[u][1][1]), pack_bf16(s[u][1][2], s[u][1][3])};
      if (Fine::kCausal && diagonal < 16 * (u + 1))
        add_seen_left_times_tile<D>(sum, p, tile, 2 * u + 1, diagonal - 16 * u, lane);
      else
        add_left_times_tile<D>(sum, p, tile, 2 * u + 1, lane);
    }
  };
  for_attended_tiles<Fine>(set, Q::shift(log2_block), head, mine, memory, step);

  const WarpQueries<Q> out(ptx::thread_number(), set.queries);
  Element* const to = o.head(head) + out.first * o.stride + out.lane % 4 * 2;
  SIMT_UNROLL
  for (int r = 0; r < 2; ++r) {
    float all = total[r];
    all += __shfl_xor_sync(kAllLanes, all, 1);
    all += __shfl_xor_sync(kAllLanes, all, 2);
    const int row = out.lane / 4 + 8 * r;
    if (row >= out.rows) continue;
    const float inverse = 1.0f / all;
    SIMT_UNROLL
    for (int c = 0; c < D / 8; ++c)
      *reinterpret_cast<std::uint32_t*>(to + row * o.stride + c * 8) =
          pack_bf16(sum[c][2 * r] * inverse, sum[c][2 * r + 1] * inverse);
    if (out.lane % 4 == 0) lse[head * set.queries + out.first + row] = (top[r] + log2f(all)) * kLn2<float>;
  }
}

bool rows_aligned(const Tensor& x, std::int64_t elements) {
  bool aligned = reinterpret_cast<std::uintptr_t>(x.raw()) % static_cast<std::size_t>(2 * elements) == 0;
  for (int axis = 0; axis < 3; ++axis)
    aligned = aligned && (x.size(axis) == 1 || x.stride(axis) % elements == 0);
  aligned = aligned && x.stride(2) < std::int64_t{1} << 31;
  return aligned;
}

}  // namespace

bool fits_mma(const LlsaState& args, const Tensor& o) {
  return attend_obstacle(args.plan, args.q.size(3), args.q.dtype()).empty() &&
         args.plan.levels <= kMaxMmaLevels && rows_aligned(args.q, 8) && rows_aligned(args.k[0], 8) &&
         rows_aligned(args.v[0], 8) && rows_aligned(o, 8);
}

Ring words_ring(std::int64_t d) {
  Ring ring;
  visit_head_dimension(d, [&]<int D>() {
    using Fine = FineByWords<SiblingQueries<D, 2, true>, 3>;
    ring = {Fine::kStage, kListBytes + sizeof(typename Fine::Shared), Fine::Q::kPerProcessor};
  });
  return ring;
}

void attend_mma(Context& ctx, const LlsaState& args, const Tensor& o, const Tensor& lse) {
  visit_walk<2>(ctx, args, [&]<class Fine>() {
    using Q = typename Fine::Q;
    const AttendedSet<Element> set(args);
    const float scale = kLog2e<float> / std::sqrt(static_cast<float>(Q::kD));
    simt::launch(attend<Fine>, head_grid(ceil_div(set.queries, Q::kQueries), o.size(0) * o.size(1)),
                 dim3(Q::kThreads), Fine::bytes(set.levels > 0), stream_of(ctx), set, log2_of(set.block),
                 scale, HeadRows<Element>(o), device_data<float>(lse));
  });
}

}  // namespace llsa::kernels::cuda
