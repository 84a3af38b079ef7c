#include "apps/bench/step.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apps/bench/by_kernel.h"
#include "apps/llsa/demo_recipe.h"
#include "apps/llsa/progress.h"
#include "autograd/var.h"
#include "kernels/copy.h"
#include "kernels/elementwise.h"
#include "kernels/llsa.h"
#include "kernels/random.h"
#include "nn/data/loader.h"
#include "nn/diffusion/flow.h"
#include "nn/dit.h"
#include "nn/ema.h"
#include "nn/optim.h"
#include "nn/train_step.h"

namespace llsa::apps {
namespace {

// Operations per step that any implementation has to do: products of the token-wise linear layers (once
// forward, twice backward) and of the attended pairs (2 forward, 5 backward). Recomputation, norms and the
// conditioning are not counted.
double step_flops(const nn::DitConfig& config, std::int64_t batch) {
  const auto width = static_cast<double>(config.channels());
  const double pixels =
      static_cast<double>(config.patch) * config.patch * (config.in_channels + config.out_channels);
  const double linear = config.layers * 2 * 12 * width * width + 2 * width * pixels;
  const std::int64_t rows = batch * config.heads;
  const std::int64_t d = config.head_dim;
  std::vector<kernels::AttentionFlops> parts;
  if (config.attention == nn::AttentionKind::full)
    parts.push_back(kernels::full_attention_flops(rows, config.tokens(), config.tokens(), d));
  else
    parts.push_back(kernels::llsa_flops(config.plan(), rows, d));
  if (config.attention == nn::AttentionKind::vsa) {
    const std::int64_t blocks = config.plan().count[1];
    parts.push_back(kernels::full_attention_flops(rows, blocks, blocks, d));
  }
  if (config.attention == nn::AttentionKind::sla)
    parts.push_back(kernels::linear_attention_rest_flops(config.plan(), rows, d, d + 1));
  double attention = 0;
  for (const kernels::AttentionFlops& part : parts) attention += part.forward + part.backward;
  return 3 * linear * static_cast<double>(batch * config.tokens()) + config.layers * attention;
}

constexpr std::size_t kBatches = 3;  // that take turns

nn::Batch synthetic_batch(Context& ctx, const nn::DitConfig& model, std::int64_t count, std::int64_t first) {
  nn::Batch batch;
  const Shape images{count, model.in_channels, model.height, model.width};
  batch.x = kernels::affine(
      ctx, kernels::random_uniform(ctx, images, DType::f32, 3, static_cast<std::uint64_t>(first)), 2.0, -1.0);
  std::vector<std::int32_t> classes;
  std::vector<std::int64_t> ids;
  for (std::int64_t i = first; i < first + count; ++i) {
    classes.push_back(static_cast<std::int32_t>(i % std::max(model.classes, 1)));
    ids.push_back(i);
  }
  if (model.classes > 0) batch.y = kernels::from_vector(ctx, classes, {count});
  batch.sample_ids = kernels::from_vector(ctx, ids, {count});
  return batch;
}

nn::FlowBatch flow_batch(const nn::Dit& model, const nn::Batch& batch) {
  nn::FlowOptions options;
  options.null_class = model.null_class();
  return nn::make_flow_batch(model.context(), batch.x, batch.y, batch.sample_ids, options);
}

// Weights away from their start, where adaLN-Zero makes every block an identity.
nn::Parameters& disturbed(Context& ctx, nn::Parameters& store) {
  const Tensor noise = kernels::random_normal(ctx, store.flat().shape(), DType::f32, 5, 0);
  store.load(kernels::add(ctx, store.flat(),
                          kernels::cast(ctx, kernels::affine(ctx, noise, 0.02, 0.0), store.flat().dtype())));
  return store;
}

struct StepErrors {
  double loss = 0, gradient = 0;
};

// Loss and gradient of the same weights and batch on the CPU, in f64, or f32 for bf16. In bf16, rounding
// makes some queries choose other blocks, as any other noise would: the gradient is held by its direction.
StepErrors check_step(const BenchRequest& request, const nn::DitConfig& config) {
  Context& ctx = request.ctx;
  Context host(ctx.pool().threads());
  const bool narrow = request.dtype == DType::bf16;
  const DType wide_dtype = narrow ? DType::f32 : DType::f64;
  nn::Dit model(ctx, config, 1, request.dtype);
  disturbed(ctx, model.parameters());
  const nn::FlowBatch flow = flow_batch(model, synthetic_batch(ctx, model.config(), 2, 0));
  const auto move = [&](const Tensor& x) { return x.defined() ? kernels::transfer(ctx, x, host) : x; };
  const auto widen = [&](const Tensor& x) { return kernels::cast(host, move(x), wide_dtype); };
  nn::Dit wide(host, model.config(), 0, wide_dtype);
  wide.parameters().load(kernels::cast(host, move(model.parameters().flat()), wide_dtype));
  const nn::FlowBatch wide_flow{widen(flow.x_t), widen(flow.target), move(flow.t), move(flow.y)};
  const Var loss = nn::flow_loss(ctx, model, flow), wide_loss = nn::flow_loss(host, wide, wide_flow);
  backward(loss);
  backward(wide_loss);
  StepErrors errors;
  errors.loss = relative_error(ctx, loss.value(), host, wide_loss.value());
  errors.gradient = relative_l2(ctx, model.parameters().flat_grad(), host, wide.parameters().flat_grad());
  const std::string what = cat(config.height, " x ", config.width, " pixels, width ", config.channels());
  require_correct("loss of a step of " + what, errors.loss, narrow ? 1e-2 : 1e-5);
  require_correct("gradient of a step of " + what, errors.gradient, narrow ? 1e-1 : 1e-3);
  return errors;
}

// A model and all that trains it, on batches that lie on the device and take turns.
class Trainer {
 public:
  Trainer(const BenchRequest& request, const nn::DitConfig& config, std::int64_t count, bool graph)
      : ctx_(request.ctx),
        model_(ctx_, config, 1, request.dtype),
        optimizer_(disturbed(ctx_, model_.parameters()), {.clip = 1.0}),
        ema_(model_.parameters()),
        batches_{batch(0, count), batch(1, count), batch(2, count)},
        taken_(batch(0, count)),
        step_(
            model_.parameters(), optimizer_, &ema_,
            {[this] { take(); }, [this] { return nn::flow_loss(ctx_, model_, flow_batch(model_, taken_)); }},
            {1, graph, [this](const std::string& text) { said_ = text; }}) {}
  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;

