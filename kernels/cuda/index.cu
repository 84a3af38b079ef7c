// Rows by number, and the adjoint:
//
//     y[s,i,:] = x[s,numbers[i],:];   dtable[r,:] = sum of dy[i,:] over the i with numbers[i] = r
//
// A number out of range cannot be an exception here, because the host would have to wait for it. The gather
// writes a row of NaN, which then shows in the loss; the sum leaves the row out.
//
// Gather: a thread per 16 bytes, or per element where rows are not aligned. Bytes per element: 8 in f32, 4 in
// bf16; no FLOPs. Bound by memory.
//
// Sum: a warp owns kColumns columns of one row of the table. It searches all M numbers, 32 at a time, and adds
// the rows that match in the order of the numbers; there are no atomics. Bytes: dy and the table once, 4 (2) per
// element, and 4 M per warp for the numbers, from L1 and L2. One addition per element of dy. Bound by the latency
// of the search, M / 32 steps.
#include "kernels/backend/tensors.h"

#include <limits>
#include <vector>

#include "kernels/copy.h"
#include "kernels/cuda/device/launch.cuh"
#include "kernels/cuda/device/types.cuh"

namespace llsa::kernels::cuda {
namespace {

constexpr int kEach = 4;              // columns per lane, 32 apart
constexpr int kColumns = 32 * kEach;  // columns per warp

struct Sizes {
  std::int64_t sets, rows, picks, width;  // x [S,N,C], numbers [M]
};

template <int N, class T>
__global__ void gather(Sizes size, const T* x, const std::int32_t* numbers, T* y) {
  const std::int64_t packs = size.width / N;
  const std::int64_t i = piece_of_thread();
  if (i >= size.sets * size.picks * packs) return;
  const std::int64_t column = i % packs * N;
  const std::int64_t pick = i / packs % size.picks;
  const std::int64_t set = i / packs / size.picks;
  const std::int64_t number = numbers[pick];
  Pack<T, N> value;
  if (number >= 0 && number < size.rows)
    value = load_pack<N>(x + (set * size.rows + number) * size.width + column);
  else
    for (int j = 0; j < N; ++j) value.value[j] = static_cast<T>(std::numeric_limits<float>::quiet_NaN());
  store_pack(y + (set * size.picks + pick) * size.width + column, value);
}

template <class T>
__global__ void scatter(std::int64_t rows, std::int64_t picks, std::int64_t width, const T* dy,
                        const std::int32_t* numbers, T* dtable) {
  using A = accumulator_t<T>;
  const std::int64_t tiles = (width + kColumns - 1) / kColumns;
  const std::int64_t piece = piece_of_warp();
  if (piece >= rows * tiles) return;
  const std::int64_t row = piece / tiles, first = piece % tiles * kColumns + lane_of_thread();
  A sum[kEach] = {};
  for (std::int64_t begin = 0; begin < picks; begin += 32) {
    const std::int64_t mine = begin + lane_of_thread();
    unsigned matches = __ballot_sync(kAllLanes, mine < picks && numbers[mine] == row);
    for (; matches != 0; matches &= matches - 1) {
      const T* const from = dy + (begin + __ffs(static_cast<int>(matches)) - 1) * width;
      SIMT_UNROLL
      for (int j = 0; j < kEach; ++j)
        if (first + 32 * j < width) sum[j] += static_cast<A>(from[first + 32 * j]);
    }
  }
  SIMT_UNROLL
  for (int j = 0; j < kEach; ++j)
    if (first + 32 * j < width) dtable[row * width + first + 32 * j] = static_cast<T>(sum[j]);
}

void gather_rows(Context& ctx, const char* op, const Tensor& x, const Tensor& numbers, const Tensor& y) {
  visit_device(x.dtype(), op, [&]<class T>() {
    const Sizes size{x.size(0), x.size(1), numbers.numel(), x.size(2)};
    const T* const from = device_data<T>(x);
    T* const to = device_data<T>(y);
    const std::int32_t* const number = numbers.data<std::int32_t>();
    constexpr int N = kPack<T>;
    if (packable(size.width, from, to))
      launch_threads(ctx, gather<N, T>, y.numel() / N, size, from, number, to);
    else
      launch_threads(ctx, gather<1, T>, y.numel(), size, from, number, to);
  });
}

void scatter_rows(Context& ctx, const char* op, const Tensor& dy, const Tensor& numbers,
                  const Tensor& dtable) {
  visit_device(dy.dtype(), op, [&]<class T>() {
    const std::int64_t rows = dtable.size(0), width = dtable.size(1);
    launch_warps(ctx, scatter<T>, rows * ceil_div(width, kColumns), rows, numbers.numel(), width,
                 device_data<T>(dy), numbers.data<std::int32_t>(), device_data<T>(dtable));
  });
}

/// Orders are made once, so this goes through the host, where an error can be an exception.
void inverse_order(Context& ctx, const Tensor& order, const Tensor& inverse) {
  const auto numbers = to_vector<std::int32_t>(ctx, order);
  const auto n = static_cast<std::int64_t>(numbers.size());
  std::vector<std::int32_t> out(numbers.size(), -1);
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int32_t number = numbers[static_cast<std::size_t>(i)];
    if (number < 0 || number >= n)
      throw ValueError(
          cat("[inverse_order] expected numbers in [0, ", n, "), got ", number, " at place ", i));
    std::int32_t& place = out[static_cast<std::size_t>(number)];
    if (place >= 0)
      throw ValueError(
          cat("[inverse_order] expected a permutation, got ", number, " at places ", place, " and ", i));
    place = static_cast<std::int32_t>(i);
  }
  copy_from_host(ctx, out.data(), inverse);
}

}  // namespace

constinit const IndexBackend kIndex = {
    .gather_rows = gather_rows, .scatter_rows = scatter_rows, .inverse_order = inverse_order};

}  // namespace llsa::kernels::cuda
