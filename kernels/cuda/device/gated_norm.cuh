// Gate, residual, layer norm and modulation in one pass over rows of up to kMostPacks * 128 elements:
//
//     r = x + gate y,  u = (r - mean) rstd,  h = u gain + offset
//     du = dh gain,  dx = dr + rstd (du - mean(du) - u mean(du u)),  dy = gate dx
//     dgate = sum dx y,  doffset = sum dh,  dgain = sum dh u
//
// A warp holds a row: each lane has kHeld neighbouring columns in each of P packs. Forward: a warp per row. Backward: a
// warp goes through a block of rows and adds up their contributions to the three sums in registers; a fold adds
// these partial sums in order.
//
// Bytes per element in f32 (bf16): forward 16 (8), backward 24 (12) and 12 / rows of a block for the partial sums. FLOPs
// per element: 11 and 20. Bound by memory.
#pragma once

#include <algorithm>
#include <cmath>

#include "launch.cuh"
#include "norm_rows.cuh"

namespace llsa::kernels::cuda {

constexpr int kHeld = 4;       // neighbouring columns of a lane
constexpr int kMostPacks = 3;  // more would not fit into registers, in backward

/// Blocks of rows within a group. A warp has one; there are some 2000 of them, as many as warps fit on a GPU, if the
/// rows suffice.
struct RowBlocks {
  std::int64_t length, count;
  explicit RowBlocks(const Rows& rows)
      : length(std::clamp<std::int64_t>(rows.all() / 2048, 8, 32)),
        count(std::max<std::int64_t>(1, ceil_div(rows.rows, length))) {}
};

/// Calls f.template operator()<P>() if a warp can hold the rows, and all of `rest`, rows or factors, can be moved in
/// packs; whether that is so.
template <class T, class F, class... Rest>
bool visit_held_rows(const Rows& rows, F&& f, const Rest&... rest) {
  if constexpr (sizeof(T) <= sizeof(float)) {
    constexpr std::int64_t kPerPack = 32 * kHeld, kMostRows = 0x7fffffff;
    if (rows.width > kMostPacks * kPerPack || rows.all() > kMostRows || !(packs(rows.width, rest) && ...))
      return false;
    if (rows.width <= kPerPack)
      f.template operator()<1>();
    else if (rows.width <= 2 * kPerPack)
      f.template operator()<2>();
    else
      f.template operator()<kMostPacks>();
    return true;
  }
  return false;
}

/// First column of pack p of this lane.
__device__ inline int held_column(int p) { return (p * 32 + lane_of_thread()) * kHeld; }

template <int P, class T, class A>
__global__ void gate_norm_rows(Rows rows, const T* x, const T* y, GroupRow<T> gate, GroupRow<T> offset,
                               GroupRow<T> gain, A eps, T* r, T* h, A* mean, A* rstd) {
  const std::int64_t row = piece_of_warp();
  if (row >= rows.groups * rows.rows) return;
  const int n = static_cast<int>(rows.width);
  const auto group = static_cast<unsigned>(row) / static_cast<unsigned>(rows.rows);
  const std::int64_t at = row * n;
  const GroupRow<T> gates = gate.of(group), factors = gain.of(group), terms = offset.of(group);
  Pack<A, kHeld> value[P] = {};
  A sum = 0;
  SIMT_UNROLL
  for (int p = 0; p < P; ++p) {
    const int c = held_column(p);
    if (c >= n) continue;
    const auto a = columns<kHeld>(x + at, c), b = columns<kHeld>(y + at, c), g = columns<kHeld>(gates, c);
    Pack<T, kHeld> stored;
    SIMT_UNROLL
    for (int j = 0; j < kHeld; ++j) {
      stored.value[j] = static_cast<T>(a.value[j] + g.value[j] * b.value[j]);
      value[p].value[j] = static_cast<A>(stored.value[j]);
      sum += value[p].value[j];
    }
    store_pack(r + at + c, stored);
  }
  const A inverse_n = A(1) / static_cast<A>(n);
  const A m = warp_sum(sum) * inverse_n;
  A squares = 0;
  SIMT_UNROLL
  for (int p = 0; p < P; ++p) {
    if (held_column(p) >= n) continue;
    SIMT_UNROLL
    for (int j = 0; j < kHeld; ++j) squares += (value[p].value[j] - m) * (value[p].value[j] - m);
  }
  const A s = A(1) / std::sqrt(warp_sum(squares) * inverse_n + eps);
  if (lane_of_thread() == 0) {
    mean[row] = m;
    rstd[row] = s;
  }
  SIMT_UNROLL
  for (int p = 0; p < P; ++p) {
    const int c = held_column(p);
    if (c >= n) continue;
    const auto f = columns<kHeld>(factors, c), t = columns<kHeld>(terms, c);
    Pack<T, kHeld> out;
    SIMT_UNROLL
    for (int j = 0; j < kHeld; ++j)
      out.value[j] = static_cast<T>((value[p].value[j] - m) * s * f.value[j] + t.value[j]);
    store_pack(h + at + c, out);
  }
}

/// sums [G,blocks,3C]: for every block of rows, the partial sums of dgate, doffset and dgain. dr may be null.
template <int P, class T, class A>
__global__ void __launch_bounds__(kWarps * 32, 4)
    gate_norm_rows_backward(Rows rows, RowBlocks blocks, const T* dr, const T* dh, const T* r, const T* y,
                            GroupRow<T> gate, GroupRow<T> gain, const A* mean, const A* rstd, T* dx, T* dy,
                            A* sums) {
  using Columns = Pack<A, kHeld>;
  const std::int64_t piece = piece_of_warp();
  if (piece >= rows.groups * blocks.count) return;
  const int n = static_cast<int>(rows.width);
  const auto group = static_cast<unsigned>(piece) / static_cast<unsigned>(blocks.count);
  const std::int64_t first = (piece - group * blocks.count) * blocks.length;
  const std::int64_t end = first + blocks.length < rows.rows ? first + blocks.length : rows.rows;
  const GroupRow<T> gates = gate.of(group), gains = gain.of(group);
  Columns factors[P] = {}, gate_sum[P] = {}, offset_sum[P] = {}, gain_sum[P] = {};
  SIMT_UNROLL
  for (int p = 0; p < P; ++p)
    if (held_column(p) < n) factors[p] = columns<kHeld>(gains, held_column(p));
  const A inverse_n = A(1) / static_cast<A>(n);
  for (std::int64_t row = group * rows.rows + first; row < group * rows.rows + end; ++row) {
    const std::int64_t at = row * n;
    const A m = mean[row], s = rstd[row];
    Columns from_h[P] = {}, u[P] = {}, from_r[P] = {}, branch[P] = {};
    A sum = 0, dot = 0;
    SIMT_UNROLL
    for (int p = 0; p < P; ++p) {
      const int c = held_column(p);
      if (c >= n) continue;
      from_h[p] = columns<kHeld>(dh + at, c);
      u[p] = columns<kHeld>(r + at, c);
      branch[p] = columns<kHeld>(y + at, c);
      if (dr != nullptr) from_r[p] = columns<kHeld>(dr + at, c);
      SIMT_UNROLL
      for (int j = 0; j < kHeld; ++j) {
        u[p].value[j] = (u[p].value[j] - m) * s;
        const A du = from_h[p].value[j] * factors[p].value[j];
        sum += du;
        dot += du * u[p].value[j];
      }
    }
    const A a = warp_sum(sum) * inverse_n, b = warp_sum(dot) * inverse_n;
    SIMT_UNROLL
    for (int p = 0; p < P; ++p) {
      const int c = held_column(p);
      if (c >= n) continue;
      const Columns factor = columns<kHeld>(gates, c);  // registers would not suffice for all rows
      Pack<T, kHeld> to_x, to_branch;
      SIMT_UNROLL
      for (int j = 0; j < kHeld; ++j) {
        const A g = from_h[p].value[j], v = u[p].value[j];
        const A d = from_r[p].value[j] + s * (g * factors[p].value[j] - a - v * b);
        to_x.value[j] = static_cast<T>(d);
        to_branch.value[j] = static_cast<T>(d * factor.value[j]);
        gate_sum[p].value[j] += d * branch[p].value[j];
        offset_sum[p].value[j] += g;
        gain_sum[p].value[j] += g * v;
      }
      store_pack(dx + at + c, to_x);
      store_pack(dy + at + c, to_branch);
    }
  }
  A* const out = sums + piece * 3 * n;
  SIMT_UNROLL
  for (int p = 0; p < P; ++p) {
    const int c = held_column(p);
    if (c >= n) continue;
    store_pack(out + c, gate_sum[p]);
    store_pack(out + n + c, offset_sum[p]);
    store_pack(out + 2 * n + c, gain_sum[p]);
  }
}

}  // namespace llsa::kernels::cuda
