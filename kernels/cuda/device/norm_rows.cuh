// Rows of norms, and the factors and terms that go with them, as kernels see them.
#pragma once

#include "types.cuh"

namespace llsa::kernels::cuda {

/// A [G,C] tensor of factors or terms, one row per group; `base` is added to each, and alone where there is
/// no tensor.
template <class T>
struct GroupRow {
  using A = accumulator_t<T>;
  const T* data = nullptr;
  std::int64_t stride = 0;
  A base = 0;

  GroupRow(const Tensor& x, A base)
      : data(device_data<T>(x)), stride(x.defined() && x.rank() > 1 ? x.stride(0) : 0), base(base) {}
  __device__ GroupRow of(std::int64_t group) const {
    GroupRow row = *this;
    row.data += group * stride;
    return row;
  }
};

/// Rows in groups: [b,N,C] as b groups, [R,C] as one.
struct Rows {
  std::int64_t groups, rows, width;
  explicit Rows(const Tensor& x)
      : groups(x.rank() == 2 ? 1 : x.size(0)), rows(x.size(-2)), width(x.size(-1)) {}
  std::int64_t all() const { return groups * rows; }
};

/// Columns c to c + N - 1 of a row, or of a row of factors or terms, in the type of sums.
template <int N, class T, class A = accumulator_t<T>>
__device__ Pack<A, N> columns(const T* row, std::int64_t c) {
  const Pack<T, N> pack = load_pack<N>(row + c);
  Pack<A, N> out;
  for (int j = 0; j < N; ++j) out.value[j] = static_cast<A>(pack.value[j]);
  return out;
}

template <int N, class T, class A = accumulator_t<T>>
__device__ Pack<A, N> columns(const GroupRow<T>& row, std::int64_t c) {
  Pack<T, N> pack = {};
  if (row.data != nullptr) pack = load_pack<N>(row.data + c);
  Pack<A, N> out;
  for (int j = 0; j < N; ++j) out.value[j] = row.base + static_cast<A>(pack.value[j]);
  return out;
}

/// Whether rows, or factors and terms of theirs, can be moved in packs of 16 bytes.
template <class T>
bool packs(std::int64_t width, const T* rows) {
  return packable(width, rows);
}
template <class T>
bool packs(std::int64_t, const GroupRow<T>& rows) {
  return packable(rows.stride, rows.data);
}

}  // namespace llsa::kernels::cuda
