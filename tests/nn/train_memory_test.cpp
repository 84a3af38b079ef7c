// The estimate of memory is compared with the counts of the allocator and the graph.
#include "nn/train_memory.h"

#include <doctest/doctest.h>

#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "autograd/saved_report.h"
#include "kernels/make.h"
#include "nn/diffusion/cascade.h"
#include "nn/diffusion/flow.h"
#include "nn/ema.h"
#include "nn/image_model.h"
#include "nn/optim.h"
#include "nn/train.h"
#include "tests/nn/train_runs.h"
#include "tests/support/text.h"

using namespace llsa;
using namespace llsa::nn;
using llsa::test::contains;
using llsa::test::failure_of;

TEST_SUITE_BEGIN("nn/train_memory");

namespace {

TrainOptions options_of(AttentionKind attention) {
  TrainOptions options;
  options.batch = 4;
  options.model.height = options.model.width = 32;
  options.model.heads = 2;
  options.model.head_dim = 32;
  options.model.layers = 3;
  options.model.patch = 2;
  options.model.attention = attention;
  options.model.llsa = {.block = 8, .topk = {2}};
  return options;
}

/// A model, what trains it, and one batch.
struct Trainee {
  Context ctx{2};
  TrainOptions options;
  std::unique_ptr<ImageModel> model;
  AdamW adam;
  Ema ema;
  Tensor x, ids;

  explicit Trainee(const TrainOptions& given)
      : options(given),
        model(make_model(ctx, options.model_kind(), options.model, 0, dtype_from_name(options.dtype))),
        adam(model->parameters()),
        ema(model->parameters()),
        x(randn(ctx, {options.batch, 3, options.model.height, options.model.width}, 1)),
        ids(arange(ctx, 0, static_cast<double>(options.batch), 1, DType::i64)) {
    options.model = model->last_stage();
    model->set_recompute(options.recompute);
  }

  Var loss() {
    const Denoiser denoiser = *model;
    if (options.model_kind() == ModelKind::pixelflow)
      return cascade_loss(ctx, denoiser, make_cascade_batch(ctx, x, {}, ids, {}));
    return flow_loss(ctx, denoiser, make_flow_batch(ctx, x, {}, ids, {}));
  }
  /// In steps after the first one, which also allocates what stays for the whole run.
  double peak() {
    for (int step = 0; step < 2; ++step) {
      ctx.allocator()->reset_peak();
      backward(loss());
      adam.step(1e-4, &ema);
    }
    return static_cast<double>(ctx.allocator()->stats().peak);
  }
  TrainMemory memory() const {
    return train_memory(options, model->parameters().flat_size(), 0, ctx.device());
  }
};

struct Case {
  const char* name;
  TrainOptions options;
};

std::vector<Case> cases() {
  std::vector<Case> all = {
      {"full", options_of(AttentionKind::full)},         {"LLSA", options_of(AttentionKind::llsa)},
      {"VSA", options_of(AttentionKind::vsa)},           {"VSA without gate", options_of(AttentionKind::vsa)},
      {"SLA", options_of(AttentionKind::sla)},           {"SLA in bf16", options_of(AttentionKind::sla)},
      {"LLSA in bf16", options_of(AttentionKind::llsa)}, {"PixelFlow", options_of(AttentionKind::llsa)}};
  all[3].options.model.vsa_gate = false;
  all[5].options.dtype = all[6].options.dtype = "bf16";
  all[7].options.kind = "pixelflow";
  return all;
}

}  // namespace

TEST_CASE("activations are what the graph keeps") {
  for (const Case& c : cases()) {
    INFO(std::string(c.name));
    Trainee trainee(c.options);
    double kept = 0;
    for (const SavedRow& row : saved_report(trainee.loss()))
      if (row.op != "leaf") kept += static_cast<double>(row.bytes);
    const TrainMemory memory = trainee.memory();
    const double images = 2 * static_cast<double>(trainee.x.nbytes());  // prediction and target
    CHECK(memory.activations == doctest::Approx(kept - images).epsilon(0.02));
  }
}

TEST_CASE("the estimate is close to the peak of the allocator, with and without recompute") {
  for (const bool recompute : {false, true})
    for (const Case& c : cases()) {
      INFO(std::string(c.name));
      CAPTURE(recompute);
      TrainOptions options = c.options;
      options.recompute = recompute;
      Trainee trainee(options);
      const double peak = trainee.peak();
      const TrainMemory memory = trainee.memory();
      CHECK(memory.model() - memory.working <= peak);
      CHECK(memory.model() == doctest::Approx(peak).epsilon(0.1));
    }
}

TEST_CASE("what does not fit is refused with the numbers and with settings that do") {
  TrainOptions options = options_of(AttentionKind::full);
  options.model.layers = 12;
  options.batch = 64;
  const std::int64_t parameters = 1'000'000, files = 1000;
  const double all = train_memory(options, parameters, files, Device::cpu()).model();
  CHECK_NOTHROW(require_memory(options, parameters, files, Device::cpu(), 2 * all, 0));
  const auto refusal = [&](double room) {
    return failure_of<OutOfMemoryError>(
        [&] { require_memory(options, parameters, files, Device::cpu(), room, 0); });
  };
  const std::string half = refusal(all / 2);
  CHECK(contains(half, "this training does not fit: " + bytes_text(all / 2) + " are free"));
  CHECK(contains(half, "activations"));
  CHECK(contains(half, "what fits: --batch 16 --accumulate 4; or --recompute true"));
  CHECK(contains(refusal(20e6), "smaller model"));

  // What is proposed is accepted.
  options.batch = 16;
  options.accumulate = 4;
  CHECK(refusal(all / 2).empty());

  options.cache_mb = 1 << 20;
  const std::int64_t many = std::int64_t{1} << 40;
  const std::string cached =
      failure_of<OutOfMemoryError>([&] { require_memory(options, parameters, many, Device::cpu(), all, 0); });
  CHECK(contains(cached, "what fits: --cache-mb 0"));
  // On a GPU the loader's memory is another one.
  CHECK(failure_of<OutOfMemoryError>([&] {
          require_memory(options, parameters, many, Device::cuda(), all, 2e12);
        }).empty());
  CHECK(contains(failure_of<OutOfMemoryError>(
                     [&] { require_memory(options, parameters, many, Device::cuda(), all, 1e9); }),
                 "decoded images, in host memory"));
}

TEST_CASE("sizes that fit no machine are counted, too") {
  TrainOptions options = options_of(AttentionKind::llsa);
  options.batch = std::int64_t{1} << 40;
  options.model.height = options.model.width = 1 << 16;
  options.model.heads = options.model.head_dim = options.model.layers = 4096;
  options.cache_mb = std::int64_t{1} << 40;
  const std::int64_t most = std::numeric_limits<std::int64_t>::max();
  CHECK(train_memory(options, most, most, Device::cpu()).model() > 1e20);
}

TEST_CASE("training says where memory goes before it begins, and refuses a batch that no machine holds") {
  const test::TempDir dir;
  TrainOptions options = tiny_options();
  options.steps = 1;
  std::string messages;
  TrainCallbacks callbacks;
  callbacks.on_message = [&](const std::string& text) { messages += text + "\n"; };
  run(options, dir / "run", false, callbacks);
  CHECK(contains(messages, "memory of the training"));
  options.batch = 1'000'000;
  options.model.height = options.model.width = 256;
  CHECK(contains(failure_of<OutOfMemoryError>([&] { run(options, dir / "large"); }), "what fits: --batch "));
}

TEST_SUITE_END();
