// Block means of the tokens, level by level: the counterpart of kernels/cpu/llsa_stages.cpp, with its order of sums.
//
//     sum_l[i] = sum of the B sums of level l-1 under token i, in order;   X^(l)[i] = sum_l[i] / c_l[i]
//
// At B <= 32, levels 1 and 2 come from one reading of x: a thread sums 16 bytes' worth of columns of a
// level-1 token, 8 rows in flight (4 in f64), and leaves the sums in shared memory, from which the block
// makes its tokens of level 2. With larger blocks only level 1 is made in this way. The other levels, and
// tensors that do not come in packs of 16 bytes, take a thread per element, level by level. Sums are f32 (f64
// for f64) and reach global memory only if another launch needs them for the next level.
//
// Bytes per element of x: 4 read in f32, 2 in bf16, and 1/B of that written; sums of 4 / B^2 if there is a
// level 3, at B > 32 of 4 / B if there is a level 2. One addition per element, 0.25 or 0.5 FLOP per byte:
// bound by memory, the small levels from 3 on by their launches.
#include "kernels/cuda/llsa/llsa.h"
#include "kernels/cuda/llsa/operands.cuh"

namespace llsa::kernels::cuda {
namespace {

/// A level as it is written, [heads, count, D]. `means` is null if there is no such level; `sums` may be
/// null.
template <class T, class A>
struct PooledLevel {
  T* means = nullptr;
  A* sums = nullptr;
  std::int64_t count = 0, span = 1;  // a token covers `span` tokens, the last one the rest

