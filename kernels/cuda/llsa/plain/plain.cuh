// Tiles of the plain attention kernels. A warp takes up to kRows tokens of one block as rows: queries or, in
// the key-major half of the backward pass, keys. It walks through the list that they share, 32 entries at a
// time, with a lane per entry for the scores and a lane per d for the sums. Lanes exchange values through
// shared memory: rows and sums [kRows][D], products [32][kRows].
#pragma once

#include "../operands.cuh"

namespace llsa::kernels::cuda {

constexpr int kRows = 4;

/// How warps find their rows: blocks of `block` tokens cut into tiles of kRows.
struct RowTiles {
  std::int64_t tokens = 0, block = 1, per_block = 1, per_head = 0;

  RowTiles() = default;
  RowTiles(std::int64_t n, std::int64_t b) : tokens(n), block(b), per_block(ceil_div(b, kRows)) {
    per_head = ceil_div(n, b) * per_block;
  }
  __device__ std::int64_t first(std::int64_t tile) const {
    return tile / per_block * block + tile % per_block * kRows;
  }
  /// Rows of the tile that are tokens of its block; may be none.
  __device__ int rows(std::int64_t tile) const {
    const std::int64_t begin = first(tile);
    std::int64_t end = (tile / per_block + 1) * block;
    end = end < tokens ? end : tokens;
    return begin >= end ? 0 : static_cast<int>(end - begin < kRows ? end - begin : kRows);
  }
};

/// Shared memory of one warp: `matrices` times [kRows][D], then `products` times [32][kRows].
template <class A>
struct WarpMemory {
  A* matrix;
  A* product;
  int d;

  static std::int64_t bytes(int matrices, int products, std::int64_t d) {
    return (matrices * kRows * d + products * 32 * kRows) * static_cast<std::int64_t>(sizeof(A));
  }
  __device__ WarpMemory(unsigned char* memory, int matrices, int products, int dim) : d(dim) {
    const int elements = matrices * kRows * dim + products * 32 * kRows;
    matrix = reinterpret_cast<A*>(memory) + threadIdx.x / 32 * elements;
    product = matrix + matrices * kRows * dim;
  }
  /// Row r of matrix m.
  __device__ A* row(int m, int r) const { return matrix + (m * kRows + r) * d; }
  __device__ A* products(int p) const { return product + p * 32 * kRows; }

  /// Copies `rows` rows into matrix m, times `scale`; rows beyond are zero.
  template <class T>
  __device__ void load(int m, const T* from, std::int64_t stride, int rows, A scale) const {
    for (int r = 0; r < kRows; ++r)
      for (int j = lane_of_thread(); j < d; j += 32)
        row(m, r)[j] = r < rows ? static_cast<A>(from[r * stride + j]) * scale : A(0);
  }
  __device__ void clear(int m) const {
    for (int j = lane_of_thread(); j < kRows * d; j += 32) row(m, 0)[j] = 0;
  }
  /// dot[r] = row r of matrix m times x.
  template <class T>
  __device__ void dots(int m, const T* x, A (&dot)[kRows]) const {
    SIMT_UNROLL
    for (int r = 0; r < kRows; ++r) dot[r] = 0;
    for (int j = 0; j < d; ++j) {
      const A value = static_cast<A>(x[j]);
      SIMT_UNROLL
      for (int r = 0; r < kRows; ++r) dot[r] += row(m, r)[j] * value;
    }
  }
};

/// Starts `kernel` with a warp per tile; as many warps per block as shared memory allows, at most 4.
template <class... Params, class... Args>
void launch_tiles(Context& ctx, void (*kernel)(Params...), std::int64_t tiles_per_head, std::int64_t heads,
                  std::int64_t warp_bytes, Args... args) {
  if (warp_bytes > kSharedBytes)
    throw ShapeError(cat("[attention] the head dimension needs ", warp_bytes,
                         " bytes of shared memory per warp, more than ", kSharedBytes),
                     "use a smaller head dimension");
  const std::int64_t warps = std::min<std::int64_t>(4, kSharedBytes / warp_bytes);
  simt::launch(kernel, head_grid(ceil_div(tiles_per_head, warps), heads),
               dim3(static_cast<unsigned>(warps) * 32), static_cast<std::size_t>(warps * warp_bytes),
               stream_of(ctx), args...);
}

/// The tile of this warp; may lie beyond the last.
__device__ inline std::int64_t tile_of_warp() {
  return static_cast<std::int64_t>(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
}

/// Entries of a query's list of level l.
template <class T>
__device__ std::int64_t list_length(const AttendedSet<T>& set, int l) {
  return l == set.levels ? set.level[l].count : set.level[l + 1].width * static_cast<std::int64_t>(set.block);
}

/// Entry p of a list of level l: a token, or -1. `picks` as from picks_above, unused at the coarsest level.
template <class T>
__device__ std::int64_t list_token(const AttendedSet<T>& set, int l, const std::int32_t* picks,
                                   std::int64_t p) {
  const std::int64_t n = set.level[l].count;
  if (p >= list_length(set, l)) return -1;
  if (l == set.levels) return p;
  const std::int32_t j = picks[p / set.block];
  const std::int64_t token = j * static_cast<std::int64_t>(set.block) + p % set.block;
  return j < 0 || token >= n ? -1 : token;
}

}  // namespace llsa::kernels::cuda
