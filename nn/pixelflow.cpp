// PixelFlow's parameters and forward pass.
#include "nn/pixelflow.h"

#include <numeric>
#include <string>

#include "autograd/copy.h"
#include "autograd/elementwise.h"
#include "autograd/index.h"
#include "autograd/matmul.h"
#include "autograd/norm.h"
#include "autograd/recompute.h"
#include "autograd/view.h"
#include "kernels/copy.h"
#include "kernels/diffusion.h"
#include "nn/diffusion/cascade_sampler.h"
#include "nn/dit.h"
#include "nn/json.h"
#include "nn/morton.h"
#include "nn/patches.h"
#include "nn/rope_table.h"

namespace llsa::nn {
namespace {

constexpr std::int64_t kTimeWidth = 256;
constexpr double kEps = 1e-6;
constexpr int kLast = kCascadeStages - 1;

std::string block_name(int i) { return "transformer_blocks." + std::to_string(i); }

const LinearOptions kXavier{.weight_init = Init::xavier(), .bias_init = Init::zeros()};
const LinearOptions kZero{.weight_init = Init::zeros(), .bias_init = Init::zeros()};
const LinearOptions kSmall{.weight_init = Init::normal(0.02), .bias_init = Init::zeros()};

AttentionOptions attention_of(const PixelFlowConfig& config) {
  AttentionOptions options = attention_options(config.last_stage());
  options.norm_per_head = false;
  options.norm_eps = kEps;
  options.names = {
      .q = "q_proj", .k = "k_proj", .v = "v_proj", .out = "o_proj", .q_norm = "q_norm", .k_norm = "k_norm"};
  return options;
}

}  // namespace

DitConfig PixelFlowConfig::last_stage() const {
  DitConfig c;
  c.heads = heads;
  c.head_dim = head_dim;
  c.layers = layers;
  c.in_channels = c.out_channels = image_channels;
  c.patch = patch;
  c.height = c.width = size;
  c.classes = classes;
  c.attention = attention;
  c.llsa = llsa;
  c.vsa_gate = vsa_gate;
  return c;
}

PixelFlowConfig PixelFlowConfig::of_last_stage(const DitConfig& config) {
  PixelFlowConfig out;
  out.size = config.height;
  out.patch = config.patch;
  out.heads = config.heads;
  out.head_dim = config.head_dim;
  out.layers = config.layers;
  out.image_channels = config.in_channels;
  out.classes = config.classes;
  out.attention = config.attention;
  out.llsa = config.llsa;
  out.vsa_gate = config.vsa_gate;
  // The way back fills in what is always so in a PixelFlow. Both name the same keys in the same order.
  const auto expected = JsonObject(out.last_stage().json(), "model").entries();
  const auto given = JsonObject(config.json(), "model").entries();
  for (std::size_t i = 0; i < given.size(); ++i)
    if (given[i] != expected[i])
      throw ValueError(cat("[pixelflow] ", given[i].first, ": expected ", expected[i].second,
                           ", which a PixelFlow always has, got ", given[i].second),
                       "leave it out, or take the model \"dit\"");
  return out;
}

void PixelFlowConfig::validate() const {
  last_stage().validate();
  const int step = patch << kLast;
  if (size % step == 0) return;
  const int below = size / step * step;
  throw ValueError(cat("[pixelflow] size ", size, " is not divisible by ", step, ": the patch size ", patch,
                       " must divide an eighth of it, the side of the first stage"),
                   below > 0 ? cat("the nearest sizes are ", below, " and ", below + step)
                             : cat("the smallest size is ", step));
}

PixelFlowConfig PixelFlowConfig::resolved() const {
  validate();
  PixelFlowConfig out = *this;
  out.attention = last_stage().resolved().attention;
  return out;
}

struct PixelFlow::Block {
  Attention attention;
  RmsNorm norm;
  Mlp mlp;

  Block(Parameters& params, const std::string& name, const PixelFlowConfig& config)
      : attention(params, name + ".attn1", attention_of(config)),
        norm(params, name + ".norm3", config.channels(), kEps),
        mlp(Linear(params, name + ".mlp.fc1", config.channels(), 4 * config.channels(), kXavier),
            Linear(params, name + ".mlp.fc2", 4 * config.channels(), config.channels(), kXavier)) {}

