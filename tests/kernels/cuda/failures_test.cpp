// What goes wrong on a CUDA device during training: memory that runs out and comes back, sizes that no kernel
// takes. Devices that are not there, and broken ones: device_test.cpp.
#include <doctest/doctest.h>

#include <numeric>
#include <optional>
#include <string>

#include "kernels/attention.h"
#include "kernels/elementwise.h"
#include "kernels/llsa.h"
#include "kernels/matmul.h"
#include "kernels/random.h"
#include "nn/diffusion/flow.h"
#include "nn/dit.h"
#include "nn/ema.h"
#include "nn/optim.h"
#include "tests/kernels/cuda/contexts.h"
#include "tests/support/text.h"

#ifdef SIMT_EMU
#include "tests/emu/emulator.h"
#endif

using namespace llsa;
using namespace llsa::nn;
using namespace llsa::test;

TEST_SUITE_BEGIN("kernels/cuda/failures");

namespace {

DitConfig small() {
  DitConfig c;
  c.heads = 2;
  c.head_dim = 8;
  c.layers = 2;
  c.height = c.width = 8;
  c.classes = 3;
  c.init = InitKind::published;
  c.attention = AttentionKind::llsa;
  c.llsa.block = 4;
  c.llsa.topk = {2};
  return c;
}

/// A small model under training on one context.
struct Trainer {
  explicit Trainer(Context& context)
      : ctx(context),
        model(context, small(), 3, DType::f32),
        optimizer(model.parameters()),
        ema(model.parameters()) {
    flow.null_class = model.null_class();
  }

  void step(std::int64_t batch) {
    model.parameters().zero_grad();
    std::vector<std::int64_t> ids(static_cast<std::size_t>(batch));
    std::iota(ids.begin(), ids.end(), 0);
    const std::vector<std::int32_t> classes(ids.size(), 1);
    const Tensor x = kernels::random_uniform(ctx, Shape{batch, 3, 8, 8}, DType::f32, 5, 0);
    const FlowBatch made = make_flow_batch(ctx, x, kernels::from_vector(ctx, classes, Shape{batch}),
                                           kernels::from_vector(ctx, ids, Shape{batch}), flow);
    backward(flow_loss(ctx, model, made));
    optimizer.step(1e-2, &ema);
  }
  std::vector<float> weights() { return kernels::to_vector<float>(ctx, model.parameters().flat()); }

  Context& ctx;
  Dit model;
  AdamW optimizer;
  Ema ema;
  FlowOptions flow;
};

}  // namespace

TEST_CASE("training that ran out of memory goes on with a smaller batch as if nothing had happened") {
  if (!cuda_device()) return;
  Context roomy(Device{DeviceType::cuda, 0}, 1);
  Trainer undisturbed(roomy);
  undisturbed.step(1);
  undisturbed.step(1);
  const std::size_t needed = roomy.allocator()->stats().peak;

  Context tight(Device{DeviceType::cuda, 0}, 1, needed + (1 << 16));
  Trainer trainer(tight);
  trainer.step(1);
  for (int attempt = 0; attempt < 2; ++attempt) {
    const std::string message = failure_of<OutOfMemoryError>([&] { trainer.step(16); });
    CAPTURE(message);
    CHECK(contains(message, "out of memory on cuda:0: asked for "));
    CHECK(contains(message, " active, "));
    CHECK(contains(message, " cached, "));
    CHECK(contains(message, cat("limit ", needed + (1 << 16), " bytes")));
    CHECK(contains(message, "| reduce the batch"));
  }
  trainer.step(1);
  CHECK(trainer.weights() == undisturbed.weights());
}

#ifdef SIMT_EMU
TEST_CASE("the same when it is the device that is full, even before the first product") {
  Context roomy(Device{DeviceType::cuda, 0}, 1);
  Trainer undisturbed(roomy);
  undisturbed.step(1);
  const auto expected = undisturbed.weights();
  const std::size_t needed = roomy.allocator()->stats().peak;

  Context tight(Device{DeviceType::cuda, 0}, 1);
  Trainer trainer(tight);
  const std::size_t held = tight.allocator()->stats().active;
  const std::size_t others = emu::device_bytes_in_use() - held;
  emu::set_device_memory(others + (needed + held) / 2);  // not enough for the workspace of products
  const std::string message = failure_of<OutOfMemoryError>([&] { trainer.step(1); });
  CHECK(contains(message, "the device has "));
  emu::set_device_memory(others + needed + (1 << 16));
  CHECK(contains(failure_of<OutOfMemoryError>([&] { trainer.step(16); }), "the device has "));
  trainer.step(1);
  emu::set_device_memory(0);
  CHECK(trainer.weights() == expected);
}
#endif

TEST_CASE("a head dimension that no kernel takes is named before anything runs") {
  if (!cuda_device()) return;
  Contexts both;
  const Tensor q = both.gpu.zeros({1, 1, 4, 8192}, DType::f32);
  const std::string message = failure_of<ShapeError>([&] { kernels::full_attention(both.gpu, q, q, q); });
  CHECK(contains(message, "head dimension"));
  CHECK(contains(message, "| use a smaller head dimension"));
}

TEST_CASE("dtypes that an operation does not take are named, with those that it takes") {
  if (!cuda_device()) return;
  Contexts both;
  const Tensor whole = both.gpu.zeros({4, 4}, DType::i32);
  const Tensor heads = both.gpu.zeros({1, 1, 4, 8}, DType::i32);
  const std::string messages[] = {
      failure_of<DTypeError>([&] { kernels::matmul(both.gpu, whole, whole); }),
      failure_of<DTypeError>([&] { kernels::full_attention(both.gpu, heads, heads, heads); }),
      failure_of<DTypeError>([&] { kernels::random_normal(both.gpu, Shape{4}, DType::i32, 1, 1); }),
  };
  for (const std::string& message : messages) {
    CAPTURE(message);
    CHECK(contains(message, "f32"));
    CHECK(contains(message, "bf16"));
    CHECK(contains(message, "i32"));
  }
}

TEST_SUITE_END();