  __device__ A covered(std::int64_t i, std::int64_t tokens) const {
    const std::int64_t rest = tokens - i * span;
    return static_cast<A>(rest < span ? rest : span);
  }
};

/// One level from the `below_count` rows under it.
template <class T, class A, class Below>
__global__ void pool_level(HeadRows<const Below> below, std::int64_t below_count, std::int64_t elements,
                           int d, int block, std::int64_t tokens, PooledLevel<T, A> level) {
  const std::int64_t at = piece_of_thread();
  if (at >= elements) return;
  const std::int64_t j = at % d, i = at / d % level.count, head = at / d / level.count;
  const std::int64_t first = i * block;
  const std::int64_t end = first + block < below_count ? first + block : below_count;
  const Below* from = below.head(head) + first * below.stride + j;
  A sum = static_cast<A>(*from);
  for (std::int64_t n = first + 1; n < end; ++n) sum += static_cast<A>(*(from += below.stride));
  level.means[at] = static_cast<T>(sum / level.covered(i, tokens));
  if (level.sums) level.sums[at] = sum;
}

/// sum[.] of kPack<T> columns over `rows` rows, in order.
template <class T, class A>
__device__ __forceinline__ void sum_rows(A (&sum)[kPack<T>], const T* from, std::int64_t stride, int rows) {
  constexpr int kAhead = sizeof(T) == 8 ? 4 : 8;
  SIMT_UNROLL
  for (int j = 0; j < kPack<T>; ++j) sum[j] = A(-0.0);  // keeps the sign of a first -0
  int n = 0;
  for (; n + kAhead <= rows; n += kAhead) {
    Pack<T, kPack<T>> x[kAhead];
    SIMT_UNROLL
    for (int r = 0; r < kAhead; ++r) x[r] = load_pack<kPack<T>>(from + (n + r) * stride);
    SIMT_UNROLL
    for (int r = 0; r < kAhead; ++r) SIMT_UNROLL
    for (int j = 0; j < kPack<T>; ++j) sum[j] += static_cast<A>(x[r].value[j]);
  }
  for (; n < rows; ++n) {
    const auto x = load_pack<kPack<T>>(from + n * stride);
    SIMT_UNROLL
    for (int j = 0; j < kPack<T>; ++j) sum[j] += static_cast<A>(x.value[j]);
  }
}

/// Levels 1 and, if it has means, 2: a block makes `nodes` tokens of level 1, all those under its tokens of
/// level 2.
template <class T, class A>
__global__ void __launch_bounds__(kThreads)
    pool_tokens(HeadRows<const T> x, std::int64_t tokens, int d, int block, int nodes,
                std::int64_t blocks_per_head, PooledLevel<T, A> one, PooledLevel<T, A> two) {
  SIMT_DYNAMIC_SHARED(memory);
  A* const kept = reinterpret_cast<A*>(memory);  // [nodes][d]
  constexpr int kColumns = kPack<T>;
  const std::int64_t head = blockIdx.x / blocks_per_head;
  const std::int64_t first = blockIdx.x % blocks_per_head * nodes;
  const int here = one.count - first < nodes ? static_cast<int>(one.count - first) : nodes;
  const int thread = static_cast<int>(threadIdx.x), packs = d / kColumns, column = thread % packs * kColumns;

  for (int node = thread / packs; node < here && thread < kThreads / packs * packs;
       node += kThreads / packs) {
    const std::int64_t i = first + node, row = i * block, at = (head * one.count + i) * d + column;
    A sum[kColumns];
    sum_rows<T, A>(sum, x.head(head) + row * x.stride + column, x.stride,
                   tokens - row < block ? static_cast<int>(tokens - row) : block);
    const A covered = one.covered(i, tokens);
    Pack<T, kColumns> mean;
    SIMT_UNROLL
    for (int j = 0; j < kColumns; ++j) {
      mean.value[j] = static_cast<T>(sum[j] / covered);
      if (two.means) kept[node * d + column + j] = sum[j];
      if (one.sums) one.sums[at + j] = sum[j];
    }
    store_pack(one.means + at, mean);
  }
  if (!two.means) return;  // the whole grid
  __syncthreads();
  for (int e = thread; e < (here + block - 1) / block * d; e += kThreads) {
    const int parent = e / d, end = min((parent + 1) * block, here);
    A sum = kept[parent * block * d + e % d];
    for (int node = parent * block + 1; node < end; ++node) sum += kept[node * d + e % d];
    const std::int64_t i = first / block + parent, at = (head * two.count + i) * d + e % d;
    two.means[at] = static_cast<T>(sum / two.covered(i, tokens));
    if (two.sums) two.sums[at] = sum;
  }
}

/// Rows of x and the levels' in packs that a block of threads can share.
template <class T>
bool in_packs(const Tensor& x, const std::vector<Tensor>& levels) {
  bool fits = rows_in_packs<T>(x) && x.size(3) / kPack<T> <= kThreads;
  for (const Tensor& level : levels) fits = fits && packable(x.size(3), device_data<T>(level));
  return fits;
}

/// With larger blocks too few blocks of threads would be at work, and level 1 is small anyway.
constexpr int kLargestTogether = 32;

}  // namespace

void llsa_pyramid(Context& ctx, const Tensor& x, const LlsaPlan& plan, const std::vector<Tensor>& levels) {
  if (levels.empty() || levels[0].numel() == 0) return;
  visit_device(x.dtype(), "llsa_pyramid", [&]<class T>() {
    using A = accumulator_t<T>;
    const std::size_t count = levels.size();
    const int d = static_cast<int>(x.size(3));
    std::vector<Tensor> sums(count);
    std::vector<PooledLevel<T, A>> to(count);
    std::int64_t span = 1;
    for (std::size_t l = 0; l < count; ++l) {
      span = std::min(span * plan.block, plan.tokens);
      to[l] = {device_data<T>(levels[l]), nullptr, levels[l].size(2), span};
    }
    const auto keep_sums = [&](std::size_t l) {
      if (l + 1 == count) return;
      sums[l] = ctx.empty(levels[l].shape(), dtype_of<A>::value);
      to[l].sums = device_data<A>(sums[l]);
    };

    std::size_t done = 0;
    if (in_packs<T>(x, levels)) {
      const int at_a_time = kThreads / (d / kPack<T>);
      const bool together = count > 1 && plan.block <= kLargestTogether &&
                            plan.block * d * static_cast<int>(sizeof(A)) <= kSharedBytes;
      const int nodes = together ? std::max(1, at_a_time / plan.block) * plan.block : at_a_time;
      done = together ? 2 : 1;
      keep_sums(done - 1);
      const std::int64_t blocks = ceil_div(to[0].count, nodes);
      simt::launch(pool_tokens<T, A>, grid_of(blocks * x.size(0) * x.size(1)), dim3(kThreads),
                   together ? sizeof(A) * static_cast<std::size_t>(nodes * d) : 0, stream_of(ctx),
                   HeadRows<const T>(x), plan.tokens, d, plan.block, nodes, blocks, to[0],
                   together ? to[1] : PooledLevel<T, A>());
    }
    for (std::size_t l = done; l < count; ++l) {
      keep_sums(l);
      const std::int64_t elements = levels[l].numel();
      if (l == 0)
        launch_threads(ctx, pool_level<T, A, T>, elements, HeadRows<const T>(x), x.size(2), elements, d,
                       plan.block, plan.tokens, to[l]);
      else
        launch_threads(ctx, pool_level<T, A, A>, elements, HeadRows<const A>(sums[l - 1]), to[l - 1].count,
                       elements, d, plan.block, plan.tokens, to[l]);
    }
  });
}

}  // namespace llsa::kernels::cuda
