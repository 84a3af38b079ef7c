// RoPE, and its fusion with the q/k norm and the head split, for any head dimension and alignment. For a pair
// (e, o) of neighbours, with the cosine c and sine s of its token and place:
//
//     turn(e, o) = (c e - s o, s e + c o);   q, k = turn(u weight),  u = x rstd = x / rms(x);   v = x
//     dz = dq, dk turned back,  du = dz weight,  dx = rstd (du - u mean(du u)),  dweight = sum dz u
//
// A warp per head of a token, a lane per pair. The row of one head is read once from memory; the second reading,
// after the norm, comes from the first-level cache. Weight gradients: a warp goes through kHeadBlock heads, and
// each lane adds up its pairs; a fold adds these partial sums in order. At the usual head dimensions the split
// takes the kernels of device/head_packs.cuh instead, which move 16 bytes per lane.
//
// Bytes per element in f32 (bf16): rope and the split 8 (4); the gradient of the split 12 (6) with a norm, 8 (4)
// without, as for v; weight gradients 8 (4) more for q and k. Cosines and sines, 4 D per token, serve all heads.
// FLOPs per element: 3 to turn, 7 with the norm, 10 in the gradient, 6 for the weights. Bound by issuing
// instructions: at D = 64 a lane has one pair, 16 (8) bytes, for two quotients of 64-bit numbers and more than 100
// instructions in all (device/launch.cuh).
#include "kernels/backend/layers.h"

#include <cmath>

#include "kernels/cuda/device/fold.cuh"
#include "kernels/cuda/device/head_packs.cuh"
#include "kernels/cuda/device/heads.cuh"
#include "kernels/cuda/device/launch.cuh"
#include "kernels/cuda/device/types.cuh"

