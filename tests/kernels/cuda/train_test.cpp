// Whole training runs on a CUDA device: replayed from graphs and computed op by op they give the same bits; a
// step that is not logged waits for nothing.
#include "nn/train.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "core/error.h"
#include "nn/checkpoint/diffusers.h"
#include "nn/checkpoint/run_folder.h"
#include "nn/data/shapes.h"
#include "nn/diffusion/flow.h"
#include "nn/dit.h"
#include "nn/train_step.h"
#include "tests/kernels/cuda/contexts.h"
#include "tests/support/files.h"
#include "tests/support/text.h"
#include "tests/support/thread_ranks.h"

#ifdef SIMT_EMU
#include "tests/emu/emulator.h"
#endif

namespace {

using namespace llsa;
using namespace llsa::nn;
using namespace llsa::test;

// Seven shapes of 8 x 8 pixels: no multiple of a batch, so that every batch is another.
const std::string& shapes_folder() {
  static const TempDir dir;
  static const std::string folder = [] {
    ShapesOptions options;
    options.out = dir / "shapes";
    options.count = 7;
    options.size = 8;
    write_shapes(options);
    return options.out;
  }();
  return folder;
}

TrainOptions tiny_options() {
  TrainOptions options;
  options.data = shapes_folder();
  options.device = "cuda";
  options.model.height = options.model.width = 8;
  options.model.heads = 2;
  options.model.head_dim = 8;
  options.model.layers = 2;
  options.model.attention = AttentionKind::llsa;
  options.model.llsa.block = 4;
  options.model.llsa.topk = {2};
  options.model.pos_embed = true;
  options.steps = 5;
  options.batch = 2;
  options.lr = 2e-3;
  options.schedule = "cosine";
  options.warmup = 3;
  options.flip = true;
  options.log_every = 2;
  options.sample_every = 0;
  options.save_every = 0;
  options.threads = 1;
  return options;
}

struct Outcome {
  std::string state;  // all bytes that make up the training state
  std::vector<StepReport> reports;
  std::string messages;
};

Outcome run(const TrainOptions& options, const std::string& out, bool resume = false, int stop_after = 1000) {
  Outcome outcome;
  TrainCallbacks callbacks;
  callbacks.on_report = [&](const StepReport& report) { outcome.reports.push_back(report); };
  callbacks.on_message = [&](const std::string& text) { outcome.messages += text + "\n"; };
  callbacks.should_stop = [&] { return stop_after-- <= 0; };
  const std::string checkpoint = train(options, out, resume, callbacks).checkpoint;
  outcome.state = read_file(diffusers_weights_path(checkpoint)) +
                  read_file(checkpoint + "/training_state/state.safetensors") +
                  read_file(checkpoint + "/training_state/state.json");
  for (const std::string& average : diffusers_averages(checkpoint))
    outcome.state += average + read_file(diffusers_weights_path(checkpoint, average));
  return outcome;
}

/// Losses and gradient norms of the reports.
std::vector<double> figures(const Outcome& outcome) {
  std::vector<double> all;
  for (const StepReport& report : outcome.reports) {
    all.push_back(report.loss);
    all.push_back(report.gradient_norm);
  }
  return all;
}

}  // namespace

TEST_SUITE_BEGIN("kernels/cuda/train");

TEST_CASE("steps are profiled op by op, and replayed from graphs afterwards, with the same bits") {
  if (!cuda_device()) return;
  const TempDir dir;
  TrainOptions options = tiny_options();
  options.steps = 7;
  const Outcome eager = run(options, dir / "eager");
  options.graph = true;
  std::string messages;
  TrainCallbacks callbacks;
  callbacks.on_message = [&](const std::string& text) { messages += text + "\n"; };
  callbacks.profile = {2, false, [&](const Profile& profile) {
                         CHECK(profile.runs == 2);
                         CHECK(profile.spans > 100);
                         CHECK_FALSE(contains(messages, "replayed"));
                         messages += "profiled\n";
                       }};
  const std::string checkpoint = train(options, dir / "profiled", false, callbacks).checkpoint;
  CHECK(contains(messages, "profiled\nthe training step is replayed from graphs"));
  CHECK(read_file(checkpoint + "/training_state/state.safetensors") +
            read_file(checkpoint + "/training_state/state.json") ==
        eager.state.substr(read_file(diffusers_weights_path(checkpoint)).size()));
}

