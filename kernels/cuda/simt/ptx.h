// All inline PTX of the library: one wrapper per instruction, with a body for the device and one for the
// emulator. Written for sm_80 and later.
//
// Shared memory is named by its address in the shared window (simt::smem_address). Instructions that need
// sm_90 trap on older devices; the host does not launch kernels with them there.
//
// Fragments of m16n8k16, with lane = 4 g + t; a register of two elements holds the lower column (row) in its
// lower half:
//
//   A      a[0]  row g,     columns 2t     2t + 1        a[1]  row g + 8, columns 2t     2t + 1
//          a[2]  row g,     columns 2t + 8 2t + 9        a[3]  row g + 8, columns 2t + 8 2t + 9
//   B      b0    column g,  rows    2t     2t + 1        b1    column g,  rows    2t + 8 2t + 9
//   C, D   d[0], d[1]  row g, columns 2t, 2t + 1         d[2], d[3]  row g + 8, columns 2t, 2t + 1
//
// ldmatrix hands out 8 x 8 matrices of 16-bit elements in just this way: lane l gives the address of row
// l % 8 of matrix l / 8 (16 bytes, aligned to 16) and receives in r[k] row g, columns 2t, 2t + 1 of matrix k;
// with _trans, column g, rows 2t, 2t + 1.
#pragma once

#include <cstdint>

#include "simt.h"

#if defined(SIMT_EMU)
#include <emu/ptx_api.h>
#define SIMT_PTX inline
#define SIMT_PLACE , ::llsa::emu::Place place = ::llsa::emu::Place::here()
#define SIMT_PTX_BODY(device_body, emulated_body) emulated_body
#else
#define SIMT_PTX __device__ __forceinline__
#define SIMT_PLACE
#define SIMT_PTX_BODY(device_body, emulated_body) device_body
#endif

// A body for sm_90 and later; before that a trap.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
#define SIMT_SM90(...) __trap()
#define SIMT_MBARRIER_WAIT "test_wait"
#else
#define SIMT_SM90(...) __VA_ARGS__
#define SIMT_MBARRIER_WAIT "try_wait"
#endif

namespace llsa::ptx {

// ---- cp.async: 16 or 4 bytes from global to shared memory, behind the lane's back ---------------------

/// Copies 16 bytes past the L1 cache (.cg); both addresses are multiples of 16. The first `source_bytes`
/// (0..16) are read, the rest becomes zero; with 0, `from` is not read and may be anything.
SIMT_PTX void cp_async16(unsigned to, const void* from, unsigned source_bytes = 16 SIMT_PLACE) {
  SIMT_PTX_BODY(asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(to),
                             "l"(__cvta_generic_to_global(from)), "r"(source_bytes)
                             : "memory"),
                emu::cp_async(to, from, 16, source_bytes, place));
}

/// The same through the L1 cache (.ca), for data that other blocks of this multiprocessor read as well.
SIMT_PTX void cp_async16_ca(unsigned to, const void* from, unsigned source_bytes = 16 SIMT_PLACE) {
  SIMT_PTX_BODY(asm volatile("cp.async.ca.shared.global [%0], [%1], 16, %2;\n" ::"r"(to),
                             "l"(__cvta_generic_to_global(from)), "r"(source_bytes)
                             : "memory"),
                emu::cp_async(to, from, 16, source_bytes, place));
}

/// 4 bytes, both addresses multiples of 4, through the L1 cache; otherwise as above.
SIMT_PTX void cp_async4(unsigned to, const void* from, unsigned source_bytes = 4 SIMT_PLACE) {
  SIMT_PTX_BODY(asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;\n" ::"r"(to),
                             "l"(__cvta_generic_to_global(from)), "r"(source_bytes)
                             : "memory"),
                emu::cp_async(to, from, 4, source_bytes, place));
}

/// Ends a group of copies of this lane; an empty group counts as one.
SIMT_PTX void cp_async_commit() {
  SIMT_PTX_BODY(asm volatile("cp.async.commit_group;\n" ::: "memory"), emu::cp_async_commit());
}

