// The op table: the array, and what goes with it.
//
// A FLOP formula counts a multiplication and an addition as two, comparisons and moves as none, a
// transcendental function as one: the arithmetic that the definition asks for, whatever an implementation
// does on top.

#include "autograd/table/op_table.h"

#include "autograd/ops.h"
#include "autograd/recompute.h"
#include "autograd/table/definitions.h"
#include "autograd/table/samples.h"
#include "kernels/attention.h"
#include "kernels/copy.h"

namespace llsa {
namespace {

using S = const OpSample&;
using V = const Vars&;
using definitions::kEps;
using definitions::kPoolBlock;
constexpr OpTolerance kExact = OpTolerance::exact;
constexpr OpTolerance kRounding = OpTolerance::rounding;
constexpr OpTolerance kSums = OpTolerance::sums;

double numel(S s, std::size_t input) { return static_cast<double>(s.inputs[input].numel()); }
double extent(S s, std::size_t input, int axis) { return static_cast<double>(s.inputs[input].size(axis)); }

/// No arithmetic.
double none(S) { return 0; }
/// n operations per element of the first input.
template <int n>
double each(S s) {
  return n * numel(s, 0);
}
/// Of a product with input 1 [..,K,M] or its transpose, whatever the layout: rows of input 0 times 2 K M.
template <int k_axis>
double product(S s) {
  const double k = extent(s, 0, k_axis), matrices = s.inputs[1].rank() > 2 ? extent(s, 1, 0) : 1.0;
  return 2 * numel(s, 0) / k * numel(s, 1) / matrices;
}
double conv_flops(S s) { return 2 * extent(s, 0, 0) * 3 * (extent(s, 0, 3) + 1) * numel(s, 1); }
double patch_flops(S s) { return 2 * extent(s, 0, 0) * 2 * extent(s, 0, 3) / 2 * numel(s, 1); }
double attention_flops(S s) {
  const Tensor &q = s.inputs[0], &k = s.inputs[1];
  return kernels::full_attention_flops(q.size(0) * q.size(1), q.size(2), k.size(2), q.size(3)).forward;
}
double causal_attention_flops(S s) {
  const Tensor &q = s.inputs[0], &k = s.inputs[1];
  return kernels::full_attention_flops(q.size(0) * q.size(1), q.size(2), k.size(2), q.size(3), true).forward;
}
double llsa_flops(S s) {
  const Tensor& q = s.inputs[0];
  return kernels::llsa_flops(s.plan, q.size(0) * q.size(1), q.size(3)).forward;
}
double llsa_with_selection_flops(S s) {
  const Tensor& q = s.inputs[0];
  const auto flops = kernels::llsa_flops(s.plan, q.size(0) * q.size(1), q.size(3));
  return flops.forward + flops.selection;
}

double rest_flops(S s) {
  const Tensor &a = s.inputs[0], &c = s.inputs[2];
  return kernels::linear_attention_rest_flops(s.plan, a.size(0) * a.size(1), a.size(3), c.size(3)).forward;
}
double vsa_flops(S s) {
  const Tensor& q = s.inputs[0];
  const std::int64_t blocks = s.plan.count[1];
  return llsa_flops(s) +
         kernels::full_attention_flops(q.size(0) * q.size(1), blocks, blocks, q.size(3)).forward;
}
double sla_flops(S s) {
  return llsa_with_selection_flops(s) + rest_flops(s) + 2 * numel(s, 0) * extent(s, 0, 3);
}

/// x, converted to f32 if it is bf16.
Var wide(const Var& x) { return x.dtype() == DType::bf16 ? cast(x, DType::f32) : x; }

VsaOptions vsa_options(S s) { return {s.llsa.block, s.llsa.topk[0]}; }

kernels::RopeTable angles(S s) { return {s.constants[0], s.constants[1]}; }

Vars heads_of(const QkvVars& parts) { return {parts.q, parts.k, parts.v}; }

/// The function that the recompute case runs twice: uses its input more than once.
Var small_block(const Vars& x) { return x[0] + silu(x[0] * x[1]); }

namespace d = definitions;
namespace s = samples;

const OpRow kRows[] = {
    // Elementwise
    {"add", "bb", kRounding, s::pair, [](S, V x) { return Vars{add(x[0], x[1])}; }, nullptr, each<1>},
    {"add/row", "bw", kSums, s::row, [](S, V x) { return Vars{add(x[0], x[1])}; }, nullptr, each<1>},
    {"sub", "bb", kRounding, s::pair, [](S, V x) { return Vars{sub(x[0], x[1])}; }, d::sub, each<1>},
    {"sub/row", "bw", kSums, s::row, [](S, V x) { return Vars{sub(x[0], x[1])}; }, d::sub, each<1>},
    {"mul", "bb", kRounding, s::pair, [](S, V x) { return Vars{mul(x[0], x[1])}; }, nullptr, each<1>},
    {"mul/outer", "bb", kSums, s::outer, [](S, V x) { return Vars{mul(x[0], x[1])}; }, nullptr,
     [](S p) { return numel(p, 0) * extent(p, 1, 2); }},
    {"div", "bb", kSums, s::quotient, [](S, V x) { return Vars{div(x[0], x[1])}; }, d::div, each<1>},
    {"affine", "b", kRounding, s::one, [](S, V x) { return Vars{affine(x[0], -0.7, 0.3)}; }, nullptr,
     each<2>},
    {"exp", "b", kRounding, s::one, [](S, V x) { return Vars{exp(x[0])}; }, nullptr, each<1>},
    {"log", "b", kRounding, s::positive, [](S, V x) { return Vars{log(x[0])}; }, nullptr, each<1>},
    {"sqrt", "b", kRounding, s::positive, [](S, V x) { return Vars{sqrt(x[0])}; }, nullptr, each<1>},
    {"neg", "b", kExact, s::one, [](S, V x) { return Vars{neg(x[0])}; }, nullptr, each<1>},
    {"abs", "b", kExact, s::one, [](S, V x) { return Vars{abs(x[0])}; },
     [](S, V x) { return Vars{relu(x[0]) + relu(-x[0])}; }, none},
    {"square", "b", kRounding, s::one, [](S, V x) { return Vars{square(x[0])}; }, d::square, each<1>},
    {"tanh", "b", kRounding, s::one, [](S, V x) { return Vars{tanh(x[0])}; }, d::tanh, each<1>},
    {"sigmoid", "b", kRounding, s::one, [](S, V x) { return Vars{sigmoid(x[0])}; }, d::sigmoid, each<3>},
    {"relu", "b", kExact, s::one, [](S, V x) { return Vars{relu(x[0])}; }, nullptr, none},
    {"silu", "b", kRounding, s::one, [](S, V x) { return Vars{silu(x[0])}; }, d::silu, each<4>},
    {"gelu_tanh", "b", kRounding, s::one, [](S, V x) { return Vars{gelu_tanh(x[0])}; }, d::gelu_tanh,
     each<9>},
    {"gelu_erf", "b", kRounding, s::one, [](S, V x) { return Vars{gelu_erf(x[0])}; }, nullptr, each<5>},
    {"maximum", "bb", kExact, s::pair, [](S, V x) { return Vars{maximum(x[0], x[1])}; }, d::maximum, none},
    {"minimum", "bb", kExact, s::pair, [](S, V x) { return Vars{minimum(x[0], x[1])}; }, d::minimum, none},
    {"minimum/row", "bw", kSums, s::row, [](S, V x) { return Vars{minimum(x[0], x[1])}; }, d::minimum, none},
    {"clamp", "b", kExact, s::one, [](S, V x) { return Vars{clamp(x[0], d::kLow, d::kHigh)}; }, d::clamp,
     none},
    {"where", "bb", kSums, s::choice, [](S p, V x) { return Vars{where(p.constant(0), x[0], x[1])}; },
     d::where, none},
    // Reductions
    {"sum", "b", kSums, s::one, [](S, V x) { return Vars{sum(x[0], {1})}; }, nullptr, each<1>},
    {"sum/all", "w", kSums, s::one, [](S, V x) { return Vars{sum(x[0])}; }, nullptr, each<1>},
    {"mean", "w", kSums, s::one,
     [](S, V x) {
       return Vars{mean(x[0], {0, 2}, true)};
     },
     d::mean, each<1>},
    // Products
    {"matmul", "bb", kSums, s::matmul, [](S, V x) { return Vars{matmul(x[0], x[1])}; }, d::matmul,
     product<2>},
    {"matmul/trans_a", "bb", kSums, s::matmul_ta, [](S, V x) { return Vars{matmul(x[0], x[1], true)}; },
     d::matmul_ta, product<1>},
    {"matmul/trans_b", "bb", kSums, s::matmul_tb,
     [](S, V x) { return Vars{matmul(x[0], x[1], false, true)}; }, d::matmul_tb, product<2>},
    {"matmul/trans_ab", "bb", kSums, s::matmul_tab,
     [](S, V x) { return Vars{matmul(x[0], x[1], true, true)}; }, d::matmul_tab, product<1>},
    {"matmul/shared", "bw", kSums, s::matmul_shared, [](S, V x) { return Vars{matmul(x[0], x[1])}; }, nullptr,
     product<3>},
    {"linear", "bww", kSums, s::linear, [](S, V x) { return Vars{linear(x[0], x[1], x[2])}; }, d::linear,
     product<2>},
    {"mlp", "bwwww", kSums, s::mlp, [](S, V x) { return Vars{mlp(x[0], x[1], x[2], x[3], x[4])}; }, d::mlp,
     [](S p) { return 2 * product<2>(p); }},
    {"conv2d", "bww", kSums, s::conv, [](S, V x) { return Vars{conv2d(x[0], x[1], x[2], {2, 1}, {1, 1})}; },
     d::conv, conv_flops},
    {"conv2d/patches", "bww", kSums, s::patches,
     [](S, V x) { return Vars{conv2d(x[0], x[1], x[2], {2, 2}, {0, 0})}; }, d::patches, patch_flops},
    // Softmax and norms
    {"softmax", "b", kSums, s::one, [](S, V x) { return Vars{softmax(x[0])}; }, d::softmax, each<4>},
    {"log_sum_exp", "b", kSums, s::one, [](S, V x) { return Vars{log_sum_exp(x[0])}; }, d::log_sum_exp,
     each<3>},
    {"layer_norm", "bww", kSums, s::norm, [](S, V x) { return Vars{layer_norm(x[0], x[1], x[2], kEps)}; },
     d::layer_norm, each<8>},
    {"layer_norm/plain", "b", kSums, s::one, [](S, V x) { return Vars{layer_norm(x[0], {}, {}, kEps)}; },
     d::layer_norm_plain, each<6>},
    {"rms_norm", "bw", kSums, s::row, [](S, V x) { return Vars{rms_norm(x[0], x[1], kEps)}; }, d::rms_norm,
     each<4>},
    {"layer_norm_modulate", "bbb", kSums, s::modulate,
     [](S, V x) { return Vars{layer_norm_modulate(x[0], x[1], x[2], kEps)}; }, d::layer_norm_modulate,
     each<9>},
    {"gate_residual", "bbb", kSums, s::gate, [](S, V x) { return Vars{gate_residual(x[0], x[1], x[2])}; },
     d::gate_residual, each<2>},
    {"gate_norm_modulate", "bbb", kSums, s::gate_norm,
     [](S, V x) {
       const auto [r, h] = gate_norm_modulate(x[0], x[1], x[2], kEps);
       return Vars{r, h};
     },
     d::gate_norm_modulate, each<11>},
    // Heads and positions
    {"rope", "b", kRounding, s::heads, [](S p, V x) { return Vars{rope(x[0], angles(p))}; }, d::rope,
     each<3>},
    {"qkv_split", "bww", kSums, s::qkv,
     [](S p, V x) { return heads_of(qkv_split(x[0], p.heads, x[1], x[2], kEps, angles(p))); }, d::qkv_split,
     each<5>},
    {"qkv_split/plain", "b", kExact, s::qkv_plain,
     [](S p, V x) { return heads_of(qkv_split(x[0], p.heads, {}, {}, kEps, {})); }, d::qkv_split_plain, none},
    // Tokens
    {"embedding", "w", kSums, s::table, [](S p, V x) { return Vars{embedding(x[0], p.constants[0])}; },
     d::embedding, none},
    {"gather_tokens", "b", kExact, s::order,
     [](S p, V x) { return Vars{gather_tokens(x[0], p.constants[0], p.constants[1])}; }, d::gather_tokens,
     none},
    {"mean_pool", "b", kSums, s::one, [](S, V x) { return Vars{mean_pool(x[0], kPoolBlock)}; }, d::mean_pool,
     each<1>},
    // Losses
    {"mse", "ww", kSums, s::pair, [](S, V x) { return Vars{mse(x[0], x[1])}; }, d::mse, each<3>},
    {"cross_entropy", "w", kSums, s::labels,
     [](S p, V x) { return Vars{cross_entropy(x[0], p.constants[0])}; }, d::cross_entropy, each<3>},
    // Attention
    {"full_attention", "bbb", kSums, s::attention,
     [](S, V x) { return Vars{full_attention(x[0], x[1], x[2])}; }, d::full_attention, attention_flops},
    {"full_attention/cross", "bbb", kSums, s::cross,
     [](S, V x) { return Vars{full_attention(x[0], x[1], x[2])}; }, d::full_attention, attention_flops},
    {"full_attention/causal", "bbb", kSums, s::cross,
     [](S, V x) { return Vars{full_attention(x[0], x[1], x[2], {.causal = true})}; }, d::causal_attention,
     causal_attention_flops},
    {"llsa_attention", "bbb", kSums, s::llsa,
     [](S p, V x) { return Vars{llsa_attention(x[0], x[1], x[2], p.llsa)}; }, d::llsa_attention,
     llsa_with_selection_flops, false},
    {"llsa_attention/given_indices", "bbb", kSums, s::llsa,
     [](S p, V x) { return Vars{llsa_attend(x[0], x[1], x[2], {p.constants}, p.plan)}; }, d::llsa_attention,
     llsa_flops},
    {"linear_attention_rest", "bbb", kSums, s::rest,
     [](S p, V x) {
       return Vars{linear_attention_rest(wide(x[0]), wide(x[1]), wide(x[2]), p.plan.block, p.constants[0])};
     },
     d::linear_attention_rest, rest_flops},
    {"vsa_attention", "bbbb", kSums, s::vsa,
     [](S p, V x) { return Vars{vsa_attention(x[0], x[1], x[2], x[3], vsa_options(p))}; }, d::vsa_attention,
     vsa_flops, false},
    {"vsa_attention/no_gate", "bbb", kSums, s::picked_blocks,
     [](S p, V x) { return Vars{vsa_attention(x[0], x[1], x[2], {}, vsa_options(p))}; }, d::vsa_attention,
     vsa_flops, false},
    {"sla_attention", "bbbww", kSums, s::sla,
     [](S p, V x) { return Vars{sla_attention(x[0], x[1], x[2], x[3], x[4], {p.llsa.block, p.llsa.topk[0]})}; },
     d::sla_attention, sla_flops, false},
    // Views and copies
    {"reshape", "w", kExact, s::one,
     [](S, V x) { return Vars{reshape(x[0], {x[0].size(2), x[0].size(0) * x[0].size(1)})}; }, nullptr, none},
    {"transpose", "b", kExact, s::one, [](S, V x) { return Vars{transpose(x[0], 1, 2)}; }, nullptr, none},
    {"permute", "w", kExact, s::one, [](S, V x) { return Vars{permute(x[0], {2, 0, 1})}; }, nullptr, none},
    {"slice", "b", kExact, s::one, [](S, V x) { return Vars{slice(x[0], 1, 0, x[0].size(1), 2)}; }, nullptr,
     none},
    {"split", "b", kExact, s::one, [](S, V x) { return split(x[0], {1, x[0].size(1) - 1}, 1); }, nullptr,
     none},
    {"chunk", "b", kExact, s::thirds, [](S, V x) { return chunk(x[0], 3, 2); }, nullptr, none},
    {"expand", "b", kSums, s::column, [](S p, V x) { return Vars{expand(x[0], p.constants[0].shape())}; },
     nullptr, none},
    {"concat", "bb", kExact, s::parts, [](S, V x) { return Vars{concat({x[0], x[1]}, 1)}; }, nullptr, none},
    {"contiguous", "b", kExact, s::one, [](S, V x) { return Vars{contiguous(transpose(x[0], 1, 2))}; },
     nullptr, none},
    {"cast", "b", kExact, s::one, [](S, V x) { return Vars{cast(cast(x[0], DType::f64), x[0].dtype())}; },
     nullptr, none},
    {"recompute", "bw", kSums, s::row, [](S, V x) { return Vars{recompute(small_block, x)}; },
     [](S, V x) { return Vars{small_block(x)}; }, each<6>},
};

}  // namespace

std::span<const OpRow> op_table() { return kRows; }

Vars leaves_of(const OpSample& sample, bool requires_grad) {
  Vars leaves;
  for (const Tensor& input : sample.inputs) leaves.emplace_back(*sample.context, input, requires_grad);
  return leaves;
}

OpSample cast_sample(const OpSample& sample, DType dtype) {
  OpSample other = sample;
  for (Tensor& input : other.inputs) input = kernels::cast(*sample.context, input, dtype);
  for (Tensor& constant : other.constants)
    if (is_floating(constant.dtype()))
      constant = kernels::cast(*sample.context, constant, dtype == DType::f64 ? DType::f64 : DType::f32);
  return other;
}

}  // namespace llsa
