// Kernels that use one feature each and write down what they got. The tests compare with plain loops, under
// the emulator and on the device: what the two must agree on.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

namespace llsa::test {

/// One warp. out[16][32] int: shuffles of 10 * lane, see the kernel for the rows.
void run_shuffles(int* out);
/// One warp. out[6][32] double: shuffles of 1.5 * lane + 0.25 as other types.
void run_typed_shuffles(double* out);
/// One warp. out[16][32] unsigned: votes and integer reductions.
void run_votes(unsigned* out);
/// Blocks of 5 x 7 x 4 threads on a grid of 3 x 2: out[block][thread].
void run_block(int* out);
/// 16 blocks of 64 threads; integers[8] and numbers[2] begin as 0, old[16] receives what atomicCAS found.
void run_atomics(unsigned* integers, double* numbers, float* floats, int* old);
/// 4 blocks of 96 threads: thread t of block t % 5 clears bit t of words[3] by atomicAnd, thread 7 the
/// flag; found[4][96]: the bit as it was, 0 from the others.
void run_clear_bits(unsigned* words, int* flag, unsigned* found);
/// One thread. out[32] unsigned: bit and integer intrinsics of x and y.
void run_bits(unsigned x, unsigned y, unsigned* out);
/// One thread per element of x[n]. out[n][8]: arithmetic intrinsics.
void run_arithmetic(const float* x, int n, float* out);
/// 3 blocks of 64 threads, numbered by ptx::thread_number. out[192][2]: fmaf(a, b, c), log2f(a).
void run_fused(const float* a, const float* b, const float* c, float* out);
/// 96 threads. source[384] int; out[3][32][4] int: copies of 16, 16 and 4 * (lane % 4) bytes, zero-filled.
void run_cp_async(const int* source, int* out, bool through_l1);
/// One warp. source[33] int; out[31 - i] = source[i + 1], 0 where 3 divides i.
void run_cp_async4(const int* source, int* out);
/// One warp. matrix[32][16] bf16; out[14][32]: registers of x1, x2, x4, then the same with _trans.
void run_ldmatrix(const __nv_bfloat16* matrix, std::uint32_t* out);
/// One warp. d [16][8] += a [16][16] b [16][8].
void run_mma(const __nv_bfloat16* a, const __nv_bfloat16* b, float* d);
/// 128 threads. out[i] = sum over rounds r of source[r][32 ((i / 32 + r) % 4) + i % 32] (r + 1), i < 128, by
/// rows that warps copy for each other.
void run_mbarrier_ring(const float* source, int rounds, float* out);
/// 128 threads, sm_90. out[i] = sum over rounds r of source[r][i] * (r + 1), i < 256, by bulk copies.
void run_bulk_copy(const float* source, int rounds, float* out);
/// 128 threads: warps 0, 1 and warps 2, 3 meet at barriers of their own; out[128].
void run_named_barrier(int* out);
/// One block of n threads with `bytes` of dynamic shared memory, written and read back: out[n].
void run_dynamic_shared(int n, std::size_t bytes, unsigned* out, cudaStream_t stream);
/// The same in reverse, and with this much static shared memory beside it; n <= 1024.
constexpr int kStaticShared = 4096;
void run_static_and_dynamic_shared(int n, std::size_t bytes, unsigned* out);

}  // namespace llsa::test