  /// in = x [b,N,C], its modulated norm h; the gate of attention, shift and scale of the MLP's norm, each [b,C]; the gate
  /// of the MLP, shift and scale of the norm behind the block [b,3C]. Returns the next x and h.
  std::vector<Var> operator()(const std::vector<Var>& in, const kernels::RopeTable& rope, bool full) const {
    const Var x = gate_residual(in[0], attention(in[1], rope, full), in[2]);
    const Shape row{x.size(0), 1, x.size(2)};
    const Var h = norm(x) * (reshape(in[4], row) + 1.0) + reshape(in[3], row);
    const auto [next_x, next_h] = gate_norm_modulate(x, mlp(h), in[5], kEps);
    return {next_x, next_h};
  }
};

PixelFlow::PixelFlow(Context& ctx, const PixelFlowConfig& config, std::uint64_t seed, DType dtype)
    : ctx_(ctx), config_(config.resolved()), parameters_(ctx, seed, dtype) {
  const std::int64_t c = config_.channels();
  const std::int64_t p = config_.patch;
  const std::int64_t patch_size = p * p * config_.image_channels;

  // A convolution whose stride is its kernel is a linear layer on patches, so the weight has two shapes.
  const Var weight =
      parameters_.declare_joined({{"patch_embed.proj.weight", Shape{c, config_.image_channels, p, p},
                                   Init::xavier().for_fans(patch_size, c)}},
                                 Shape{c, patch_size});
  patch_embed_ = Linear(weight, parameters_.declare("patch_embed.proj.bias", Shape{c}, Init::zeros()));
  time_1_ = Linear(parameters_, "timestep_embedder.linear_1", kTimeWidth, c, kSmall);
  time_2_ = Linear(parameters_, "timestep_embedder.linear_2", c, c, kSmall);
  size_1_ = Linear(parameters_, "latent_size_embedder.linear_1", kTimeWidth, c, kSmall);
  size_2_ = Linear(parameters_, "latent_size_embedder.linear_2", c, c, kSmall);
  if (config_.classes > 0)
    class_table_ = parameters_.declare("class_embedder.embedding_table.weight", Shape{config_.classes + 1, c},
                                       Init::normal(0.02));

  // The blocks read one vector, so that their modulations are one product.
  std::vector<ParameterSpec> weights, biases;
  for (int i = 0; i < config_.layers; ++i) {
    const std::string name = block_name(i) + ".norm1.linear";
    weights.push_back({name + ".weight", Shape{6 * c, c}, Init::zeros()});
    biases.push_back({name + ".bias", Shape{6 * c}, Init::zeros()});
  }
  const std::int64_t all = 6 * c * config_.layers;
  const Var modulation_weight = parameters_.declare_joined(weights, Shape{all, c});
  modulation_ = Linear(modulation_weight, parameters_.declare_joined(biases, Shape{all}));

  for (int i = 0; i < config_.layers; ++i)
    blocks_.push_back(std::make_shared<const Block>(parameters_, block_name(i), config_));
  proj_out_1_ = Linear(parameters_, "proj_out_1", c, 2 * c, kZero);
  proj_out_2_ = Linear(parameters_, "proj_out_2", c, patch_size, kZero);
  parameters_.lay_out();

  for (int s = 0; s < kCascadeStages; ++s)
    stages_[static_cast<std::size_t>(s)] =
        make_stage(config_.side(s) / p, s < kLast || config_.attention == AttentionKind::full);
}

PixelFlow::~PixelFlow() = default;

PixelFlow::Stage PixelFlow::make_stage(std::int64_t n, bool full) const {
  Stage stage;
  const Shape shape{n * n};
  std::vector<std::int32_t> order(static_cast<std::size_t>(n * n));
  std::iota(order.begin(), order.end(), 0);
  if (!full) {
    order = morton_order(n, n);
    stage.order = kernels::from_vector(ctx_, order, shape);
    stage.inverse = kernels::from_vector(ctx_, inverse_order(order), shape);
  }
  stage.rope = rope_table(ctx_, n, n, n, n, config_.head_dim, order,
                          parameters_.dtype() == DType::f64 ? DType::f64 : DType::f32,
                          /*columns_first=*/true);
  stage.size = kernels::from_vector(ctx_, std::vector<float>{static_cast<float>(n)}, Shape{1});
  return stage;
}

int PixelFlow::stage_of(const Var& x) const {
  if (x.rank() != 4 || x.size(1) != config_.image_channels || x.size(2) != x.size(3))
    throw ShapeError(cat("[pixelflow] expected square images [b,", config_.image_channels,
                         ",side,side], got ", x.shape()));
  for (int s = 0; s < kCascadeStages; ++s)
    if (x.size(2) == config_.side(s)) return s;
  throw ShapeError(cat("[pixelflow] expected images with the side of a stage, ", config_.side(0), ", ",
                       config_.side(1), ", ", config_.side(2), " or ", config_.side(3), ", got ", x.shape()));
}

Var PixelFlow::conditioning(const Tensor& t, const Tensor& y, const Stage& stage) const {
  const DType dtype = parameters_.dtype();
  const Var time(ctx_, kernels::time_embedding(ctx_, t, dtype));           // [b,256]
  const Var size(ctx_, kernels::time_embedding(ctx_, stage.size, dtype));  // [1,256]
  Var cond = time_2_(silu(time_1_(time))) + size_2_(silu(size_1_(size)));  // [b,C]
  if (class_table_.defined()) cond = cond + embedding(class_table_, y);
  return silu(cond);
}

Var PixelFlow::forward(const Var& x, const Tensor& t, const Tensor& y) const {
  const int s = stage_of(x);
  const Stage& stage = stages_[static_cast<std::size_t>(s)];
  const std::int64_t b = x.size(0);
  if (t.rank() != 1 || t.size(0) != b)
    throw ShapeError(cat("[pixelflow] expected one time for each of ", b, " images, got ", t.shape()));
  if (config_.classes > 0 && (!y.defined() || y.rank() != 1 || y.size(0) != b))
    throw ShapeError(cat("[pixelflow] expected one class for each of ", b, " images, got ",
                         y.defined() ? y.shape().str() : std::string("none")));
  const Var cond = conditioning(t, y, stage);
  const std::int64_t c = config_.channels();
  std::vector<std::int64_t> widths = {2 * c};  // shift and scale of the first norm
  for (int i = 0; i < config_.layers; ++i) widths.insert(widths.end(), {c, c, c, 3 * c});
  const auto factors = split(concat({modulation_(cond), proj_out_1_(cond)}, 1), widths, 1);
  const auto before = chunk(factors[0], 2, 1);

  Var h = pixels_to_patches(cast(x, parameters_.dtype()), config_.patch);
  if (stage.order.defined()) h = gather_tokens(h, stage.order, stage.inverse);
  h = patch_embed_(h);  // [b,N,C]
  std::vector<Var> x_and_h = {h, layer_norm_modulate(h, before[0], before[1], kEps)};
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    const auto from = factors.begin() + static_cast<std::ptrdiff_t>(4 * i + 1);
    std::vector<Var> in = std::move(x_and_h);
    in.insert(in.end(), from, from + 4);
    const auto block = [layer = blocks_[i], rope = stage.rope, full = s < kLast](
                           const std::vector<Var>& inputs) { return (*layer)(inputs, rope, full); };
    x_and_h = recompute_ ? recompute(block, in) : block(in);
  }
  h = proj_out_2_(x_and_h[1]);  // [b,N,p p channels]
  if (stage.order.defined()) h = gather_tokens(h, stage.inverse, stage.order);
  const std::int64_t n = config_.side(s) / config_.patch;
  return patches_to_pixels(h, n, n, config_.patch);
}

