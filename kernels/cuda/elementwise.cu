// Elementwise operations: y = f(a, b), y = f(x), dx = f(dy, saved) with the formulas of
// kernels/elementwise_ops.h, and y = scale x + shift, clamp, where, and whether all elements are finite.
//
// Dense tensors: a thread per 16 bytes, or per element where an address is not aligned. Other strides occur in
// operations of several tensors only: a thread per element, which divides once for each axis but one. Finite
// test: one launch sets the flag, then each thread looks at 8 neighbours and clears the flag if one of them is
// not finite.
//
// Bytes per element in f32 (bf16): 16 (8) with three inputs, 12 (6) with two, 8 (4) with one, 4 (2) for the test.
// Arithmetic: 1 to 3 FLOP where there is no special function. Exponentials, roots and quotients per element: 1 in
// exp, log, sqrt, division and gelu_erf; 2 in tanh, sigmoid, silu, gelu_tanh and the derivatives of both GELUs; 4
// in the derivative of silu. Bound by memory, except for activations and their derivatives in bf16: their 25 to
// 60 instructions take as long as 4 or 6 bytes or longer (device/launch.cuh).
#include "kernels/backend/tensors.h"

#include <cmath>
#include <utility>

#include "kernels/cuda/device/activation.cuh"
#include "kernels/cuda/device/launch.cuh"
#include "kernels/cuda/device/strided.cuh"
#include "kernels/cuda/device/types.cuh"
#include "kernels/elementwise_ops.h"

