// RoPE, and its fusion with the q/k norm and the head split: a warp per head of a token, a lane per pair of
// neighbours. A row of one head is read once from memory; its second reading, after the norm, comes from the
// first-level cache. Weight gradients: a warp goes through kRowBlock heads, each lane adding up its pairs; a
// fold adds the partial sums in order.
#include "kernels/cuda/rope.h"

#include <cmath>

#include "kernels/cuda/device/fold.cuh"
#include "kernels/cuda/device/launch.cuh"
#include "kernels/cuda/device/types.cuh"

namespace llsa::kernels::cuda {
namespace {

constexpr std::int64_t kRowBlock = 64;  // heads of tokens in one partial sum of weight gradients

/// Two neighbours; the second one is 0 where a row of odd length ends.
template <class A>
struct Pair {
  A even, odd;
};

template <class T, class A = accumulator_t<T>>
__device__ Pair<A> load_pair(const T* x, std::int64_t pair, std::int64_t d) {
  const std::int64_t i = 2 * pair;
  return {static_cast<A>(x[i]), i + 1 < d ? static_cast<A>(x[i + 1]) : A(0)};
}

template <class T, class A>
__device__ void store_pair(T* x, std::int64_t pair, std::int64_t d, Pair<A> value) {
  x[2 * pair] = static_cast<T>(value.even);
  if (2 * pair + 1 < d) x[2 * pair + 1] = static_cast<T>(value.odd);
}

/// Cosines and sines of the pairs of one token; without a table nothing turns.
template <class A>
struct Turn {
  const A* cos;
  const A* sin;
  std::int64_t half;

  /// sign = -1 turns back.
  __device__ Pair<A> apply(Pair<A> x, std::int64_t token, std::int64_t pair, A sign) const {
    if (cos == nullptr) return x;
    const A c = cos[token * half + pair];
    const A s = sign * sin[token * half + pair];
    return {c * x.even - s * x.odd, s * x.even + c * x.odd};
  }
};

/// The row of head h of token n of sample s in a [b,H,N,D] tensor with unit stride in D.
template <class T>
struct HeadView {
  T* data = nullptr;
  std::int64_t sample = 0, head = 0, token = 0;

  HeadView() = default;
  explicit HeadView(const Tensor& x)
      : data(device_data<T>(x)), sample(x.stride(0)), head(x.stride(1)), token(x.stride(2)) {}
  __device__ T* at(std::int64_t s, std::int64_t h, std::int64_t n) const {
    return data + s * sample + h * head + n * token;
  }
};

struct Heads {
  std::int64_t samples, heads, tokens, d;
  explicit Heads(const Tensor& x) : samples(x.size(0)), heads(x.size(1)), tokens(x.size(2)), d(x.size(3)) {}
  std::int64_t rows() const { return samples * heads * tokens; }
};

template <class T, class A>
__global__ void rope_rows(Heads size, HeadView<T> x, Turn<A> turn, A sign, T* y) {
  const std::int64_t r = piece_of_warp();
  if (r >= size.samples * size.heads * size.tokens) return;
  const std::int64_t n = r % size.tokens, bh = r / size.tokens;
  const T* const in = x.at(bh / size.heads, bh % size.heads, n);
  for (std::int64_t p = lane_of_thread(); 2 * p < size.d; p += 32)
    store_pair(y + r * size.d, p, size.d, turn.apply(load_pair(in, p, size.d), n, p, sign));
}

/// q, k or v of a fused projection. weight, rstd: null where there is no norm.
template <class T>
struct Part {
  using A = accumulator_t<T>;
  const T* weight = nullptr;
  A* rstd = nullptr;
  T* out = nullptr;
  T* dweight = nullptr;
  HeadView<T> grad;

