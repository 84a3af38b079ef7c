// The instructions behind kernels/cuda/simt/ptx.h. Fragment layouts are those of the PTX manual, chapters
// "Matrix Fragments for mma.m16n8k16" and "ldmatrix"; sums are taken in f32 in ascending k, where a tensor
// core takes them in an order of its own.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "runtime.h"

namespace llsa::emu {

void cp_async(unsigned to, const void* from, unsigned bytes, unsigned source_bytes, Place place);
void cp_async_commit();
void cp_async_wait(unsigned pending);

void mbarrier_init(unsigned address, unsigned count, Place place);
void mbarrier_arrive(unsigned address, unsigned bytes, Place place);
void mbarrier_wait(unsigned address, unsigned parity, Place place);
void bulk_copy(unsigned to, const void* from, unsigned bytes, unsigned barrier, Place place);

struct LoadMatrix {
  std::uint32_t row[4];  // the 16 bytes that this lane's address names
  std::uint32_t result[4];
  int matrices;
};
void compute_ldmatrix(void* const* slots, std::uint32_t lanes);
void compute_ldmatrix_trans(void* const* slots, std::uint32_t lanes);

/// Lane l gives the address of row l % 8 of matrix l / 8; other lanes' addresses are not looked at.
template <int N>
void ldmatrix(std::uint32_t (&r)[N], unsigned address, bool trans, Place place) {
  LoadMatrix m{};
  m.matrices = N;
  if (lane_id() < 8 * N) std::memcpy(m.row, shared_pointer(address, 16, 16, "ldmatrix", place), 16);
  warp_collective(~0u, trans ? compute_ldmatrix_trans : compute_ldmatrix, &m, "ldmatrix", place);
  std::memcpy(r, m.result, sizeof r);
}

struct MultiplyAdd {
  std::uint32_t a[4], b[2];
  float d[4];
};
void compute_mma_m16n8k16_bf16(void* const* slots, std::uint32_t lanes);

inline void mma_m16n8k16_bf16(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1,
                              Place place) {
  MultiplyAdd m{{a[0], a[1], a[2], a[3]}, {b0, b1}, {d[0], d[1], d[2], d[3]}};
  warp_collective(~0u, compute_mma_m16n8k16_bf16, &m, "mma.sync", place);
  std::memcpy(d, m.d, sizeof d);
}

}  // namespace llsa::emu