namespace llsa::kernels::cuda {
namespace {

using std::exp;
using std::log;
using std::tanh;

/// f(x) and dx = f(dy, saved) of a unary operation, f(a, b) of a binary one.
template <auto op>
struct Formula;

#define LLSA_FORMULA(name, saves, value, gradient)   \
  template <>                                        \
  struct Formula<UnaryOp::name> {                    \
    template <class A>                               \
    __device__ A operator()(A x) const {             \
      return value;                                  \
    }                                                \
    template <class A>                               \
    __device__ A operator()(A dy, A saved) const {   \
      [[maybe_unused]] const A x = saved, y = saved; \
      return gradient;                               \
    }                                                \
  };
LLSA_UNARY_OPS(LLSA_FORMULA)
#undef LLSA_FORMULA

#define LLSA_FORMULA(name, value)             \
  template <>                                 \
  struct Formula<BinaryOp::name> {            \
    template <class A>                        \
    __device__ A operator()(A a, A b) const { \
      return value;                           \
    }                                         \
  };
LLSA_BINARY_OPS(LLSA_FORMULA)
#define LLSA_COMPARISON(name, relation) LLSA_FORMULA(name, a relation b ? A(1) : A(0))
LLSA_COMPARISONS(LLSA_COMPARISON)
#undef LLSA_COMPARISON
#undef LLSA_FORMULA

template <class A>
struct Affine {
  A scale, shift;
  __device__ A operator()(A x) const { return scale * x + shift; }
};

/// clamp, and its gradient.
template <class A>
struct Clamp {
  A low, high;
  __device__ A operator()(A x) const { return x < low ? low : x > high ? high : x; }
  __device__ A operator()(A dy, A x) const { return x >= low && x <= high ? dy : A(0); }
};

struct Where {
  template <class A>
  __device__ A operator()(A condition, A a, A b) const {
    return condition != A(0) ? a : b;
  }
};

/// out[i] = f(in...[i]) over dense memory, N elements per thread.
template <int N, class F, class T, class... In>
__global__ void map_dense(F f, std::int64_t n, T* out, const In*... in) {
  using A = accumulator_t<T>;
  const std::int64_t i = piece_of_thread() * N;
  if (i >= n) return;
  if (i + N > n) {
    for (std::int64_t j = i; j < n; ++j) out[j] = static_cast<T>(f(static_cast<A>(in[j])...));
    return;
  }
  Pack<T, N> result;
  const auto apply = [&](const auto&... pack) {
    for (int j = 0; j < N; ++j) result.value[j] = static_cast<T>(f(static_cast<A>(pack.value[j])...));
  };
  apply(load_pack<N>(in + i)...);
  store_pack(out + i, result);
}

/// As many tensors as a function has arguments.
template <class T, int P>
struct Inputs {
  const T* of[P];
};

/// out[i] = f(in[i]...) for tensors of any strides, an element per thread.
template <class F, class T, int P>
__global__ void map_strided(F f, Strided<1 + P> loop, T* out, Inputs<T, P> in) {
  using A = accumulator_t<T>;
  const std::int64_t i = piece_of_thread();
  if (i >= loop.count) return;
  const auto at = loop.offsets(i);
  const auto apply = [&]<int... p>(std::integer_sequence<int, p...>) {
    return f(static_cast<A>(in.of[p][at.of[1 + p]])...);
  };
  out[at.of[0]] = static_cast<T>(apply(std::make_integer_sequence<int, P>()));
}

template <class F, class T, class... In>
void launch_dense(Context& ctx, F f, std::int64_t n, T* out, const In*... in) {
  constexpr int N = kPack<T>;
  if (packable(16, out, in...))
    launch_threads(ctx, map_dense<N, F, T, In...>, ceil_div(n, N), f, n, out, in...);
  else
    launch_threads(ctx, map_dense<1, F, T, In...>, n, f, n, out, in...);
}

/// out = f(in...), all of one shape.
template <class T, class F, class... In>
void launch_map(Context& ctx, F f, const Tensor& out, const In&... in) {
  constexpr int P = sizeof...(In);
  const Strided<1 + P> loop(out.shape(), {&out, &in...});
  const auto data = [](const Tensor& x) { return static_cast<const T*>(device_data<T>(x)); };
  T* const to = device_data<T>(out);
  if (loop.dense())
    launch_dense(ctx, f, loop.count, to, data(in)...);
  else
    launch_threads(ctx, map_strided<F, T, P>, loop.count, f, loop, to, Inputs<T, P>{{data(in)...}});
}

/// Clears the flag where an element is not finite. All lanes write the same value, so their order does not
/// matter.
template <class T>
__global__ void find_nonfinite(std::int64_t n, const T* x, std::int32_t* flag) {
  using A = accumulator_t<T>;
  constexpr int kEach = 8;
  const std::int64_t first = piece_of_thread() * kEach;
  const std::int64_t end = first + kEach < n ? first + kEach : n;
  A sum = 0;  // v * 0 is 0 for finite v, else NaN
  for (std::int64_t i = first; i < end; ++i) sum += static_cast<A>(x[i]) * A(0);
  if (!(sum == A(0))) atomicAnd(flag, 0);
}

__global__ void set_flag(std::int32_t* flag) {
  if (threadIdx.x == 0) *flag = 1;
}

void binary(Context& ctx, BinaryOp op, const Tensor& a, const Tensor& b, const Tensor& out) {
  visit_device(out.dtype(), "binary", [&]<class T>() {
    visit(op, [&]<BinaryOp kOp>() { launch_map<T>(ctx, Formula<kOp>(), out, a, b); });
  });
}

void affine(Context& ctx, const Tensor& x, double scale, double shift, const Tensor& y) {
  visit_device(x.dtype(), "affine", [&]<class T>() {
    using A = accumulator_t<T>;
    launch_dense(ctx, Affine<A>{static_cast<A>(scale), static_cast<A>(shift)}, x.numel(), device_data<T>(y),
                 static_cast<const T*>(device_data<T>(x)));
  });
}

void unary(Context& ctx, UnaryOp op, const Tensor& x, const Tensor& y) {
  visit_device(x.dtype(), "unary", [&]<class T>() {
    const T* const from = device_data<T>(x);
    visit(op, [&]<UnaryOp kOp>() { launch_dense(ctx, Formula<kOp>(), x.numel(), device_data<T>(y), from); });
  });
}

void unary_backward(Context& ctx, UnaryOp op, const Tensor& dy, const Tensor& saved, const Tensor& dx) {
  visit_device(dy.dtype(), "unary_backward", [&]<class T>() {
    const T* const gradient = device_data<T>(dy);
    const T* const from = device_data<T>(saved);
    visit(op, [&]<UnaryOp kOp>() {
      launch_dense(ctx, Formula<kOp>(), dy.numel(), device_data<T>(dx), gradient, from);
    });
  });
}

void clamp(Context& ctx, const Tensor& x, double low, double high, const Tensor& y) {
  visit_device(x.dtype(), "clamp", [&]<class T>() {
    using A = accumulator_t<T>;
    const T* const from = device_data<T>(x);
    launch_dense(ctx, Clamp<A>{static_cast<A>(low), static_cast<A>(high)}, x.numel(), device_data<T>(y),
                 from);
  });
}

void clamp_backward(Context& ctx, const Tensor& dy, const Tensor& x, double low, double high,
                    const Tensor& dx) {
  visit_device(x.dtype(), "clamp_backward", [&]<class T>() {
    using A = accumulator_t<T>;
    const T* const gradient = device_data<T>(dy);
    const T* const from = device_data<T>(x);
    launch_dense(ctx, Clamp<A>{static_cast<A>(low), static_cast<A>(high)}, x.numel(), device_data<T>(dx),
                 gradient, from);
  });
}

void where(Context& ctx, const Tensor& condition, const Tensor& a, const Tensor& b, const Tensor& out) {
  visit_device(out.dtype(), "where", [&]<class T>() { launch_map<T>(ctx, Where(), out, condition, a, b); });
}

void accumulate(Context& ctx, const Tensor& x, const Tensor& into) {
  visit_device(into.dtype(), "accumulate",
               [&]<class T>() { launch_map<T>(ctx, Formula<BinaryOp::add>(), into, into, x); });
}

void all_finite(Context& ctx, const Tensor& x, const Tensor& flag) {
  visit_device(x.dtype(), "all_finite", [&]<class T>() {
    std::int32_t* const out = flag.data<std::int32_t>();
    launch_warps(ctx, set_flag, 1, out);
    launch_threads(ctx, find_nonfinite<T>, ceil_div(x.numel(), 8), x.numel(),
                   static_cast<const T*>(device_data<T>(x)), out);
  });
}

}  // namespace

constinit const ElementwiseBackend kElementwise = {.binary = binary,
                                                   .affine = affine,
                                                   .unary = unary,
                                                   .unary_backward = unary_backward,
                                                   .clamp = clamp,
                                                   .clamp_backward = clamp_backward,
                                                   .where = where,
                                                   .accumulate = accumulate,
                                                   .all_finite = all_finite};

}  // namespace llsa::kernels::cuda
