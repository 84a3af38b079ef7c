#include "tests/kernels/cuda/conformance.h"

#include "kernels/cuda/simt/ptx.h"
#include "kernels/cuda/simt/simt.h"

namespace llsa::test {
namespace {

constexpr unsigned kAll = 0xffffffffu;

__global__ void shuffles_kernel(int* out) {
  const int lane = threadIdx.x, x = 10 * lane;
  out[0 * 32 + lane] = __shfl_sync(kAll, x, 7);
  out[1 * 32 + lane] = __shfl_sync(kAll, x, 31 - lane);
  out[2 * 32 + lane] = __shfl_sync(kAll, x, 11, 8);
  out[3 * 32 + lane] = __shfl_sync(kAll, x, 35);
  out[4 * 32 + lane] = __shfl_xor_sync(kAll, x, 5);
  out[5 * 32 + lane] = __shfl_xor_sync(kAll, x, 9, 8);
  out[6 * 32 + lane] = __shfl_xor_sync(kAll, x, 3, 8);
  out[7 * 32 + lane] = __shfl_up_sync(kAll, x, 3);
  out[8 * 32 + lane] = __shfl_up_sync(kAll, x, 3, 8);
  out[9 * 32 + lane] = __shfl_down_sync(kAll, x, 3);
  out[10 * 32 + lane] = __shfl_down_sync(kAll, x, 3, 8);
  // Both halves of the warp at the same time, each with its own mask.
  if (lane < 16)
    out[11 * 32 + lane] = __shfl_xor_sync(0x0000ffffu, x, 1);
  else
    out[11 * 32 + lane] = __shfl_sync(0xffff0000u, x, 20);
}

__global__ void typed_shuffles_kernel(double* out) {
  const int lane = threadIdx.x;
  const double x = 1.5 * lane + 0.25;
  out[0 * 32 + lane] = __shfl_xor_sync(kAll, x, 1);
  out[1 * 32 + lane] = __shfl_xor_sync(kAll, static_cast<float>(x), 1);
  out[2 * 32 + lane] = __bfloat162float(__shfl_xor_sync(kAll, __float2bfloat16(static_cast<float>(lane)), 1));
  out[3 * 32 + lane] = static_cast<double>(__shfl_down_sync(kAll, (1ll << 40) + lane, 2));
  out[4 * 32 + lane] =
      static_cast<double>(__shfl_up_sync(kAll, 4000000000u + static_cast<unsigned>(lane), 1));
  const __nv_bfloat162 pair =
      __shfl_sync(kAll, __floats2bfloat162_rn(static_cast<float>(lane), static_cast<float>(-lane)), 9);
  out[5 * 32 + lane] = 1000.0 * __low2float(pair) + __high2float(pair);
}

__global__ void votes_kernel(unsigned* out) {
  const int lane = threadIdx.x;
  const unsigned u = static_cast<unsigned>(lane) * 2654435761u;
  out[0 * 32 + lane] = __ballot_sync(kAll, lane % 3 == 0);
  out[1 * 32 + lane] = static_cast<unsigned>(__any_sync(kAll, lane == 4));
  out[2 * 32 + lane] = static_cast<unsigned>(__any_sync(kAll, lane == 40));
  out[3 * 32 + lane] = static_cast<unsigned>(__all_sync(kAll, lane < 31));
  out[4 * 32 + lane] = static_cast<unsigned>(__all_sync(kAll, lane < 32));
  out[5 * 32 + lane] = __reduce_add_sync(kAll, u);
  out[6 * 32 + lane] = __reduce_min_sync(kAll, u);
  out[7 * 32 + lane] = __reduce_max_sync(kAll, u);
  out[8 * 32 + lane] = __reduce_and_sync(kAll, u | 5u);
  out[9 * 32 + lane] = __reduce_or_sync(kAll, u & 0xf0fu);
  out[10 * 32 + lane] = __reduce_xor_sync(kAll, u);
  out[11 * 32 + lane] = static_cast<unsigned>(__reduce_add_sync(kAll, 100 - 10 * lane));
  out[12 * 32 + lane] = static_cast<unsigned>(__reduce_min_sync(kAll, 100 - 10 * lane));
  out[13 * 32 + lane] = static_cast<unsigned>(__reduce_max_sync(kAll, -lane - 1));
  if (lane % 2 == 0)
    out[14 * 32 + lane] = __reduce_add_sync(0x55555555u, static_cast<unsigned>(lane));
  else
    out[14 * 32 + lane] = __ballot_sync(0xaaaaaaaau, lane > 16);
}

__global__ void block_kernel(int* out) {
  SIMT_SHARED(table, int[3][40]);
  SIMT_SHARED(half, double);
  SIMT_DYNAMIC_SHARED(raw);
  int* const squares = reinterpret_cast<int*>(raw);
  const int n = blockDim.x * blockDim.y * blockDim.z;
  const int t = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  if (t < 120) table[t / 40][t % 40] = t;
  if (t == 5) half = 0.5;
  squares[t] = t * t;
  __syncthreads();
  int value = table[t % 120 / 40][t % 120 % 40] + squares[n - 1 - t] + static_cast<int>(half * 8);
  value += 1000000 * __syncthreads_count(t % 3 == 0);
  value += 100000000 * __syncthreads_or(t == 77) + 200000000 * __syncthreads_and(t != 77);
  out[(blockIdx.x + gridDim.x * blockIdx.y) * n + t] = value;
}

__global__ void atomics_kernel(unsigned* integers, double* numbers, float* floats, int* old) {
  SIMT_SHARED(in_block, unsigned);
  const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
  if (threadIdx.x == 0) in_block = 0;
  __syncthreads();
  atomicAdd(&in_block, 1u);
  atomicAdd(integers + 0, 2u);
  atomicMax(integers + 1, thread);
  atomicMin(reinterpret_cast<int*>(integers + 2), -static_cast<int>(thread));
  atomicOr(integers + 3, 1u << blockIdx.x);
  atomicXor(integers + 4, thread);
  atomicSub(integers + 5, 1u);
  atomicAdd(numbers, 0.25);
  atomicAdd(floats, 0.5f);
  __syncthreads();
  if (threadIdx.x == 0) {
    old[blockIdx.x] = atomicCAS(reinterpret_cast<int*>(integers + 6), 0, static_cast<int>(blockIdx.x) + 1);
    atomicExch(integers + 7, in_block);
  }
}

__global__ void clear_bits_kernel(unsigned* words, int* flag, unsigned* found) {
  const unsigned thread = threadIdx.x;  // 96 of them, for three words
  const unsigned bit = 1u << thread % 32;
  found[blockIdx.x * blockDim.x + thread] = 0;
  if (thread % 5 != blockIdx.x) return;
  found[blockIdx.x * blockDim.x + thread] = atomicAnd(words + thread / 32, ~bit) & bit;
  if (thread == 7) atomicAnd(flag, 0);
}

__global__ void bits_kernel(unsigned x, unsigned y, unsigned* out) {
  int i = 0;
  out[i++] = static_cast<unsigned>(__popc(x));
  out[i++] = static_cast<unsigned>(__popcll(static_cast<unsigned long long>(x) << 32 | y));
  out[i++] = static_cast<unsigned>(__clz(static_cast<int>(x)));
  out[i++] = static_cast<unsigned>(__clzll(static_cast<long long>(x)));
  out[i++] = static_cast<unsigned>(__ffs(static_cast<int>(x)));
  out[i++] = static_cast<unsigned>(__ffsll(static_cast<long long>(static_cast<unsigned long long>(x) << 32)));
  out[i++] = __brev(x);
  out[i++] = __umulhi(x, y);
  out[i++] = __byte_perm(x, y, 0x5214);
  out[i++] = __float_as_uint(__uint_as_float(0x3fc00000u) * 2.0f);
  out[i++] = static_cast<unsigned>(__float_as_int(__int_as_float(0x40000000) + 1.0f));
  out[i++] = static_cast<unsigned>(__double_as_longlong(1.5) >> 32);
  out[i++] = static_cast<unsigned>(__longlong_as_double(0x4010000000000000ll));
  out[i++] = min(x, y);
  out[i++] = max(x, y);
  out[i++] = __ldg(out) + __ldcg(out) + __ldcs(out);
}

__global__ void arithmetic_kernel(const float* x, int n, float* out) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const float v = x[i];
  float* const o = out + 8 * i;
  o[0] = ptx::exp2_approx(v);
  o[1] = ptx::log2_approx(fabsf(v));
  o[2] = __expf(v);
  o[3] = __logf(fabsf(v));
  o[4] = rsqrtf(fabsf(v));
  o[5] = __fdividef(1.0f, v);
  o[6] = __saturatef(v);
  o[7] = cospif(v);
}

__global__ void fused_kernel(const float* a, const float* b, const float* c, float* out) {
  const int i = blockIdx.x * blockDim.x + ptx::thread_number();
  out[2 * i] = fmaf(a[i], b[i], c[i]);
  out[2 * i + 1] = log2f(a[i]);
}

template <bool through_l1>
__global__ void cp_async_kernel(const int* source, int* out) {
  SIMT_DYNAMIC_SHARED(raw);
  const int lane = threadIdx.x;
  const int* const shared = reinterpret_cast<const int*>(raw);
  for (int group = 0; group < 3; ++group) {
    const unsigned to = simt::smem_address(raw) + (group * 32 + lane) * 16;
    const int* const from = source + (group * 32 + lane) * 4;
    const unsigned bytes = group == 2 ? lane % 4 * 4 : 16;
    if (through_l1)
      ptx::cp_async16_ca(to, from, bytes);
    else
      ptx::cp_async16(to, from, bytes);
    ptx::cp_async_commit();
  }
  ptx::cp_async_wait<2>();
  for (int e = 0; e < 4; ++e) out[lane * 4 + e] = shared[lane * 4 + e];
  ptx::cp_async_wait<0>();
  __syncwarp();
  for (int i = 32 * 4 + lane; i < 96 * 4; i += 32) out[i] = shared[i];  // copied by other lanes
}

__global__ void cp_async4_kernel(const int* source, int* out) {
  SIMT_SHARED(word, int[32]);
  const int lane = threadIdx.x;
  ptx::cp_async4(simt::smem_address(word + lane), source + lane + 1, lane % 3 == 0 ? 0 : 4);
  ptx::cp_async_commit();
  ptx::cp_async_wait<0>();
  __syncwarp();
  out[lane] = word[31 - lane];
}

__global__ void ldmatrix_kernel(const __nv_bfloat16* matrix, std::uint32_t* out) {
  SIMT_SHARED(tile, uint4[32][2]);
  const int lane = threadIdx.x;
  for (int i = lane; i < 64; i += 32) tile[i / 2][i % 2] = reinterpret_cast<const uint4*>(matrix)[i];
  __syncwarp();
  // x4: rows 0-7 and 8-15 of the left half, then of the right half; x2: the left half; x1: its first eight
  // rows.
  const unsigned x4 = simt::smem_address(&tile[lane % 16][lane / 16]);
  const unsigned x2 = simt::smem_address(&tile[lane % 16][0]);
  const unsigned x1 = simt::smem_address(&tile[lane % 8][0]);
  std::uint32_t r1[1], r2[2], r4[4];
  ptx::ldmatrix_x1(r1, x1);
  ptx::ldmatrix_x2(r2, x2);
  ptx::ldmatrix_x4(r4, x4);
  out[0 * 32 + lane] = r1[0];
  for (int i = 0; i < 2; ++i) out[(1 + i) * 32 + lane] = r2[i];
  for (int i = 0; i < 4; ++i) out[(3 + i) * 32 + lane] = r4[i];
  ptx::ldmatrix_x1_trans(r1, x1);
  ptx::ldmatrix_x2_trans(r2, x2);
  ptx::ldmatrix_x4_trans(r4, x4);
  out[7 * 32 + lane] = r1[0];
  for (int i = 0; i < 2; ++i) out[(8 + i) * 32 + lane] = r2[i];
  for (int i = 0; i < 4; ++i) out[(10 + i) * 32 + lane] = r4[i];
}

// Fragments are gathered by hand here, so that the test does not lean on ldmatrix.
__global__ void mma_kernel(const __nv_bfloat16* a, const __nv_bfloat16* b, float* d) {
  const int lane = threadIdx.x, g = lane / 4, t = lane % 4;
  const auto pair = [](__nv_bfloat16 low, __nv_bfloat16 high) {
    return static_cast<std::uint32_t>(__bfloat16_as_ushort(low)) |
           static_cast<std::uint32_t>(__bfloat16_as_ushort(high)) << 16;
  };
  std::uint32_t fa[4], fb[2];
  for (int i = 0; i < 4; ++i) {
    const __nv_bfloat16* const p = a + (g + i % 2 * 8) * 16 + 2 * t + i / 2 * 8;
    fa[i] = pair(p[0], p[1]);
  }
  for (int i = 0; i < 2; ++i) {
    const __nv_bfloat16* const p = b + (2 * t + 8 * i) * 8 + g;
    fb[i] = pair(p[0], p[8]);
  }
  float fd[4];
  for (int i = 0; i < 4; ++i) fd[i] = d[(g + i / 2 * 8) * 8 + 2 * t + i % 2];
  ptx::mma_m16n8k16_bf16(fd, fa, fb[0], fb[1]);
  for (int i = 0; i < 4; ++i) d[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = fd[i];
}

// Two stages of 256 floats. One thread fills a stage when all others have said that they are through with it.
__global__ void bulk_copy_kernel(const float* source, int rounds, float* out) {
  SIMT_DYNAMIC_SHARED(raw);
  SIMT_SHARED(barriers, unsigned long long[4]);
  const int thread = threadIdx.x;
  const unsigned full = simt::smem_address(barriers), empty = full + 16;
  if (thread == 0) {
    for (int stage = 0; stage < 2; ++stage) {
      ptx::mbarrier_init(full + 8 * stage, 1);
      ptx::mbarrier_init(empty + 8 * stage, blockDim.x);
    }
    ptx::mbarrier_fence_init();
  }
  __syncthreads();
  const auto fill = [&](int round) {
    const int stage = round & 1;
    if (round >= 2) ptx::mbarrier_wait(empty + 8 * stage, (round / 2 - 1) & 1);
    ptx::mbarrier_arrive_expect_tx(full + 8 * stage, 1024);
    ptx::bulk_copy(simt::smem_address(raw) + stage * 1024, source + round * 256, 512, full + 8 * stage);
    ptx::bulk_copy(simt::smem_address(raw) + stage * 1024 + 512, source + round * 256 + 128, 512,
                   full + 8 * stage);
  };
  if (thread == 0) fill(0);
  float sum[2] = {};
  for (int round = 0; round < rounds; ++round) {
    if (thread == 0 && round + 1 < rounds) fill(round + 1);
    const int stage = round & 1;
    ptx::mbarrier_wait(full + 8 * stage, (round / 2) & 1);
    const float* const x = reinterpret_cast<const float*>(raw) + stage * 256;
    for (int i = 0; i < 2; ++i) sum[i] += x[thread + 128 * i] * static_cast<float>(round + 1);
    ptx::fence_async_proxy();
    ptx::mbarrier_arrive(empty + 8 * stage);
  }
  for (int i = 0; i < 2; ++i) out[thread + 128 * i] = sum[i];
}

// Four warps copy a row of 32 floats each per round and read another warp's, two rounds ahead at most: three
// stages, an mbarrier for the copies of a round, one for the uses of every row.
__global__ void mbarrier_ring_kernel(const float* source, int rounds, float* out) {
  SIMT_SHARED(rows, float[3][4][32]);
  SIMT_SHARED(full, unsigned long long[3]);
  SIMT_SHARED(empty, unsigned long long[3][4]);
  const int thread = threadIdx.x, warp = thread / 32, lane = thread % 32;
  if (thread < 3) ptx::mbarrier_init(simt::smem_address(&full[thread]), 4);
  if (thread < 12) ptx::mbarrier_init(simt::smem_address(&empty[thread / 4][thread % 4]), 4);
  __syncthreads();
  const auto copy = [&](int round) {
    if (round >= rounds) return;
    const unsigned of_row = simt::smem_address(&empty[round % 3][warp]);
    if (round >= 3) ptx::mbarrier_wait(of_row, (round / 3 - 1) & 1);
    ptx::cp_async4(simt::smem_address(&rows[round % 3][warp][lane]), source + round * 128 + thread);
    ptx::cp_async_commit();
    if (lane < 3) ptx::mbarrier_arrive(of_row);  // for the warps that read others
  };
  copy(0);
  copy(1);
  float sum = 0;
  for (int round = 0; round < rounds; ++round) {
    ptx::cp_async_wait<0>();
    __syncwarp();
    if (lane == 0) {
      if (round == 0) ptx::mbarrier_arrive(simt::smem_address(&full[0]));
      if (round + 1 < rounds) ptx::mbarrier_arrive(simt::smem_address(&full[(round + 1) % 3]));
    }
    copy(round + 2);
    ptx::mbarrier_wait(simt::smem_address(&full[round % 3]), round / 3 & 1);
    const int row = (warp + round) % 4;
    sum += rows[round % 3][row][lane] * static_cast<float>(round + 1);
    __syncwarp();
    if (lane == 0) ptx::mbarrier_arrive(simt::smem_address(&empty[round % 3][row]));
  }
  out[thread] = sum;
}

__global__ void named_barrier_kernel(int* out) {
  SIMT_SHARED(values, int[128]);
  const int thread = threadIdx.x, pair = thread / 64;
  for (int round = 0; round < 3 + pair; ++round) {  // the pairs need not meet equally often
    values[thread] = thread + round;
    ptx::named_barrier(1 + pair, 64);
    out[thread] = values[pair * 64 + 63 - thread % 64];
    ptx::named_barrier(1 + pair, 64);
  }
}

__global__ void dynamic_shared_kernel(std::size_t bytes, unsigned* out) {
  SIMT_DYNAMIC_SHARED(raw);
  unsigned* const words = reinterpret_cast<unsigned*>(raw);
  const unsigned n = static_cast<unsigned>(bytes / 4);
  for (unsigned i = threadIdx.x; i < n; i += blockDim.x) words[i] = i;
  __syncthreads();
  unsigned sum = 0;
  for (unsigned i = threadIdx.x; i < n; i += blockDim.x) sum += words[n - 1 - i];
  out[threadIdx.x] = sum;
}

__global__ void static_and_dynamic_shared_kernel(std::size_t bytes, unsigned* out) {
  SIMT_SHARED(sums, unsigned[kStaticShared / 4]);
  SIMT_DYNAMIC_SHARED(raw);
  unsigned* const words = reinterpret_cast<unsigned*>(raw);
  const unsigned n = static_cast<unsigned>(bytes / 4);
  for (unsigned i = threadIdx.x; i < n; i += blockDim.x) words[i] = i;
  __syncthreads();
  sums[threadIdx.x] = 0;
  for (unsigned i = threadIdx.x; i < n; i += blockDim.x) sums[threadIdx.x] += words[n - 1 - i];
  __syncthreads();
  out[threadIdx.x] = sums[blockDim.x - 1 - threadIdx.x];
}

}  // namespace

void run_shuffles(int* out) { simt::launch(shuffles_kernel, dim3(1), dim3(32), 0, nullptr, out); }
void run_typed_shuffles(double* out) {
  simt::launch(typed_shuffles_kernel, dim3(1), dim3(32), 0, nullptr, out);
}
void run_votes(unsigned* out) { simt::launch(votes_kernel, dim3(1), dim3(32), 0, nullptr, out); }
void run_block(int* out) { simt::launch(block_kernel, dim3(3, 2), dim3(5, 7, 4), 140 * 4, nullptr, out); }
void run_atomics(unsigned* integers, double* numbers, float* floats, int* old) {
  simt::launch(atomics_kernel, dim3(16), dim3(64), 0, nullptr, integers, numbers, floats, old);
}
void run_clear_bits(unsigned* words, int* flag, unsigned* found) {
  simt::launch(clear_bits_kernel, dim3(4), dim3(96), 0, nullptr, words, flag, found);
}
void run_bits(unsigned x, unsigned y, unsigned* out) {
  simt::launch(bits_kernel, dim3(1), dim3(1), 0, nullptr, x, y, out);
}
void run_arithmetic(const float* x, int n, float* out) {
  simt::launch(arithmetic_kernel, dim3(static_cast<unsigned>(n + 63) / 64), dim3(64), 0, nullptr, x, n, out);
}
void run_fused(const float* a, const float* b, const float* c, float* out) {
  simt::launch(fused_kernel, dim3(3), dim3(64), 0, nullptr, a, b, c, out);
}
void run_cp_async(const int* source, int* out, bool through_l1) {
  simt::launch(through_l1 ? cp_async_kernel<true> : cp_async_kernel<false>, dim3(1), dim3(32), 96 * 16,
               nullptr, source, out);
}
void run_cp_async4(const int* source, int* out) {
  simt::launch(cp_async4_kernel, dim3(1), dim3(32), 0, nullptr, source, out);
}
void run_ldmatrix(const __nv_bfloat16* matrix, std::uint32_t* out) {
  simt::launch(ldmatrix_kernel, dim3(1), dim3(32), 0, nullptr, matrix, out);
}
void run_mma(const __nv_bfloat16* a, const __nv_bfloat16* b, float* d) {
  simt::launch(mma_kernel, dim3(1), dim3(32), 0, nullptr, a, b, d);
}
void run_mbarrier_ring(const float* source, int rounds, float* out) {
  simt::launch(mbarrier_ring_kernel, dim3(1), dim3(128), 0, nullptr, source, rounds, out);
}
void run_bulk_copy(const float* source, int rounds, float* out) {
  simt::launch(bulk_copy_kernel, dim3(1), dim3(128), 2048, nullptr, source, rounds, out);
}
void run_named_barrier(int* out) { simt::launch(named_barrier_kernel, dim3(1), dim3(128), 0, nullptr, out); }
void run_dynamic_shared(int n, std::size_t bytes, unsigned* out, cudaStream_t stream) {
  simt::launch(dynamic_shared_kernel, dim3(1), dim3(static_cast<unsigned>(n)), bytes, stream, bytes, out);
}
void run_static_and_dynamic_shared(int n, std::size_t bytes, unsigned* out) {
  simt::launch(static_and_dynamic_shared_kernel, dim3(1), dim3(static_cast<unsigned>(n)), bytes, nullptr,
               bytes, out);
}

}  // namespace llsa::test