PixelFlow::operator Denoiser() {
  return {.predict = [this](const Var& x, const Tensor& t, const Tensor& y) { return forward(x, t, y); },
          .channels = config_.image_channels,
          .height = config_.size,
          .width = config_.size,
          .classes = config_.classes,
          .dtype = parameters_.dtype() == DType::f64 ? DType::f64 : DType::f32,
          .cascade = true};
}

Objective PixelFlow::objective(Loader& loader, const FlowOptions& options) {
  return cascade_objective(ctx_, *this, loader, {.class_drop = options.class_drop, .seed = options.seed});
}

Tensor PixelFlow::draw(const SampleOptions& options, const Callbacks& callbacks) {
  const auto own = [&](std::int64_t side) { return side == 0 || side == config_.size; };
  if (!own(options.height) || !own(options.width))
    throw ValueError(cat("[pixelflow] expected the size that the model is made for, ", config_.size, " x ",
                         config_.size, ", got ", options.height, " x ", options.width));
  if (options.sampler != Sampler::euler || options.guided != SampleOptions().guided)
    throw ValueError(
        "[pixelflow] stages are drawn by steps of Euler, and guidance grows from stage to stage: expected "
        "the sampler euler and the guidance interval 0,1",
        "leave both out");
  return sample_cascade(ctx_, *this,
                        {.count = options.count,
                         .first = options.first,
                         .classes = options.classes,
                         .guidance = options.guidance,
                         .steps = options.steps,
                         .seed = options.seed,
                         .batch = options.batch},
                        callbacks);
}

std::vector<std::int64_t> PixelFlow::tokens_per_stage() const {
  std::vector<std::int64_t> tokens;
  for (int s = 0; s < kCascadeStages; ++s) {
    const std::int64_t n = config_.side(s) / config_.patch;
    tokens.push_back(n * n);
  }
  return tokens;
}

}  // namespace llsa::nn
