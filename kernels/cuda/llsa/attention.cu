// LLSA attention on CUDA devices, forward and backward: which kernels take a problem, and what they share.
//
// The kernels, with their maths, tiling and bounds, are in mma/ and plain/. Forward: one launch. Backward:
// delta and LSE, then dQ, a launch each; then the index lists by key, and dK and dV level by level.
//
// delta = sum(O dO) and LSE log2(e): eight lanes share a query and read packs of 16 bytes; rows that do not come
// in such packs take a warp per query and a lane per element. Either way the sum is a tree of fixed shape. Bytes
// per query: O and dO once, 4 D in bf16 and 8 D in f32, LSE 4, and 8 written. 2 D FLOP, 0.5 per byte in bf16:
// bound by memory.
#include "kernels/cuda/llsa/llsa.h"
#include "kernels/cuda/llsa/operands.cuh"

namespace llsa::kernels::cuda {
namespace {

template <class T, class A>
__global__ void terms_of_queries(HeadRows<const T> d_o, HeadRows<const T> o, const A* lse,
                                 std::int64_t tokens, int d, std::int64_t all, A* lse2, A* delta) {
  const std::int64_t at = piece_of_warp();
  if (at >= all) return;
  const T* const g = d_o.head(at / tokens) + at % tokens * d_o.stride;
  const T* const y = o.head(at / tokens) + at % tokens * o.stride;
  A sum = 0;
  for (int j = lane_of_thread(); j < d; j += 32) sum += static_cast<A>(g[j]) * static_cast<A>(y[j]);
  sum = warp_sum(sum);
  if (lane_of_thread() != 0) return;
  delta[at] = sum;
  lse2[at] = lse[at] * kLog2e<A>;
}

constexpr int kLanesPerQuery = 8, kQueriesPerBlock = kThreads / kLanesPerQuery;

/// Computes delta and the LSE in base 2 with eight lanes per query and one head per blockIdx.y.
template <class T, class A>
__global__ void __launch_bounds__(kThreads)
    terms_in_packs(HeadRows<const T> d_o, HeadRows<const T> o, const A* lse, int tokens, int packs, A* lse2,
                   A* delta) {
  const int lane = static_cast<int>(threadIdx.x % kLanesPerQuery), head = static_cast<int>(blockIdx.y);
  const int query = static_cast<int>(blockIdx.x * kQueriesPerBlock + threadIdx.x / kLanesPerQuery);
  A sum = 0;
  if (query < tokens) {
    const T* const g = d_o.head(head) + query * d_o.stride;
    const T* const y = o.head(head) + query * o.stride;
    for (int p = lane; p < packs; p += kLanesPerQuery) {
      const auto a = load_pack<kPack<T>>(g + p * kPack<T>), b = load_pack<kPack<T>>(y + p * kPack<T>);
      SIMT_UNROLL
      for (int j = 0; j < kPack<T>; ++j) sum += static_cast<A>(a.value[j]) * static_cast<A>(b.value[j]);
    }
  }
  SIMT_UNROLL
  for (int step = kLanesPerQuery / 2; step > 0; step /= 2) sum += __shfl_xor_sync(kAllLanes, sum, step);
  if (lane != 0 || query >= tokens) return;
  const std::int64_t at = static_cast<std::int64_t>(head) * tokens + query;
  delta[at] = sum;
  lse2[at] = lse[at] * kLog2e<A>;
}

}  // namespace

QueryTerms query_terms(Context& ctx, const Tensor& d_o, const Tensor& o, const Tensor& lse) {
  const QueryTerms terms = {ctx.empty_like(lse), ctx.empty_like(lse)};
  visit_device(o.dtype(), "llsa_attention_backward", [&]<class T>() {
    using A = accumulator_t<T>;
    const std::int64_t heads = o.size(0) * o.size(1), packs = o.size(3) / kPack<T>;
    if (lse.numel() > 0 && rows_in_packs<T>(d_o) && rows_in_packs<T>(o)) {
      simt::launch(terms_in_packs<T, A>, head_grid(ceil_div(o.size(2), kQueriesPerBlock), heads),
                   dim3(kThreads), 0, stream_of(ctx), HeadRows<const T>(d_o), HeadRows<const T>(o),
                   device_data<const A>(lse), static_cast<int>(o.size(2)), static_cast<int>(packs),
                   device_data<A>(terms.lse2), device_data<A>(terms.delta));
      return;
    }
    launch_warps(ctx, terms_of_queries<T, A>, lse.numel(), HeadRows<const T>(d_o), HeadRows<const T>(o),
                 device_data<const A>(lse), o.size(2), static_cast<int>(o.size(3)), lse.numel(),
                 device_data<A>(terms.lse2), device_data<A>(terms.delta));
  });
  return terms;
}

std::vector<IndexTranspose> transposed_levels(Context& ctx, const LlsaState& args) {
  for (const Tensor& table : args.index)
    if (table.size(2) * table.size(3) > std::int64_t{0x7fffffff})
      throw ShapeError(cat("[llsa_attention_backward] indices ", table.shape(),
                           " have more entries per head than 32 bits count"),
                       "use fewer picks");
  const auto last = static_cast<std::size_t>(std::min(args.plan.levels, args.plan.enriched + 1));
  if (args.words.size() + 1 == args.index.size()) {
    std::vector<IndexTranspose> all = transpose_by_words(ctx, args.plan, args.index, args.words);
    all.resize(last);
    return all;
  }
  std::vector<IndexTranspose> result;
  for (std::size_t l = 0; l < last; ++l) {
    const Tensor& table = args.index[l];
    const std::int64_t keys = args.plan.count[l + 1];
    const IndexTranspose t = {
        ctx.empty({table.size(0), table.size(1), keys + 1}, DType::i32),
        ctx.empty({table.size(0), table.size(1), table.size(2) * table.size(3)}, DType::i32)};
    index_transpose(ctx, table, keys, t.offset, t.query);
    result.push_back(t);
  }
  return result;
}

std::int64_t shared_memory_of_processor(const Context& ctx) {
  int bytes = 0;
  LLSA_CUDA_CHECK(
      cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerMultiprocessor, ctx.device().index));
  return bytes;
}

void llsa_attention(Context& ctx, const LlsaState& state) {
  Profiler::add_work(flops_of(state).forward);
  (fits_mma(state, state.o) ? attend_mma : attend_plain)(ctx, state, state.o, state.lse);
}

void llsa_attention_backward(Context& ctx, const Tensor& d_o, const LlsaState& state, const Tensor& dq,
                             const Tensor& dk, const Tensor& dv) {
  Profiler::add_work(flops_of(state).backward);
  const QueryTerms terms = query_terms(ctx, d_o, state.o, state.lse);
  const bool mma = fits_mma(state, d_o);
  (mma ? queries_backward_mma : queries_backward_plain)(ctx, state, d_o, terms, dq);
  (mma ? keys_backward_mma : keys_backward_plain)(ctx, state, d_o, terms, dk, dv);
}

constinit const LlsaStagesBackend kLlsaStages = {
    .llsa_pyramid = llsa_pyramid, .llsa_select = llsa_select, .index_transpose = index_transpose};
constinit const LlsaBackend kLlsa = {.llsa_attention = llsa_attention,
                                     .llsa_attention_backward = llsa_attention_backward};

}  // namespace llsa::kernels::cuda
