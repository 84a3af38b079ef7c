// Softmax and log-sum-exp on the CPU: a row is read from memory once and stays in the cache for its two or three passes.
#include "kernels/backend/layers.h"

#include <limits>
#include <type_traits>
#include <vector>

#include "kernels/cpu/chunks.h"
#include "kernels/cpu/softmax_row.h"

namespace llsa::kernels::cpu {
namespace {

std::int64_t row_count(const Tensor& x) { return x.size(-1) == 0 ? 0 : x.numel() / x.size(-1); }

void softmax(Context& ctx, const Tensor& x, const Tensor& y) {
  visit_floating(x.dtype(), "softmax", [&]<class T>() {
    using A = accumulator_t<T>;
    const std::int64_t n = x.size(-1);
    run_rows(ctx, row_count(x), n, [&](std::int64_t begin, std::int64_t end) {
      const T* in = x.data<T>();
      T* out = y.data<T>();
      if constexpr (std::is_same_v<T, A>) {
        for (std::int64_t r = begin; r < end; ++r) softmax_row(in + r * n, out + r * n, out + r * n, n);
      } else {
        std::vector<A> e(static_cast<std::size_t>(n));
        for (std::int64_t r = begin; r < end; ++r) softmax_row(in + r * n, out + r * n, e.data(), n);
      }
    });
  });
}

void softmax_backward(Context& ctx, const Tensor& dy, const Tensor& y, const Tensor& dx) {
  visit_floating(y.dtype(), "softmax_backward", [&]<class T>() {
    using A = accumulator_t<T>;
    const std::int64_t n = y.size(-1);
    run_rows(ctx, row_count(y), n, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r) {
        const T* g = dy.data<T>() + r * n;
        const T* p = y.data<T>() + r * n;
        T* out = dx.data<T>() + r * n;
        A dot = 0;
#pragma omp simd reduction(+ : dot)
        for (std::int64_t i = 0; i < n; ++i) dot += static_cast<A>(g[i]) * static_cast<A>(p[i]);
#pragma omp simd
        for (std::int64_t i = 0; i < n; ++i)
          out[i] = static_cast<T>(static_cast<A>(p[i]) * (static_cast<A>(g[i]) - dot));
      }
    });
  });
}

void log_sum_exp(Context& ctx, const Tensor& x, const Tensor& l) {
  visit_floating(x.dtype(), "log_sum_exp", [&]<class T>() {
    const std::int64_t n = x.size(-1);
    run_rows(ctx, l.numel(), n, [&](std::int64_t begin, std::int64_t end) {
      const T* in = x.data<T>();
      T* out = l.data<T>();
      for (std::int64_t r = begin; r < end; ++r) out[r] = static_cast<T>(log_sum_exp_row(in + r * n, n));
    });
  });
}

void log_sum_exp_backward(Context& ctx, const Tensor& dl, const Tensor& x, const Tensor& l,
                          const Tensor& dx) {
  visit_floating(x.dtype(), "log_sum_exp_backward", [&]<class T>() {
    using A = accumulator_t<T>;
    const std::int64_t n = x.size(-1);
    run_rows(ctx, row_count(x), n, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r) {
        const T* in = x.data<T>() + r * n;
        T* out = dx.data<T>() + r * n;
        const A g = dl.data<T>()[r];
        // A stored bf16 value of l is too coarse to subtract. A row that holds only -infinity has no gradient.
        const A saved = std::is_same_v<T, A> ? static_cast<A>(l.data<T>()[r]) : log_sum_exp_row(in, n);
        const A shift = saved == -std::numeric_limits<A>::infinity() ? A(0) : saved;
#pragma omp simd
        for (std::int64_t i = 0; i < n; ++i) out[i] = static_cast<T>(g * exp(static_cast<A>(in[i]) - shift));
      }
    });
  });
}

}  // namespace

constinit const SoftmaxBackend kSoftmax = {.softmax = softmax,
                                           .softmax_backward = softmax_backward,
                                           .log_sum_exp = log_sum_exp,
                                           .log_sum_exp_backward = log_sum_exp_backward};

}  // namespace llsa::kernels::cpu
