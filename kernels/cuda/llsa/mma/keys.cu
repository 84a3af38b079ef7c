// The key-major half of the backward pass on tensor cores: levels, and partial sums.
//
// Levels go from the coarsest enriched one down, each adding what its parents pass on:
//
//     G_l[i] = dK^(l)[i] / c_l[i] + G_{l+1}[i / B]  in f32,   dK = G_0 in bf16,   the same for V
//
// Level L is dense, the others have lists (mma/keys_dense.cu, mma/keys_lists.cu). Where the queries of a
// block were cut into pieces, add_partial_sums adds these up: a thread per two elements, piece by piece.
// Bytes per two elements: 8 read per piece, 8 of G_{l+1}, 4 (level 0) or 8 written. 2 FLOP per piece, at most
// 0.25 per byte: bound by memory, or by L2 if the sums are still there. A level with lists takes three
// launches (work list, products, sums), the dense one takes two, or one if its queries are not cut.
#include "kernels/cuda/llsa/mma/keys.cuh"

namespace llsa::kernels::cuda {
namespace {

/// A head's slots, and in each the pairs of elements [2][keys_of_block][D / 2].
__global__ void add_pieces(KeyLevel level, PartialSums partial) {
  const int head = static_cast<int>(blockIdx.y), d = level.d;
  const int half = partial.keys_of_block * d / 2;
  const std::int64_t slots = partial.count ? partial.count[2 * head + 1] : partial.slots;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t at = piece_of_thread(); at < slots * 2 * half; at += step) {
    const std::int64_t slot = at / (2 * half);
    SplitBlock block;
    if (partial.split)
      block = partial.split[head * partial.slots + slot];
    else
      block = {static_cast<std::int32_t>(slot / partial.pieces),
               slot % partial.pieces == 0 ? partial.pieces : 0};
    const int pair = static_cast<int>(at % (2 * half));
    const int key = block.block * partial.keys_of_block + pair % half / (d / 2);
    if (block.pieces == 0 || key >= level.keys) continue;
    const float* from = partial.slot(head, slot, d) + 2 * pair;
    float sum[2] = {0, 0};
    for (int p = 0; p < block.pieces; ++p) {
      const float2 more = *reinterpret_cast<const float2*>(from);
      sum[0] += more.x;
      sum[1] += more.y;
      from += 4 * half;
    }
    level.put<1>(pair >= half, head, key, pair % (d / 2) * 2, [&](int) { return sum; });
  }
}

}  // namespace

KeyLevel::KeyLevel(const KeyProblem& p)
    : q(p.args.q),
      d_o(p.d_o),
      k(p.args.k[static_cast<std::size_t>(p.level)]),
      v(p.args.v[static_cast<std::size_t>(p.level)]),
      lse2(p.terms.lse2.data<float>()),
      delta(p.terms.delta.data<float>()),
      above_k(device_data<float>(p.above_k)),
      above_v(device_data<float>(p.above_v)),
      queries(static_cast<int>(p.args.plan.tokens)),
      d(static_cast<int>(p.args.q.size(3))),
      shift(log2_of(p.args.plan.block)) {
  const LlsaPlan& plan = p.args.plan;
  const std::int64_t count = plan.count[static_cast<std::size_t>(p.level)];
  keys = static_cast<int>(count);
  scale = 1 / std::sqrt(static_cast<float>(d));
  base2_scale = kLog2e<float> * scale;
  if (p.level == 0) {
    dk = device_data<Element>(p.to_k);
    dv = device_data<Element>(p.to_v);
  } else {
    gk = p.to_k.data<float>();
    gv = p.to_v.data<float>();
    if (!plan.reweight) {
      factor = 1 / static_cast<float>(plan.covered(p.level, 0));
      last_factor = 1 / static_cast<float>(plan.covered(p.level, count - 1));
    }
  }
  if (p.above_k.defined()) above = static_cast<int>(p.above_k.size(2));
}

void add_partial_sums(Context& ctx, const KeyLevel& level, std::int64_t heads, const PartialSums& partial) {
  constexpr std::int64_t kMostBlocks = 1024;  // some blocks for every multiprocessor; the rest is a loop
  const std::int64_t pairs = partial.slots * partial.keys_of_block * level.d;
  simt::launch(add_pieces, head_grid(std::min(kMostBlocks, ceil_div(pairs, kThreads)), heads), dim3(kThreads),
               0, stream_of(ctx), level, partial);
}

void keys_backward_mma(Context& ctx, const LlsaState& args, const Tensor& d_o, const QueryTerms& terms,
                       const Tensor& dk, const Tensor& dv) {
  const LlsaPlan& plan = args.plan;
  const std::vector<IndexTranspose> by_key = transposed_levels(ctx, args);
  Tensor above_k, above_v;
  for (int l = plan.enriched; l >= 0; --l) {
    Tensor to_k = dk, to_v = dv;
    if (l > 0) {
      to_k = ctx.empty({dk.size(0), dk.size(1), plan.count[static_cast<std::size_t>(l)], dk.size(3)},
                       DType::f32);  // [b,H,n_l,D]
      to_v = ctx.empty_like(to_k);
    }
    const KeyProblem problem = {args, d_o, terms, l, above_k, above_v, to_k, to_v};
    if (l == plan.levels)
      dense_keys_backward(ctx, problem);
    else
      listed_keys_backward(ctx, problem, by_key[static_cast<std::size_t>(l)]);
    above_k = to_k;
    above_v = to_v;
  }
}

}  // namespace llsa::kernels::cuda
