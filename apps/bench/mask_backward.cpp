#include "apps/bench/mask_backward.h"

#include <algorithm>
#include <vector>

#include "kernels/cpu/attention_driver.h"

namespace llsa::apps {
namespace {

namespace cpu = kernels::cpu;
namespace tile = kernels::cpu::tile;

/// find(head, key block, found) appends to `found` the blocks of queries that picked the block of keys, ascending.
template <class Find>
KeyValueGrads key_value_backward(Context& ctx, const KeyValueInputs& in, Find find) {
  using Heads = cpu::Heads<float>;
  const std::int64_t n = in.plan.tokens, block = in.plan.block, d = in.q.size(3);
  cpu::TokenSet<float> queries =
      cpu::backward_queries<float>(ctx, Heads(in.q), Heads(in.d_o), Heads(in.o), in.lse.data<float>());
  if (block % tile::kWidth<float> == 0) queries.pack(ctx, true);
  cpu::TokenSet<float> keys(Heads(in.k), Heads(in.v));
  keys.score = cpu::key_scores<float>(ctx, n, 0);
  const KeyValueGrads out{ctx.zeros(in.k.shape(), DType::f32), ctx.zeros(in.v.shape(), DType::f32)};
  const auto one_block = [&](tile::Workspace<float>& ws, std::int64_t head, std::int64_t key_block,
                             std::vector<std::int64_t>& found) {
    found.clear();
    find(head, key_block, found);
    const tile::Others<float> all = queries.all(head);
    ws.others.clear();
    for (std::size_t i = 0; i < found.size();) {
      std::size_t next = i + 1;  // neighbours are one piece
      while (next < found.size() && found[next] == found[next - 1] + 1) ++next;
      const std::int64_t first = found[i] * block, last = std::min((found[next - 1] + 1) * block, n);
      ws.others.push_back(all.part(first, last - first, d));
      i = next;
    }
    const std::int64_t begin = key_block * block, at = (head * n + begin) * d;
    cpu::backward_own<float>(ws, keys.all(head), d, begin, std::min(begin + block, n),
                             out.dk.data<float>() + at, out.dv.data<float>() + at);
  };
  cpu::for_block_ranges(ctx, queries.y.count(), in.plan.count[1],
                        cpu::blocks_per_chunk(block * block * in.plan.width[0]),
                        [&](std::int64_t head, std::int64_t first, std::int64_t last) {
                          tile::Workspace<float> ws(ctx, d, true);
                          std::vector<std::int64_t> found;
                          for (std::int64_t j = first; j < last; ++j) one_block(ws, head, j, found);
                        });
  return out;
}

}  // namespace

KeyValueGrads key_value_backward_by_transpose(Context& ctx, const KeyValueInputs& in) {
  const std::int64_t blocks = in.plan.count[1];
  const kernels::IndexTranspose lists = kernels::index_transpose(ctx, in.index, blocks);
  const std::int64_t entries = lists.query.size(2);
  return key_value_backward(
      ctx, in, [&](std::int64_t head, std::int64_t key_block, std::vector<std::int64_t>& found) {
        const std::int32_t* const offset =
            lists.offset.data<std::int32_t>() + head * (blocks + 1) + key_block;
        const std::int32_t* const query = lists.query.data<std::int32_t>() + head * entries;
        found.assign(query + offset[0], query + offset[1]);
      });
}

KeyValueGrads key_value_backward_by_mask(Context& ctx, const KeyValueInputs& in) {
  const std::int64_t blocks = in.plan.count[1], width = in.index.size(3);
  const std::int64_t heads = in.index.size(0) * in.index.size(1);
  const Tensor mask = ctx.zeros({heads, blocks, blocks}, DType::u8);
  ctx.pool().parallel_for(heads, [&](std::int64_t head) {
    const std::int32_t* const picks = in.index.data<std::int32_t>() + head * blocks * width;
    std::uint8_t* const picked = mask.data<std::uint8_t>() + head * blocks * blocks;
    for (std::int64_t i = 0; i < blocks * width; ++i)
      if (picks[i] >= 0) picked[picks[i] * blocks + i / width] = 1;
  });
  return key_value_backward(
      ctx, in, [&](std::int64_t head, std::int64_t key_block, std::vector<std::int64_t>& found) {
        const std::uint8_t* const picked = mask.data<std::uint8_t>() + (head * blocks + key_block) * blocks;
        for (std::int64_t i = 0; i < blocks; ++i)
          if (picked[i] != 0) found.push_back(i);
      });
}

}  // namespace llsa::apps
