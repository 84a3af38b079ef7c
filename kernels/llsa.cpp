// The stages of LLSA: checks, allocation, dispatch.
#include "kernels/llsa.h"

#include <algorithm>

#include "kernels/attention_check.h"
#include "kernels/backend.h"
#include "kernels/copy.h"

namespace llsa::kernels {
namespace {

Tensor check_tokens(Context& ctx, const char* where, const check::Argument& x, const LlsaPlan& plan) {
  Tensor checked = check_heads(ctx, where, x);
  if (checked.size(2) != plan.tokens)
    throw ShapeError(cat("[", where, "] expected ", x.name, " with the plan's ", plan.tokens, " tokens, got ",
                         checked.shape()));
  return checked;
}

/// Levels 1..last of the pyramid.
std::vector<Tensor> pyramid_to(Context& ctx, const Tensor& x, const LlsaPlan& plan, int last) {
  std::vector<Tensor> levels;
  for (int l = 1; l <= last; ++l)
    levels.push_back(ctx.empty({x.size(0), x.size(1), plan.count[static_cast<std::size_t>(l)], x.size(3)},
                               x.dtype()));  // [b,H,n_l,D]
  if (last > 0) backend(ctx).llsa.pyramid(ctx, x, plan, levels);
  return levels;
}

Shape index_shape(const Tensor& q, const LlsaPlan& plan, std::size_t level) {
  return {q.size(0), q.size(1), plan.count[level + 1], plan.width[level]};
}

/// The indices fit the plan and q; contiguous.
std::vector<Tensor> check_indices(Context& ctx, const char* where, const LlsaIndices& indices,
                                  const Tensor& q, const LlsaPlan& plan) {
  if (indices.level.size() != static_cast<std::size_t>(plan.levels))
    throw ShapeError(
        cat("[", where, "] expected indices of ", plan.levels, " levels, got ", indices.level.size()));
  std::vector<Tensor> checked;
  for (std::size_t l = 0; l < indices.level.size(); ++l) {
    check::on_device(ctx, where, {{"indices", indices.level[l]}});
    check::shape(where, {"indices", indices.level[l]}, index_shape(q, plan, l));
    check::dtype(where, {"indices", indices.level[l]}, DType::i32);
    checked.push_back(contiguous(ctx, indices.level[l]));
  }
  return checked;
}

/// The words fit the plan and q, or there are none; contiguous.
std::vector<Tensor> check_words(Context& ctx, const char* where, const LlsaIndices& indices, const Tensor& q,
                                const LlsaPlan& plan) {
  if (indices.words.empty()) return {};
  const std::int64_t bytes = llsa_word_bytes(plan.block);
  const std::int64_t levels = bytes == 0 ? 0 : std::max(plan.levels - 1, 0);
  if (static_cast<std::int64_t>(indices.words.size()) != levels)
    throw ShapeError(
        cat("[", where, "] expected words of ", levels, " levels or none, got ", indices.words.size()),
        "leave them out beside indices that llsa_select did not make");
  std::vector<Tensor> checked;
  for (std::size_t l = 0; l < indices.words.size(); ++l) {
    const check::Argument words = {"words", indices.words[l]};
    check::on_device(ctx, where, {words});
    check::shape(
        where, words,
        Shape{q.size(0), q.size(1), plan.count[l + 2], std::int64_t{plan.width[l + 1]} * plan.block, bytes});
    check::dtype(where, words, DType::u8);
    Tensor found = contiguous(ctx, indices.words[l]);
    if (reinterpret_cast<std::uintptr_t>(found.raw()) % static_cast<std::size_t>(bytes) != 0) {
      const Tensor moved = ctx.empty(found.shape(), DType::u8);  // to where words can be read as integers
      copy(ctx, found, moved);
      found = moved;
    }
    checked.push_back(found);
  }
  return checked;
}

/// Levels 1..last of a pyramid that came from elsewhere are those of x under the plan; contiguous.
std::vector<Tensor> check_levels(Context& ctx, const char* where, const char* name,
                                 const std::vector<Tensor>& levels, const Tensor& x, const LlsaPlan& plan,
                                 int last) {
  if (levels.size() < static_cast<std::size_t>(last))
    throw ShapeError(
        cat("[", where, "] expected ", last, " levels or more of ", name, ", got ", levels.size()));
  std::vector<Tensor> checked;
  for (std::size_t l = 0; l < static_cast<std::size_t>(last); ++l) {
    const check::Argument level = {name, levels[l]};
    check::on_device(ctx, where, {level});
    check::shape(where, level, Shape{x.size(0), x.size(1), plan.count[l + 1], x.size(3)});
    check::dtype(where, level, x.dtype());
    checked.push_back(contiguous(ctx, levels[l]));
  }
  return checked;
}

/// Of checked q.
LlsaOperands operands(Context& ctx, const char* where, const Tensor& q, const Tensor& k, const Tensor& v,
                      const LlsaCoarse& coarse, const std::vector<Tensor>& index, std::vector<Tensor> words,
                      const LlsaPlan& plan) {
  LlsaOperands args = {plan,
                       q,
                       {check_heads(ctx, where, {"k", k})},
                       {check_heads(ctx, where, {"v", v})},
                       index,
                       std::move(words)};
  check::like(where, {"k", k}, {"q", q});
  check::like(where, {"v", v}, {"q", q});
  for (const Tensor& level : check_levels(ctx, where, "coarse k", coarse.k, q, plan, plan.enriched))
    args.k.push_back(level);
  for (const Tensor& level : check_levels(ctx, where, "coarse v", coarse.v, q, plan, plan.enriched))
    args.v.push_back(level);
  return args;
}

LlsaCoarse coarse_of(Context& ctx, const char* where, const Tensor& k, const Tensor& v,
                     const LlsaPlan& plan) {
  if (plan.enriched == 0) return {};
  return {pyramid_to(ctx, check_tokens(ctx, where, {"k", k}, plan), plan, plan.enriched),
          pyramid_to(ctx, check_tokens(ctx, where, {"v", v}, plan), plan, plan.enriched)};
}

}  // namespace

std::vector<Tensor> llsa_pyramid(Context& ctx, const Tensor& x, const LlsaPlan& plan) {
  return llsa_pyramid(ctx, x, plan, plan.levels);
}

std::vector<Tensor> llsa_pyramid(Context& ctx, const Tensor& x, const LlsaPlan& plan, int last) {
  if (last < 0 || last > plan.levels)
    throw ValueError(cat("[llsa_pyramid] expected 0 to ", plan.levels, " levels, got ", last));
  return pyramid_to(ctx, check_tokens(ctx, "llsa_pyramid", {"x", x}, plan), plan, last);
}

LlsaIndices llsa_select(Context& ctx, const Tensor& q, const Tensor& k, const LlsaPlan& plan) {
  const Tensor queries = check_tokens(ctx, "llsa_select", {"q", q}, plan);
  const Tensor keys = check_tokens(ctx, "llsa_select", {"k", k}, plan);
  check::like("llsa_select", {"k", k}, {"q", q});
  return llsa_select(ctx, llsa_pyramid(ctx, queries, plan), llsa_pyramid(ctx, keys, plan), plan);
}

LlsaIndices llsa_select(Context& ctx, const std::vector<Tensor>& q, const std::vector<Tensor>& k,
                        const LlsaPlan& plan) {
  constexpr const char* kWhere = "llsa_select";
  LlsaIndices indices;
  if (plan.levels == 0) return indices;
  if (q.empty()) throw ShapeError(cat("[", kWhere, "] expected the pyramid of q, got no level"));
  const Tensor finest = check_heads(ctx, kWhere, {"q", q.front()});
  const std::vector<Tensor> queries = check_levels(ctx, kWhere, "q", q, finest, plan, plan.levels);
  const std::vector<Tensor> keys = check_levels(ctx, kWhere, "k", k, finest, plan, plan.levels);
  for (std::size_t l = 0; l < static_cast<std::size_t>(plan.levels); ++l)
    indices.level.push_back(ctx.empty(index_shape(finest, plan, l), DType::i32));  // [b,H,n_l,w_l]
  backend(ctx).llsa.select(ctx, plan, queries, keys, indices.level, indices.words);
  return indices;
}

IndexTranspose index_transpose(Context& ctx, const Tensor& index, std::int64_t keys) {
  check::on_device(ctx, "index_transpose", {{"indices", index}});
  check::dtype("index_transpose", {"indices", index}, DType::i32);
  if (index.rank() != 4 || keys < 0)
    throw ShapeError(cat("[index_transpose] expected indices [b,H,rows,width] over 0 keys or more, got ",
                         index.shape(), " over ", keys));
  if (index.size(2) * index.size(3) > std::int64_t{0x7fffffff})
    throw ShapeError(
        cat("[index_transpose] ", index.shape(), " has more entries per head than 32 bits count"));
  IndexTranspose result;
  result.offset = ctx.empty({index.size(0), index.size(1), keys + 1}, DType::i32);
  result.query = ctx.empty({index.size(0), index.size(1), index.size(2) * index.size(3)}, DType::i32);
  backend(ctx).llsa.transpose(ctx, contiguous(ctx, index), keys, result.offset, result.query);
  return result;
}

LlsaTranspose llsa_transpose(Context& ctx, const LlsaIndices& indices, const LlsaPlan& plan) {
  LlsaTranspose result;
  for (std::size_t l = 0; l < indices.level.size(); ++l)
    result.level.push_back(index_transpose(ctx, indices.level[l], plan.count.at(l + 1)));
  return result;
}

AttentionResult llsa_attention(Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v,
                               const LlsaIndices& indices, const LlsaPlan& plan) {
  return llsa_attention(ctx, q, k, v, coarse_of(ctx, "llsa_attention", k, v, plan), indices, plan);
}

AttentionResult llsa_attention(Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v,
                               const LlsaCoarse& coarse, const LlsaIndices& indices, const LlsaPlan& plan) {
  constexpr const char* kWhere = "llsa_attention";
  const Tensor queries = check_tokens(ctx, kWhere, {"q", q}, plan);
  const std::vector<Tensor> index = check_indices(ctx, kWhere, indices, q, plan);
  const std::vector<Tensor> words = check_words(ctx, kWhere, indices, q, plan);
  if (plan.levels == 0) return full_attention(ctx, q, k, v);
  const LlsaOperands args = operands(ctx, kWhere, queries, k, v, coarse, index, words, plan);
  AttentionResult result;
  result.o = empty_merged(ctx, q.shape(), q.dtype());  // [b,H,N,D]
  result.lse = empty_lse(ctx, q);                      // [b,H,N]
  backend(ctx).llsa.attend(ctx, args, result.o, result.lse);
  return result;
}

AttentionGrads llsa_attention_backward(Context& ctx, const Tensor& d_o, const Tensor& q, const Tensor& k,
                                       const Tensor& v, const Tensor& o, const Tensor& lse,
                                       const LlsaIndices& indices, const LlsaPlan& plan) {
  return llsa_attention_backward(ctx, d_o, q, k, v, coarse_of(ctx, "llsa_attention_backward", k, v, plan), o,
                                 lse, indices, plan);
}

AttentionGrads llsa_attention_backward(Context& ctx, const Tensor& d_o, const Tensor& q, const Tensor& k,
                                       const Tensor& v, const LlsaCoarse& coarse, const Tensor& o,
                                       const Tensor& lse, const LlsaIndices& indices, const LlsaPlan& plan) {
  constexpr const char* kWhere = "llsa_attention_backward";
  const Tensor queries = check_tokens(ctx, kWhere, {"q", q}, plan);
  const std::vector<Tensor> index = check_indices(ctx, kWhere, indices, q, plan);
  const std::vector<Tensor> words = check_words(ctx, kWhere, indices, q, plan);
  if (plan.levels == 0) return full_attention_backward(ctx, d_o, q, k, v, o, lse);
  const LlsaOperands args = operands(ctx, kWhere, queries, k, v, coarse, index, words, plan);
  check::like(kWhere, {"d_o", d_o}, {"q", q});
  check::like(kWhere, {"o", o}, {"q", q});
  check_lse(ctx, kWhere, lse, q);
  const AttentionGrads grads = {ctx.empty(q.shape(), q.dtype()), ctx.empty(q.shape(), q.dtype()),
                                ctx.empty(q.shape(), q.dtype())};
  backend(ctx).llsa.attend_backward(ctx, args, check_heads(ctx, kWhere, {"d_o", d_o}),
                                    check_heads(ctx, kWhere, {"o", o}), contiguous(ctx, lse), grads.dq,
                                    grads.dk, grads.dv);
  return grads;
}

}  // namespace llsa::kernels