/// Waits until at most `pending` of this lane's committed groups are under way.
template <int pending>
SIMT_PTX void cp_async_wait() {
  SIMT_PTX_BODY(asm volatile("cp.async.wait_group %0;\n" ::"n"(pending)
                             : "memory"),
                emu::cp_async_wait(pending));
}

// ---- ldmatrix -----------------------------------------------------------------------------------------

SIMT_PTX void ldmatrix_x1(std::uint32_t (&r)[1], unsigned address SIMT_PLACE) {
  SIMT_PTX_BODY(asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];\n"
                             : "=r"(r[0])
                             : "r"(address)
                             : "memory"),
                emu::ldmatrix(r, address, false, place));
}
SIMT_PTX void ldmatrix_x2(std::uint32_t (&r)[2], unsigned address SIMT_PLACE) {
  SIMT_PTX_BODY(asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];\n"
                             : "=r"(r[0]), "=r"(r[1])
                             : "r"(address)
                             : "memory"),
                emu::ldmatrix(r, address, false, place));
}
SIMT_PTX void ldmatrix_x4(std::uint32_t (&r)[4], unsigned address SIMT_PLACE) {
  SIMT_PTX_BODY(asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                             : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                             : "r"(address)
                             : "memory"),
                emu::ldmatrix(r, address, false, place));
}
SIMT_PTX void ldmatrix_x1_trans(std::uint32_t (&r)[1], unsigned address SIMT_PLACE) {
  SIMT_PTX_BODY(asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];\n"
                             : "=r"(r[0])
                             : "r"(address)
                             : "memory"),
                emu::ldmatrix(r, address, true, place));
}
SIMT_PTX void ldmatrix_x2_trans(std::uint32_t (&r)[2], unsigned address SIMT_PLACE) {
  SIMT_PTX_BODY(asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];\n"
                             : "=r"(r[0]), "=r"(r[1])
                             : "r"(address)
                             : "memory"),
                emu::ldmatrix(r, address, true, place));
}
SIMT_PTX void ldmatrix_x4_trans(std::uint32_t (&r)[4], unsigned address SIMT_PLACE) {
  SIMT_PTX_BODY(asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                             : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                             : "r"(address)
                             : "memory"),
                emu::ldmatrix(r, address, true, place));
}

// ---- tensor cores -------------------------------------------------------------------------------------

/// d += a b for a [16,16] and b [16,8] in bf16 and d [16,8] in f32, by all 32 lanes of a warp.
SIMT_PTX void mma_m16n8k16_bf16(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                std::uint32_t b1 SIMT_PLACE) {
  SIMT_PTX_BODY(asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                             "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
                             : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                             : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1)),
                emu::mma_m16n8k16_bf16(d, a, b0, b1, place));
}

// ---- registers ----------------------------------------------------------------------------------------

/// threadIdx.x, read anew every time: the compiler keeps neither it nor what was computed from it earlier.
SIMT_PTX int thread_number() {
  SIMT_PTX_BODY(int x; asm volatile("mov.u32 %0, %%tid.x;\n"
                                    : "=r"(x));
                return x, return static_cast<int>(threadIdx.x));
}
/// blockIdx.y, likewise.
SIMT_PTX int block_number_y() {
  SIMT_PTX_BODY(int x; asm volatile("mov.u32 %0, %%ctaid.y;\n"
                                    : "=r"(x));
                return x, return static_cast<int>(blockIdx.y));
}

// ---- arithmetic ---------------------------------------------------------------------------------------

/// 2^x to 2 ulp; denormal results are 0 and -inf gives 0.
SIMT_PTX float exp2_approx(float x) {
  SIMT_PTX_BODY(float y; asm("ex2.approx.ftz.f32 %0, %1;\n"
                             : "=f"(y)
                             : "f"(x));
                return y, return std::exp2(x));
}

/// log2(x) to about 2^-22; 0 gives -inf.
SIMT_PTX float log2_approx(float x) {
  SIMT_PTX_BODY(float y; asm("lg2.approx.ftz.f32 %0, %1;\n"
                             : "=f"(y)
                             : "f"(x));
                return y, return std::log2(x));
}