  __device__ Pair<A> weights(std::int64_t pair, std::int64_t d) const {
    return weight == nullptr ? Pair<A>{A(1), A(1)} : load_pair(weight, pair, d);
  }
};
template <class T>
struct Parts {
  Part<T> of[3];
};

/// Which head of which token a warp has: numbers run through [b,N,3,H], the order of the projection.
struct Place {
  std::int64_t part, head, token, sample;
  __device__ Place(const Heads& size, std::int64_t piece) {
    head = piece % size.heads;
    part = piece / size.heads % 3;
    token = piece / size.heads / 3 % size.tokens;
    sample = piece / size.heads / 3 / size.tokens;
  }
  /// Row of a contiguous [b,H,N,..] tensor.
  __device__ std::int64_t row(const Heads& size) const {
    return (sample * size.heads + head) * size.tokens + token;
  }
};

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
  A dot = 0;
  if (part.rstd != nullptr)
    for (std::int64_t p = lane_of_thread(); 2 * p < d; p += 32) {
      const Pair<A> dz = around.apply(load_pair(g, p, d), place.token, p, A(-1));
      const Pair<A> x = load_pair(in, p, d), w = part.weights(p, d);
      dot += dz.even * w.even * x.even + dz.odd * w.odd * x.odd;
    }
  dot = warp_sum(dot);
  const A s = part.rstd != nullptr ? part.rstd[place.row(size)] : A(1);
  const A b = s * s * s * dot / static_cast<A>(d);
  for (std::int64_t p = lane_of_thread(); 2 * p < d; p += 32) {
    const Pair<A> dz = around.apply(load_pair(g, p, d), place.token, p, A(-1));
    const Pair<A> x = load_pair(in, p, d), w = part.weights(p, d);
    store_pair(dqkv + piece * d, p, d,
               Pair<A>{s * (dz.even * w.even) - x.even * b, s * (dz.odd * w.odd) - x.odd * b});
  }
}

/// sums[block,:] = sum of dz u over kRowBlock rows (sample, token, head) of q or of k.
template <class T, class A>
__global__ void weight_sums(Heads size, int which, const T* qkv, Part<T> part, Turn<A> turn, A* sums) {
  const std::int64_t block = piece_of_warp(), rows = size.samples * size.tokens * size.heads;
  if (block * kRowBlock >= rows) return;
  const std::int64_t d = size.d;
  const std::int64_t end = (block + 1) * kRowBlock < rows ? (block + 1) * kRowBlock : rows;
  for (std::int64_t p = lane_of_thread(); 2 * p < d; p += 32) {
    Pair<A> sum{A(0), A(0)};
    for (std::int64_t r = block * kRowBlock; r < end; ++r) {
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

}  // namespace

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
    launch_warps(ctx, split_rows<T, A>, 3 * size.rows(), size, device_data<T>(qkv), parts,
                 Turn<A>{device_data<A>(cos), device_data<A>(sin), size.d / 2}, static_cast<A>(eps));
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
    parts.of[0] = {device_data<T>(q_weight), device_data<A>(q_rstd), nullptr, device_data<T>(dq_weight),
                   HeadView<T>(dq)};
    parts.of[1] = {device_data<T>(k_weight), device_data<A>(k_rstd), nullptr, device_data<T>(dk_weight),
                   HeadView<T>(dk)};
    parts.of[2] = {nullptr, nullptr, nullptr, nullptr, HeadView<T>(dv)};
    launch_warps(ctx, split_rows_backward<T, A>, 3 * size.rows(), size, device_data<T>(qkv), parts, turn,
                 device_data<T>(dqkv));
    for (int which = 0; which < 2; ++which) {
      const Part<T>& part = parts.of[which];
      if (part.dweight == nullptr) continue;
      const std::int64_t blocks = ceil_div(size.rows(), kRowBlock);
      const Tensor sums = ctx.empty(Shape{blocks, size.d}, dtype_of<A>::value);
      launch_warps(ctx, weight_sums<T, A>, blocks, size, which, device_data<T>(qkv), part, turn,
                   sums.data<A>());
      fold_axis<FoldSum, A>(ctx, sums.data<A>(), 1, blocks, size.d, 1.0, part.dweight);
    }
  });
}

}  // namespace llsa::kernels::cuda
