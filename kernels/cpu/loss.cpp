// Losses on the CPU. Vector lanes of the accumulator's type sum kStretch elements; these sums are added in f64, first
// within a chunk, then in the order of chunks.
#include "kernels/backend/training.h"

#include <limits>
#include <vector>

#include "kernels/cpu/chunks.h"
#include "kernels/cpu/softmax_row.h"

namespace llsa::kernels::cpu {
namespace {

constexpr std::int64_t kStretch = 512;

template <class T, class A = accumulator_t<T>>
A squared_distance(const T* a, const T* b, std::int64_t n) {
  A sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < n; ++i) {
    const A d = static_cast<A>(a[i]) - static_cast<A>(b[i]);
    sum += d * d;
  }
  return sum;
}

double in_order(const std::vector<double>& parts) {
  double sum = 0;
  for (const double part : parts) sum += part;
  return sum;
}

void check_label(std::int32_t label, std::int64_t row, std::int64_t classes) {
  if (label < 0 || label >= classes)
    throw ValueError(
        cat("[cross_entropy] expected labels in [0, ", classes, "), got ", label, " at place ", row));
}

void mse(Context& ctx, const Tensor& a, const Tensor& b, const Tensor& loss) {
  visit_floating(a.dtype(), "mse", [&]<class T>() {
    using A = accumulator_t<T>;
    const std::int64_t n = a.numel();
    std::vector<double> parts(static_cast<std::size_t>(ceil_div(n, kChunkWork)));
    const T* pa = a.data<T>();
    const T* pb = b.data<T>();
    run_chunks(ctx, static_cast<std::int64_t>(parts.size()), n, [&](std::int64_t chunk) {
      const std::int64_t end = std::min(n, (chunk + 1) * kChunkWork);
      double sum = 0;
      for (std::int64_t i = chunk * kChunkWork; i < end; i += kStretch)
        sum += static_cast<double>(squared_distance(pa + i, pb + i, std::min(kStretch, end - i)));
      parts[static_cast<std::size_t>(chunk)] = sum;
    });
    *loss.data<A>() = static_cast<A>(in_order(parts) / static_cast<double>(n));
  });
}

void mse_backward(Context& ctx, const Tensor& dloss, const Tensor& a, const Tensor& b, const Tensor& da) {
  visit_floating(a.dtype(), "mse_backward", [&]<class T>() {
    using A = accumulator_t<T>;
    const std::int64_t n = a.numel();
    const A factor = static_cast<A>(2.0 * static_cast<double>(*dloss.data<A>()) / static_cast<double>(n));
    const T* pa = a.data<T>();
    const T* pb = b.data<T>();
    T* out = da.data<T>();
    run_rows(ctx, n, 1, [&](std::int64_t begin, std::int64_t end) {
#pragma omp simd
      for (std::int64_t i = begin; i < end; ++i)
        out[i] = static_cast<T>(factor * (static_cast<A>(pa[i]) - static_cast<A>(pb[i])));
    });
  });
}

void cross_entropy(Context& ctx, const Tensor& logits, const Tensor& labels, const Tensor& loss) {
  visit_floating(logits.dtype(), "cross_entropy", [&]<class T>() {
    using A = accumulator_t<T>;
    const std::int64_t n = logits.size(0), classes = logits.size(1);
    const std::int64_t grain = chunk_rows(classes);
    std::vector<double> parts(static_cast<std::size_t>(ceil_div(n, grain)));
    const std::int32_t* label = labels.data<std::int32_t>();
    run_chunks(ctx, static_cast<std::int64_t>(parts.size()), n * classes, [&](std::int64_t chunk) {
      double sum = 0;
      for (std::int64_t r = chunk * grain; r < std::min(n, (chunk + 1) * grain); ++r) {
        const T* row = logits.data<T>() + r * classes;
        check_label(label[r], r, classes);
        sum += static_cast<double>(log_sum_exp_row(row, classes) - static_cast<A>(row[label[r]]));
      }
      parts[static_cast<std::size_t>(chunk)] = sum;
    });
    *loss.data<A>() = static_cast<A>(in_order(parts) / static_cast<double>(n));
  });
}

void cross_entropy_backward(Context& ctx, const Tensor& dloss, const Tensor& logits, const Tensor& labels,
                            const Tensor& dlogits) {
  visit_floating(logits.dtype(), "cross_entropy_backward", [&]<class T>() {
    using A = accumulator_t<T>;
    const std::int64_t n = logits.size(0), classes = logits.size(1);
    const A factor = static_cast<A>(static_cast<double>(*dloss.data<A>()) / static_cast<double>(n));
    const std::int32_t* label = labels.data<std::int32_t>();
    run_rows(ctx, n, classes, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r) {
        const T* row = logits.data<T>() + r * classes;
        T* out = dlogits.data<T>() + r * classes;
        check_label(label[r], r, classes);
        const A shift = log_sum_exp_row(row, classes);
#pragma omp simd
        for (std::int64_t i = 0; i < classes; ++i)
          out[i] = static_cast<T>(factor * exp(static_cast<A>(row[i]) - shift));
        out[label[r]] = static_cast<T>(factor * (exp(static_cast<A>(row[label[r]]) - shift) - A(1)));
      }
    });
  });
}

}  // namespace

constinit const LossBackend kLoss = {.mse = mse,
                                     .mse_backward = mse_backward,
                                     .cross_entropy = cross_entropy,
                                     .cross_entropy_backward = cross_entropy_backward};

}  // namespace llsa::kernels::cpu
