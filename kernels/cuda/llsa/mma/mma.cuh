// What the tensor-core attention kernels share: bf16 tiles in shared memory, and fragments.
//
// mma.m16n8k16 throughout. With lane = 4 g + t, a lane holds of a 16 x 8 result the rows g and g + 8, columns
// 2t and 2t + 1; two neighbouring results, rounded to bf16, are the left operand of a product over those 16
// columns, so that probabilities never leave the registers. Tiles are rows of D elements in 16-byte chunks,
// permuted so that the eight rows of an 8x8 matrix lie in different banks.
#pragma once

#include "../../simt/ptx.h"
#include "../operands.cuh"

namespace llsa::kernels::cuda {

using Element = __nv_bfloat16;

/// Byte offset of a chunk of 8 elements in a tile.
template <int D>
__device__ __forceinline__ unsigned tile_offset(int row, int chunk) {
  const int key = D == 32 ? row / 2 % 4 : row % 8;
  return static_cast<unsigned>(row * 2 * D + ((chunk ^ key) << 4));
}

/// The swizzle without a register for each address, in a tile aligned to 128 bytes. From the address of chunk 0 or 1
/// of a row (of 0 to 3, for multiples of 4): that of the chunk `chunks` further, an even number. From a row below a
/// power of two: the same chunk `rows` rows further, a multiple of that power.
__device__ __forceinline__ unsigned chunk_further(unsigned at, int chunks) {
  return (at ^ static_cast<unsigned>(chunks % 8 << 4)) + static_cast<unsigned>(chunks / 8 * 128);
}
template <int D>
__device__ __forceinline__ unsigned rows_on(unsigned at, int rows) {
  const int key = D == 32 ? rows / 2 % 4 : rows % 8;
  return (at ^ static_cast<unsigned>(key << 4)) + static_cast<unsigned>(rows * 2 * D);
}

/// The lower and the upper half of a register.
__device__ __forceinline__ std::uint32_t pack_bf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return reinterpret_cast<const std::uint32_t&>(pair);
}

/// 16 rows of D elements as a left operand, straight from global memory; rows beyond `rows` are zero.
template <int D>
__device__ __forceinline__ void load_left(std::uint32_t (&f)[D / 16][4], const Element* from,
                                          std::int64_t stride, int rows, int lane) {
  const int row = lane / 4, column = lane % 4 * 2;
  SIMT_UNROLL
  for (int k = 0; k < D / 16; ++k) {
    SIMT_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int r = row + i % 2 * 8;
      f[k][i] = r < rows
                    ? *reinterpret_cast<const std::uint32_t*>(from + r * stride + k * 16 + i / 2 * 8 + column)
                    : 0;
    }
  }
}

/// For rows 16 u .. 16 u + 15 of a tile: a[.] += left . row, as two results of 8 columns each.
template <int D>
__device__ __forceinline__ void add_left_times_rows(float (&a)[2][4], const std::uint32_t (&left)[D / 16][4],
                                                    unsigned tile, int u, int lane) {
  const unsigned at = tile + tile_offset<D>(lane % 8 + lane / 16 * 8, lane / 8 % 2);
  const unsigned rows = static_cast<unsigned>(u) * 32 * D;
  SIMT_UNROLL
  for (int k = 0; k < D / 16; ++k) {
    std::uint32_t r[4];
    ptx::ldmatrix_x4(r, chunk_further(at, 2 * k) + rows);
    ptx::mma_m16n8k16_bf16(a[0], left[k], r[0], r[1]);
    ptx::mma_m16n8k16_bf16(a[1], left[k], r[2], r[3]);
  }
}

/// The same with a[.] = left . row.
template <int D>
__device__ __forceinline__ void left_times_rows(float (&a)[2][4], const std::uint32_t (&left)[D / 16][4],
                                                unsigned tile, int u, int lane) {
  SIMT_UNROLL
  for (int i = 0; i < 4; ++i) a[0][i] = a[1][i] = 0;
  add_left_times_rows<D>(a, left, tile, u, lane);
}

