#include "tests/kernels/cuda/demo.h"

#include "kernels/cuda/simt/ptx.h"
#include "kernels/cuda/simt/simt.h"

namespace llsa::test {
namespace {

constexpr unsigned kAll = 0xffffffffu;

// ---- sum: every block a part, the last block the sum of the parts, in an order that does not depend on time
// ----------

constexpr int kSumThreads = 128;

__device__ __forceinline__ float warp_sum(float x) {
  SIMT_UNROLL
  for (int bit = 16; bit > 0; bit >>= 1) x += __shfl_xor_sync(kAll, x, bit);
  return x;
}

__device__ __forceinline__ float block_sum(float x, float* warps) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  x = warp_sum(x);
  if (lane == 0) warps[warp] = x;
  __syncthreads();
  x = warp_sum(lane < kSumThreads / 32 ? warps[lane] : 0.0f);
  __syncthreads();
  return x;
}

__global__ void __launch_bounds__(kSumThreads)
    sum_kernel(const float* x, int n, float* partials, unsigned* counter, float* out) {
  SIMT_SHARED(warps, float[kSumThreads / 32]);
  SIMT_SHARED(is_last, bool);
  float part = 0;
  for (unsigned i = blockIdx.x * kSumThreads + threadIdx.x; i < static_cast<unsigned>(n);
       i += gridDim.x * kSumThreads)
    part += x[i];
  part = block_sum(part, warps);
  if (threadIdx.x == 0) {
    partials[blockIdx.x] = part;
    __threadfence();
    is_last = atomicAdd(counter, 1u) == gridDim.x - 1;
  }
  __syncthreads();
  if (is_last) {
    __threadfence();
    float total = 0;
    for (unsigned b = threadIdx.x; b < gridDim.x; b += kSumThreads) total += __ldcg(partials + b);
    total = block_sum(total, warps);
    if (threadIdx.x == 0) {
      *out = total;
      *counter = 0;
    }
  }
}

// ---- transpose through a tile with one column of padding
// -------------------------------------------------------------

constexpr int kTile = 32, kTileRows = 8;

__global__ void __launch_bounds__(kTile* kTileRows)
    transpose_kernel(const float* in, float* out, int rows, int columns) {
  SIMT_SHARED(tile, float[kTile][kTile + 1]);
  const int x = blockIdx.x * kTile + threadIdx.x, y = blockIdx.y * kTile;
  for (int r = threadIdx.y; r < kTile; r += kTileRows)
    if (x < columns && y + r < rows) tile[r][threadIdx.x] = in[(y + r) * columns + x];
  __syncthreads();
  const int row = blockIdx.y * kTile + threadIdx.x, column = blockIdx.x * kTile;
  for (int r = threadIdx.y; r < kTile; r += kTileRows)
    if (row < rows && column + r < columns) out[(column + r) * rows + row] = tile[threadIdx.x][r];
}

// ---- gemm: 64 x 64 tiles, 4 warps of 32 x 32, two stages of 32 columns of k in flight
// --------------------------------

constexpr int kM = 64, kN = 64, kK = 32, kGemmThreads = 128;
constexpr unsigned kOperand = kM * kK * 2, kStage = 2 * kOperand;  // bytes

// Byte of 16-byte chunk c of row r; rows are 64 bytes. Rows of equal parity would meet in the same banks,
// so chunks are swapped.
__device__ __forceinline__ unsigned chunk_at(int r, int c) {
  return static_cast<unsigned>(r * 64 + ((c ^ (r >> 1 & 3)) << 4));
}

__device__ __forceinline__ void load_operand(unsigned to, const __nv_bfloat16* from, int row0, int rows,
                                             int k0, int k) {
  for (int i = threadIdx.x; i < kM * kK / 8; i += kGemmThreads) {
    const int r = i / 4, c = i % 4, column = k0 + c * 8;
    const bool inside = row0 + r < rows && column < k;
    const __nv_bfloat16* const p = inside ? from + static_cast<std::size_t>(row0 + r) * k + column : from;
    ptx::cp_async16(to + chunk_at(r, c), p, inside ? 16 : 0);
  }
}

__global__ void __launch_bounds__(kGemmThreads)
    gemm_kernel(const __nv_bfloat16* a, const __nv_bfloat16* b, float* out, int m, int n, int k) {
  SIMT_DYNAMIC_SHARED(shared);
  const unsigned base = simt::smem_address(shared);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int row0 = blockIdx.y * kM, column0 = blockIdx.x * kN;
  const int warp_row = warp / 2 * 32, warp_column = warp % 2 * 32;
  const auto load = [&](int step) {
    const unsigned stage = base + (step & 1) * kStage;
    load_operand(stage, a, row0, m, step * kK, k);
    load_operand(stage + kOperand, b, column0, n, step * kK, k);
  };

  float d[2][4][4] = {};
  const int steps = (k + kK - 1) / kK;
  load(0);
  ptx::cp_async_commit();
  for (int step = 0; step < steps; ++step) {
    if (step + 1 < steps) load(step + 1);
    ptx::cp_async_commit();
    ptx::cp_async_wait<1>();
    __syncthreads();  // everybody's copies of this stage have come
    const unsigned stage_a = base + (step & 1) * kStage, stage_b = stage_a + kOperand;
    SIMT_UNROLL
    for (int kk = 0; kk < kK / 16; ++kk) {
      std::uint32_t fa[2][4], fb[2][4];
      SIMT_UNROLL
      for (int i = 0; i < 2; ++i)
        ptx::ldmatrix_x4(fa[i], stage_a + chunk_at(warp_row + i * 16 + (lane & 15), kk * 2 + (lane >> 4)));
      SIMT_UNROLL
      for (int j = 0; j < 2; ++j)
        ptx::ldmatrix_x4(fb[j], stage_b + chunk_at(warp_column + j * 16 + (lane & 7) + (lane >> 4 << 3),
                                                   kk * 2 + (lane >> 3 & 1)));
      SIMT_UNROLL
      for (int i = 0; i < 2; ++i) {
        SIMT_UNROLL
        for (int j = 0; j < 4; ++j)
          ptx::mma_m16n8k16_bf16(d[i][j], fa[i], fb[j / 2][j % 2 * 2], fb[j / 2][j % 2 * 2 + 1]);
      }
    }
    __syncthreads();  // nobody reads this stage any more
  }
  ptx::cp_async_wait<0>();

  SIMT_UNROLL
  for (int i = 0; i < 2; ++i) {
    SIMT_UNROLL
    for (int j = 0; j < 4; ++j) {
      SIMT_UNROLL
      for (int e = 0; e < 4; ++e) {
        const int row = row0 + warp_row + i * 16 + lane / 4 + e / 2 * 8;
        const int column = column0 + warp_column + j * 8 + lane % 4 * 2 + e % 2;
        if (row < m && column < n) out[static_cast<std::size_t>(row) * n + column] = d[i][j][e];
      }
    }
  }
}

unsigned blocks_for(int n, int block) { return static_cast<unsigned>((n + block - 1) / block); }

}  // namespace

void sum(const float* x, int n, float* partials, unsigned* counter, float* out, int blocks,
         cudaStream_t stream) {
  simt::launch(sum_kernel, dim3(static_cast<unsigned>(blocks)), dim3(kSumThreads), 0, stream, x, n, partials,
               counter, out);
}

void transpose(const float* in, float* out, int rows, int columns, cudaStream_t stream) {
  simt::launch(transpose_kernel, dim3(blocks_for(columns, kTile), blocks_for(rows, kTile)),
               dim3(kTile, kTileRows), 0, stream, in, out, rows, columns);
}

void gemm(const __nv_bfloat16* a, const __nv_bfloat16* b, float* c, int m, int n, int k,
          cudaStream_t stream) {
  simt::launch(gemm_kernel, dim3(blocks_for(n, kN), blocks_for(m, kM)), dim3(kGemmThreads), 2 * kStage,
               stream, a, b, c, m, n, k);
}

}  // namespace llsa::test
