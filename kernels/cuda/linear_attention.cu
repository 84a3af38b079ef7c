// Linear attention over blocks that were not picked: the counterpart of kernels/cpu/linear_attention.cpp.
//
//     S_j = sum of b[s]^T c[s] over block j          a thread per 8 rows of a column
//     total = sum of all S_j, ascending              a thread per element
//     y[t] = a[t] R_i, R_i = sum of the S_j that row i leaves out
//                                                    a thread per column of up to 16 tokens of y
//
// The last kernel makes the elements of R_i as it needs them and never stores them: directly, ascending, if the row
// lists a quarter of the blocks or more, otherwise as the total minus the listed ones. Total and difference are
// pairs of floats (doubles for f64), so that the difference keeps its digits.
//
// The matrices of as many heads as fit into kMatrixBytes are kept at a time. FLOPs: 2 E F per token for the
// matrices, 2 E F per token for the products, 1 (direct) or 6 (pairs) E F per listed block and 16 tokens. Bytes from
// L2 or memory: 4 E F per listed block and 16 tokens, which binds. Products are f32, not on tensor cores.
#include "kernels/backend/attention.h"

#include "kernels/cuda/device/heads.cuh"
#include "kernels/cuda/device/launch.cuh"
#include "kernels/cuda/device/types.cuh"

namespace llsa::kernels::cuda {
namespace {

constexpr std::int64_t kMatrixBytes = std::int64_t{256} << 20;
constexpr int kRowsOfThread = 8;
constexpr int kTokensOfThread = 16;

/// A sum with little loss. For floats, `high` is the rounded sum, and `low` collects what rounding has lost.
template <class A>
struct Sum {
  A high = 0, low = 0;

  __device__ void add(A x) {
    if constexpr (std::is_same_v<A, double>) {
      high += x;
    } else {
      const A s = high + x, z = s - high;
      low += (high - (s - z)) + (x - z);
      high = s;
    }
  }
  __device__ A value() const { return high + low; }
};

template <class A>
struct Problem {
  HeadView<const A> a, b, c;  // [b,H,N,E], [b,H,N,E], [b,H,N,F]
  HeadView<A> y;              // [b,H,N,F]
  const std::int32_t* lists;
  const std::int32_t* offset;  // null: rows of `width` entries
  std::int64_t heads, tokens, block, blocks, width;
  int e, f;

