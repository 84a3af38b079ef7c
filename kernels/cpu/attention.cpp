// Full attention on the CPU: tiles of 32 queries against all keys, online softmax.
#include "kernels/backend/attention.h"

#include "kernels/cpu/attention_driver.h"

namespace llsa::kernels::cpu {
namespace {

template <class A>
constexpr std::int64_t kBlock = tile::Workspace<A>::kOwn;

template <class A>
TokenSet<A> pack_keys(Context& ctx, const Heads<A>& k, const Heads<A>& v, bool backward) {
  TokenSet<A> keys(k, v);
  keys.score = key_scores<A>(ctx, k.tokens, A(0));
  keys.pack(ctx, backward);
  return keys;
}

/// Every block attends to all keys of its head.
template <class A>
struct AllKeys {
  tile::Others<A> keys;
  void operator()(std::int64_t, std::vector<tile::Others<A>>& others) const { others.push_back(keys); }
};

template <class A>
void forward(Context& ctx, const Heads<A>& q, const Heads<A>& k, const Heads<A>& v, const Heads<A>& o,
             A* lse) {
  const TokenSet<A> keys = pack_keys<A>(ctx, k, v, false);
  const auto keys_of = [&](std::int64_t head) { return AllKeys<A>{keys.all(head)}; };
  attend_blocks<A>(ctx, q, kBlock<A>, k.tokens, keys_of, o, lse);
}

template <class A>
void backward(Context& ctx, const Heads<A>& d_o, const Heads<A>& q, const Heads<A>& k, const Heads<A>& v,
              const Heads<A>& o, const A* lse, A* dq, A* dk, A* dv) {
  TokenSet<A> queries = backward_queries<A>(ctx, q, d_o, o, lse);
  TokenSet<A> keys = pack_keys<A>(ctx, k, v, true);
  const std::int64_t block = kBlock<A>, query_blocks = (q.tokens + block - 1) / block;
  const std::int64_t head_size = k.tokens * k.d;
  const auto keys_of = [&](std::int64_t head) { return AllKeys<A>{keys.all(head)}; };

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
  for_block_ranges(ctx, q.count(), (k.tokens + block - 1) / block, blocks_per_chunk(block * q.tokens),
                   [&](std::int64_t head, std::int64_t first, std::int64_t last) {
                     tile::Workspace<A> ws(ctx, q.d, true);
                     ws.others = {queries.all(head)};
                     const std::int64_t begin = first * block, end = std::min(last * block, k.tokens);
                     A* const dk_at = dk + head * head_size + begin * k.d;
                     A* const dv_at = dv + head * head_size + begin * k.d;
                     std::fill_n(dk_at, (end - begin) * k.d, A(0));
                     std::fill_n(dv_at, (end - begin) * k.d, A(0));
                     backward_own<A>(ws, keys.all(head), k.d, begin, end, dk_at, dv_at);
                   });
}

void full_attention(Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& o,
                    const Tensor& lse) {
  visit_floating(q.dtype(), "attention", [&]<class T>() {
    using A = accumulator_t<T>;
    const Tensor qa = accumulable(ctx, q), ka = accumulable(ctx, k), va = accumulable(ctx, v);
    const Output oa(ctx, o);
    forward<A>(ctx, Heads<A>(qa), Heads<A>(ka), Heads<A>(va), Heads<A>(oa.tensor()), lse.data<A>());
    oa.finish(ctx);
  });
}

void full_attention_backward(Context& ctx, const Tensor& d_o, const Tensor& q, const Tensor& k,
                             const Tensor& v, const Tensor& o, const Tensor& lse, const Tensor& dq,
                             const Tensor& dk, const Tensor& dv) {
  visit_floating(q.dtype(), "attention_backward", [&]<class T>() {
    using A = accumulator_t<T>;
    const Tensor ga = accumulable(ctx, d_o), qa = accumulable(ctx, q), ka = accumulable(ctx, k),
                 va = accumulable(ctx, v), oa = accumulable(ctx, o);
    const Output dqa(ctx, dq), dka(ctx, dk), dva(ctx, dv);
    backward<A>(ctx, Heads<A>(ga), Heads<A>(qa), Heads<A>(ka), Heads<A>(va), Heads<A>(oa), lse.data<A>(),
                dqa.tensor().data<A>(), dka.tensor().data<A>(), dva.tensor().data<A>());
    dqa.finish(ctx);
    dka.finish(ctx);
    dva.finish(ctx);
  });
}

}  // namespace

constinit const AttentionBackend kAttention = {.full_attention = full_attention,
                                               .full_attention_backward = full_attention_backward};

}  // namespace llsa::kernels::cpu
