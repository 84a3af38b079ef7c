// The DiT's parameters and forward pass.
#include "nn/dit.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "autograd/copy.h"
#include "autograd/elementwise.h"
#include "autograd/index.h"
#include "autograd/matmul.h"
#include "autograd/norm.h"
#include "autograd/recompute.h"
#include "autograd/view.h"
#include "kernels/copy.h"
#include "kernels/diffusion.h"
#include "nn/diffusion/flow.h"
#include "nn/morton.h"
#include "nn/patches.h"
#include "nn/rope_table.h"

namespace llsa::nn {
namespace {

constexpr std::int64_t kTimeWidth = 256;
constexpr double kEps1 = 1e-6;  // first norm of a block, and the output norm
constexpr double kEps2 = 1e-5;  // second norm of a block

std::string block_name(int i) { return "transformer_blocks." + std::to_string(i); }

/// The laws of the first values: how a checkpoint of the diffusers layout was made, or adaLN-Zero.
struct Laws {
  bool diffusers;

  Init weight() const { return diffusers ? Init::fan_in() : Init::xavier(); }
  Init bias() const { return diffusers ? Init::fan_in() : Init::zeros(); }
  /// Modulation and output start at zero under adaLN-Zero, so that every block starts as the identity.
  Init zero() const { return diffusers ? Init::fan_in() : Init::zeros(); }
  Init time_weight() const { return diffusers ? Init::fan_in() : Init::normal(0.02); }
};

Laws laws_of(const DitConfig& config) { return {config.init == InitKind::published}; }

}  // namespace

Objective Dit::objective(Loader& loader, const FlowOptions& options) {
  return flow_objective(ctx_, *this, loader, options);
}

Tensor Dit::draw(const SampleOptions& options, const Callbacks& callbacks) {
  return sample(ctx_, *this, options, callbacks);
}

AttentionOptions attention_options(const DitConfig& config) {
  AttentionOptions options;
  options.heads = config.heads;
  options.head_dim = config.head_dim;
  if (config.attention == AttentionKind::llsa) options.kind = config.llsa;
  if (config.attention == AttentionKind::vsa)
    options.kind = VsaOptions{config.llsa.block, config.llsa.topk[0]};
  if (config.attention == AttentionKind::sla)
    options.kind = SlaOptions{config.llsa.block, config.llsa.topk[0]};
  options.vsa_gate = config.vsa_gate;
  options.qk_norm = config.qk_norm;
  options.bias = config.attention_bias;
  options.weight_init = laws_of(config).weight();
  options.bias_init = laws_of(config).bias();
  return options;
}

struct Dit::Block {
  Attention attention;
  Mlp mlp;

  Block(Parameters& params, const std::string& name, const DitConfig& config)
      : attention(params, name + ".attn1", attention_options(config)),
        mlp(params, name + ".ff", config.channels(), 4 * static_cast<std::int64_t>(config.channels()),
            {.weight_init = laws_of(config).weight(), .bias_init = laws_of(config).bias()}) {}

