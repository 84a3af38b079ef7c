// Definitions of fused ops in ordinary ops. Written for reading, not for speed.

#include "autograd/table/definitions.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "autograd/ops.h"
#include "kernels/copy.h"

namespace llsa::definitions {
namespace {

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

/// Rows of the identity by number: [..., below].
Var one_hot(const OpSample& sample, const Tensor& numbers, std::int64_t below, DType dtype) {
  const auto ids = kernels::to_vector<std::int32_t>(*sample.context, numbers);
  std::vector<float> rows(ids.size() * at(below), 0.0f);
  for (std::size_t i = 0; i < ids.size(); ++i) rows[i * at(below) + at(ids[i])] = 1.0f;
  std::vector<std::int64_t> shape = numbers.shape().extents();
  shape.push_back(below);
  const Tensor tensor = kernels::from_vector(*sample.context, rows, Shape(shape));
  return Var(*sample.context, kernels::cast(*sample.context, tensor, dtype));
}

/// x with one more axis of extent 1.
Var with_axis(const Var& x, int axis) {
  std::vector<std::int64_t> shape = x.shape().extents();
  shape.insert(shape.begin() + axis, 1);
  return reshape(x, shape);
}

Var normalized(const Var& x) {
  const Var centred = llsa::sub(x, llsa::mean(x, {-1}, true));
  return llsa::div(centred, sqrt(llsa::mean(llsa::square(centred), {-1}, true) + kEps));
}

Var rms_normalized(const Var& x, const Var& weight) {
  const Var y = llsa::div(x, sqrt(llsa::mean(llsa::square(x), {-1}, true) + kEps));
  return weight.defined() ? y * weight : y;
}

Var rotated(const Var& x, const Var& cos_table, const Var& sin_table) {
  const std::int64_t d = x.size(3);
  const Var even = slice(x, 3, 0, d, 2);
  const Var odd = slice(x, 3, 1, d, 2);
  const Var first = even * cos_table - odd * sin_table;
  const Var second = even * sin_table + odd * cos_table;
  return reshape(concat({with_axis(first, 4), with_axis(second, 4)}, 4), x.shape());
}

/// [b,N,HD] -> [b,H,N,D]
Var head_major(const Var& x, int heads) {
  const std::int64_t d = x.size(2) / heads;
  return permute(reshape(x, {x.size(0), x.size(1), heads, d}), {0, 2, 1, 3});
}

Var attended(const Var& q, const Var& k, const Var& v, const Var& bias) {
  Var scores = llsa::matmul(q, k, false, true) * (1.0 / std::sqrt(static_cast<double>(q.size(3))));
  if (bias.defined()) scores = scores + bias;
  return llsa::matmul(llsa::softmax(scores), v);
}

}  // namespace

Vars sub(const OpSample&, const Vars& x) { return {add(x[0], neg(x[1]))}; }
Vars div(const OpSample&, const Vars& x) { return {x[0] * exp(neg(log(x[1])))}; }
Vars maximum(const OpSample&, const Vars& x) { return {x[1] + relu(x[0] - x[1])}; }
Vars minimum(const OpSample&, const Vars& x) { return {x[1] - relu(x[1] - x[0])}; }
Vars clamp(const OpSample&, const Vars& x) { return {kLow + relu(x[0] - kLow) - relu(x[0] - kHigh)}; }
Vars where(const OpSample& sample, const Vars& x) {
  const Var mask = cast(sample.constant(0), x[0].dtype());
  return {mask * x[0] + (1.0 - mask) * x[1]};
}
Vars square(const OpSample&, const Vars& x) { return {x[0] * x[0]}; }
Vars tanh(const OpSample&, const Vars& x) { return {llsa::sigmoid(x[0] * 2.0) * 2.0 - 1.0}; }
Vars silu(const OpSample&, const Vars& x) { return {x[0] * llsa::sigmoid(x[0])}; }

Vars sigmoid(const OpSample&, const Vars& x) {
  const Var e = exp(x[0]);
  return {e / (e + 1.0)};
}

Vars gelu_tanh(const OpSample&, const Vars& x) {
  const Var cube = x[0] * x[0] * x[0];
  const Var u = (x[0] + cube * 0.044715) * 0.79788456080286535588;
  return {x[0] * 0.5 * (llsa::tanh(u) + 1.0)};
}

Vars mean(const OpSample&, const Vars& x) {
  const double n = static_cast<double>(x[0].size(0) * x[0].size(2));
  return {sum(x[0], {0, 2}, true) * (1.0 / n)};
}

Vars matmul(const OpSample&, const Vars& x) {
  return {sum(with_axis(x[0], 3) * with_axis(x[1], 1), {2})};  // [b,N,C,1] [b,1,C,M]
}
Vars matmul_ta(const OpSample& sample, const Vars& x) {
  return matmul(sample, {transpose(x[0], 1, 2), x[1]});
}
Vars matmul_tb(const OpSample& sample, const Vars& x) {
  return matmul(sample, {x[0], transpose(x[1], 1, 2)});
}
Vars matmul_tab(const OpSample& sample, const Vars& x) {
  return matmul(sample, {transpose(x[0], 1, 2), transpose(x[1], 1, 2)});
}

Vars linear(const OpSample&, const Vars& x) { return {llsa::matmul(x[0], transpose(x[1], 0, 1)) + x[2]}; }
Vars mlp(const OpSample&, const Vars& x) {
  return {llsa::linear(llsa::gelu_tanh(llsa::linear(x[0], x[1], x[2])), x[3], x[4])};
}

// Stride {2, 1}, padding {1, 1}.
Vars conv(const OpSample& sample, const Vars& x) {
  const std::int64_t b = x[0].size(0), c = x[0].size(1), h = x[0].size(2), w = x[0].size(3);
  const std::int64_t out_h = (h + 2 - 3) / 2 + 1, out_w = w + 2 - 2 + 1;
  const Var rows(*sample.context, sample.context->zeros({b, c, 1, w}, x[0].dtype()));
  const Var columns(*sample.context, sample.context->zeros({b, c, h + 2, 1}, x[0].dtype()));
  const Var padded = concat({columns, concat({rows, x[0], rows}, 2), columns}, 3);
  Var y;
  for (std::int64_t i = 0; i < 3; ++i)
    for (std::int64_t j = 0; j < 2; ++j) {
      const Var under = slice(slice(padded, 2, i, i + 2 * out_h - 1, 2), 3, j, j + out_w);  // [b,c,p,q]
      const Var weight = reshape(slice(slice(x[1], 2, i, i + 1), 3, j, j + 1), {x[1].size(0), c});
      const Var part = llsa::matmul(weight, reshape(under, {b, c, out_h * out_w}));  // [b,o,pq]
      y = y.defined() ? y + part : part;
    }
  y = y + reshape(x[2], {x[2].size(0), 1});
  return {reshape(y, {b, x[1].size(0), out_h, out_w})};
}

// Kernel and stride {2, 2}.
Vars patches(const OpSample&, const Vars& x) {
  const std::int64_t b = x[0].size(0), c = x[0].size(1), h = x[0].size(2) / 2, w = x[0].size(3) / 2;
  const Var split = permute(reshape(x[0], {b, c, h, 2, w, 2}), {0, 2, 4, 1, 3, 5});  // [b,h,w,c,2,2]
  const Var y = llsa::linear(reshape(split, {b, h * w, c * 4}), reshape(x[1], {-1, c * 4}), x[2]);
  return {reshape(transpose(y, 1, 2), {b, x[1].size(0), h, w})};
}

Vars softmax(const OpSample&, const Vars& x) {
  const Var e = exp(x[0]);
  return {e / sum(e, {-1}, true)};
}
Vars log_sum_exp(const OpSample&, const Vars& x) { return {log(sum(exp(x[0]), {-1}))}; }

Vars layer_norm(const OpSample&, const Vars& x) { return {normalized(x[0]) * x[1] + x[2]}; }
Vars layer_norm_plain(const OpSample&, const Vars& x) { return {normalized(x[0])}; }
Vars rms_norm(const OpSample&, const Vars& x) { return {rms_normalized(x[0], x[1])}; }
Vars layer_norm_modulate(const OpSample&, const Vars& x) {
  return {normalized(x[0]) * (with_axis(x[2], 1) + 1.0) + with_axis(x[1], 1)};
}
Vars gate_residual(const OpSample&, const Vars& x) { return {x[0] + with_axis(x[2], 1) * x[1]}; }
Vars gate_norm_modulate(const OpSample&, const Vars& x) {
  const auto factors = chunk(with_axis(x[2], 1), 3, 2);  // gate, shift, scale
  const Var r = x[0] + factors[0] * x[1];
  return {r, normalized(r) * (factors[2] + 1.0) + factors[1]};
}

Vars rope(const OpSample& sample, const Vars& x) {
  return {rotated(x[0], sample.constant(0), sample.constant(1))};
}

Vars qkv_split(const OpSample& sample, const Vars& x) {
  const auto parts = chunk(x[0], 3, 2);
  const auto turned = [&](const Var& part, const Var& weight) {
    return rotated(rms_normalized(head_major(part, sample.heads), weight), sample.constant(0),
                   sample.constant(1));
  };
  return {turned(parts[0], x[1]), turned(parts[1], x[2]), head_major(parts[2], sample.heads)};
}

Vars qkv_split_plain(const OpSample& sample, const Vars& x) {
  Vars heads;
  for (const Var& part : chunk(x[0], 3, 2)) heads.push_back(head_major(part, sample.heads));
  return heads;
}

Vars embedding(const OpSample& sample, const Vars& x) {
  return {llsa::matmul(one_hot(sample, sample.constants[0], x[0].size(0), x[0].dtype()), x[0])};
}

Vars gather_tokens(const OpSample& sample, const Vars& x) {
  return {llsa::matmul(one_hot(sample, sample.constants[0], x[0].size(1), x[0].dtype()), x[0])};
}

Vars mean_pool(const OpSample&, const Vars& x) {
  std::vector<Var> blocks;
  const std::int64_t n = x[0].size(-2);
  for (std::int64_t begin = 0; begin < n; begin += kPoolBlock)
    blocks.push_back(llsa::mean(slice(x[0], -2, begin, std::min(n, begin + kPoolBlock)), {-2}, true));
  return {concat(blocks, -2)};
}

Vars mse(const OpSample&, const Vars& x) { return {llsa::mean(llsa::square(x[0] - x[1]))}; }

Vars cross_entropy(const OpSample& sample, const Vars& x) {
  const Var chosen = sum(x[0] * one_hot(sample, sample.constants[0], x[0].size(1), x[0].dtype()), {1});
  return {llsa::mean(llsa::log_sum_exp(x[0]) - chosen)};
}

Vars full_attention(const OpSample&, const Vars& x) { return {attended(x[0], x[1], x[2], Var())}; }

Vars causal_attention(const OpSample& sample, const Vars& x) {
  const std::int64_t n = x[0].size(2), m = x[1].size(2);
  std::vector<double> bias(at(n * m), 0.0);
  for (std::int64_t t = 0; t < n; ++t)
    for (std::int64_t s = t + m - n + 1; s < m; ++s)
      bias[at(t * m + s)] = -std::numeric_limits<double>::infinity();
  const Tensor table = kernels::from_vector(*sample.context, bias, {n, m});
  const Var constant(*sample.context, kernels::cast(*sample.context, table, x[0].dtype()));
  return {attended(x[0], x[1], x[2], constant)};
}

Vars llsa_attention(const OpSample& sample, const Vars& x) {
  const LlsaPlan& plan = sample.plan;
  const std::int64_t n = plan.tokens, rows = x[0].size(0) * x[0].size(1);

  // Keys and values of all levels side by side; level l begins at column start[l].
  std::vector<Var> keys = {x[1]}, values = {x[2]};
  std::vector<std::int64_t> start = {0};
  std::int64_t columns = n, span = 1;
  for (int level = 1; level <= plan.levels; ++level) {
    span *= plan.block;
    keys.push_back(llsa::mean_pool(x[1], span));
    values.push_back(llsa::mean_pool(x[2], span));
    start.push_back(columns);
    columns += plan.count[at(level)];
  }

  std::vector<double> bias(at(rows * n * columns), -std::numeric_limits<double>::infinity());
  std::vector<std::vector<std::int32_t>> picks;
  for (const Tensor& level : sample.constants)
    picks.push_back(kernels::to_vector<std::int32_t>(*sample.context, level));
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t query = 0; query < n; ++query) {
      double* row = bias.data() + (r * n + query) * columns;
      const auto attend = [&](int level, std::int64_t token) {
        const bool weighted = level > 0 && plan.reweight;
        const double weight = weighted ? static_cast<double>(plan.covered(level, token)) : 1.0;
        row[start[at(level)] + token] = std::log(weight);
      };
      if (plan.levels == 0 || plan.attends(plan.levels))
        for (std::int64_t token = 0; token < plan.count[at(plan.levels)]; ++token) attend(plan.levels, token);
      std::int64_t node = query;
      for (int level = 0; level < plan.levels; ++level) {  // children of the picks made one level up
        node /= plan.block;
        if (!plan.attends(level)) continue;
        const std::int64_t width = plan.width[at(level)];
        const std::int32_t* list = picks[at(level)].data() + (r * plan.count[at(level) + 1] + node) * width;
        for (std::int64_t i = 0; i < width && list[i] >= 0; ++i) {
          const std::int64_t first = list[i] * static_cast<std::int64_t>(plan.block);
          const std::int64_t last = std::min(first + plan.block, plan.count[at(level)]);
          for (std::int64_t token = first; token < last; ++token) attend(level, token);
        }
      }
    }
  const Tensor table = kernels::from_vector(*sample.context, bias, {x[0].size(0), x[0].size(1), n, columns});
  const Var constant(*sample.context, kernels::cast(*sample.context, table, x[0].dtype()));
  return {attended(x[0], concat(keys, 2), concat(values, 2), constant)};
}

