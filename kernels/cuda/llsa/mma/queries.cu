// Attention backward on tensor cores, the half by query: dQ.
//
//     P = 2^(q.k log2(e)/sqrt(D) + log2 w - LSE/ln 2),  dP = dO.v,  dS = P (dP - delta),
//     dQ = sum_k dS k / sqrt(D),  delta = sum(O dO)
//
// Tiling: as in the forward, with the same walk and the same diagonal of causal attention. A warp has 16
// queries. Q, dO, dQ, P and dS stay in registers; the sums of dP start from -delta. A tile of K is read
// twice, by rows for the scores and transposed for dQ; V is read once. Sums are f32, and dS is rounded to
// bf16 for the product with K. There is no maximum and no rescaling, because the LSE is known.
//
// Per 16 x 16 pair at D = 64: 24 mma (98,304 FLOP), 256 exponentials, 12 ldmatrix.x4 (6 KB from shared
// memory), 4 KB of K and V from L2, as often as in the forward. Per query 2 D bytes each of Q, dO and dQ.
// Bound by ldmatrix, on the fine level by ldmatrix and the fill of shared memory together. Shared memory,
// registers and blocks per multiprocessor are those of the forward.
#include "kernels/cuda/llsa/mma/choose_walk.cuh"

namespace llsa::kernels::cuda {
namespace {

template <class Fine>
__global__ void __launch_bounds__(Fine::Q::kThreads, Fine::kCausal ? 1 : Fine::Q::kPerProcessor)
    queries(AttendedSet<Element> set, int log2_block, float scale, HeadRows<const Element> d_o,
            const float* lse2, const float* delta, Element* dq) {
  SIMT_DYNAMIC_SHARED(memory);
  using Q = typename Fine::Q;
  constexpr int D = Q::kD;
  const WarpQueries<Q> mine(static_cast<int>(threadIdx.x), set.queries);
  const int head = static_cast<int>(blockIdx.y), lane = mine.lane;

  std::uint32_t q[D / 16][4], g[D / 16][4];
  load_left<D>(q, set.q.head(head) + mine.first * set.q.stride, set.q.stride, mine.rows, lane);
  load_left<D>(g, d_o.head(head) + mine.first * d_o.stride, d_o.stride, mine.rows, lane);
  float log_sum[2] = {0, 0}, slope[2] = {0, 0};  // of rows g and g + 8
  SIMT_UNROLL
  for (int r = 0; r < 2; ++r) {
    const int row = lane / 4 + 8 * r;
    if (row >= mine.rows) continue;
    log_sum[r] = lse2[head * set.queries + mine.first + row];
    slope[r] = delta[head * set.queries + mine.first + row];
  }
  float sum[D / 8][4];
  SIMT_UNROLL
  for (int c = 0; c < D / 8; ++c) SIMT_UNROLL
  for (int i = 0; i < 4; ++i) sum[c][i] = 0;

  [[maybe_unused]] const int ahead = Fine::kCausal ? diagonal_ahead(set, mine) : 0;

  const auto step = [&](auto, unsigned tile, auto tile_keys) {  // one piece
    int diagonal = 0;
    if constexpr (Fine::kCausal) {
      diagonal = ahead + tile_keys().valid;
      if (diagonal + 15 <= 0) return;
    }
    float s[2][4], ds[2][4];
    left_times_rows<D>(s, q, tile, 0, lane);
    SIMT_UNROLL
    for (int i = 0; i < 8; ++i) ds[i / 4][i % 4] = -slope[i % 4 / 2];
    add_left_times_rows<D>(ds, g, tile, 1, lane);
    const auto keys = tile_keys();
    mind_end(s, keys, 0, lane);
    const float less[2] = {keys.bias_less(log_sum[0]), keys.bias_less(log_sum[1])};
    SIMT_UNROLL
    for (int i = 0; i < 8; ++i)
      ds[i / 4][i % 4] *= ptx::exp2_approx(fmaf(s[i / 4][i % 4], scale, less[i % 4 / 2]));
    if (Fine::kCausal && diagonal < 16) {
      SIMT_UNROLL
      for (int h = 0; h < 2; ++h) leave_out<true>(ds[h], 0.0f, h, diagonal, lane);
    }
    const std::uint32_t left_ds[4] = {pack_bf16(ds[0][0], ds[0][1]), pack_bf16(ds[0][2], ds[0][3]),
                                      pack_bf16(ds[1][0], ds[1][1]), pack_bf16(ds[1][2], ds[1][3])};
    if (Fine::kCausal && diagonal < 16)
      add_seen_left_times_tile<D>(sum, left_ds, tile, 0, diagonal, lane);
    else
      add_left_times_tile<D>(sum, left_ds, tile, 0, lane);
  };
  for_attended_tiles<Fine>(set, Q::shift(log2_block), head, mine, memory, step);

  const WarpQueries<Q> out(ptx::thread_number(), set.queries);
  const float factor = scale * kLn2<float>;
  Element* const to = dq + (head * set.queries + out.first) * D + out.lane % 4 * 2;
  SIMT_UNROLL
  for (int r = 0; r < 2; ++r) {
    const int row = out.lane / 4 + 8 * r;
    if (row >= out.rows) continue;
    SIMT_UNROLL
    for (int c = 0; c < D / 8; ++c)
      *reinterpret_cast<std::uint32_t*>(to + row * D + c * 8) =
          pack_bf16(sum[c][2 * r] * factor, sum[c][2 * r + 1] * factor);
  }
}

}  // namespace

void queries_backward_mma(Context& ctx, const LlsaState& args, const Tensor& d_o, const QueryTerms& terms,
                          const Tensor& dq) {
  visit_walk<1>(ctx, args, [&]<class Fine>() {
    using Q = typename Fine::Q;
    const AttendedSet<Element> set(args);
    const float scale = kLog2e<float> / std::sqrt(static_cast<float>(Q::kD));
    simt::launch(queries<Fine>, head_grid(ceil_div(set.queries, Q::kQueries), dq.size(0) * dq.size(1)),
                 dim3(Q::kThreads), Fine::bytes(set.levels > 0), stream_of(ctx), set, log2_of(set.block),
                 scale, HeadRows<const Element>(d_o), device_data<const float>(terms.lse2),
                 device_data<const float>(terms.delta), device_data<Element>(dq));
  });
}

}  // namespace llsa::kernels::cuda