  void run(double learning_rate) { step_.run(learning_rate); }
  bool captured() const { return step_.captured(); }
  /// Why not, if it was tried.
  const std::string& said() const { return said_; }
  /// Whether all gradients were finite.
  bool sound() { return ctx_.item(optimizer_.skipped()) == 0; }

  const Tensor& loss() const { return step_.loss(); }
  std::vector<std::pair<const char*, Tensor>> state() const {
    return {{"weights", model_.parameters().flat()},
            {"first moment", optimizer_.first_moment()},
            {"second moment", optimizer_.second_moment()},
            {"average", ema_.flat()}};
  }

 private:
  nn::Batch batch(std::size_t number, std::int64_t count) {
    return synthetic_batch(ctx_, model_.config(), count, static_cast<std::int64_t>(number) * count);
  }
  void take() {
    const nn::Batch& from = batches_[count_++ % kBatches];
    kernels::copy(ctx_, from.x, taken_.x);
    if (from.y.defined()) kernels::copy(ctx_, from.y, taken_.y);
    kernels::copy(ctx_, from.sample_ids, taken_.sample_ids);
  }

  Context& ctx_;
  nn::Dit model_;
  nn::AdamW optimizer_;
  nn::Ema ema_;
  std::array<nn::Batch, kBatches> batches_;
  std::size_t count_ = 0;
  nn::Batch taken_;  // what the step computes with
  std::string said_;
  nn::TrainStep step_;
};

constexpr int kReplays = 4;

// Steps of which all but the first are replayed have the bits of steps that are computed op by op.
void check_replay(const BenchRequest& request, const nn::DitConfig& config) {
  Context& ctx = request.ctx;
  const std::string what = cat("a step of ", config.height, " x ", config.width, " pixels");
  Trainer plain(request, config, 2, false), replayed(request, config, 2, true);
  for (int n = 0; n <= kReplays; ++n) {
    plain.run(1e-3);
    replayed.run(1e-3);
    require_same_bits(cat("loss of ", what, ", replayed ", n, " times,"), ctx, plain.loss(), replayed.loss());
  }
  if (!replayed.captured())
    throw Error(cat("expected ", what, " to be captured, got: ", replayed.said()),
                "give --graph false to measure op by op alone");
  const auto wanted = plain.state(), found = replayed.state();
  for (std::size_t i = 0; i < wanted.size(); ++i)
    require_same_bits(cat(wanted[i].first, " after ", what, ", replayed ", kReplays, " times,"), ctx,
                      wanted[i].second, found[i].second);
}

struct Measured {
  Timing timing;
  double peak = 0;       // bytes
  std::string obstacle;  // to the capture; then nothing was measured
};

Measured measure(const BenchRequest& request, const StepCase& step, std::int64_t count, bool graph,
                 const TimingLimits& limits) {
  constexpr double kLearningRate = 1e-6;
  Context& ctx = request.ctx;
  ctx.allocator()->release_cache();
  ctx.allocator()->reset_peak();
  Trainer trainer(request, step.model, count, graph);
  CallTimer timer(ctx, request.flush_bytes);
  for (int i = 0; i < 2; ++i) trainer.run(kLearningRate);  // makes what is made once, and captures
  if (graph && !trainer.captured()) return {{}, 0, trainer.said()};
  const Timing timing = time_calls(
      timer, [&](int) { trainer.run(kLearningRate); }, limits);
  if (!trainer.sound()) throw Error(cat(step.title, " gave a gradient that is not finite"));
  return {timing, static_cast<double>(ctx.allocator()->stats().peak), ""};
}

constexpr int kProfiledSteps = 10;

Profile profile_step(const BenchRequest& request, const StepCase& step, std::int64_t count) {
  Trainer trainer(request, step.model, count, false);
  return profile_calls(request, kProfiledSteps, [&] { trainer.run(1e-6); });
}

/// What is known of a case: op by op, and replayed.
struct Outcome {
  std::int64_t batch = 0;
  std::optional<Measured> plain, graph;

