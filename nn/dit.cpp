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
#include "nn/morton.h"
#include "nn/rope_table.h"

namespace llsa::nn {
namespace {

constexpr std::int64_t kTimeWidth = 256;
constexpr double kEps1 = 1e-6;  // first norm of a block, and the output norm
constexpr double kEps2 = 1e-5;  // second norm of a block

std::string block_name(int i) { return "transformer_blocks." + std::to_string(i); }

std::vector<std::string> block_names(const DitConfig& config, const std::string& end) {
  std::vector<std::string> names;
  for (int i = 0; i < config.layers; ++i) names.push_back(block_name(i) + end);
  return names;
}

Attention::Options attention_options(const DitConfig& config) {
  return {config.heads,   config.head_dim,  config.attention_bias,
          config.qk_norm, config.attention, config.llsa};
}

}  // namespace

struct Dit::Block {
  Attention attention;
  Linear up, down;

  Block(const ParameterStore& store, const std::string& name, const DitConfig& config)
      : attention(store, name + ".attn1", attention_options(config)),
        up(store, name + ".ff.net.0.proj"),
        down(store, name + ".ff.net.2") {}

  /// in = x [b,N,C], then shift, scale, gate of attention and of the MLP, each [b,C].
  Var operator()(const std::vector<Var>& in, const kernels::RopeTable& rope) const {
    Var x = in[0];
    const Var a = attention(layer_norm_modulate(x, in[1], in[2], kEps1), rope);
    x = gate_residual(x, a, in[3]);
    const Var h = linear_gelu(layer_norm_modulate(x, in[4], in[5], kEps2), up.weight(), up.bias());
    return gate_residual(x, down(h), in[6]);
  }
};

std::vector<ParameterSpec> Dit::declare(const DitConfig& config) {
  const std::int64_t c = config.channels();
  const std::int64_t patch_area = static_cast<std::int64_t>(config.patch) * config.patch;
  const bool published = config.init == InitKind::published;
  const auto weight = [published](std::int64_t in, std::int64_t out) {
    return published ? Init::fan_in(in) : Init::xavier(in, out);
  };
  const auto bias = [published](std::int64_t in) { return published ? Init::fan_in(in) : Init::zeros(); };
  const auto zero_or = [published](std::int64_t in) { return published ? Init::fan_in(in) : Init::zeros(); };
  const auto time_weight = [published](std::int64_t in) {
    return published ? Init::fan_in(in) : Init::normal(0.02);
  };

  std::vector<ParameterSpec> specs;
  const std::int64_t patch_in = patch_area * config.in_channels;
  specs.push_back(
      {"proj_in.weight", Shape{c, config.in_channels, config.patch, config.patch}, weight(patch_in, c)});
  specs.push_back({"proj_in.bias", Shape{c}, bias(patch_in)});
  if (config.pos_embed)
    specs.push_back({"pos_embed", Shape{config.rows(), config.columns(), c}, Init::normal(0.02)});

  // The conditioning of all blocks: parameters of one kind lie one behind the other.
  const auto stacked = [&](const std::string& end, const Shape& shape, const Init& init) {
    for (int i = 0; i < config.layers; ++i)
      specs.push_back({block_name(i) + ".norm1." + end, shape, init, i > 0});
  };
  stacked("emb.timestep_embedder.linear_1.weight", Shape{c, kTimeWidth}, time_weight(kTimeWidth));
  stacked("emb.timestep_embedder.linear_1.bias", Shape{c}, bias(kTimeWidth));
  stacked("emb.timestep_embedder.linear_2.weight", Shape{c, c}, time_weight(c));
  stacked("emb.timestep_embedder.linear_2.bias", Shape{c}, bias(c));
  if (config.classes > 0)
    stacked("emb.class_embedder.embedding_table.weight", Shape{config.classes + 1, c},
            Init::normal(published ? 1.0 : config.class_std));
  stacked("linear.weight", Shape{6 * c, c}, zero_or(c));
  stacked("linear.bias", Shape{6 * c}, zero_or(c));

  for (int i = 0; i < config.layers; ++i) {
    const std::string name = block_name(i);
    Attention::declare(specs, name + ".attn1", attention_options(config), config.init);
    Linear::declare(specs, name + ".ff.net.0.proj", c, 4 * c, true, weight(c, 4 * c), bias(c));
    Linear::declare(specs, name + ".ff.net.2", 4 * c, c, true, weight(4 * c, c), bias(4 * c));
  }
  Linear::declare(specs, "proj_out_1", c, 2 * c, true, zero_or(c), zero_or(c));
  Linear::declare(specs, "proj_out_2", c, patch_area * config.out_channels, true, zero_or(c), zero_or(c));
  return specs;
}

Dit::Dit(Context& ctx, const DitConfig& config, std::uint64_t seed, DType dtype)
    : ctx_(ctx), config_(config.resolved()) {
  store_ = std::make_unique<ParameterStore>(ctx, declare(config_), seed, dtype);
  const ParameterStore& store = *store_;
  const std::int64_t c = config_.channels();
  const std::int64_t n = config_.layers;
  const auto stack = [&](const std::string& end, const Shape& shape) {
    return store.joined(block_names(config_, ".norm1." + end), shape);
  };
  time_1_ = Linear(stack("emb.timestep_embedder.linear_1.weight", Shape{n * c, kTimeWidth}),
                   stack("emb.timestep_embedder.linear_1.bias", Shape{n * c}));
  time_2_ = Linear(stack("emb.timestep_embedder.linear_2.weight", Shape{n, c, c}),
                   stack("emb.timestep_embedder.linear_2.bias", Shape{n, 1, c}));
  if (config_.classes > 0)
    class_tables_ = stack("emb.class_embedder.embedding_table.weight", Shape{n * (config_.classes + 1), c});
  modulation_ = Linear(stack("linear.weight", Shape{n, 6 * c, c}), stack("linear.bias", Shape{n, 1, 6 * c}));
  proj_in_ =
      Linear(store.joined({"proj_in.weight"}, Shape{c, store.at("proj_in.weight").value().numel() / c}),
             store.at("proj_in.bias"));
  if (config_.pos_embed) pos_embed_ = store.at("pos_embed");
  for (int i = 0; i < config_.layers; ++i)
    blocks_.push_back(std::make_shared<const Block>(store, block_name(i), config_));
  proj_out_1_ = Linear(store, "proj_out_1");
  proj_out_2_ = Linear(store, "proj_out_2");
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
                      store_->dtype() == DType::f64 ? DType::f64 : DType::f32);
  return g;
}

