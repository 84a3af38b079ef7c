// Gradients of the keys of the coarsest level, to which every query attends; with L = 0 that is level 0 and
// full attention, where causal attention begins with the first query that sees a key.
//
// A warp takes 16 M keys (M = 2; M = 1 at D = 128 and in causal attention): what it reads of Q and dO by
// ldmatrix serves M products.
// All warps of a block go through the same stages of 64 queries (32 at D = 128), which a ring of three stages
// brings in, or of two where only then two blocks fit a multiprocessor. Where a level has few keys, several of the four warps have the same keys: they take the
// 16-query pieces of a stage in turn and are added up in a fixed order. The queries are cut into chunks until
// the device is full. Chunks write partial sums, which are added up in order afterwards.
//
// At D = 64, per pair of 16 queries and 16 keys: 32 mma (131,072 FLOP), 256 exponentials, 8 ldmatrix; 4.2 KB
// of Q, dO and terms from L2 per 16 queries and block of 128 keys. Bound by the tensor cores. Up to 255
// registers, hence two blocks per multiprocessor. At N = 65,536 and 256 keys a head has 65,536 pairs. Partial
// sums are 8 D bytes per key and chunk.
#include "kernels/cuda/llsa/mma/keys.cuh"

namespace llsa::kernels::cuda {
namespace {

/// Causal attention has one tile of keys per warp: with two the diagonal would take more registers than there are.
template <int D, bool causal, int stages>
struct Dense {
  static constexpr int kTiles = D == 128 || causal ? 1 : 2;  // M
  static constexpr int kQueries = D == 128 ? 32 : 64;
  static constexpr int kStages = stages;
  static constexpr int kPerProcessor = 2;
  using Stage = QueryStage<D, kQueries>;
  using Keys = WarpKeys<D, kTiles>;
  static constexpr unsigned kRing = kStages * Stage::kBytes;
  /// The ring; afterwards the sums of the warps that share their keys with an earlier warp.
  static unsigned bytes(int key_warps) {
    const unsigned sums = static_cast<unsigned>((kKeyWarps - key_warps) * Keys::kSums * 32 * 4);
    return sums > kRing ? sums : kRing;
  }
};

/// Block (group, head, chunk): a group are the keys of 2^key_shift warps, a chunk is `chunk` queries.
template <int D, bool causal, int stages>
__global__ void __launch_bounds__(kKeyThreads, (Dense<D, causal, stages>::kPerProcessor))
    dense_keys(KeyLevel level, int key_shift, int chunk, PartialSums partial) {
  SIMT_DYNAMIC_SHARED(memory);
  SIMT_SHARED(queries, HeadQueries);  // rather than in registers
  using B = Dense<D, causal, stages>;
  const unsigned thread = threadIdx.x;  // its quotients are shifts
  const int lane = static_cast<int>(thread % 32), warp = static_cast<int>(thread / 32);
  const int head = static_cast<int>(blockIdx.y), group = static_cast<int>(blockIdx.x),
            piece = static_cast<int>(blockIdx.z);
  const int key_warps = 1 << key_shift, turn = warp >> key_shift, turns = kKeyWarps >> key_shift;
  const int row = (warp & (key_warps - 1)) * 16 * B::kTiles;
  const int first = (group << key_shift) * 16 * B::kTiles + row;
  typename B::Keys keys;
  keys.load(level, head, first, lane);
  if (thread == 0) queries = head_queries(level, head);
  __syncthreads();

  const unsigned ring = simt::smem_address(memory);
  int begin = piece * chunk;
  const int end = min(begin + chunk, level.queries);
  const int before =
      level.keys - level.queries;  // in causal attention query t sees the keys up to t + before
  if constexpr (causal) {          // stages that see none of the block's keys are skipped
    const int seen_from = (group << key_shift) * 16 * B::kTiles - before;
    if (seen_from > begin) begin += (seen_from - begin) / B::kQueries * B::kQueries;
  }
  const auto copy_stage = [&](int query, int stage) {
    if (query < end) {
      const QueryCopy<D, B::kQueries, kKeyThreads, false> copy(level, queries, thread);
      copy(level, query, ring + static_cast<unsigned>(stage) * B::Stage::kBytes);
    }
    ptx::cp_async_commit();
  };
  SIMT_UNROLL
  for (int stage = 0; stage < B::kStages - 1; ++stage) copy_stage(begin + stage * B::kQueries, stage);
  int stage = 0;
  for (int query = begin; query < end; query += B::kQueries) {
    ptx::cp_async_wait<B::kStages - 2>();
    __syncthreads();  // this stage has come, and no warp uses the one before any longer
    copy_stage(query + (B::kStages - 1) * B::kQueries, stage == 0 ? B::kStages - 1 : stage - 1);
    const unsigned at = static_cast<unsigned>(stage) * B::Stage::kBytes;
    const float* const terms = reinterpret_cast<const float*>(memory + at + B::Stage::kTerms);
    const int pieces = (min(end - query, B::kQueries) + 15) / 16;
    for (int u = turn; u < pieces; u += turns) {
      const int diagonal = first - before - (query + 16 * u);
      if (causal && diagonal > 15) continue;
      keys.template add<B::kQueries, causal>(level.base2_scale, ring + at, terms, u, lane, diagonal);
    }
    stage = stage + 1 == B::kStages ? 0 : stage + 1;
  }
  ptx::cp_async_wait<0>();

  if (turns > 1) {
    keys.add_groups(memory, turns, key_warps, warp, lane);
    if (turn > 0) return;
  }
  float* const to = partial.pieces > 1 ? partial.slot(head, group * partial.pieces + piece, D) : nullptr;
  keys.finish(level, head, first, to, partial.keys_of_block, row, lane);
}

/// Blocks that fill the largest devices: two for each of 132 multiprocessors. The device is not asked, so
/// that results depend on shapes only.
constexpr std::int64_t kWanted = 264;
/// The least number of queries of a block. With fewer, its partial sums would cost more than its work.
constexpr std::int64_t kLeastChunk = 512;

template <int D, bool causal, int stages>
void launch_dense_keys(Context& ctx, const KeyProblem& problem) {
  const KeyLevel level(problem);
  const std::int64_t b = problem.args.q.size(0), h = problem.args.q.size(1);
  using B = Dense<D, causal, stages>;
  constexpr int kKeys = 16 * B::kTiles;
  const int key_shift = level.keys <= kKeys ? 0 : level.keys <= 2 * kKeys ? 1 : 2;
  const int key_warps = 1 << key_shift;
  const std::int64_t groups = ceil_div(level.keys, kKeys * key_warps);
  std::int64_t chunks = std::min(ceil_div(kWanted, groups * b * h), ceil_div(level.queries, kLeastChunk));
  const std::int64_t chunk = ceil_div(ceil_div(level.queries, chunks), B::kQueries) * B::kQueries;
  chunks = ceil_div(level.queries, chunk);

  PartialSums partial;
  partial.slots = groups * chunks;
  partial.keys_of_block = kKeys * key_warps;
  partial.pieces = static_cast<int>(chunks);
  Tensor sums;
  if (chunks > 1) {
    sums = ctx.empty({b, h, partial.slots, std::int64_t{2} * partial.keys_of_block * D}, DType::f32);
    partial.sums = sums.data<float>();
  }
  dim3 grid = head_grid(groups, b * h);
  grid.z = static_cast<unsigned>(chunks);
  simt::launch(dense_keys<D, causal, stages>, grid, dim3(kKeyThreads), B::bytes(key_warps), stream_of(ctx),
               level, key_shift, static_cast<int>(chunk), partial);
  if (chunks > 1) add_partial_sums(ctx, level, b * h, partial);
}

}  // namespace

Ring dense_keys_ring(std::int64_t d) {
  Ring ring;
  visit_head_dimension(d, [&]<int D>() {
    using B = Dense<D, false, 3>;
    ring = {B::Stage::kBytes, sizeof(HeadQueries), B::kPerProcessor};
  });
  return ring;
}

void dense_keys_backward(Context& ctx, const KeyProblem& problem) {
  visit_head_dimension(problem.args.q.size(3), [&]<int D>() {
    const auto launch = [&]<int stages>() {
      problem.args.causal ? launch_dense_keys<D, true, stages>(ctx, problem)
                          : launch_dense_keys<D, false, stages>(ctx, problem);
    };
    if constexpr (D == 64)  // with D = 32 and 128 three stages fit everywhere
      if (dense_keys_ring(D).stages(shared_memory_of_processor(ctx)) == 2)
        return launch.template operator()<2>();
    launch.template operator()<3>();
  });
}

}  // namespace llsa::kernels::cuda