  bool replay_is_faster() const { return graph && graph->timing.median < plain->timing.median; }
  double best_speed(const nn::DitConfig& model) const {
    const double tokens = static_cast<double>(batch * model.tokens());
    return tokens / (replay_is_faster() ? *graph : *plain).timing.median;
  }
};

nn::JsonWriter report_arm(const BenchRequest& request, const nn::DitConfig& model, std::int64_t count,
                          const char* name, const Measured& measured) {
  const Timing& t = measured.timing;
  const double flops = step_flops(model, count), rate = flops / t.median / 1e9;
  const double tokens = static_cast<double>(count * model.tokens()), speed = tokens / t.median;
  print_line(text("  %s: %.2f ms (p20 %.2f, p80 %.2f, least %.2f, %d steps), %s tokens/s, peak memory %s",
                  name, 1e3 * t.median, 1e3 * t.p20, 1e3 * t.p80, 1e3 * t.least, t.calls,
                  count_text(speed).c_str(), bytes_text(measured.peak).c_str()));
  print_line(
      text("    %.2f MFLOP per token, %.0f GFLOP/s: %.1f %% of the %s peak, %.1f %% of the matrix product",
           flops / tokens / 1e6, rate, 100 * rate / request.ceilings.units(), request.ceilings.units_name(),
           100 * rate / request.ceilings.matmul));
  nn::JsonWriter json;
  json.add("median_ms", 1e3 * t.median).add("p20_ms", 1e3 * t.p20).add("p80_ms", 1e3 * t.p80);
  json.add("least_ms", 1e3 * t.least).add("steps", t.calls).add("tokens_per_second", speed);
  json.add("gflops", rate).add("of_units", rate / request.ceilings.units());
  json.add("of_matmul", rate / request.ceilings.matmul).add("peak_bytes", measured.peak);
  return json;
}

nn::JsonWriter report(const BenchRequest& request, const StepCase& step, const Outcome& outcome) {
  const nn::DitConfig model = step.model.resolved();
  print_line(text("%s: %lld images of %d x %d, width %d, %d blocks, %s attention, %s", step.title.c_str(),
                  static_cast<long long>(outcome.batch), model.height, model.width, model.channels(),
                  model.layers, nn::name_of(model.attention).c_str(),
                  std::string(name_of(request.dtype)).c_str()));
  nn::JsonWriter json;
  json.add("batch", outcome.batch).add("tokens", model.tokens());
  json.add("op_by_op", report_arm(request, model, outcome.batch, "op by op", *outcome.plain));
  if (outcome.graph)
    json.add("graph", report_arm(request, model, outcome.batch, "replayed from graphs", *outcome.graph));
  const double speed = outcome.best_speed(model);
  json.add("tokens_per_second", speed);
  if (step.predicted > 0) {
    print_line(text("  predicted %s tokens/s: x%.2f of it reached", count_text(step.predicted).c_str(),
                    speed / step.predicted));
    json.add("predicted_tokens_per_second", step.predicted);
    json.add("measured_over_predicted", speed / step.predicted);
  }
  if (step.published > 0) {
    print_line(
        text("  published %s tokens/s: x%.2f", count_text(step.published).c_str(), speed / step.published));
    json.add("published_tokens_per_second", step.published);
  }
  return json;
}

// Of every case that has one, measured or left out.
void print_goals(const std::vector<StepCase>& cases, const std::map<std::string, Outcome>& outcomes,
                 Figures& figures) {
  nn::JsonWriter all;
  bool any = false;
  for (const StepCase& step : cases) {
    if (step.goal <= 0) continue;
    if (!any) {
      print_line("\n| goal (the faster of op by op and replayed) | tokens/s | measured | | by |");
      print_line("|---|--:|--:|---|---|");
    }
    any = true;
    nn::JsonWriter json;
    json.add("goal_tokens_per_second", step.goal);
    const std::string what = cat("| ", step.title, " | ", count_text(step.goal), " |");
    const auto found = outcomes.find(step.key);
    if (found == outcomes.end()) {
      print_line(what + " | not measured | |");
      json.add_null("measured_tokens_per_second").add("met", false);
    } else {
      const double speed = found->second.best_speed(step.model.resolved());
      const char* const variant = found->second.replay_is_faster() ? "replayed from graphs" : "op by op";
      const bool met = speed >= step.goal;
      print_line(cat(what, " ", count_text(speed), " | ", met ? "met" : "MISSED", " | ", variant, " |"));
      json.add("measured_tokens_per_second", speed).add("variant", variant).add("met", met);
    }
    all.add(step.key, json);
  }
  if (any) figures.emplace_back("goals", all);
}

nn::DitConfig demo_model() {
  nn::DitConfig model = demo_recipe().model;
  model.classes = 4;
  return model;
}

nn::DitConfig dit_s(int side) {
  nn::DitConfig model;
  model.heads = 6;
  model.head_dim = 64;
  model.layers = 12;
  model.height = model.width = side;
  model.attention = nn::AttentionKind::llsa;
  model.llsa.levels = 2;
  return model;
}

}  // namespace

std::vector<StepCase> step_cases(Device device) {
  std::vector<StepCase> cases;
  if (!device.is_cpu()) {
    // Published: LLSA on FFHQ at these sizes. The goals are those of a first version; the model of the
    // kernels predicts more.
    cases.push_back({"dit_s_256", "DiT-S step at 256 x 256", dit_s(256), {4, 2, 1}, 375.34e3, 0.8e6, 1.97e6});
    cases.push_back(
        {"dit_s_128", "DiT-S step at 128 x 128", dit_s(128), {16, 8, 4, 2, 1}, 436.40e3, 0.9e6, 2.18e6});
  }
  cases.push_back({"demo_step", "demo step", demo_model(), {demo_recipe().batch}});
  return cases;
}

std::vector<nn::DitConfig> step_problems(Device device) {
  std::vector<nn::DitConfig> problems = {demo_model()};
  if (device.is_cpu()) return problems;
  problems.push_back(dit_s(64));
  problems.back().layers = 2;
  return problems;
}

Figures bench_steps(const BenchRequest& request, const std::vector<nn::DitConfig>& problems,
                    const std::vector<StepCase>& cases, const TimingLimits& limits) {
  StepErrors worst;
  for (const nn::DitConfig& problem : problems) {
    const StepErrors errors = check_step(request, problem);
    worst.loss = std::max(worst.loss, errors.loss);
    worst.gradient = std::max(worst.gradient, errors.gradient);
    if (request.graph) check_replay(request, problem);
  }
  print_line(text("correct: against %s on the CPU, loss %.1e, gradients %.1e%s",
                  request.dtype == DType::bf16 ? "f32" : "f64", worst.loss, worst.gradient,
                  request.graph ? "; replays give the same bits as steps that are computed op by op" : ""));
  Figures figures;
  figures.emplace_back("correctness",
                       nn::JsonWriter().add("loss", worst.loss).add("gradient", worst.gradient));
  std::vector<std::string> left_out;
  std::map<std::string, Outcome> outcomes;
  for (const StepCase& step : cases) {
    if (request.budget.spent()) {
      left_out.push_back(step.title + ": the time was up");
      continue;
    }
    Outcome outcome;
    for (const std::int64_t count : step.batches) {
      try {
        outcome.plain = measure(request, step, count, false, limits);
        outcome.batch = count;
        break;
      } catch (const OutOfMemoryError& error) {
        left_out.push_back(cat(step.title, " with ", count, " images: ", error.what()));
      }
    }
    if (!outcome.plain) continue;
    if (request.graph) {
      const std::string what = step.title + ", replayed from graphs: ";
      try {
        const Measured replayed = measure(request, step, outcome.batch, true, limits);
        if (replayed.obstacle.empty())
          outcome.graph = replayed;
        else
          left_out.push_back(what + replayed.obstacle);
      } catch (const OutOfMemoryError& error) {
        left_out.push_back(what + error.what());
      }
    }
    figures.emplace_back(step.key, report(request, step, outcome));
    outcomes.emplace(step.key, outcome);
    if (!request.by_kernel) continue;
    try {
      const Profile profile = profile_step(request, step, outcome.batch);
      print_line("");
      for (const std::string& line : table_of(profile)) print_line(line);
      print_line(text("Without the timer a step takes %.4f ms.\n", 1e3 * outcome.plain->timing.median));
      figures.emplace_back(step.key + "_by_kernel", figure_of(profile));
    } catch (const OutOfMemoryError& error) {
      left_out.push_back(cat(step.title, " by kernel: ", error.what()));
    }
  }
  if (!request.by_kernel) print_goals(cases, outcomes, figures);
  for (const std::string& what : left_out) print_line("left out: " + what);
  figures.emplace_back("left_out", nn::JsonWriter().add("steps", left_out));
  return figures;
}

Figures bench_step(const BenchRequest& request) {
  const Device device = request.ctx.device();
  // On a GPU steps take as long each time; a CPU is shared with other programs.
  const TimingLimits limits = device.is_cuda() ? TimingLimits{100, 2.0, 0.2} : TimingLimits{400, 8.0, 0.5};
  return bench_steps(request, step_problems(device), step_cases(device), limits);
}

Timing time_training_step(Context& ctx, const nn::DitConfig& model, std::int64_t batch, DType dtype,
                          const TimingLimits& limits) {
  const BenchRequest request = {.ctx = ctx, .dtype = dtype, .ceilings = {}};
  Trainer trainer(request, model, batch, false);
  CallTimer timer(ctx);
  return time_calls(
      timer, [&](int) { trainer.run(1e-4); }, limits);
}

}  // namespace llsa::apps
