// The golden PixelFlow: a two-layer model under the published names, computed by an independent program.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "autograd/elementwise.h"
#include "autograd/reduce.h"
#include "core/safetensors.h"
#include "kernels/copy.h"
#include "nn/diffusion/cascade_sampler.h"
#include "nn/pixelflow.h"
#include "tests/support/golden.h"
#include "tests/support/tensors.h"

namespace llsa::nn {

namespace {

// Of the largest value of a tensor. Model times up to 999 turn one rounding of a frequency into 6e-5 of the embedding.
constexpr double kTolerance = 1e-5;
constexpr double kGradientTolerance = 1e-4;

struct Golden {
  SafetensorsFile file{LLSA_SOURCE_DIR "/tests/golden/pixelflow.safetensors"};
  Context ctx{2};
  PixelFlow model;

  explicit Golden(AttentionKind kind = AttentionKind::full) : model(ctx, config(kind), 0) {
    for (const Parameter& p : model.parameters().all())
      kernels::copy(ctx, at("w." + p.name), model.parameters().view(model.parameters().flat(), p));
  }

  int number(const char* key) const { return std::stoi(file.metadata().at(key)); }

  PixelFlowConfig config(AttentionKind kind) const {
    PixelFlowConfig c;
    c.size = number("size");
    c.patch = number("patch");
    c.heads = number("heads");
    c.head_dim = number("head_dim");
    c.layers = number("layers");
    c.classes = number("classes");
    c.attention = kind;
    c.llsa = {number("block"), {number("topk")}, number("levels"), -1, true};
    return c;
  }

  /// Copied, since the file is mapped read-only.
  Tensor at(const std::string& name) { return kernels::clone(ctx, file.at(name)); }
  Tensor at(const std::string& name, int stage) { return at(name + std::to_string(stage)); }

  std::vector<FlowBatch> batch() {
    std::vector<FlowBatch> stages;
    for (int s = 0; s < kCascadeStages; ++s) {
      const auto part = [&](const char* name) { return at(name).slice(0, 2 * s, 2 * s + 2); };
      stages.push_back(make_stage_batch(ctx, s, part("x"), at("eps", s), part("idx")));
      stages.back().y = part("y");
    }
    return stages;
  }

  double error(const Tensor& got, const std::string& name) {
    return test::relative_error(ctx, got, at(name));
  }
};

}  // namespace

TEST_SUITE_BEGIN("nn/pixelflow_golden");

TEST_CASE("parameter names and shapes are those of the file") {
  Golden golden;
  test::check_parameters(golden.model.parameters(), golden.file);
}

TEST_CASE("images, targets and times of the stages") {
  Golden golden;
  const auto stages = golden.batch();
  for (int s = 0; s < kCascadeStages; ++s) {
    CAPTURE(s);
    const FlowBatch& stage = stages[static_cast<std::size_t>(s)];
    CHECK(golden.error(stage.x_t, "xtau" + std::to_string(s)) <= 1e-6);
    CHECK(golden.error(stage.target, "target" + std::to_string(s)) <= 1e-6);
    CHECK(test::same_bits(golden.ctx, stage.t, golden.at("T").slice(0, 2 * s, 2 * s + 2)));
  }
}

TEST_CASE("outputs, losses and all gradients, with full attention and with LLSA in the last stage") {
  for (const AttentionKind kind : {AttentionKind::full, AttentionKind::llsa}) {
    CAPTURE(name_of(kind));
    Golden golden(kind);
    Context& ctx = golden.ctx;
    const std::string prefix = kind == AttentionKind::llsa ? "l." : "";
    const auto stages = golden.batch();
    for (int s = 0; s < kCascadeStages; ++s) {
      CAPTURE(s);
      const FlowBatch& stage = stages[static_cast<std::size_t>(s)];
      const Var v = golden.model.forward(Var(ctx, stage.x_t), stage.t, stage.y);
      CHECK(golden.error(v.value(), (s == 3 ? prefix : "") + "v" + std::to_string(s)) <= kTolerance);
      const Var items = mean(square(v - Var(ctx, stage.target)), {1, 2, 3});
      const Tensor expected = golden.at(prefix + "items").slice(0, 2 * s, 2 * s + 2);
      CHECK(test::relative_error(ctx, items.value(), expected) <= kTolerance);
    }
    const Var loss = cascade_loss(ctx, golden.model, stages);
    CHECK(ctx.item(loss.value()) ==
          doctest::Approx(ctx.item(golden.at(prefix + "loss"))).epsilon(kTolerance));
    backward(loss);
    for (const Parameter& p : golden.model.parameters().all()) {
      CAPTURE(p.name);
      CHECK(golden.error(p.var.grad(), prefix + "g." + p.name) <= kGradientTolerance);
    }
  }
}

TEST_CASE("recomputed blocks give the same bits") {
  Golden golden(AttentionKind::llsa);
  Context& ctx = golden.ctx;
  Parameters& store = golden.model.parameters();
  backward(cascade_loss(ctx, golden.model, golden.batch()));
  const Tensor plain = kernels::clone(ctx, store.flat_grad());
  store.zero_grad();
  golden.model.set_recompute(true);
  backward(cascade_loss(ctx, golden.model, golden.batch()));
  CHECK(test::same_bits(ctx, store.flat_grad(), plain));
}

TEST_CASE("guided sampling: every state") {
  Golden golden;
  Context& ctx = golden.ctx;
  const double guidance = std::stod(golden.file.metadata().at("guidance"));
  Tensor x = golden.at("start");
  for (int s = 0; s < kCascadeStages; ++s) {
    CAPTURE(s);
    if (s > 0) {
      const Tensor noise = square_noise(ctx, golden.at("z", s));
      CHECK(golden.error(noise, "n" + std::to_string(s)) <= 1e-6);
      x = enter_stage(ctx, s, x, noise);
      CHECK(golden.error(x, "e" + std::to_string(s)) <= kTolerance);
    }
    int step = 0;
    const auto compare = [&](const Tensor& state) {
      CHECK(golden.error(state, cat("r", s, ".", step++)) <= kTolerance);
      return true;
    };
    x = cascade_euler(ctx, golden.model, s, x, golden.at("ys"), guidance, 2, compare);
    CHECK(step == 2);
  }
}

TEST_SUITE_END();

}  // namespace llsa::nn
