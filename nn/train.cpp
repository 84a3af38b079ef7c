#include "nn/train.h"

#include <algorithm>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "core/device_choice.h"
#include "core/machine.h"
#include "nn/data/held_out.h"
#include "nn/data/image_folder.h"
#include "nn/data/loader.h"
#include "nn/diffusion/flow.h"
#include "nn/ema.h"
#include "nn/eval/held_out_loss.h"
#include "nn/image_model.h"
#include "nn/optim.h"
#include "nn/schedule.h"
#include "nn/train_folder.h"
#include "nn/train_memory.h"
#include "nn/train_meter.h"
#include "nn/train_ranks.h"
#include "nn/train_step.h"

namespace llsa::nn {
namespace {

constexpr std::int64_t kStepsBeforeEarlyReport = 5;
constexpr std::int64_t kStepsBeforeProfile = 3;

// Without empty callbacks. The first process alone talks to the host.
TrainCallbacks complete(TrainCallbacks host, const Communicator& ranks) {
  if (!ranks.leads()) {
    host.on_report = {};
    host.on_evaluation = {};
    host.on_message = {};
    host.profile.on_profile = {};
  }
  if (!host.on_report) host.on_report = [](const StepReport&) {};
  if (!host.on_evaluation) host.on_evaluation = [](const EvaluationReport&) {};
  if (!host.on_message) host.on_message = [](const std::string&) {};
  if (!host.should_stop) host.should_stop = [] { return false; };
  if (!host.allow_changes) host.allow_changes = [](const std::vector<std::string>&) { return false; };
  return host;
}

// The options with everything filled in that depends on the data and on the processes: the classes, what `auto` stands
// for, the micro-batches of a step.
TrainOptions resolve(TrainOptions options, const ImageFolder& folder, const std::string& resumed_run,
                     const Communicator& ranks) {
  if (options.accumulate == 0)
    options.accumulate = resumed_run.empty() ? ranks.size() : stored_options(resumed_run).accumulate;
  if (options.accumulate < ranks.size())
    throw ValueError(cat("a step has ", options.accumulate,
                         " micro-batches, expected at least one for each of ", ranks.size(), " processes"),
                     "start fewer processes, or begin a run with a larger --accumulate");
  const auto found = static_cast<std::int64_t>(folder.class_names().size());
  if (options.model_classes < 0) options.model_classes = found;
  if (options.model_classes != 0 && options.model_classes != found) {
    throw ValueError(
        cat("the configuration has ", options.model_classes, " classes (num_embeds_ada_norm), ",
            folder.root(), " has ", found, " class folders"),
        "leave the key out to take the number from the folder, or set it to null to train without classes");
  }
  options.model.classes = static_cast<int>(options.model_classes);
  options.validate();
  options.model = options.model.resolved();
  return options;
}

LoaderOptions loader_options(const TrainOptions& options, const Communicator& ranks) {
  LoaderOptions loader;
  loader.rank = ranks.rank();
  loader.world = ranks.size();
  loader.micro_batches = options.accumulate;
  loader.batch = options.batch;
  loader.seed = static_cast<std::uint64_t>(options.seed);
  loader.workers = static_cast<int>(options.workers);
  loader.height = options.model.height;
  loader.width = options.model.width;
  loader.random_crop = options.crop == "random";
  loader.flip = options.flip;
  loader.cache_bytes = static_cast<std::size_t>(options.cache_mb) << 20;
  return loader;
}

FlowOptions flow_options(const TrainOptions& options) {
  FlowOptions flow;
  flow.law = noise_level_law(options.noise_level);
  flow.logit_normal = {options.noise_level_mean, options.noise_level_deviation};
  flow.class_drop = options.class_drop;
  flow.noise_scale = options.noise_scale;
  flow.loss = flow_loss_kind(options.loss);
  flow.seed = static_cast<std::uint64_t>(options.seed);
  return flow;
}

std::optional<HeldOutLoss> held_out_loss(const std::shared_ptr<const ImageFolder>& images,
                                         const TrainOptions& options) {
  if (!images) return std::nullopt;
  return HeldOutLoss(images, {options.eval_images, options.batch, options.noise_scale});
}

void make_scorer(std::optional<DrawnScorer>& scorer, const TrainRun& run,
                 std::shared_ptr<const ImageFolder> images, const std::string& out) {
  const TrainOptions& options = run.options;
  if (options.eval_every == 0 || options.eval_samples == 0) return;
  DrawnScoreOptions score = {.sampling = sampling_options(options), .inception = options.inception};
  score.sampling.count = options.eval_samples;
  score.sampling.batch = options.batch;
  if (!options.inception.empty()) score.statistics = out + "/inception_statistics.safetensors";
  scorer.emplace(run.ctx, std::move(images), options.model.height, options.model.width, score, run.ranks);
  for (const SkippedFile& file : scorer->skipped())
    run.host.on_message(cat("left out of the score: ", file.path, ": ", file.reason));
  const std::int64_t least = std::min(options.eval_samples, run.images.size());
  if (scorer->is_fid() && least <= Inception::kFeatures)
    run.host.on_message(cat("FID of ", least, " images: a covariance of ", Inception::kFeatures,
                            " features needs ", Inception::kFeatures + 1,
                            ", with fewer it comes out too large"));
}

// Published PixelFlow models average at a constant decay.
EmaOptions ema_options(const TrainOptions& options, double max_decay) {
  return {
      .power = options.ema_power, .max_decay = max_decay, .warm_up = options.model_kind() == ModelKind::dit};
}

AdamWOptions adamw_options(const TrainOptions& options) {
  return {.beta1 = options.beta1,
          .beta2 = options.beta2,
          .eps = options.eps,
          .weight_decay = options.weight_decay,
          .clip = options.clip};
}

Schedule schedule_of(const TrainOptions& options) {
  const Schedule schedule{schedule_kind(options.schedule), options.lr, options.warmup, options.steps,
                          options.lr_final};
  schedule.validate();
  return schedule;
}

// "256 tokens each", "4, 16, 64, 256 tokens in 4 stages".
std::string tokens_text(const ImageModel& model) {
  const std::vector<std::int64_t> stages = model.tokens_per_stage();
  std::string text = cat(stages[0]);
  for (std::size_t i = 1; i < stages.size(); ++i) text += cat(", ", stages[i]);
  return text +
         (stages.size() == 1 ? std::string(" tokens each") : cat(" tokens in ", stages.size(), " stages"));
}

void introduce_held_out(const TrainRun& run) {
  const ImageFolder& images = run.held_out->folder();
  run.host.on_message(
      cat("held out: ", images.size(), " images in ", images.root(),
          run.held_out->size() < images.size()
              ? cat("; the loss is that of ", run.held_out->size(), " of them (--eval-images)")
              : std::string()));
  if (images.root() != run.images.root())
    for (const std::string& warning : images.warnings()) run.host.on_message(cat("held out: ", warning));
  if (const std::string text = copies_text(run.images, images); !text.empty()) run.host.on_message(text);
  const std::vector<std::int64_t> counts = run.images.class_counts();
  for (std::size_t i = 0; i < run.images.class_names().size(); ++i)
    if (counts[i] == 0)
      run.host.on_message(
          cat("all images of the class ", run.images.class_names()[i], " are held out: none is trained on"));
}

// Says what is about to happen, because the first report may take minutes.
void introduce(const TrainRun& run, const DeviceChoice& choice) {
  const TrainOptions& options = run.options;
  const bool cuda = choice.device.is_cuda();
  run.host.on_message(
      cat("computing on ", choice.device.str(),
          cuda ? ", " + cuda::device_properties(choice.device.index).name : std::string(), " in ",
          options.dtype, run.ranks.size() > 1 ? cat(", ", run.ranks.size(), " processes") : std::string(),
          ": ", run.images.size(), " images",
          options.model.classes > 0 ? cat(" in ", options.model.classes, " classes") : std::string(), ", ",
          tokens_text(run.model), ", ", tokens_per_step(run.model, options), " per step, ",
          name_of(options.model.attention), " attention, ", run.model.parameters().parameter_count(),
          " parameters"));
  if (options.model.classes > 0) run.host.on_message(cat("classes: ", run.images.class_summary()));
  for (const std::string& text :
       {passed_over_text(choice),
        slower_attention_text(options.model, choice.device, dtype_from_name(options.dtype))})
    if (!text.empty()) run.host.on_message(text);
  const TrainMemory memory = train_memory(options, run.model.parameters().flat_size(), run.images.size(),
                                          choice.device, run.ranks.size());
  run.host.on_message(memory_table(memory, choice.device));
  for (const std::string& warning : run.images.warnings()) run.host.on_message(warning);
  if (run.held_out) introduce_held_out(run);
}

// Does steps, and times those that the host has asked for.
class ProfiledSteps {
 public:
  explicit ProfiledSteps(const TrainRun& run) : request_(run.host.profile) {
    if (request_.steps > 0 && request_.on_profile) profiler_.emplace(run.ctx, request_.ranges);
  }