TEST_CASE("a run replayed from graphs equals one computed op by op, bit for bit") {
  if (!cuda_device()) return;
  struct Case {
    const char* what;
    void (*change)(TrainOptions&);
  };
  const Case cases[] = {
      {"f32", [](TrainOptions&) {}},
      {"bf16, micro-batches",
       [](TrainOptions& o) {
         o.dtype = "bf16";
         o.accumulate = 2;
       }},
      {"bf16, LLSA on tensor cores",  // of the sizes that dit_test.cpp looks at
       [](TrainOptions& o) {
         o.dtype = "bf16";
         o.model.height = o.model.width = 16;
         o.model.head_dim = 32;
         o.model.layers = 1;
         o.model.llsa.block = 16;
         o.model.llsa.topk = {3};
         o.batch = 1;
         o.steps = 2;
       }},
      {"recompute, no clipping, no classes",
       [](TrainOptions& o) {
         o.recompute = true;
         o.clip = 0;
         o.model_classes = 0;
       }},
      {"a network that predicts the image, several averages",
       [](TrainOptions& o) {
         o.model.pred_x0 = true;
         o.loss = "x";
         o.ema_also = "0.999,0.25";
       }},
      {"grids and checkpoints in between",
       [](TrainOptions& o) {
         o.sample_every = 3;
         o.sample_count = 2;
         o.sample_steps = 2;
         o.save_every = 2;
         o.model.attention = AttentionKind::full;
       }},
  };
  for (const Case& c : cases) {
    CAPTURE(std::string(c.what));
    const TempDir dir;
    TrainOptions options = tiny_options();
    c.change(options);
    const Outcome eager = run(options, dir / "eager");
    CHECK_FALSE(contains(eager.messages, "graph"));
    options.graph = true;
    const Outcome graph = run(options, dir / "graph");
    CHECK(contains(graph.messages, "replayed from graphs"));
    CHECK_FALSE(contains(graph.messages, "could not"));
    CHECK(graph.state == eager.state);
    CHECK(figures(graph) == figures(eager));
    CHECK(graph.reports.back().memory.reserved > 0);
    CHECK(eager.reports.back().memory.reserved == 0);
    for (const std::int64_t step : {3, 5}) {
      const std::string grid = RunFolder(dir / "graph").sample_path(step);
      CHECK(std::filesystem::exists(grid) == (options.sample_every == 3));
      if (options.sample_every == 3)
        CHECK(read_file(grid) == read_file(RunFolder(dir / "eager").sample_path(step)));
    }
  }
}

TEST_CASE("evaluation changes no bit, whether steps are replayed or not, and gives the same loss") {
  if (!cuda_device()) return;
  const TempDir dir;
  TrainOptions options = tiny_options();
  options.held_out = "50%";
  const std::string expected = run(options, dir / "plain").state;
  options.eval_every = 2;
  std::vector<std::string> marks;
  for (const bool graph : {false, true}) {
    CAPTURE(graph);
    options.graph = graph;
    const std::string out = dir / cat("graph", graph);
    CHECK(run(options, out).state == expected);
    marks.push_back(read_file(RunFolder(out).best_path()));
  }
  CHECK(contains(marks[0], "held_out_loss"));
  CHECK(marks[0] == marks[1]);
}