namespace {

/// [b,H,N,N] of one number for pairs of a token and a token of a block that its block picked, another number for
/// all other pairs.
Var by_pick(const OpSample& sample, double picked, double other, DType dtype) {
  const LlsaPlan& plan = sample.plan;
  const Tensor& table = sample.constants[0];
  const std::int64_t n = plan.tokens, rows = table.size(0) * table.size(1), width = table.size(3);
  const auto picks = kernels::to_vector<std::int32_t>(*sample.context, table);
  std::vector<double> values(at(rows * n * n), other);
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t t = 0; t < n; ++t)
      for (std::int64_t e = 0; e < width; ++e) {
        const std::int64_t first = picks[at((r * plan.count[1] + t / plan.block) * width + e)] *
                                   static_cast<std::int64_t>(plan.block);
        for (std::int64_t s = first; s < std::min(first + plan.block, n); ++s)
          values[at((r * n + t) * n + s)] = picked;
      }
  const Tensor tensor = kernels::from_vector(*sample.context, values, {table.size(0), table.size(1), n, n});
  return Var(*sample.context, kernels::cast(*sample.context, tensor, dtype));
}

/// Softmax attention over the tokens of the picked blocks.
Var picked_attention(const OpSample& sample, const Vars& x) {
  return attended(x[0], x[1], x[2],
                  by_pick(sample, 0.0, -std::numeric_limits<double>::infinity(), x[0].dtype()));
}

}  // namespace

