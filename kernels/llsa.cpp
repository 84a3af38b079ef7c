// LLSA and its stages: checks, allocation, and the order of the stages.
#include "kernels/llsa.h"

#include "kernels/backend.h"
#include "kernels/check.h"
#include "kernels/copy.h"
#include "kernels/llsa_stages.h"

namespace llsa::kernels {
namespace {

void check_count(const char* where, const check::Argument& x, const LlsaPlan& plan) {
  if (x.tensor.size(2) != plan.tokens)
    throw ShapeError(cat("[", where, "] expected ", x.name, " with the plan's ", plan.tokens, " tokens, got ",
                         x.tensor.shape()));
}

Tensor check_tokens(Context& ctx, const char* where, const check::Argument& x, const LlsaPlan& plan) {
  Tensor checked = check::heads(ctx, where, x);
  check_count(where, x, plan);
  return checked;
}

/// Levels 1..last of the pyramid of checked tokens.
std::vector<Tensor> pyramid(Context& ctx, const Tensor& x, const LlsaPlan& plan, int last) {
  std::vector<Tensor> levels;
  for (int l = 1; l <= last; ++l)
    levels.push_back(ctx.empty({x.size(0), x.size(1), plan.count[static_cast<std::size_t>(l)], x.size(3)},
                               x.dtype()));  // [b,H,n_l,D]
  if (last > 0) backend(ctx).llsa_stages.llsa_pyramid(ctx, x, plan, levels, "llsa_pyramid");
  return levels;
}

Shape index_shape(const Tensor& q, const LlsaPlan& plan, std::size_t level) {
  return {q.size(0), q.size(1), plan.count[level + 1], plan.width[level]};
}

/// Lets pooled queries pick pooled keys, levels 1..L.
void select(Context& ctx, const std::vector<Tensor>& q, const std::vector<Tensor>& k, LlsaState& state) {
  for (std::size_t l = 0; l < q.size(); ++l)
    state.index.push_back(ctx.empty(index_shape(q[l], state.plan, l), DType::i32));  // [b,H,n_l,w_l]
  backend(ctx).llsa_stages.llsa_select(ctx, q, k, state, "llsa_select");
}

/// A state with checked inputs and nothing else.
LlsaState state_of(Context& ctx, const char* where, const Tensor& q, const Tensor& k, const Tensor& v) {
  LlsaState state;
  state.q = check::heads(ctx, where, {"q", q});
  state.k = {check::heads(ctx, where, {"k", k})};
  state.v = {check::heads(ctx, where, {"v", v})};
  check::like(where, {"k", k}, {"q", q});
  check::like(where, {"v", v}, {"q", q});
  return state;
}

void append(std::vector<Tensor>& to, const std::vector<Tensor>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

/// Attention over the picks of a state that lacks the results only.
LlsaResult attend(Context& ctx, LlsaState state) {
  const bool full = state.plan.levels == 0;
  const AttentionResult result =
      full ? full_attention(ctx, state.q, state.k[0], state.v[0]) : empty_attention(ctx, state.q);
  state.o = result.o;
  state.lse = result.lse;
  if (!full) backend(ctx).llsa.llsa_attention(ctx, state, "llsa_attention");
  return {result.o, result.lse, std::make_shared<const LlsaState>(std::move(state))};
}

/// The same where the coarse keys and values are missing as well.
LlsaResult pool_and_attend(Context& ctx, LlsaState state) {
  append(state.k, pyramid(ctx, state.k[0], state.plan, state.plan.enriched));
  append(state.v, pyramid(ctx, state.v[0], state.plan, state.plan.enriched));
  return attend(ctx, std::move(state));
}

}  // namespace

LlsaResult llsa_attention(Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v,
                          const LlsaOptions& options) {
  LlsaState state = state_of(ctx, "llsa_attention", q, k, v);
  state.plan = llsa_plan(q.size(2), options);
  const LlsaPlan& plan = state.plan;
  if (plan.levels > 0) {
    std::vector<Tensor> coarse_k = pyramid(ctx, state.k[0], plan, plan.levels);
    select(ctx, pyramid(ctx, state.q, plan, plan.levels), coarse_k, state);
    coarse_k.resize(static_cast<std::size_t>(plan.enriched));  // nothing attends to the levels above
    append(state.k, coarse_k);
    append(state.v, pyramid(ctx, state.v[0], plan, plan.enriched));
  }
  return attend(ctx, std::move(state));
}

AttentionGrads llsa_attention_backward(Context& ctx, const Tensor& d_o, const LlsaState& state) {
  constexpr const char* kWhere = "llsa_attention_backward";
  if (state.plan.levels == 0)
    return full_attention_backward(ctx, d_o, state.q, state.k[0], state.v[0], state.o, state.lse);
  const Tensor d_out = check::heads(ctx, kWhere, {"d_o", d_o});
  check::like(kWhere, {"d_o", d_o}, {"o", state.o});
  const AttentionGrads grads = {ctx.empty_like(state.q), ctx.empty_like(state.q), ctx.empty_like(state.q)};
  backend(ctx).llsa.llsa_attention_backward(ctx, d_out, state, grads.dq, grads.dk, grads.dv);
  return grads;
}

std::vector<Tensor> tensors_of(const LlsaState& state) {
  std::vector<Tensor> all = {state.q, state.o, state.lse};
  for (const auto& list : {state.k, state.v, state.index, state.words}) append(all, list);
  return all;
}

// ---- stages ---------------------------------------------------------------------------------------------

std::vector<Tensor> llsa_pyramid(Context& ctx, const Tensor& x, const LlsaPlan& plan) {
  return llsa_pyramid(ctx, x, plan, plan.levels);
}

std::vector<Tensor> llsa_pyramid(Context& ctx, const Tensor& x, const LlsaPlan& plan, int last) {
  if (last < 0 || last > plan.levels)
    throw ValueError(cat("[llsa_pyramid] expected 0 to ", plan.levels, " levels, got ", last));
  return pyramid(ctx, check_tokens(ctx, "llsa_pyramid", {"x", x}, plan), plan, last);
}

LlsaIndices llsa_select(Context& ctx, const Tensor& q, const Tensor& k, const LlsaPlan& plan) {
  const Tensor queries = check_tokens(ctx, "llsa_select", {"q", q}, plan);
  const Tensor keys = check_tokens(ctx, "llsa_select", {"k", k}, plan);
  check::like("llsa_select", {"k", k}, {"q", q});
  return llsa_select(ctx, pyramid(ctx, queries, plan, plan.levels), pyramid(ctx, keys, plan, plan.levels),
                     plan);
}

LlsaIndices llsa_select(Context& ctx, const std::vector<Tensor>& q, const std::vector<Tensor>& k,
                        const LlsaPlan& plan) {
  constexpr const char* kWhere = "llsa_select";
  if (plan.levels == 0) return {};
  if (q.empty()) throw ShapeError(cat("[", kWhere, "] expected the pyramid of q, got no level"));
  const Tensor finest = check::heads(ctx, kWhere, {"q", q.front()});
  const auto levels_of = [&](const char* name, const std::vector<Tensor>& levels) {
    const auto count = static_cast<std::size_t>(plan.levels);
    if (levels.size() < count)
      throw ShapeError(
          cat("[", kWhere, "] expected ", count, " levels or more of ", name, ", got ", levels.size()));
    std::vector<Tensor> checked;
    for (std::size_t l = 0; l < count; ++l) {
      const check::Argument level = {name, levels[l]};
      check::on_device(ctx, kWhere, {level});
      check::shape(kWhere, level, Shape{finest.size(0), finest.size(1), plan.count[l + 1], finest.size(3)});
      check::dtype(kWhere, level, finest.dtype());
      checked.push_back(contiguous(ctx, levels[l]));
    }
    return checked;
  };
  const std::vector<Tensor> queries = levels_of("q", q), keys = levels_of("k", k);
  LlsaState state;
  state.plan = plan;
  select(ctx, queries, keys, state);
  return {std::move(state.index)};
}

LlsaIndices llsa_indices(const LlsaState& state) { return {state.index}; }

IndexTranspose index_transpose(Context& ctx, const Tensor& index, std::int64_t keys) {
  check::on_device(ctx, "index_transpose", {{"indices", index}});
  check::dtype("index_transpose", {"indices", index}, DType::i32);
  if (index.rank() != 4 || keys < 0 || keys > std::int64_t{0x7fffffff})
    throw ShapeError(cat("[index_transpose] expected indices [b,H,rows,width] over 0 to 2^31 - 1 keys, got ",
                         index.shape(), " over ", keys));
  if (index.size(2) * index.size(3) > std::int64_t{0x7fffffff})
    throw ShapeError(
        cat("[index_transpose] ", index.shape(), " has more entries per head than 32 bits count"));
  IndexTranspose result;
  result.offset = ctx.empty({index.size(0), index.size(1), keys + 1}, DType::i32);
  result.query = ctx.empty({index.size(0), index.size(1), index.size(2) * index.size(3)}, DType::i32);
  if (index.numel() == 0)
    fill(ctx, result.offset, 0.0);
  else
    backend(ctx).llsa_stages.index_transpose(ctx, contiguous(ctx, index), keys, result.offset, result.query);
  return result;
}

LlsaTranspose llsa_transpose(Context& ctx, const LlsaIndices& indices, const LlsaPlan& plan) {
  LlsaTranspose result;
  for (std::size_t l = 0; l < indices.level.size(); ++l)
    result.level.push_back(index_transpose(ctx, indices.level[l], plan.count.at(l + 1)));
  return result;
}

LlsaResult llsa_attend(Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v,
                       const LlsaIndices& indices, const LlsaPlan& plan) {
  constexpr const char* kWhere = "llsa_attend";
  LlsaState state = state_of(ctx, kWhere, q, k, v);
  check_count(kWhere, {"q", q}, plan);
  state.plan = plan;
  if (indices.level.size() != static_cast<std::size_t>(plan.levels))
    throw ShapeError(
        cat("[", kWhere, "] expected indices of ", plan.levels, " levels, got ", indices.level.size()));
  for (std::size_t l = 0; l < indices.level.size(); ++l) {
    const check::Argument level = {"indices", indices.level[l]};
    check::on_device(ctx, kWhere, {level});
    check::shape(kWhere, level, index_shape(q, plan, l));
    check::dtype(kWhere, level, DType::i32);
    state.index.push_back(contiguous(ctx, indices.level[l]));
  }
  return pool_and_attend(ctx, std::move(state));
}

LlsaResult llsa_attend(Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v,
                       const LlsaState& selected) {
  constexpr const char* kWhere = "llsa_attend";
  LlsaState state = state_of(ctx, kWhere, q, k, v);
  check::like(kWhere, {"q", q}, {"the selection's q", selected.q});
  state.plan = selected.plan;
  state.index = selected.index;
  state.words = selected.words;
  return pool_and_attend(ctx, std::move(state));
}

}  // namespace llsa::kernels
