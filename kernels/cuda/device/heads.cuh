// Heads of a fused projection, as the kernels of rope.cu see them.
#pragma once

#include "launch.cuh"
#include "types.cuh"

namespace llsa::kernels::cuda {

constexpr std::int64_t kHeadBlock = 64;  // heads of tokens in one partial sum of weight gradients

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

/// q, k or v of a fused projection. weight, rstd: null where there is no norm.
template <class T>
struct Part {
  using A = accumulator_t<T>;
  const T* weight = nullptr;
  A* rstd = nullptr;
  T* out = nullptr;
  A* dweight = nullptr;
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

}  // namespace llsa::kernels::cuda