  /// in = x [b,N,C], its modulated norm h, and two times [b,3C]: the gate of attention, shift and scale of the MLP's norm;
  /// the gate of the MLP, shift and scale of the norm behind the block. Returns the next x and h.
  std::vector<Var> operator()(const std::vector<Var>& in, const kernels::RopeTable& rope) const {
    const auto [x, h] = gate_norm_modulate(in[0], attention(in[1], rope), in[2], kEps2);
    const auto [next_x, next_h] = gate_norm_modulate(x, mlp(h), in[3], kEps1);
    return {next_x, next_h};
  }
};

Dit::Dit(Context& ctx, const DitConfig& config, std::uint64_t seed, DType dtype)
    : ctx_(ctx), config_(config.resolved()), parameters_(ctx, seed, dtype) {
  const std::int64_t c = config_.channels();
  const std::int64_t n = config_.layers;
  const std::int64_t patch_area = static_cast<std::int64_t>(config_.patch) * config_.patch;
  const std::int64_t patch_in = patch_area * config_.in_channels;
  const Laws laws = laws_of(config_);

  // A convolution whose stride is its kernel is a linear layer on patches, so the weight has two shapes.
  const Var proj_in_weight = parameters_.declare_joined(
      {{"proj_in.weight", Shape{c, config_.in_channels, config_.patch, config_.patch},
        laws.weight().for_fans(patch_in, c)}},
      Shape{c, patch_in});
  proj_in_ = Linear(proj_in_weight,
                    parameters_.declare("proj_in.bias", Shape{c}, laws.bias().for_fans(patch_in, c)));
  if (config_.pos_embed)
    pos_embed_ =
        parameters_.declare("pos_embed", Shape{config_.rows(), config_.columns(), c}, Init::normal(0.02));

  // The conditioning of all blocks: parameters of one kind are joined.
  const auto stack = [&](const std::string& end, const Shape& shape, const Init& init, const Shape& all) {
    std::vector<ParameterSpec> parts;
    for (int i = 0; i < config_.layers; ++i) parts.push_back({block_name(i) + ".norm1." + end, shape, init});
    return parameters_.declare_joined(parts, all);
  };
  const auto stack_linear = [&](const std::string& name, std::int64_t in, std::int64_t out,
                                const Init& weight, const Init& bias, const Shape& all_weights,
                                const Shape& all_biases) {
    const Var w = stack(name + ".weight", Shape{out, in}, weight.for_fans(in, out), all_weights);
    return Linear(w, stack(name + ".bias", Shape{out}, bias.for_fans(in, out), all_biases));
  };
  time_1_ = stack_linear("emb.timestep_embedder.linear_1", kTimeWidth, c, laws.time_weight(), laws.bias(),
                         Shape{n * c, kTimeWidth}, Shape{n * c});
  time_2_ = stack_linear("emb.timestep_embedder.linear_2", c, c, laws.time_weight(), laws.bias(),
                         Shape{n, c, c}, Shape{n, 1, c});
  if (config_.classes > 0)
    class_tables_ =
        stack("emb.class_embedder.embedding_table.weight", Shape{config_.classes + 1, c},
              Init::normal(laws.diffusers ? 1.0 : config_.class_std), Shape{n * (config_.classes + 1), c});
  modulation_ =
      stack_linear("linear", c, 6 * c, laws.zero(), laws.zero(), Shape{n, 6 * c, c}, Shape{n, 1, 6 * c});

  for (int i = 0; i < config_.layers; ++i)
    blocks_.push_back(std::make_shared<const Block>(parameters_, block_name(i), config_));
  const LinearOptions zero{.weight_init = laws.zero(), .bias_init = laws.zero()};
  proj_out_1_ = Linear(parameters_, "proj_out_1", c, 2 * c, zero);
  proj_out_2_ = Linear(parameters_, "proj_out_2", c, patch_area * config_.out_channels, zero);
  parameters_.lay_out();
}

Dit::~Dit() = default;

const Dit::Grid& Dit::grid(std::int64_t rows, std::int64_t columns) {
  const auto [at, is_new] = grids_.try_emplace({rows, columns});
  if (!is_new) return at->second;
  std::vector<std::int32_t> order(static_cast<std::size_t>(rows * columns));
  if (config_.reorder)
    order = morton_order(rows, columns);
  else
    std::iota(order.begin(), order.end(), 0);
  Grid& g = at->second;
  const Shape shape{rows * columns};
  g.order = kernels::from_vector(ctx_, order, shape);
  g.inverse = kernels::from_vector(ctx_, inverse_order(order), shape);
  const std::int64_t rope_rows = config_.rope_size ? (*config_.rope_size)[0] : config_.rows();
  const std::int64_t rope_columns = config_.rope_size ? (*config_.rope_size)[1] : config_.columns();
  g.rope = rope_table(ctx_, rows, columns, rope_rows, rope_columns, config_.head_dim, order,
                      parameters_.dtype() == DType::f64 ? DType::f64 : DType::f32);
  return g;
}

Var Dit::conditioning(const Tensor& t, const Tensor& y) const {
  const std::int64_t b = t.size(0);
  const std::int64_t n = config_.layers;
  const Var embedded(ctx_, kernels::time_embedding(ctx_, t, parameters_.dtype()));            // [b,256]
  const Var first = reshape(silu(time_1_(embedded)), Shape{b, n, config_.channels()});        // [b,n,C]
  Var cond = matmul(transpose(first, 0, 1), time_2_.weight(), false, true) + time_2_.bias();  // [n,b,C]
  if (config_.classes > 0)
    cond = cond + embedding(class_tables_, kernels::class_rows(ctx_, y, config_.classes + 1, config_.layers));
  return silu(cond);
}

Var Dit::position(std::int64_t rows, std::int64_t columns, const Grid& grid) const {
  const Var raster = reshape(resize_position_embedding(pos_embed_, rows, columns),
                             Shape{1, rows * columns, config_.channels()});
  return config_.reorder ? gather_tokens(raster, grid.order, grid.inverse) : raster;
}

Var Dit::forward(const Var& x, const Tensor& t, const Tensor& y) {
  if (x.rank() != 4 || x.size(1) != config_.in_channels)
    throw ShapeError(
        cat("[dit] expected images [b,", config_.in_channels, ",height,width], got ", x.shape()));
  const std::int64_t b = x.size(0);
  if (t.rank() != 1 || t.size(0) != b)
    throw ShapeError(cat("[dit] expected one time for each of ", b, " images, got ", t.shape()));
  if (config_.classes > 0 && (!y.defined() || y.rank() != 1 || y.size(0) != b))
    throw ShapeError(cat("[dit] expected one class for each of ", b, " images, got ",
                         y.defined() ? y.shape().str() : std::string("none")));
  check_sides(x.size(2), x.size(3), config_.patch);
  const std::int64_t p = config_.patch;
  const std::int64_t rows = x.size(2) / p;
  const std::int64_t columns = x.size(3) / p;
  const std::int64_t c = config_.channels();
  const Grid& g = grid(rows, columns);

  const Var cond = conditioning(t, y);                                                   // [n,b,C]
  const Var all = matmul(cond, modulation_.weight(), false, true) + modulation_.bias();  // [n,b,6C]
  const Var last = proj_out_1_(reshape(slice(cond, 0, 0, 1), Shape{b, c}));              // [b,2C]
  const Var mods = concat({reshape(transpose(all, 0, 1), Shape{b, 6 * c * config_.layers}), last}, 1);
  // Shift and scale of the first norm, then for each branch its gate and shift and scale of the norm behind it.
  std::vector<std::int64_t> widths(2 * blocks_.size() + 1, 3 * c);
  widths[0] = 2 * c;
  const auto factors = split(mods, widths, 1);
  const auto before = chunk(factors[0], 2, 1);

  Var h = pixels_to_patches(cast(x, parameters_.dtype()), p);
  if (config_.reorder) h = gather_tokens(h, g.order, g.inverse);
  h = proj_in_(h);  // [b,N,C]
  if (pos_embed_.defined()) h = h + position(rows, columns, g);

  std::vector<Var> x_and_h = {h, layer_norm_modulate(h, before[0], before[1], kEps1)};
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    const std::vector<Var> in = {x_and_h[0], x_and_h[1], factors[2 * i + 1], factors[2 * i + 2]};
    const auto block = [layer = blocks_[i], rope = g.rope](const std::vector<Var>& inputs) {
      return (*layer)(inputs, rope);
    };
    x_and_h = recompute_ ? recompute(block, in) : block(in);
  }
  h = proj_out_2_(x_and_h[1]);  // [b,N,p p out]
  if (config_.reorder) h = gather_tokens(h, g.inverse, g.order);
  return patches_to_pixels(h, rows, columns, p);
}