// ---- barriers -----------------------------------------------------------------------------------------

/// Barrier 1..15 for `threads` threads, whole warps, of the block (__syncthreads is number 0).
SIMT_PTX void named_barrier(int id, int threads SIMT_PLACE) {
  SIMT_PTX_BODY(asm volatile("bar.sync %0, %1;\n" ::"r"(id), "r"(threads)
                             : "memory"),
                emu::block_barrier(id, threads, false, "bar.sync", place));
}

// ---- mbarriers, and bulk copies (sm_90) ---------------------------------------------------------------
//
// An mbarrier is 8 bytes of shared memory, aligned to 8. A phase ends when `count` arrivals and all bytes
// that were announced have come; phases alternate in parity, beginning with 0. What a thread did before it
// arrived is seen by those who waited for the end of the phase. One thread calls mbarrier_init, and, where
// there are bulk copies, mbarrier_fence_init, then all pass a __syncthreads.

SIMT_PTX void mbarrier_init(unsigned address, unsigned count SIMT_PLACE) {
  SIMT_PTX_BODY(asm volatile("mbarrier.init.shared.b64 [%0], %1;\n" ::"r"(address), "r"(count)
                             : "memory"),
                emu::mbarrier_init(address, count, place));
}

/// Makes initialised mbarriers visible to bulk copies.
SIMT_PTX void mbarrier_fence_init() {
  SIMT_PTX_BODY(SIMT_SM90(asm volatile("fence.mbarrier_init.release.cluster;\n" ::: "memory")), (void)0);
}

SIMT_PTX void mbarrier_arrive(unsigned address SIMT_PLACE) {
  SIMT_PTX_BODY(asm volatile("mbarrier.arrive.shared.b64 _, [%0];\n" ::"r"(address)
                             : "memory"),
                emu::mbarrier_arrive(address, 0, place));
}

/// Arrives and announces `bytes` more for this phase.
SIMT_PTX void mbarrier_arrive_expect_tx(unsigned address, unsigned bytes SIMT_PLACE) {
  SIMT_PTX_BODY(SIMT_SM90(asm volatile(
                    "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\n" ::"r"(address), "r"(bytes)
                    : "memory")),
                emu::mbarrier_arrive(address, bytes, place));
}

/// Waits for the end of the phase of this parity. Before sm_90 by asking again and again, from then on asleep
/// for a while in between.
SIMT_PTX void mbarrier_wait(unsigned address, unsigned parity SIMT_PLACE) {
  SIMT_PTX_BODY(asm volatile("{\n"
                             ".reg .pred done;\n"
                             "try_%=:\n"
                             "mbarrier." SIMT_MBARRIER_WAIT ".parity.shared.b64 done, [%0], %1;\n"
                             "@!done bra try_%=;\n"
                             "}\n" ::"r"(address),
                             "r"(parity)
                             : "memory"),
                emu::mbarrier_wait(address, parity, place));
}

/// One thread copies `bytes` from global to shared memory, all multiples of 16; they count for the mbarrier
/// when they have come.
SIMT_PTX void bulk_copy(unsigned to, const void* from, unsigned bytes, unsigned mbarrier SIMT_PLACE) {
  SIMT_PTX_BODY(SIMT_SM90(asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
                                       "[%0], [%1], %2, [%3];\n" ::"r"(to),
                                       "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(mbarrier)
                                       : "memory")),
                emu::bulk_copy(to, from, bytes, mbarrier, place));
}

/// Before bulk copies or wgmma touch shared memory that this thread wrote or read by ordinary means; a
/// barrier follows.
SIMT_PTX void fence_async_proxy() {
  SIMT_PTX_BODY(SIMT_SM90(asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory")), (void)0);
}

}  // namespace llsa::ptx

#undef SIMT_PTX
#undef SIMT_PLACE
#undef SIMT_PTX_BODY
#undef SIMT_SM90
#undef SIMT_MBARRIER_WAIT