Var Dit::conditioning(const Tensor& t, const Tensor& y) const {
  const std::int64_t b = t.size(0);
  const std::int64_t n = config_.layers;
  const Var embedded(ctx_, kernels::time_embedding(ctx_, t, store_->dtype()));                // [b,256]
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
  const auto mods =
      chunk(reshape(transpose(all, 0, 1), Shape{b, 6 * c * config_.layers}), 6 * config_.layers, 1);

  // Pixels to tokens: patches in raster order, (channel, row, column) inside a patch.
  const Var patches =
      permute(reshape(cast(x, store_->dtype()), Shape{b, config_.in_channels, rows, p, columns, p}),
              {0, 2, 4, 1, 3, 5});
  Var h = reshape(patches, Shape{b, rows * columns, config_.in_channels * p * p});
  if (config_.reorder) h = gather_tokens(h, g.order, g.inverse);
  h = proj_in_(h);  // [b,N,C]
  if (pos_embed_.defined()) h = h + position(rows, columns, g);

  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    std::vector<Var> in = {h};
    in.insert(in.end(), mods.begin() + static_cast<std::ptrdiff_t>(6 * i),
              mods.begin() + static_cast<std::ptrdiff_t>(6 * (i + 1)));
    const auto block = [layer = blocks_[i], rope = g.rope](const std::vector<Var>& inputs) {
      return (*layer)(inputs, rope);
    };
    h = recompute_ ? recompute(block, in) : block(in);
  }

  const Var first = reshape(slice(cond, 0, 0, 1), Shape{b, c});
  const auto out = chunk(proj_out_1_(first), 2, 1);                // shift, scale
  h = proj_out_2_(layer_norm_modulate(h, out[0], out[1], kEps1));  // [b,N,p p out]
  if (config_.reorder) h = gather_tokens(h, g.inverse, g.order);
  const Var pixels =
      permute(reshape(h, Shape{b, rows, columns, p, p, config_.out_channels}), {0, 5, 1, 3, 2, 4});
  return reshape(pixels, Shape{b, config_.out_channels, rows * p, columns * p});
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