Dit::operator Denoiser() {
  const auto flow = [this](const Var& x, const Tensor& t, const Tensor& y) {
    const Var output = forward(x, t, y);
    return config_.pred_x0 ? flow_of_image(output, x, t) : output;
  };
  return {.predict = flow,
          .channels = config_.in_channels,
          .height = config_.height,
          .width = config_.width,
          .classes = config_.classes,
          .dtype = parameters_.dtype() == DType::f64 ? DType::f64 : DType::f32,
          .noise_scale = noise_scale_};
}

namespace {

/// Weights [to,from] of linear interpolation between cell centres.
Tensor interpolation(Context& ctx, std::int64_t from, std::int64_t to, DType dtype) {
  std::vector<double> weights(static_cast<std::size_t>(to * from), 0.0);
  for (std::int64_t i = 0; i < to; ++i) {
    const double centre =
        (static_cast<double>(i) + 0.5) * static_cast<double>(from) / static_cast<double>(to) - 0.5;
    const double at = std::min(std::max(centre, 0.0), static_cast<double>(from - 1));
    const auto below = static_cast<std::int64_t>(at);
    const std::int64_t above = std::min(below + 1, from - 1);
    weights[static_cast<std::size_t>(i * from + below)] += 1.0 - (at - static_cast<double>(below));
    weights[static_cast<std::size_t>(i * from + above)] += at - static_cast<double>(below);
  }
  return kernels::cast(ctx, kernels::from_vector(ctx, weights, Shape{to, from}), dtype);
}

}  // namespace

Var resize_position_embedding(const Var& grid, std::int64_t rows, std::int64_t columns) {
  if (grid.rank() != 3)
    throw ShapeError(cat("[resize_position_embedding] expected [rows,columns,C], got ", grid.shape()));
  const std::int64_t old_rows = grid.size(0);
  const std::int64_t old_columns = grid.size(1);
  const std::int64_t c = grid.size(2);
  Context& ctx = grid.context();
  Var out = grid;
  if (rows != old_rows) {
    const Var weights(ctx, interpolation(ctx, old_rows, rows, grid.dtype()));
    out =
        reshape(matmul(weights, reshape(out, Shape{old_rows, old_columns * c})), Shape{rows, old_columns, c});
  }
  if (columns != old_columns)
    out = matmul(Var(ctx, interpolation(ctx, old_columns, columns, grid.dtype())), out);
  return out;
}

}  // namespace llsa::nn
