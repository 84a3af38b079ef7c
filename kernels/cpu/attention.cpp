// Full attention on the CPU: tiles of 32 queries against the keys that they see, with online softmax.
//
// In causal attention, query t of N sees the keys s <= t + M - N. The key range of a block of queries ends
// with the last key that one of them sees, and key blocks start with the first query that sees one of them;
// the diagonal in between is a matter of the tiles.
#include "kernels/backend/attention.h"

#include "kernels/cpu/attention_driver.h"

namespace llsa::kernels::cpu {
namespace {

using Side = tile::Diagonal::Side;

template <class A>
constexpr std::int64_t kBlock = tile::Workspace<A>::kOwn;

template <class A>
TokenSet<A> pack_keys(Context& ctx, const Heads<A>& k, const Heads<A>& v, bool backward) {
  TokenSet<A> keys(k, v);
  keys.score = key_scores<A>(ctx, k.tokens, A(0));
  keys.pack(ctx, backward);
  return keys;
}

/// The keys of one head that its blocks of queries see.
template <class A>
struct SeenKeys {
  tile::Others<A> keys;
  std::int64_t queries, d;
  bool causal;

  void operator()(std::int64_t block, tile::Workspace<A>& ws) const {
    if (!causal) return ws.others.push_back(keys);
    const std::int64_t seen = block * kBlock<A> + 1 + keys.rows - queries;  // by the first query
    const std::int64_t end = panel_lanes<A>(seen + kBlock<A> - 1);          // whole panels
    ws.others.push_back(end < keys.rows ? keys.part(0, end, d) : keys);
    ws.diagonal = {Side::before, seen};
  }
};

template <class A>
void forward(Context& ctx, const Heads<A>& q, const Heads<A>& k, const Heads<A>& v, bool causal,
             const Heads<A>& o, A* lse) {
  const TokenSet<A> keys = pack_keys<A>(ctx, k, v, false);
  const auto keys_of = [&](std::int64_t head) { return SeenKeys<A>{keys.all(head), q.tokens, q.d, causal}; };
  attend_blocks<A>(ctx, q, kBlock<A>, k.tokens, keys_of, o, lse);
}

template <class A>
void backward(Context& ctx, const Heads<A>& d_o, const Heads<A>& q, const Heads<A>& k, const Heads<A>& v,
              const Heads<A>& o, const A* lse, bool causal, A* dq, A* dk, A* dv) {
  TokenSet<A> queries = backward_queries<A>(ctx, q, d_o, o, lse);
  TokenSet<A> keys = pack_keys<A>(ctx, k, v, true);
  const std::int64_t block = kBlock<A>, query_blocks = (q.tokens + block - 1) / block;
  const std::int64_t head_size = k.tokens * k.d;
  const auto keys_of = [&](std::int64_t head) { return SeenKeys<A>{keys.all(head), q.tokens, q.d, causal}; };

  if (q.count() >= kWholeHeads) {
    keys.dy = dk;
    keys.dh = dv;
    ctx.pool().parallel_for(q.count(), [&](std::int64_t head) {
      tile::Workspace<A> ws(ctx, q.d, true);
      std::fill_n(dk + head * head_size, head_size, A(0));
      std::fill_n(dv + head * head_size, head_size, A(0));
      backward_blocks<A>(ws, queries, block, keys_of, dq, head, 0, query_blocks);
    });
    return;
  }

  for_block_ranges(ctx, q.count(), query_blocks, blocks_per_chunk(block * k.tokens),
                   [&](std::int64_t head, std::int64_t first, std::int64_t last) {
                     tile::Workspace<A> ws(ctx, q.d, true);
                     backward_blocks<A>(ws, queries, block, keys_of, dq, head, first, last);
                   });

  queries.pack(ctx, true);
  const auto dk_and_dv = [&](tile::Workspace<A>& ws, std::int64_t head, std::int64_t begin,
                             std::int64_t end) {
    A* const dk_at = dk + head * head_size + begin * k.d;
    A* const dv_at = dv + head * head_size + begin * k.d;
    std::fill_n(dk_at, (end - begin) * k.d, A(0));
    std::fill_n(dv_at, (end - begin) * k.d, A(0));
    backward_own<A>(ws, keys.all(head), k.d, begin, end, dk_at, dv_at);
  };
  for_block_ranges(ctx, q.count(), (k.tokens + block - 1) / block, blocks_per_chunk(block * q.tokens),
                   [&](std::int64_t head, std::int64_t first, std::int64_t last) {
                     tile::Workspace<A> ws(ctx, q.d, true);
                     ws.others = {queries.all(head)};
                     if (!causal) return dk_and_dv(ws, head, first * block, std::min(last * block, k.tokens));
                     for (std::int64_t i = first; i < last; ++i) {
                       const std::int64_t seen_by =
                           i * block - (k.tokens - q.tokens);  // the first query that sees key i B
                       const std::int64_t from =
                           std::max<std::int64_t>(seen_by, 0) / tile::kWidth<A> * tile::kWidth<A>;
                       ws.others = {queries.all(head).part(from, q.tokens - from, q.d)};
                       ws.diagonal = {Side::after, seen_by - from};
                       dk_and_dv(ws, head, i * block, std::min((i + 1) * block, k.tokens));
                     }
                   });
}

void full_attention(Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v, bool causal,
                    const Tensor& o, const Tensor& lse) {
  Profiler::add_work(
      full_attention_flops(q.size(0) * q.size(1), q.size(2), k.size(2), q.size(3), causal).forward);
  visit_floating(q.dtype(), "full_attention", [&]<class T>() {
    using A = accumulator_t<T>;
    const Tensor qa = accumulable(ctx, q), ka = accumulable(ctx, k), va = accumulable(ctx, v);
    const Output oa(ctx, o);
    forward<A>(ctx, Heads<A>(qa), Heads<A>(ka), Heads<A>(va), causal, Heads<A>(oa.tensor()), lse.data<A>());
    oa.finish(ctx);
  });
}

void full_attention_backward(Context& ctx, const Tensor& d_o, const Tensor& q, const Tensor& k,
                             const Tensor& v, const Tensor& o, const Tensor& lse, bool causal,
                             const Tensor& dq, const Tensor& dk, const Tensor& dv) {
  Profiler::add_work(
      full_attention_flops(q.size(0) * q.size(1), q.size(2), k.size(2), q.size(3), causal).backward);
  visit_floating(q.dtype(), "full_attention_backward", [&]<class T>() {
    using A = accumulator_t<T>;
    const Tensor ga = accumulable(ctx, d_o), qa = accumulable(ctx, q), ka = accumulable(ctx, k),
                 va = accumulable(ctx, v), oa = accumulable(ctx, o);
    const Output dqa(ctx, dq), dka(ctx, dk), dva(ctx, dv);
    backward<A>(ctx, Heads<A>(ga), Heads<A>(qa), Heads<A>(ka), Heads<A>(va), Heads<A>(oa), lse.data<A>(),
                causal, dqa.tensor().data<A>(), dka.tensor().data<A>(), dva.tensor().data<A>());
    dqa.finish(ctx);
    dka.finish(ctx);
    dva.finish(ctx);
  });
}

}  // namespace

constinit const AttentionBackend kAttention = {.full_attention = full_attention,
                                               .full_attention_backward = full_attention_backward};

}  // namespace llsa::kernels::cpu