TEST_CASE("a resumed run equals an uninterrupted one, whichever part is replayed") {
  if (!cuda_device()) return;
  const TempDir dir;
  const std::string whole = run(tiny_options(), dir / "whole").state;
  for (const bool first : {false, true}) {
    for (const bool second : {false, true}) {
      CAPTURE(first);
      CAPTURE(second);
      const std::string out = dir / cat("parts", first, second);
      TrainOptions options = tiny_options();
      options.graph = first;
      run(options, out, false, 3);
      options.graph = second;
      CHECK(run(options, out, true).state == whole);
    }
  }
}

TEST_CASE("steps that are not logged wait for nothing") {
  if (!cuda_device()) return;
  for (const bool graph : {false, true}) {
    CAPTURE(graph);
    const TempDir dir;
    TrainOptions options = tiny_options();
    options.graph = graph;
    options.accumulate = 2;
    options.steps = 4;
    const Outcome outcome = run(options, dir / "run");
    REQUIRE(outcome.reports.size() == 2);
    for (const StepReport& report : outcome.reports) CHECK(report.synchronizations == 2);  // losses, norms
  }
}

TEST_CASE("graphs need a CUDA device") {
  const TempDir dir;
  TrainOptions options = tiny_options();
  options.device = "cpu";
  options.graph = true;
  try {
    run(options, dir / "run");
    FAIL("nothing was thrown");
  } catch (const DeviceError& error) {
    CHECK(contains(error.what(), "replayed from graphs on a CUDA device only"));
    CHECK(contains(error.hint(), "--device"));
  }
  CHECK_FALSE(std::filesystem::exists(dir / "run"));
}

TEST_CASE("batches on the device are those of the CPU") {
  if (!cuda_device()) return;
  Contexts both;
  const auto images = std::make_shared<const ImageFolder>(shapes_folder(), DecodeOptions{});
  LoaderOptions options;
  options.batch = 3;
  options.height = options.width = 8;
  options.flip = true;
  Loader on_cpu(both.cpu, images, options), on_gpu(both.gpu, images, options);
  const Batch fixed = on_gpu.make_batch();
  const void* const address = fixed.x.raw();
  std::vector<Batch> wanted, kept;
  const std::uint64_t before = both.gpu.synchronizations();
  for (int i = 0; i < 9; ++i) {
    wanted.push_back(on_cpu.next());
    if (i % 2 == 0) {
      kept.push_back(on_gpu.next());
    } else {
      on_gpu.next(fixed);
      kept.push_back({kernels::clone(both.gpu, fixed.x), kernels::clone(both.gpu, fixed.y),
                      kernels::clone(both.gpu, fixed.sample_ids)});
    }
  }
  CHECK(both.gpu.synchronizations() == before);
  CHECK(fixed.x.raw() == address);
  for (std::size_t i = 0; i < kept.size(); ++i) {
    CAPTURE(i);
    CHECK(kernels::to_vector<float>(both.gpu, kept[i].x) == kernels::to_vector<float>(both.cpu, wanted[i].x));
    CHECK(kernels::to_vector<std::int32_t>(both.gpu, kept[i].y) ==
          kernels::to_vector<std::int32_t>(both.cpu, wanted[i].y));
    CHECK(kernels::to_vector<std::int64_t>(both.gpu, kept[i].sample_ids) ==
          kernels::to_vector<std::int64_t>(both.cpu, wanted[i].sample_ids));
  }
}

namespace {

/// A small model with all that a step of it takes.
struct Fixture {
  Context ctx{Device{DeviceType::cuda, 0}, 1};
  Dit model;
  AdamW optimizer;
  Ema ema;
  Loader loader;
  std::string messages;
  TrainStep step;

  explicit Fixture(bool graph)
      : model(ctx, tiny_options().model, 3),
        optimizer(model.parameters()),
        ema(model.parameters()),
        loader(ctx, std::make_shared<const ImageFolder>(shapes_folder(), DecodeOptions{}), loader_options()),
        step(model.parameters(), optimizer, &ema, flow_objective(ctx, model, loader, {}),
             {1, graph, [this](const std::string& text) { messages += text; }}) {}

