// The estimate of memory is compared with the counts of the allocator and the graph.
#include "nn/train_memory.h"

#include <doctest/doctest.h>

#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "autograd/saved_report.h"
#include "core/safetensors.h"
#include "kernels/make.h"
#include "nn/diffusion/cascade.h"
#include "nn/diffusion/flow.h"
#include "nn/ema.h"
#include "nn/eval/held_out_loss.h"
#include "nn/eval/inception.h"
#include "nn/image_model.h"
#include "nn/optim.h"
#include "nn/train.h"
#include "nn/train_folder.h"
#include "tests/nn/train_runs.h"
#include "tests/support/inception_weights.h"
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
      {"LLSA in bf16", options_of(AttentionKind::llsa)}, {"PixelFlow", options_of(AttentionKind::llsa)},
      {"full in bf16", options_of(AttentionKind::full)}};
  all[3].options.model.vsa_gate = false;
  all[5].options.dtype = all[6].options.dtype = all[8].options.dtype = "bf16";
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
      options.sample_every = 0;
      Trainee trainee(options);
      const double peak = trainee.peak();
      const TrainMemory memory = trainee.memory();
      CHECK(memory.model() - memory.working <= peak);
      CHECK(memory.model() == doctest::Approx(peak).epsilon(0.1));
    }
}

TEST_CASE("the estimate of grids, scores and held-out losses is close to the peak of the allocator") {
  const test::TempDir dir;
  write_shapes({.out = dir / "images", .count = 8, .size = 32});  // of four classes
  const auto images = std::make_shared<const ImageFolder>(dir / "images");
  for (const bool held_out : {false, true})
    for (const bool guided : {false, true})
      for (Case& c : cases()) {
        if (held_out && guided) continue;
        INFO(std::string(c.name));
        CAPTURE(held_out);
        CAPTURE(guided);
        TrainOptions& options = c.options;
        options.model.classes = 4;
        options.sample_every = held_out ? 0 : 1;
        options.sample_count = 8;
        options.guidance = guided ? 2 : 1;
        options.eval_every = held_out ? 1 : 0;
        options.held_out = "some";
        Trainee trainee(options);
        const auto evaluate = [&] {
          ScopedWeights averaged(trainee.model->parameters(), trainee.ema.flat());
          if (held_out) {
            HeldOutLoss loss(images, {.batch = options.batch});
            loss(trainee.ctx, *trainee.model);
            return;
          }
          SampleOptions sampling = sampling_options(trainee.options);
          sampling.count = options.sample_count;
          sampling.batch = options.batch;
          sampling.steps = 2;
          trainee.model->draw(sampling);
        };
        evaluate();  // allocates what stays for the whole run
        trainee.ctx.allocator()->reset_peak();
        evaluate();
        const auto peak = static_cast<double>(trainee.ctx.allocator()->stats().peak);
        const TrainMemory memory = trainee.memory();
        CHECK(memory.state() < peak);
        CHECK(memory.state() + memory.evaluation == doctest::Approx(peak).epsilon(0.1));
      }
}

TEST_CASE("what an evaluation takes beyond a step is in the table, and does not refuse a run") {
  TrainOptions options = options_of(AttentionKind::full);
  options.model.layers = 1;
  options.model.height = options.model.width = 8;
  options.batch = 1;
  const std::int64_t parameters = 10'000'000;
  const auto memory_of = [&] { return train_memory(options, parameters, 0, Device::cpu()); };
  const TrainMemory with = memory_of();
  CHECK(with.evaluation > 4.0 * parameters);  // a copy of the weights
  CHECK(with.beyond_step() == with.evaluation - with.step());
  CHECK(with.model() == with.state() + with.evaluation);
  CHECK(contains(memory_table(with, Device::cpu()), "grids and evaluations, beyond a step"));
  options.sample_every = 0;
  const TrainMemory without = memory_of();
  CHECK(without.evaluation == 0);
  CHECK(without.model() == with.state() + with.step());
  CHECK_FALSE(contains(memory_table(without, Device::cpu()), "grids and evaluations"));
  options.sample_every = 1;
  CHECK_NOTHROW(require_memory(options, parameters, 0, Device::cpu(), without.model() + without.loader(), 0));

  options.eval_every = 1;
  options.eval_samples = 100;
  options.inception = "weights";
  CHECK(contains(memory_table(memory_of(), Device::cpu()), "Inception network"));
}

TEST_CASE("the Inception network and its passes are in the estimate") {
  const test::TempDir dir;
  {
    Context host(1);
    write_safetensors(dir / "weights", test::inception_tensors(host));
  }
  Context ctx(2);
  TrainOptions options = options_of(AttentionKind::full);
  options.eval_every = 1;
  options.eval_samples = 16;
  options.inception = dir / "weights";
  options.batch = 16;
  const TrainMemory memory = train_memory(options, 1000, 0, Device::cpu());
  const auto before = static_cast<double>(ctx.allocator()->stats().active);
  const Inception network(ctx, options.inception);
  CHECK(memory.network ==
        doctest::Approx(static_cast<double>(ctx.allocator()->stats().active) - before).epsilon(0.01));
  const Tensor levels = ctx.zeros({16, 3, 32, 32}, DType::f32);
  ctx.allocator()->reset_peak();
  network(levels, InceptionResize::aa);
  CHECK(memory.evaluation ==
        doctest::Approx(static_cast<double>(ctx.allocator()->stats().peak) - before - memory.network)
            .epsilon(0.1));
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