  bool do_step(TrainMeter& meter) {
    if (!profiler_) return meter.do_step();
    bool done = false;
    {
      const Profiler::Running running(*profiler_);
      done = meter.do_step();
    }
    ++steps_;
    if (steps_ == kStepsBeforeProfile) profiler_->clear();
    if (steps_ == kStepsBeforeProfile + request_.steps) finish();
    return done;
  }

  void finish() {
    if (profiler_ && steps_ > kStepsBeforeProfile) request_.on_profile(profiler_->read());
    profiler_.reset();
  }

 private:
  const ProfileRequest& request_;
  std::optional<Profiler> profiler_;
  std::int64_t steps_ = 0;
};

// The steps of the run, and the checkpoints, grids and evaluations between them.
void run_steps(const TrainRun& run, TrainFolder& folder, TrainMeter& meter,
               const std::function<bool()>& should_stop) {
  const TrainOptions& options = run.options;
  const std::int64_t start = meter.step();
  const auto finished = [&] { return meter.step() >= options.steps; };
  const auto due = [&](std::int64_t every) {
    return every > 0 && meter.step() > 0 && (meter.step() % every == 0 || finished());
  };
  const auto evaluation_due = [&] { return due(options.eval_every) && !folder.evaluated(meter.step()); };
  // A run that was stopped or killed after its last checkpoint makes up for what was due then.
  if (evaluation_due()) folder.evaluate(meter.step());
  if (due(options.sample_every) && !folder.has_grid(meter.step())) folder.draw(meter.step());
  ProfiledSteps steps(run);
  while (!finished() && !should_stop()) {
    if (!steps.do_step(meter)) break;
    const bool log = due(options.log_every), save = due(options.save_every) || finished(),
               draw = due(options.sample_every), evaluate = evaluation_due(),
               early = meter.step() == start + kStepsBeforeEarlyReport && !log;
    // Losses are read first, so that no diverged weights are saved.
    if (log || early || save || draw || evaluate || meter.full()) meter.read();
    if (log) meter.log();
    if (early) meter.report_early();
    meter.pause();
    if (evaluate) folder.evaluate(meter.step());
    if (log) meter.report();
    if (save && folder.saved_step() != meter.step()) folder.save(meter.step(), finished());
    if (draw) folder.draw(meter.step());  // after saving: it may take more memory than a step
    meter.unpause();
  }
  steps.finish();
  if (finished()) return;
  meter.read();
  meter.log();
  if (folder.saved_step() != meter.step()) folder.save(meter.step());
  meter.report();
}

// Saves what was learnt since the last checkpoint after a failure. The caller gets the exception of that failure;
// if saving fails, too, only a message says so.
void rescue(const TrainRun& run, TrainFolder& folder, TrainMeter& meter) {
  if (meter.step() == 0 || meter.step() == folder.tried_step()) return;
  try {
    try {
      meter.read();
      meter.log();
      folder.save(meter.step());
      run.host.on_message(cat("saved at step ", meter.step(), " before the failure"));
    } catch (const std::exception& error) {
      run.host.on_message(cat("step ", meter.step(), " could not be saved: ", error.what()));
    }
  } catch (...) {  // the callback fails, too
  }
}

}  // namespace

TrainResult train(const TrainOptions& given, const std::string& out, bool resume,
                  const TrainCallbacks& callbacks, Communicator& ranks) {
  const TrainCallbacks host = complete(callbacks, ranks);
  const std::function<bool()> should_stop = [&] { return ranks.any(host.should_stop()); };
  const auto images = std::make_shared<const ImageFolder>(given.data, decode_options(given),
                                                          classes_from_name(given.classes));
  const TrainOptions options = resolve(given, *images, resume ? out : std::string(), ranks);
  const HeldOutSplit split =
      hold_out(images, options.held_out, decode_options(options), options.model.classes > 0);
  const LocalRank local = local_rank(ranks);
  const DeviceChoice choice = device_of_rank(options, local);
  Context ctx(choice.device, threads_of_rank(options, ranks));
  ctx.allow_tf32(options.tf32);
  const double host_room = static_cast<double>(available_memory()) / local.size,
               room = choice.device.is_cpu() ? static_cast<double>(ctx.allocator()->available()) / local.size
                                             : static_cast<double>(ctx.allocator()->available());

  // The model; batches of images; the loss of its prediction; the update of its weights and their average.
  const std::unique_ptr<ImageModel> made =
      make_model(ctx, options.model_kind(), options.model, static_cast<std::uint64_t>(options.seed),
                 dtype_from_name(options.dtype));
  ImageModel& model = *made;
  require_memory(options, model.parameters().flat_size(), split.training->size(), choice.device, room,
                 host_room, ranks.size());
  model.parameters().share(ranks);
  Loader loader(ctx, split.training, loader_options(options, ranks));
  model.set_recompute(options.recompute);
  AdamW optimizer(model.parameters(), adamw_options(options));
  Ema ema(model.parameters(), ema_options(options, options.ema_max));
  for (const double decay : ema_decays(options.ema_also)) ema.keep_beside(ema_options(options, decay));
  const Schedule schedule = schedule_of(options);
  TrainStep step(model.parameters(), optimizer, &ema, model.objective(loader, flow_options(options)),
                 {options.accumulate, options.graph, std::ref(host.on_message), should_stop});
  std::optional<HeldOutLoss> held_out = held_out_loss(split.held_out, options);
  std::optional<DrawnScorer> scorer;

  const TrainRun run{options,   host, *split.training, ranks, ctx,      loader, model,
                     optimizer, ema,  schedule,        step,  held_out, scorer};
  introduce(run, choice);
  make_scorer(scorer, run, split.training, out);
  TrainFolder folder(run, out);
  std::int64_t start = 0;
  if (resume)
    start = folder.resume();
  else
    folder.begin();
  require_alike(ranks, {{"configuration", options.json()},
                        {"set of images", cat(split.training->fingerprint(), ' ',
                                              split.held_out ? split.held_out->fingerprint() : 0)}});
  TrainMeter meter(run, folder, start);
  try {
    run_steps(run, folder, meter, should_stop);
  } catch (const NonFiniteError&) {
    throw;  // the last checkpoint is the best there is
  } catch (...) {
    if (ranks.size() == 1) rescue(run, folder, meter);  // the others have to take part in saving
    throw;
  }
  return {meter.step(), meter.step() < options.steps, meter.loss(), folder.checkpoint(),
          folder.best_checkpoint()};
}

}  // namespace llsa::nn