namespace llsa::kernels::cuda {
namespace {

template <class T, class A>
__global__ void rope_rows(Heads size, HeadView<T> x, Turn<A> turn, A sign, T* y) {
  const std::int64_t r = piece_of_warp();
  if (r >= size.samples * size.heads * size.tokens) return;
  const std::int64_t n = r % size.tokens, bh = r / size.tokens;
  const T* const in = x.at(bh / size.heads, bh % size.heads, n);
  for (std::int64_t p = lane_of_thread(); 2 * p < size.d; p += 32)
    store_pair(y + r * size.d, p, size.d, turn.apply(load_pair(in, p, size.d), n, p, sign));
}

template <class T, class A>
__global__ void split_rows(Heads size, const T* qkv, Parts<T> parts, Turn<A> turn, A eps) {
  const std::int64_t piece = piece_of_warp();
  if (piece >= size.samples * size.tokens * 3 * size.heads) return;
  const Place place(size, piece);
  const Part<T> part = parts.of[place.part];
  const std::int64_t d = size.d, row = place.row(size);
  const T* const in = qkv + piece * d;
  A squares = 0;
  if (part.rstd != nullptr)
    for (std::int64_t p = lane_of_thread(); 2 * p < d; p += 32) {
      const Pair<A> x = load_pair(in, p, d);
      squares += x.even * x.even + x.odd * x.odd;
    }
  squares = warp_sum(squares);
  const A scale = part.rstd != nullptr ? A(1) / std::sqrt(squares / static_cast<A>(d) + eps) : A(1);
  if (part.rstd != nullptr && lane_of_thread() == 0) part.rstd[row] = scale;
  const Turn<A> around = place.part < 2 ? turn : Turn<A>{nullptr, nullptr, 0};
  for (std::int64_t p = lane_of_thread(); 2 * p < d; p += 32) {
    const Pair<A> x = load_pair(in, p, d), w = part.weights(p, d);
    const Pair<A> normed{x.even * scale * w.even, x.odd * scale * w.odd};
    store_pair(part.out + row * d, p, d, around.apply(normed, place.token, p, A(1)));
  }
}

/// Undoes the turn, then, with u = x rstd and du = dz weight: dx = rstd (du - u mean(du u)).
template <class T, class A>
__global__ void split_rows_backward(Heads size, const T* qkv, Parts<T> parts, Turn<A> turn, T* dqkv) {
  const std::int64_t piece = piece_of_warp();
  if (piece >= size.samples * size.tokens * 3 * size.heads) return;
  const Place place(size, piece);
  const Part<T> part = parts.of[place.part];
  const std::int64_t d = size.d;
  const T* const in = qkv + piece * d;
  const T* const g = part.grad.at(place.sample, place.head, place.token);
  const Turn<A> around = place.part < 2 ? turn : Turn<A>{nullptr, nullptr, 0};
  const bool normed = part.rstd != nullptr;  // otherwise qkv is not needed
  A dot = 0;
  if (normed)
    for (std::int64_t p = lane_of_thread(); 2 * p < d; p += 32) {
      const Pair<A> dz = around.apply(load_pair(g, p, d), place.token, p, A(-1));
      const Pair<A> x = load_pair(in, p, d), w = part.weights(p, d);
      dot += dz.even * w.even * x.even + dz.odd * w.odd * x.odd;
    }
  dot = warp_sum(dot);
  const A s = normed ? part.rstd[place.row(size)] : A(1);
  const A b = s * s * s * dot / static_cast<A>(d);
  for (std::int64_t p = lane_of_thread(); 2 * p < d; p += 32) {
    Pair<A> dz = around.apply(load_pair(g, p, d), place.token, p, A(-1));
    if (normed) {
      const Pair<A> x = load_pair(in, p, d), w = part.weights(p, d);
      dz = {s * (dz.even * w.even) - x.even * b, s * (dz.odd * w.odd) - x.odd * b};
    }
    store_pair(dqkv + piece * d, p, d, dz);
  }
}

/// sums[block,:] = sum of dz u over kHeadBlock rows (sample, token, head) of q or of k.
template <class T, class A>
__global__ void weight_sums(Heads size, int which, const T* qkv, Part<T> part, Turn<A> turn, A* sums) {
  const std::int64_t block = piece_of_warp(), rows = size.samples * size.tokens * size.heads;
  if (block * kHeadBlock >= rows) return;
  const std::int64_t d = size.d;
  const std::int64_t end = (block + 1) * kHeadBlock < rows ? (block + 1) * kHeadBlock : rows;
  for (std::int64_t p = lane_of_thread(); 2 * p < d; p += 32) {
    Pair<A> sum{A(0), A(0)};
    for (std::int64_t r = block * kHeadBlock; r < end; ++r) {
      const std::int64_t head = r % size.heads, token = r / size.heads % size.tokens;
      const std::int64_t sample = r / size.heads / size.tokens;
      const T* const in = qkv + ((sample * size.tokens + token) * 3 + which) * size.heads * d + head * d;
      const Pair<A> dz = turn.apply(load_pair(part.grad.at(sample, head, token), p, d), token, p, A(-1));
      const Pair<A> x = load_pair(in, p, d);
      const A s = part.rstd[(sample * size.heads + head) * size.tokens + token];
      sum.even += dz.even * (x.even * s);
      sum.odd += dz.odd * (x.odd * s);
    }
    store_pair(sums + block * d, p, d, sum);
  }
}

void rope(Context& ctx, const Tensor& x, const Tensor& cos, const Tensor& sin, bool inverse,
          const Tensor& y) {
  if (x.numel() == 0) return;
  visit_device(x.dtype(), "rope", [&]<class T>() {
    using A = accumulator_t<T>;
    const Heads size(x);
    launch_warps(ctx, rope_rows<T, A>, size.rows(), size, HeadView<T>(x),
                 Turn<A>{cos.data<A>(), sin.data<A>(), size.d / 2}, inverse ? A(-1) : A(1),
                 device_data<T>(y));
  });
}

void qkv_split(Context& ctx, const Tensor& qkv, const Tensor& q_weight, const Tensor& k_weight, double eps,
               const Tensor& cos, const Tensor& sin, const Tensor& q, const Tensor& k, const Tensor& v,
               const Tensor& q_rstd, const Tensor& k_rstd) {
  visit_device(qkv.dtype(), "qkv_split", [&]<class T>() {
    using A = accumulator_t<T>;
    const Heads size(q);
    Parts<T> parts;
    parts.of[0] = {device_data<T>(q_weight), device_data<A>(q_rstd), device_data<T>(q), nullptr, {}};
    parts.of[1] = {device_data<T>(k_weight), device_data<A>(k_rstd), device_data<T>(k), nullptr, {}};
    parts.of[2] = {nullptr, nullptr, device_data<T>(v), nullptr, {}};
    const Turn<A> turn{device_data<A>(cos), device_data<A>(sin), size.d / 2};
    const T* const in = device_data<T>(qkv);
    const bool packed = packed_heads(size, turn, parts, in) && visit_head_lanes<T>(size.d, [&]<int L>() {
                          launch_heads(ctx, split_packs<L, T, A>, size, in, parts, turn, static_cast<A>(eps));
                        });
    if (!packed)
      launch_warps(ctx, split_rows<T, A>, 3 * size.rows(), size, in, parts, turn, static_cast<A>(eps));
  });
}

void qkv_split_backward(Context& ctx, const Tensor& dq, const Tensor& dk, const Tensor& dv, const Tensor& qkv,
                        const Tensor& q_weight, const Tensor& k_weight, const Tensor& q_rstd,
                        const Tensor& k_rstd, const Tensor& cos, const Tensor& sin, const Tensor& dqkv,
                        const Tensor& dq_weight, const Tensor& dk_weight) {
  visit_device(qkv.dtype(), "qkv_split_backward", [&]<class T>() {
    using A = accumulator_t<T>;
    const Heads size(dq);
    const Turn<A> turn{device_data<A>(cos), device_data<A>(sin), size.d / 2};
    Parts<T> parts;
    parts.of[0] = {device_data<T>(q_weight), device_data<A>(q_rstd), nullptr, device_data<A>(dq_weight),
                   HeadView<T>(dq)};
    parts.of[1] = {device_data<T>(k_weight), device_data<A>(k_rstd), nullptr, device_data<A>(dk_weight),
                   HeadView<T>(dk)};
    parts.of[2] = {nullptr, nullptr, nullptr, nullptr, HeadView<T>(dv)};
    const T* const in = device_data<T>(qkv);
    T* const out = device_data<T>(dqkv);
    const bool packed =
        packed_heads(size, turn, parts, in, out) && visit_head_lanes<T>(size.d, [&]<int L>() {
          const std::int64_t tiles = size.samples * size.heads * ceil_div(size.tokens, kTokenBlock);
          const Tensor sums = ctx.empty(Shape{2, tiles, size.d}, dtype_of<A>::value);
          launch_heads(ctx, split_packs_backward<L, T, A>, size, in, parts, turn, out, sums.data<A>());
          if (dq_weight.defined() || dk_weight.defined())
            launch_warps(ctx, fold_weight_sums<A>, 2 * size.d, tiles, static_cast<int>(size.d),
                         sums.data<A>(), parts.of[0].dweight, parts.of[1].dweight);
        });
    if (packed) return;
    launch_warps(ctx, split_rows_backward<T, A>, 3 * size.rows(), size, in, parts, turn, out);
    for (int which = 0; which < 2; ++which) {
      const Part<T>& part = parts.of[which];
      if (part.dweight == nullptr) continue;
      const std::int64_t blocks = ceil_div(size.rows(), kHeadBlock);
      const Tensor sums = ctx.empty(Shape{blocks, size.d}, dtype_of<A>::value);
      launch_warps(ctx, weight_sums<T, A>, blocks, size, which, in, part, turn, sums.data<A>());
      fold_axis<FoldSum, A>(ctx, sums.data<A>(), 1, blocks, size.d, 1.0, part.dweight);
    }
  });
}

}  // namespace

constinit const RopeBackend kRope = {
    .rope = rope, .qkv_split = qkv_split, .qkv_split_backward = qkv_split_backward};

}  // namespace llsa::kernels::cuda
