// Full attention on the CPU: query tiles of two vectors against all keys, online softmax.
#include "kernels/cpu/attention.h"

#include "kernels/cpu/attention_driver.h"

namespace llsa::kernels::cpu {
namespace {

template <class A>
tile::Rows<A> all_keys(const Heads<A>& k, const Heads<A>& v, std::int64_t head) {
  tile::Rows<A> rows;
  rows.y = k.row(head, 0);
  rows.ldy = k.stride;
  rows.h = v.row(head, 0);
  rows.ldh = v.stride;
  rows.rows = k.tokens;
  return rows;
}

template <class A>
constexpr std::int64_t kQueryBlock = 2 * tile::kWidth<A>;

template <class A>
void forward(Context& ctx, const Heads<A>& q, const Heads<A>& k, const Heads<A>& v, const Heads<A>& o,
             A* lse) {
  attend_blocks<A>(
      ctx, q, kQueryBlock<A>, k.tokens,
      [&](std::int64_t head, std::int64_t, auto& rows) { rows.push_back(all_keys(k, v, head)); }, o, lse);
}

template <class A>
void backward(Context& ctx, const Heads<A>& d_o, const Heads<A>& q, const Heads<A>& k, const Heads<A>& v,
              const Heads<A>& o, const A* lse, A* dq, A* dk, A* dv) {
  const QueryTerms<A> terms(ctx, o, d_o, lse);
  const std::int64_t block = kQueryBlock<A>;
  const std::int64_t query_blocks = (q.tokens + block - 1) / block;
  const std::int64_t head_size = k.tokens * k.d;

  if (q.count() >= kWholeHeads) {
    ctx.pool().parallel_for(q.count(), [&](std::int64_t head) {
      tile::Workspace<A> ws(ctx, q.d);
      std::fill(dk + head * head_size, dk + (head + 1) * head_size, A(0));
      std::fill(dv + head * head_size, dv + (head + 1) * head_size, A(0));
      const auto rows_of = [&](std::int64_t, std::int64_t, auto& rows) {
        rows.push_back(all_keys(k, v, head));
        rows.back().dy = dk + head * head_size;
        rows.back().dh = dv + head * head_size;
      };
      backward_queries<A>(ws, q, d_o, terms, block, rows_of, dq, head, 0, query_blocks);
    });
    return;
  }

  for_block_ranges(ctx, q.count(), query_blocks, blocks_per_chunk(block * k.tokens),
                   [&](std::int64_t head, std::int64_t first, std::int64_t last) {
                     tile::Workspace<A> ws(ctx, q.d);
                     const auto rows_of = [&](std::int64_t, std::int64_t, auto& rows) {
                       rows.push_back(all_keys(k, v, head));
                     };
                     backward_queries<A>(ws, q, d_o, terms, block, rows_of, dq, head, first, last);
                   });
  for_block_ranges(ctx, q.count(), (k.tokens + block - 1) / block, blocks_per_chunk(block * q.tokens),
                   [&](std::int64_t head, std::int64_t first, std::int64_t last) {
                     tile::Workspace<A> ws(ctx, q.d);
                     ws.rows = {query_rows(q, d_o, terms, head, 0, q.tokens)};
                     const std::int64_t begin = first * block, end = std::min(last * block, k.tokens);
                     A* const dk_at = dk + head * head_size + begin * k.d;
                     A* const dv_at = dv + head * head_size + begin * k.d;
                     std::fill(dk_at, dk_at + (end - begin) * k.d, A(0));
                     std::fill(dv_at, dv_at + (end - begin) * k.d, A(0));
                     backward_keys<A>(ws, k, v, nullptr, head, begin, end, dk_at, dv_at);
                   });
}

}  // namespace

void attention(Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& o,
               const Tensor& lse) {
  visit_floating(q.dtype(), "attention", [&]<class T>() {
    using A = accumulator_t<T>;
    const Tensor qa = accumulable(ctx, q), ka = accumulable(ctx, k), va = accumulable(ctx, v);
    const Output oa(ctx, o);
    forward<A>(ctx, Heads<A>(qa), Heads<A>(ka), Heads<A>(va), Heads<A>(oa.tensor()), lse.data<A>());
    oa.finish(ctx);
  });
}

void attention_backward(Context& ctx, const Tensor& d_o, const Tensor& q, const Tensor& k, const Tensor& v,
                        const Tensor& o, const Tensor& lse, const Tensor& dq, const Tensor& dk,
                        const Tensor& dv) {
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

}  // namespace llsa::kernels::cpu
