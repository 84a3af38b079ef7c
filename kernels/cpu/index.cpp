// Rows by number on the CPU. The gather is parallel over rows. The sum is parallel over columns: each thread goes
// through all numbers in order, so the order of summation is that of the numbers.
#include "kernels/backend/tensors.h"

#include <cstring>
#include <vector>

#include "kernels/cpu/chunks.h"

namespace llsa::kernels::cpu {
namespace {

void check_range(const char* op, const Tensor& numbers, std::int64_t limit) {
  const std::int32_t* id = numbers.data<std::int32_t>();
  for (std::int64_t i = 0; i < numbers.numel(); ++i) {
    if (id[i] < 0 || id[i] >= limit)
      throw ValueError(cat("[", op, "] expected numbers in [0, ", limit, "), got ", id[i], " at place ", i));
  }
}

void gather_rows(Context& ctx, const char* op, const Tensor& x, const Tensor& numbers, const Tensor& y) {
  const std::int64_t rows = x.size(1), picks = numbers.numel(), width = x.size(2);
  check_range(op, numbers, rows);
  const std::int32_t* id = numbers.data<std::int32_t>();
  const std::size_t bytes = static_cast<std::size_t>(width) * size_of(x.dtype());
  if (bytes == 0) return;
  run_rows(ctx, x.size(0) * picks, width, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const std::int64_t source = r / picks * rows + id[r % picks];
      std::memcpy(y.raw() + static_cast<std::size_t>(r) * bytes,
                  x.raw() + static_cast<std::size_t>(source) * bytes, bytes);
    }
  });
}

void scatter_rows(Context& ctx, const char* op, const Tensor& dy, const Tensor& numbers,
                  const Tensor& dtable) {
  constexpr std::int64_t kColumns = 64;
  const std::int64_t rows = dtable.size(0), picks = numbers.numel(), width = dtable.size(1);
  check_range(op, numbers, rows);
  const std::int32_t* id = numbers.data<std::int32_t>();
  visit_floating(dy.dtype(), op, [&]<class T>() {
    using A = accumulator_t<T>;
    const T* in = dy.data<T>();
    T* out = dtable.data<T>();
    run_chunks(ctx, ceil_div(width, kColumns), (picks + rows) * width, [&](std::int64_t block) {
      const std::int64_t first = block * kColumns;
      const std::int64_t n = std::min(kColumns, width - first);
      std::vector<A> sums(static_cast<std::size_t>(rows * n));
      for (std::int64_t r = 0; r < picks; ++r) {
        A* sum = sums.data() + id[r] * n;
        const T* row = in + r * width + first;
#pragma omp simd
        for (std::int64_t i = 0; i < n; ++i) sum[i] += static_cast<A>(row[i]);
      }
      for (std::int64_t v = 0; v < rows; ++v)
        for (std::int64_t i = 0; i < n; ++i)
          out[v * width + first + i] = static_cast<T>(sums[static_cast<std::size_t>(v * n + i)]);
    });
  });
}

void inverse_order(Context&, const Tensor& order, const Tensor& inverse) {
  const std::int64_t n = order.numel();
  check_range("inverse_order", order, n);
  const std::int32_t* id = order.data<std::int32_t>();
  std::int32_t* out = inverse.data<std::int32_t>();
  std::fill_n(out, n, -1);
  for (std::int64_t i = 0; i < n; ++i) {
    if (out[id[i]] >= 0)
      throw ValueError(
          cat("[inverse_order] expected a permutation, got ", id[i], " at places ", out[id[i]], " and ", i));
    out[id[i]] = static_cast<std::int32_t>(i);
  }
}

}  // namespace

constinit const IndexBackend kIndex = {
    .gather_rows = gather_rows, .scatter_rows = scatter_rows, .inverse_order = inverse_order};

}  // namespace llsa::kernels::cpu
