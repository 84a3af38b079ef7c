// Elementwise loops around the formulas of the operations (kernels/elementwise_ops.h). A formula is computed
// in the accumulator's type, float for f32 and bf16, double for f64; the compiler vectorises the loops.
#include "kernels/backend/tensors.h"

#include <atomic>
#include <cmath>
#include <limits>

#include "kernels/cpu/activation.h"
#include "kernels/cpu/strided.h"
#include "kernels/elementwise_ops.h"

namespace llsa::kernels::cpu {
namespace {

template <class T>
using Acc = accumulator_t<T>;

/// out[i] = f(in...[i]) over contiguous memory.
template <class T, class F, class... In>
void map(Context& ctx, std::int64_t n, T* out, F f, const In*... in) {
  ctx.pool().parallel_ranges(n, kElementGrain, [=](std::int64_t begin, std::int64_t end) {
#pragma omp simd
    for (std::int64_t i = begin; i < end; ++i) out[i] = f(static_cast<Acc<T>>(in[i])...);
  });
}

template <class T, class F>
void unary_map(Context& ctx, const Tensor& x, const Tensor& y, F f) {
  map(ctx, x.numel(), y.data<T>(), f, x.data<T>());
}

template <class T, class F>
void backward_map(Context& ctx, const Tensor& dy, const Tensor& saved, const Tensor& dx, F f) {
  map(ctx, dy.numel(), dx.data<T>(), f, dy.data<T>(), saved.data<T>());
}

/// out = f(a, b) on strided operands; the column strides that occur in practice get loops of their own.
template <class T, class F>
void binary_map(Context& ctx, const Tensor& a, const Tensor& b, const Tensor& out, F f) {
  const StridedLoop<3> loop(out.shape(), {&out, &a, &b});
  T* const po = out.data<T>();
  const T* const pa = a.data<T>();
  const T* const pb = b.data<T>();
  const std::int64_t so = loop.col_stride[0], sa = loop.col_stride[1], sb = loop.col_stride[2];
  loop.run(ctx, [&](const StridedLoop<3>::Block& block) {
    for (std::int64_t r = 0; r < block.rows; ++r) {
      T* const o = po + block.offset[0] + r * loop.row_stride[0];
      const T* const x = pa + block.offset[1] + r * loop.row_stride[1];
      const T* const y = pb + block.offset[2] + r * loop.row_stride[2];
      const std::int64_t n = block.cols;
      if (so == 1 && sa == 1 && sb == 1) {
#pragma omp simd
        for (std::int64_t i = 0; i < n; ++i) o[i] = f(Acc<T>(x[i]), Acc<T>(y[i]));
      } else if (so == 1 && sa == 1 && sb == 0) {
        const Acc<T> value(*y);
#pragma omp simd
        for (std::int64_t i = 0; i < n; ++i) o[i] = f(Acc<T>(x[i]), value);
      } else if (so == 1 && sa == 0 && sb == 1) {
        const Acc<T> value(*x);
#pragma omp simd
        for (std::int64_t i = 0; i < n; ++i) o[i] = f(value, Acc<T>(y[i]));
      } else {
        for (std::int64_t i = 0; i < n; ++i) o[i * so] = f(Acc<T>(x[i * sa]), Acc<T>(y[i * sb]));
      }
    }
  });
}

template <class T>
bool is_finite(const T* x, std::int64_t n) {
  int bad = 0;
#pragma omp simd reduction(| : bad)
  for (std::int64_t i = 0; i < n; ++i) bad |= !(std::abs(Acc<T>(x[i])) <= std::numeric_limits<Acc<T>>::max());
  return bad == 0;
}

/// f(x) and dx = f(dy, saved) of a unary operation, f(a, b) of a binary one.
template <auto op>
struct Formula;

#define LLSA_FORMULA(name, saves, value, gradient)   \
  template <>                                        \
  struct Formula<UnaryOp::name> {                    \
    template <class A>                               \
    A operator()(A x) const {                        \
      return value;                                  \
    }                                                \
    template <class A>                               \
    A operator()(A dy, A saved) const {              \
      [[maybe_unused]] const A x = saved, y = saved; \
      return gradient;                               \
    }                                                \
  };
LLSA_UNARY_OPS(LLSA_FORMULA)
#undef LLSA_FORMULA

#define LLSA_FORMULA(name, value)  \
  template <>                      \
  struct Formula<BinaryOp::name> { \
    template <class A>             \
    A operator()(A a, A b) const { \
      return value;                \
    }                              \
  };
LLSA_BINARY_OPS(LLSA_FORMULA)
#define LLSA_COMPARISON(name, relation) LLSA_FORMULA(name, a relation b ? A(1) : A(0))
LLSA_COMPARISONS(LLSA_COMPARISON)
#undef LLSA_COMPARISON
#undef LLSA_FORMULA

void binary(Context& ctx, BinaryOp op, const Tensor& a, const Tensor& b, const Tensor& out) {
  visit_floating(out.dtype(), "binary", [&]<class T>() {
    visit(op, [&]<BinaryOp kOp>() { binary_map<T>(ctx, a, b, out, Formula<kOp>()); });
  });
}

void affine(Context& ctx, const Tensor& x, double scale, double shift, const Tensor& y) {
  visit_floating(x.dtype(), "affine", [&]<class T>() {
    const Acc<T> a(scale), b(shift);
    unary_map<T>(ctx, x, y, [a, b](auto v) { return a * v + b; });
  });
}

void clamp(Context& ctx, const Tensor& x, double low, double high, const Tensor& y) {
  visit_floating(x.dtype(), "clamp", [&]<class T>() {
    const Acc<T> least(low), most(high);
    unary_map<T>(ctx, x, y, [least, most](auto v) { return v < least ? least : v > most ? most : v; });
  });
}

void clamp_backward(Context& ctx, const Tensor& dy, const Tensor& x, double low, double high,
                    const Tensor& dx) {
  visit_floating(x.dtype(), "clamp_backward", [&]<class T>() {
    const Acc<T> least(low), most(high);
    backward_map<T>(ctx, dy, x, dx,
                    [least, most](auto d, auto v) { return v >= least && v <= most ? d : decltype(v)(0); });
  });
}

void where(Context& ctx, const Tensor& condition, const Tensor& a, const Tensor& b, const Tensor& out) {
  visit_floating(out.dtype(), "where", [&]<class T>() {
    const StridedLoop<4> loop(out.shape(), {&out, &condition, &a, &b});
    loop.run(ctx, [&](const StridedLoop<4>::Block& block) {
      for (std::int64_t r = 0; r < block.rows; ++r) {
        const auto row = [&](const Tensor& x, std::size_t at) {
          return x.data<T>() + block.offset[at] + r * loop.row_stride[at];
        };
        T* const o = row(out, 0);
        const T *const c = row(condition, 1), *const x = row(a, 2), *const y = row(b, 3);
        const auto& step = loop.col_stride;
        for (std::int64_t i = 0; i < block.cols; ++i)
          o[i * step[0]] = Acc<T>(c[i * step[1]]) != 0 ? x[i * step[2]] : y[i * step[3]];
      }
    });
  });
}

void unary(Context& ctx, UnaryOp op, const Tensor& x, const Tensor& y) {
  visit_floating(x.dtype(), "unary", [&]<class T>() {
    visit(op, [&]<UnaryOp kOp>() { unary_map<T>(ctx, x, y, Formula<kOp>()); });
  });
}

void unary_backward(Context& ctx, UnaryOp op, const Tensor& dy, const Tensor& saved, const Tensor& dx) {
  visit_floating(dy.dtype(), "unary_backward", [&]<class T>() {
    visit(op, [&]<UnaryOp kOp>() { backward_map<T>(ctx, dy, saved, dx, Formula<kOp>()); });
  });
}

void accumulate(Context& ctx, const Tensor& x, const Tensor& into) {
  visit_floating(x.dtype(), "accumulate",
                 [&]<class T>() { binary_map<T>(ctx, into, x, into, Formula<BinaryOp::add>()); });
}

void all_finite(Context& ctx, const Tensor& x, const Tensor& flag) {
  visit_floating(x.dtype(), "all_finite", [&]<class T>() {
    const T* const values = x.data<T>();
    std::atomic<std::int32_t> finite = 1;
    ctx.pool().parallel_ranges(x.numel(), kElementGrain, [&](std::int64_t begin, std::int64_t end) {
      if (!is_finite(values + begin, end - begin)) finite.store(0, std::memory_order_relaxed);
    });
    *flag.data<std::int32_t>() = finite.load();
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

}  // namespace llsa::kernels::cpu
