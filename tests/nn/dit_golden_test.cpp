// The golden DiT: a two-layer model in the published layout, computed by an independent program.
#include <doctest/doctest.h>

#include <cmath>
#include <string>

#include "core/safetensors.h"
#include "kernels/copy.h"
#include "kernels/diffusion.h"
#include "kernels/elementwise.h"
#include "nn/diffusion/flow.h"
#include "nn/diffusion/sampler.h"
#include "nn/dit.h"
#include "nn/optim.h"
#include "tests/support/golden.h"
#include "tests/support/tensors.h"

namespace llsa::nn {

namespace {

constexpr double kTolerance = 1e-4;

struct Golden {
  SafetensorsFile file{LLSA_SOURCE_DIR "/tests/golden/dit.safetensors"};
  Context ctx{2};
  Dit model{ctx, config(), 0};

  Golden() {
    for (const Parameter& p : model.parameters().all())
      kernels::copy(ctx, at("w." + p.name), model.parameters().view(model.parameters().flat(), p));
  }

  DitConfig config() const {
    const auto number = [this](const char* key) { return std::stoi(file.metadata().at(key)); };
    DitConfig c;
    c.height = c.width = number("size");
    c.patch = number("patch");
    c.heads = number("heads");
    c.head_dim = number("head_dim");
    c.layers = number("layers");
    c.classes = number("classes");
    c.attention = AttentionKind::llsa;
    c.llsa = {number("block"), {number("topk")}, number("levels"), -1, true};
    return c;
  }

  /// Copied, since the file is mapped read-only.
  Tensor at(const std::string& name) { return kernels::clone(ctx, file.at(name)); }

  FlowBatch batch() {
    FlowBatch b;
    b.x_t = at("x_t");
    b.y = at("y");
    b.t = kernels::affine(ctx, at("sigma"), 1000.0, 0.0);
    const double scale = std::stod(file.metadata().at("noise_rescale"));
    b.target = kernels::sub(ctx, kernels::affine(ctx, at("eps"), scale, 0.0), at("x0"));
    return b;
  }
};

}  // namespace

TEST_SUITE_BEGIN("nn/dit_golden");

TEST_CASE("parameter names and shapes are those of the file") {
  Golden golden;
  test::check_parameters(golden.model.parameters(), golden.file);
}

TEST_CASE("noisy images") {
  Golden golden;
  const auto pair = kernels::flow_mix(golden.ctx, golden.at("x0"), golden.at("eps"), golden.at("sigma"),
                                      std::stod(golden.file.metadata().at("noise_rescale")));
  CHECK(test::relative_error(golden.ctx, pair.x_t, golden.at("x_t")) <= 1e-6);
}

TEST_CASE("output, loss and all gradients, then the clipped AdamW step") {
  Golden golden;
  Context& ctx = golden.ctx;
  Parameters& store = golden.model.parameters();
  const FlowBatch batch = golden.batch();
  const Var v = golden.model.forward(Var(ctx, batch.x_t), batch.t, batch.y);
  CHECK(test::relative_error(ctx, v.value(), golden.at("v")) <= kTolerance);

  const Var loss = flow_loss(golden.ctx, golden.model, batch);
  CHECK(ctx.item(loss.value()) == doctest::Approx(ctx.item(golden.at("loss"))).epsilon(kTolerance));
  store.zero_grad();
  backward(loss);
  for (const Parameter& p : store.all()) {
    CAPTURE(p.name);
    CHECK(test::relative_error(ctx, p.var.grad(), golden.at("g." + p.name)) <= kTolerance);
  }

  AdamW optimizer(store, {.clip = 1.0});
  optimizer.step(1e-3);
  const double norm = ctx.item(golden.at("grad_norm"));
  CHECK(ctx.item(optimizer.gradient_norm()) == doctest::Approx(norm).epsilon(kTolerance));
  const double factor = std::min(1.0, 1.0 / (norm + 1e-6));
  std::int64_t compared = 0;
  for (const Parameter& p : store.all()) {
    CAPTURE(p.name);
    const auto got = kernels::to_vector<double>(ctx, store.view(store.flat(), p));
    const auto expected = kernels::to_vector<double>(ctx, golden.at("w1." + p.name));
    const auto gradient = kernels::to_vector<double>(ctx, golden.at("g." + p.name));
    double difference = 0, largest = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
      largest = std::max(largest, std::abs(expected[i]));
      // The first step has the size of the learning rate whatever the gradient: its sign must be certain.
      if (!(std::abs(factor * gradient[i]) > 1e-6)) continue;
      difference = std::max(difference, std::abs(got[i] - expected[i]));
      ++compared;
    }
    CHECK(difference / largest <= kTolerance);
  }
  CHECK(compared > store.parameter_count() / 2);
}

TEST_CASE("checkpointed blocks give the same bits") {
  Golden golden;
  Context& ctx = golden.ctx;
  Parameters& store = golden.model.parameters();
  store.zero_grad();
  backward(flow_loss(golden.ctx, golden.model, golden.batch()));
  const Tensor plain = kernels::clone(ctx, store.flat_grad());
  store.zero_grad();
  golden.model.set_recompute(true);
  backward(flow_loss(golden.ctx, golden.model, golden.batch()));
  CHECK(test::same_bits(ctx, store.flat_grad(), plain));
}

TEST_CASE("guided sampling") {
  Golden golden;
  const Tensor y = golden.ctx.zeros(Shape{2}, DType::i32);
  const Tensor end = euler(golden.ctx, golden.model, golden.at("x_T"), y,
                           std::stod(golden.file.metadata().at("guidance")), 3);
  CHECK(test::relative_error(golden.ctx, end, golden.at("x_0")) <= kTolerance);
}

TEST_SUITE_END();

}  // namespace llsa::nn