Vars linear_attention_rest(const OpSample& sample, const Vars& x) {
  return {
      llsa::matmul(llsa::matmul(x[0], x[1], false, true) * by_pick(sample, 0.0, 1.0, x[0].dtype()), x[2])};
}

Vars vsa_attention(const OpSample& sample, const Vars& x) {
  const LlsaPlan& plan = sample.plan;
  Vars means;
  for (int i = 0; i < 3; ++i) means.push_back(llsa::mean_pool(x[at(i)], plan.block));
  const Var coarse = attended(means[0], means[1], means[2], Var());  // [b,H,n,D]
  std::vector<Var> rows;
  for (std::int64_t t = 0; t < plan.tokens; ++t)
    rows.push_back(slice(coarse, 2, t / plan.block, t / plan.block + 1));
  const Var repeated = concat(rows, 2);
  return {picked_attention(sample, x) + (x.size() > 3 ? repeated * x[3] : repeated)};
}

Vars sla_attention(const OpSample& sample, const Vars& x) {
  const Var weights = llsa::matmul(llsa::softmax(x[0]), llsa::softmax(x[1]), false, true) *
                      by_pick(sample, 0.0, 1.0, x[0].dtype());
  const bool all = sample.plan.width[0] == sample.plan.count[1];
  const Var rest = all ? x[2] * 0.0 : llsa::matmul(weights, x[2]) / sum(weights, {3}, true);
  return {picked_attention(sample, x) + llsa::linear(rest, x[3], x[4])};
}

}  // namespace llsa::definitions