/// sum += p x for x the rows 16 u .. 16 u + 15 of a tile.
template <int D>
__device__ __forceinline__ void add_left_times_tile(float (&sum)[D / 8][4], const std::uint32_t (&p)[4],
                                                    unsigned tile, int u, int lane) {
  const unsigned at = tile + tile_offset<D>(lane % 16, lane / 16);
  const unsigned rows = static_cast<unsigned>(u) * 32 * D;
  SIMT_UNROLL
  for (int c = 0; c < D / 8; c += 2) {
    std::uint32_t r[4];
    ptx::ldmatrix_x4_trans(r, chunk_further(at, c) + rows);
    ptx::mma_m16n8k16_bf16(sum[c], p, r[0], r[1]);
    ptx::mma_m16n8k16_bf16(sum[c + 1], p, r[2], r[3]);
  }
}

// ---- causal attention: rows that leave columns out --------------------------------------------------------
//
// A 16 x 16 piece that the diagonal cuts, with queries as rows and keys as columns (`before`): row i meets
// the columns c < at + i. With keys as rows and queries as columns, row i meets the columns c >= at + i.

template <bool before>
__device__ __forceinline__ bool meets(int row, int column, int at) {
  return before ? column < at + row : column >= at + row;
}

/// Puts `value` into those elements of a 16 x 8 result, the piece's columns 8 h .. 8 h + 7, that do not meet.
template <bool before>
__device__ __forceinline__ void leave_out(float (&x)[4], float value, int h, int at, int lane) {
  SIMT_UNROLL
  for (int i = 0; i < 4; ++i)
    if (!meets<before>(lane / 4 + i / 2 * 8, 8 * h + lane % 4 * 2 + i % 2, at)) x[i] = value;
}

/// sum += p x for x the fragment (b0, b1) of 16 rows, where row i of p leaves out the rows of x that it does
/// not meet. p is 0 there, which leaves out all finite x. If a lane holds an infinity or a NaN, every row of
/// p gets a product of its own, with the others' part of x cleared; the bits of finite sums are the same
/// either way.
template <bool before>
__device__ __forceinline__ void add_met_products(float (&sum)[4], const std::uint32_t (&p)[4],
                                                 std::uint32_t b0, std::uint32_t b1, int at, int lane) {
  const auto finite = [](std::uint32_t pair) {
    return (pair & 0x7f80u) != 0x7f80u && (pair & 0x7f800000u) != 0x7f800000u;
  };
  if (__all_sync(kAllLanes, finite(b0) && finite(b1))) {
    ptx::mma_m16n8k16_bf16(sum, p, b0, b1);
    return;
  }
  const float start[4] = {sum[0], sum[1], sum[2], sum[3]};
  SIMT_NO_UNROLL
  for (int row = 0; row < 16; ++row) {
    const auto met = [&](std::uint32_t pair, int k) {
      return pair & ((meets<before>(row, k, at) ? 0xffffu : 0u) |
                     (meets<before>(row, k + 1, at) ? 0xffff0000u : 0u));
    };
    const int k = lane % 4 * 2;
    float one[4] = {start[0], start[1], start[2], start[3]};
    ptx::mma_m16n8k16_bf16(one, p, met(b0, k), met(b1, k + 8));
    SIMT_UNROLL
    for (int i = 0; i < 4; ++i)
      if (lane / 4 + i / 2 * 8 == row) sum[i] = one[i];
  }
}

/// add_left_times_tile of queries as rows, in a piece that the diagonal cuts.
template <int D>
__device__ __forceinline__ void add_seen_left_times_tile(float (&sum)[D / 8][4], const std::uint32_t (&p)[4],
                                                         unsigned tile, int u, int at, int lane) {
  const unsigned first = tile + tile_offset<D>(lane % 16, lane / 16);
  const unsigned rows = static_cast<unsigned>(u) * 32 * D;
  SIMT_UNROLL
  for (int c = 0; c < D / 8; c += 2) {
    std::uint32_t r[4];
    ptx::ldmatrix_x4_trans(r, chunk_further(first, c) + rows);
    add_met_products<true>(sum[c], p, r[0], r[1], at, lane);
    add_met_products<true>(sum[c + 1], p, r[2], r[3], at, lane);
  }
}

/// log2 of a block size that is a power of two.
inline int log2_of(int block) {
  int shift = 0;
  while ((1 << shift) < block) ++shift;
  return shift;
}

/// Calls f.operator()<D>() for a head dimension that the kernels cover.
template <class F>
void visit_head_dimension(std::int64_t d, F&& f) {
  if (d == 32) return f.template operator()<32>();
  if (d == 64) return f.template operator()<64>();
  return f.template operator()<128>();
}

}  // namespace llsa::kernels::cuda