  static LoaderOptions loader_options() {
    LoaderOptions options;
    options.batch = 2;
    options.height = options.width = 8;
    return options;
  }
  std::vector<float> weights() { return kernels::to_vector<float>(ctx, model.parameters().flat()); }
};

}  // namespace

TEST_CASE("a step replayed many times, with the cache given back and overwritten in between") {
  if (!cuda_device()) return;
  Fixture eager(false), graph(true);
  for (int n = 0; n < 6; ++n) {
    CAPTURE(n);
    eager.step.run(1e-2 / (n + 1));
    graph.step.run(1e-2 / (n + 1));
    CHECK(graph.weights() == eager.weights());
    CHECK(graph.ctx.item(graph.step.loss()) == eager.ctx.item(eager.step.loss()));
    if (n % 2 == 1) graph.ctx.allocator()->release_cache();
    for (std::int64_t size = 64; size < 100'000; size += size / 8)
      kernels::fill(graph.ctx, graph.ctx.empty({size / 4}, DType::f32),
                    std::numeric_limits<double>::quiet_NaN());
  }
  CHECK(contains(graph.messages, "replayed"));
  CHECK(graph.optimizer.count_skipped() == 0);
  CHECK(graph.optimizer.calls() == 6);
}

#ifdef SIMT_EMU
TEST_CASE("a capture that finds no memory is told, and the run goes on op by op") {
  Fixture eager(false), graph(true);
  eager.step.run(1e-2);
  graph.step.run(1e-2);
  // The cache holds one large block alone, which a capture may not give back and a step may.
  graph.ctx.allocator()->release_cache();
  static_cast<void>(graph.ctx.empty({64 << 20}, DType::u8));
  emu::set_device_memory(emu::device_bytes_in_use());
  graph.step.run(1e-2);
  emu::set_device_memory(0);
  CHECK(contains(graph.messages, "could not be captured"));
  CHECK(contains(graph.messages, "out of memory"));
  CHECK(graph.ctx.allocator()->stats().reserved == 0);
  eager.step.run(1e-2);
  for (int n = 0; n < 2; ++n) {
    CHECK(graph.weights() == eager.weights());
    eager.step.run(1e-2);
    graph.step.run(1e-2);
  }
  CHECK_FALSE(contains(graph.messages, "replayed"));
}

TEST_CASE("captures take the memory of a step from the cache") {
  Fixture graph(true);
  graph.step.run(1e-2);
  const std::size_t before = emu::device_bytes_in_use();
  graph.step.run(1e-2);
  graph.step.run(1e-2);
  CHECK(contains(graph.messages, "replayed"));
  // New is only what the two graphs do not share: the few small tensors of the update.
  CHECK(emu::device_bytes_in_use() - before <= graph.ctx.allocator()->stats().reserved / 20);
}
#endif

TEST_CASE("processes that share a device, with and without graphs, give the same bits as one") {
  if (!cuda_device()) return;
  const TempDir dir;
  TrainOptions options = tiny_options();
  options.device = "cuda:0";
  options.accumulate = 3;
  options.steps = 3;
  const std::string expected = run(options, dir / "one").state;
  for (const bool graph : {false, true}) {
    CAPTURE(graph);
    options.graph = graph;
    const std::string out = dir / cat("two", graph);
    std::string checkpoint;
    run_ranks(2, [&](Communicator& rank) {
      const TrainResult result = train(options, out, false, {}, rank);
      if (rank.leads()) checkpoint = result.checkpoint;
    });
    CHECK(read_file(diffusers_weights_path(checkpoint)) +
              read_file(checkpoint + "/training_state/state.safetensors") +
              read_file(checkpoint + "/training_state/state.json") ==
          expected);
  }
}

TEST_SUITE_END();