  /// The blocks that row i of a head lists. Entries that are out of range stand for nothing.
  struct Row {
    const std::int32_t* at;
    int count;
  };
  __device__ Row row(std::int64_t head, std::int64_t i) const {
    if (offset) {
      const std::int32_t* const begin = offset + head * (blocks + 1) + i;
      return {lists + head * blocks * width + begin[0], begin[1] - begin[0]};
    }
    Row row = {lists + (head * blocks + i) * width, static_cast<int>(width)};
    while (row.count > 0 && row.at[row.count - 1] < 0) --row.count;
    return row;
  }
  __device__ bool is_block(std::int32_t j) const { return j >= 0 && j < blocks; }
};

/// S [heads, blocks, E, F] of heads first, first + 1, ...
template <class A>
__global__ void block_matrices(Problem<A> p, std::int64_t first, std::int64_t pieces, A* matrices) {
  const std::int64_t piece = piece_of_thread();
  if (piece >= pieces) return;
  const std::int64_t groups = (p.e + kRowsOfThread - 1) / kRowsOfThread;
  const int column = static_cast<int>(piece % p.f);
  const int row = static_cast<int>(piece / p.f % groups) * kRowsOfThread;
  const std::int64_t j = piece / p.f / groups % p.blocks, at = piece / p.f / groups / p.blocks;
  const std::int64_t sample = (first + at) / p.heads, head = (first + at) % p.heads;
  const std::int64_t begin = j * p.block, end = min(begin + p.block, p.tokens);
  const int rows = min(p.e - row, kRowsOfThread);
  A sum[kRowsOfThread] = {};
  for (std::int64_t s = begin; s < end; ++s) {
    const A value = p.c.at(sample, head, s)[column];
    const A* const key = p.b.at(sample, head, s) + row;
    SIMT_UNROLL
    for (int r = 0; r < kRowsOfThread; ++r)
      if (r < rows) sum[r] += key[r] * value;
  }
  A* const to = matrices + ((at * p.blocks + j) * p.e + row) * p.f + column;
  SIMT_UNROLL
  for (int r = 0; r < kRowsOfThread; ++r)
    if (r < rows) to[static_cast<std::int64_t>(r) * p.f] = sum[r];
}

/// total [heads, E F] of S [heads, blocks, E F].
template <class A>
__global__ void total_matrices(std::int64_t pieces, std::int64_t size, std::int64_t blocks, const A* matrices,
                               Sum<A>* total) {
  const std::int64_t piece = piece_of_thread();
  if (piece >= pieces) return;
  const A* from = matrices + piece / size * blocks * size + piece % size;
  Sum<A> sum;
  for (std::int64_t j = 0; j < blocks; ++j, from += size) sum.add(*from);
  total[piece] = sum;
}

template <class A>
__global__ void apply_rest(Problem<A> p, std::int64_t first, std::int64_t pieces, const A* matrices,
                           const Sum<A>* total) {
  const std::int64_t piece = piece_of_thread();
  if (piece >= pieces) return;
  const std::int64_t groups = (p.block + kTokensOfThread - 1) / kTokensOfThread;
  const int column = static_cast<int>(piece % p.f);
  const std::int64_t group = piece / p.f % groups;
  const std::int64_t i = piece / p.f / groups % p.blocks, at = piece / p.f / groups / p.blocks;
  const std::int64_t sample = (first + at) / p.heads, head = (first + at) % p.heads;
  const std::int64_t begin = i * p.block + group * kTokensOfThread;
  const int tokens = static_cast<int>(
      min(static_cast<std::int64_t>(kTokensOfThread), min((i + 1) * p.block, p.tokens) - begin));
  if (tokens <= 0) return;

  const std::int64_t size = static_cast<std::int64_t>(p.e) * p.f;
  const auto row = p.row(first + at, i);
  const A* const own = matrices + at * p.blocks * size + column;
  const Sum<A>* const all = total + at * size + column;
  const bool direct = p.blocks <= 4 * static_cast<std::int64_t>(row.count);
  A sum[kTokensOfThread] = {};
  for (int r = 0; r < p.e; ++r) {
    const A* const from = own + static_cast<std::int64_t>(r) * p.f;
    A rest = 0;
    if (direct) {
      int e = 0;
      for (std::int64_t j = 0; j < p.blocks; ++j) {
        while (e < row.count && row.at[e] < j) ++e;
        if (e == row.count || row.at[e] != j) rest += from[j * size];
      }
    } else {
      Sum<A> left = all[static_cast<std::int64_t>(r) * p.f];
      for (int e = 0; e < row.count; ++e)
        if (p.is_block(row.at[e])) left.add(-from[row.at[e] * size]);
      rest = left.value();
    }
    SIMT_UNROLL
    for (int t = 0; t < kTokensOfThread; ++t)
      if (t < tokens) sum[t] += p.a.at(sample, head, begin + t)[r] * rest;
  }
  SIMT_UNROLL
  for (int t = 0; t < kTokensOfThread; ++t)
    if (t < tokens) p.y.at(sample, head, begin + t)[column] = sum[t];
}

template <class A>
void rest(Context& ctx, const Problem<A>& p, std::int64_t all_heads) {
  const std::int64_t size = static_cast<std::int64_t>(p.e) * p.f;
  const std::int64_t bytes = p.blocks * size * static_cast<std::int64_t>(sizeof(A));
  const std::int64_t group = std::clamp<std::int64_t>(kMatrixBytes / std::max<std::int64_t>(bytes, 1), 1,
                                                      std::max<std::int64_t>(all_heads, 1));
  const Tensor matrices = ctx.empty(Shape{group, p.blocks, size}, dtype_of<A>::value);
  const Tensor totals = ctx.empty(Shape{group, size, 2}, dtype_of<A>::value);
  A* const s = device_data<A>(matrices);
  Sum<A>* const total = device_data<Sum<A>>(totals);
  for (std::int64_t first = 0; first < all_heads; first += group) {
    const std::int64_t heads = std::min(group, all_heads - first);
    const std::int64_t row_pieces = heads * p.blocks * ceil_div(p.e, kRowsOfThread) * p.f;
    const std::int64_t token_pieces = heads * p.blocks * ceil_div(p.block, kTokensOfThread) * p.f;
    launch_threads(ctx, block_matrices<A>, row_pieces, p, first, row_pieces, s);
    launch_threads(ctx, total_matrices<A>, heads * size, heads * size, size, p.blocks,
                   static_cast<const A*>(s), total);
    launch_threads(ctx, apply_rest<A>, token_pieces, p, first, token_pieces, static_cast<const A*>(s),
                   static_cast<const Sum<A>*>(total));
  }
}

void linear_attention_rest(Context& ctx, const Tensor& a, const Tensor& b, const Tensor& c,
                           std::int64_t block, const Tensor& lists, const Tensor& offset, const Tensor& y) {
  const auto run = [&]<class A>() {
    Problem<A> p;
    p.a = HeadView<const A>(a);
    p.b = HeadView<const A>(b);
    p.c = HeadView<const A>(c);
    p.y = HeadView<A>(y);
    p.lists = device_data<const std::int32_t>(lists);
    p.offset = device_data<const std::int32_t>(offset);
    p.heads = a.size(1);
    p.tokens = a.size(2);
    p.block = block;
    p.blocks = ceil_div(p.tokens, block);
    p.width = lists.numel() / std::max<std::int64_t>(a.size(0) * a.size(1) * p.blocks, 1);
    p.e = static_cast<int>(a.size(3));
    p.f = static_cast<int>(c.size(3));
    rest<A>(ctx, p, a.size(0) * a.size(1));
  };
  a.dtype() == DType::f64 ? run.template operator()<double>() : run.template operator()<float>();
}

}  // namespace

constinit const LinearAttentionBackend kLinearAttention = {.linear_attention_rest = linear_attention_rest};

}  // namespace llsa::kernels::cuda
