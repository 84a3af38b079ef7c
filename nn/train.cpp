#include "nn/train.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "autograd/var.h"
#include "core/device_choice.h"
#include "kernels/copy.h"
#include "kernels/matmul.h"
#include "nn/attention_text.h"
#include "nn/checkpoint/diffusers.h"
#include "nn/checkpoint/run_folder.h"
#include "nn/checkpoint/training_state.h"
#include "nn/checkpoint/tuning_file.h"
#include "nn/data/grid.h"
#include "nn/data/image_folder.h"
#include "nn/data/loader.h"
#include "nn/diffusion/flow.h"
#include "nn/diffusion/sampler.h"
#include "nn/dit.h"
#include "nn/ema.h"
#include "nn/host.h"
#include "nn/optim.h"
#include "nn/schedule.h"
#include "nn/train_log.h"
#include "nn/train_step.h"

namespace llsa::nn {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Losses and gradient norms of the steps since the last report stay on the device until then, so that a step
// does not wait for them. This bounds how many there are.
constexpr std::int64_t kMostUnread = 1024;

struct Unread {
  Tensor losses;                       // f32 [kMostUnread]
  Tensor norms;                        // f64 [kMostUnread]
  std::vector<LoaderState> positions;  // of the loader before each of these steps
};

DecodeOptions decode_options(const TrainOptions& options) {
  return {parse_colour(options.background), options.max_pixels};
}

// The options with everything filled in that depends on the data: the classes, what `auto` stands for.
TrainOptions resolve(TrainOptions options, const ImageFolder& folder) {
  const auto found = static_cast<std::int64_t>(folder.class_names().size());
  if (options.model_classes < 0) options.model_classes = found;
  if (options.model_classes != 0 && options.model_classes != found) {
    throw ValueError(
        cat("the configuration has ", options.model_classes, " classes (num_embeds_ada_norm), ",
            folder.root(), " has ", found, " class folders"),
        "leave the key out to take the number from the folder, or set it to null to train without classes");
  }
  options.model.classes = static_cast<int>(options.model_classes);
  options.model = options.model.resolved();
  options.validate();
  return options;
}

class Run {
 public:
  Run(const TrainOptions& given, const std::string& out, bool resume, const TrainCallbacks& callbacks)
      : callbacks_(callbacks),
        files_(out),
        tuning_(files_.tuning_path()),
        images_(std::make_shared<const ImageFolder>(given.data, decode_options(given))),
        options_(resolve(given, *images_)),
        choice_(choose_device(options_.device)),
        ctx_(choice_.device, static_cast<int>(options_.threads)),
        model_(ctx_, options_.model, static_cast<std::uint64_t>(options_.seed),
               dtype_from_name(options_.dtype)),
        optimizer_(model_.parameters(),
                   {{options_.beta1, options_.beta2, options_.eps, options_.weight_decay}, options_.clip}),
        ema_(model_.parameters(), {options_.ema_power, options_.ema_max}),
        loader_(ctx_, images_, loader_options()),
        schedule_{schedule_kind(options_.schedule), options_.lr, options_.warmup, options_.steps,
                  options_.lr_final},
        train_step_(model_, optimizer_, ema_, loader_, step_options(),
                    [this](const std::string& message) { say(message); }) {
    schedule_.validate();
    model_.set_recompute(options_.recompute);
    ctx_.allow_tf32(options_.tf32);
    introduce();
    for (const std::string& warning : images_->warnings()) say(warning);
    resume ? continue_run() : begin_run();
    settle_products(resume);
    unread_.losses = ctx_.zeros({kMostUnread}, DType::f32);
    unread_.norms = ctx_.zeros({kMostUnread}, DType::f64);
    interval_start_ = Clock::now();
    wait_before_ = loader_.wait_seconds();
    synchronizations_before_ = ctx_.synchronizations();
  }

  bool finished() const { return step_ >= options_.steps; }
  bool interrupted() const { return callbacks_.should_stop && callbacks_.should_stop(); }

  // One optimiser step.
  void advance() {
    const auto slot = static_cast<std::int64_t>(unread_.positions.size());
    unread_.positions.push_back(loader_.state());
    train_step_.run(schedule_.at(step_));
    kernels::copy(ctx_, train_step_.loss(), unread_.losses.select(0, slot));
    kernels::copy(ctx_, optimizer_.gradient_norm(), unread_.norms.slice(0, slot, slot + 1));
    ++step_;
  }

  // What the intervals ask for after a step. Reading the losses first makes sure that nothing is saved that
  // has diverged.
  void attend_to_intervals() {
    const bool log = due(options_.log_every) || finished();
    const bool draw = due(options_.sample_every) || (finished() && options_.sample_every > 0);
    const bool keep = due(options_.save_every);
    if (log || draw || keep || static_cast<std::int64_t>(unread_.positions.size()) == kMostUnread)
      read_losses();
    if (log) report();
    const auto paused = Clock::now();
    if (keep || finished()) save_checkpoint();
    if (draw) save_grid();  // takes more memory than a step, and may fail
    interval_start_ += Clock::now() - paused;
  }

  TrainResult result() {
    const bool stopped = !finished();
    if (stopped) {
      read_losses();
      if (loss_count_ > 0) report();
      if (saved_step_ != step_) save_checkpoint();
    }
    return {step_, stopped, last_loss_, checkpoint_};
  }

 private:
  void say(const std::string& message) const {
    if (callbacks_.on_message) callbacks_.on_message(message);
  }
  // What is about to happen: the first report may take minutes.
  void introduce() const {
    const bool cuda = ctx_.device().is_cuda();
    say(cat("computing on ", ctx_.device().str(),
            cuda ? ", " + cuda::device_properties(ctx_.device().index).name : std::string(), " in ",
            options_.dtype, ": ", images_->size(), " images",
            options_.model.classes > 0 ? cat(" in ", options_.model.classes, " classes") : std::string(),
            ", ", options_.model.tokens(), " tokens each, ", name_of(options_.model.attention),
            " attention, ", model_.parameters().parameter_count(), " parameters"));
    for (const std::string& text :
         {passed_over_text(choice_),
          slower_attention_text(options_.model, choice_.device, dtype_from_name(options_.dtype))})
      if (!text.empty()) say(text);
  }
  bool due(std::int64_t every) const { return every > 0 && step_ % every == 0; }

  LoaderOptions loader_options() const {
    LoaderOptions loader;
    loader.batch = options_.batch;
    loader.seed = static_cast<std::uint64_t>(options_.seed);
    loader.workers = static_cast<int>(options_.workers);
    loader.height = options_.model.height;
    loader.width = options_.model.width;
    loader.random_crop = options_.crop == "random";
    loader.flip = options_.flip;
    loader.cache_bytes = static_cast<std::size_t>(options_.cache_mb) << 20;
    return loader;
  }

  TrainStepOptions step_options() const {
    FlowOptions flow;
    flow.law = noise_level_law(options_.noise_level);
    flow.class_drop = options_.class_drop;
    flow.null_class = model_.null_class();
    flow.noise_scale = options_.noise_scale;
    flow.seed = static_cast<std::uint64_t>(options_.seed);
    return {flow, options_.accumulate, options_.graph};
  }

  void begin_run() {
    if (const auto latest = files_.latest()) {
      throw ValueError(cat(files_.root(), " holds a run already, with a checkpoint at step ", latest->step),
                       "go on with it by --resume, or give another --out");
    }
    files_.prepare();
    if (!options_.init_from.empty()) {
      const std::string source = resolve_checkpoint(options_.init_from);
      say(cat("weights from ", source));
      for (const std::string& note : init_from_diffusers_model(model_, source)) say(note);
    }
    write_run_config(files_, options_);
    log_ = std::make_unique<TrainLog>(files_.log_path(), 0);
  }

  // What read() reads of the latest checkpoint; if that is damaged, the error says how to go on without it.
  template <class Read>
  auto read_checkpoint(const CheckpointPath& latest, Read read) {
    const auto hint = [&](const Error& error) {
      const std::vector<CheckpointPath> all = files_.checkpoints();
      return all.size() < 2 ? error.hint()
                            : cat("move ", latest.path, " away to go on from step ", all[all.size() - 2].step,
                                  ", the checkpoint before it");
    };
    try {
      return read();
    } catch (const IoError& error) {
      throw IoError(error.what(), hint(error));
    } catch (const ValueError& error) {
      throw ValueError(error.what(), hint(error));
    }
  }

  void continue_run() {
    const CheckpointPath latest = checkpoint_to_resume(files_);
    const auto obstacles = read_checkpoint(
        latest, [&] { return resume_obstacles(read_training_options(latest.path), options_); });
    if (!obstacles.empty()) {
      std::string message = cat("cannot resume ", files_.root(), " with another configuration:");
      for (const std::string& obstacle : obstacles) message += "\n  " + obstacle;
      throw ValueError(message,
                       "steps, intervals, device and threads may change; for anything else start a new run, "
                       "with --init-from for the weights");
    }
    files_.prepare();
    const TrainingCounters counters = read_checkpoint(
        latest, [&] { return restore_training_state(latest.path, model_.parameters(), optimizer_, ema_); });
    step_ = last_report_ = counters.step;
    loader_.restore(counters.loader);
    checkpoint_ = latest.path;
    saved_step_ = step_;
    say(cat("resumed at step ", step_, " from ", latest.path));
    write_run_config(files_, options_);
    log_ = std::make_unique<TrainLog>(files_.log_path(), step_);
  }

  // Before the first product: by which algorithms products are computed. What the run has chosen earlier it
  // keeps, whether it still tunes or not, so that a resumed run gives the same bits.
  void settle_products(bool resume) {
    if (!resume) tuning_.remove();
    if (const std::string note = tuning_.restore(ctx_); !note.empty()) say(note);
    if (options_.tune && ctx_.device().is_cpu())
      say("tune: the cpu has one algorithm for every product, there is nothing to choose");
    kernels::tune_products(ctx_, options_.tune);
  }

  // Brings the unread losses to the host. Throws NonFiniteError for the first step that went wrong.
  void read_losses() {
    const auto count = static_cast<std::int64_t>(unread_.positions.size());
    if (count == 0) return;
    const std::vector<float> losses = kernels::to_vector<float>(ctx_, unread_.losses.slice(0, 0, count));
    const std::vector<double> norms = kernels::to_vector<double>(ctx_, unread_.norms.slice(0, 0, count));
    for (std::size_t i = 0; i < losses.size(); ++i) {
      if (!std::isfinite(losses[i]) || !std::isfinite(norms[i])) {
        log_diverged(i, losses[i], norms[i]);
        fail_at(i, losses[i]);
      }
      loss_sum_ += losses[i];
      last_norm_ = norms[i];
    }
    loss_count_ += count;
    unread_.positions.clear();
  }

  std::int64_t step_of(std::size_t slot) const {
    return step_ - static_cast<std::int64_t>(unread_.positions.size() - slot) + 1;
  }

  // The log's last lines: the steps before that one, and that one.
  void log_diverged(std::size_t slot, double loss, double norm) {
    StepReport report;
    report.steps = options_.steps;
    report.memory = ctx_.allocator()->stats();
    const std::int64_t good = loss_count_ + static_cast<std::int64_t>(slot);
    report.step = step_of(slot) - 1;
    if (good > 0) {
      report.loss = loss_sum_ / static_cast<double>(good);
      report.gradient_norm = last_norm_;
      report.learning_rate = schedule_.at(report.step - 1);
      log_->write(report);
    }
    ++report.step;
    report.loss = loss;
    report.gradient_norm = norm;
    report.learning_rate = schedule_.at(report.step - 1);
    log_->write(report);
  }

  // The optimiser has not moved the weights since that step, so doing it again shows where it went wrong.
  [[noreturn]] void fail_at(std::size_t slot, float loss) {
    const std::int64_t step = step_of(slot);
    std::string cause = cat("loss ", loss, ", no single op to blame");
    loader_.restore(unread_.positions[slot]);
    model_.parameters().zero_grad();
    try {
      const FindNonFinite finder;
      for (std::int64_t i = 0; i < options_.accumulate; ++i) backward(train_step_.next_loss());
    } catch (const NonFiniteError& error) {
      cause = error.what();
    }
    throw NonFiniteError(cat("training diverged at step ", step, ": ", cause),
                         cat("a lower --lr or a longer --warmup may help; ",
                             checkpoint_.empty() ? "there is no checkpoint yet"
                                                 : "the last good checkpoint is " + checkpoint_));
  }

  void report() {
    const double seconds = seconds_since(interval_start_);
    const double wait = loader_.wait_seconds();
    const std::int64_t steps = step_ - last_report_;
    const double rate = seconds > 0 ? static_cast<double>(steps) / seconds : 0;
    StepReport report;
    report.step = step_;
    report.steps = options_.steps;
    report.loss = last_loss_ = loss_sum_ / static_cast<double>(loss_count_);
    report.gradient_norm = last_norm_;
    report.learning_rate = schedule_.at(step_ - 1);
    report.tokens_per_second =
        rate * static_cast<double>(options_.batch * options_.accumulate * options_.model.tokens());
    report.data_wait = seconds > 0 ? std::min(1.0, (wait - wait_before_) / seconds) : 0;
    report.remaining_seconds = rate > 0 ? static_cast<double>(options_.steps - step_) / rate : 0;
    report.memory = ctx_.allocator()->stats();
    report.synchronizations = ctx_.synchronizations() - synchronizations_before_;
    log_->write(report);
    if (callbacks_.on_report) callbacks_.on_report(report);
    for (; failures_told_ < loader_.failures().size(); ++failures_told_) {
      const SkippedFile file = loader_.failures()[failures_told_];
      say(cat("left out ", file.path, ": ", file.reason));
    }
    loss_sum_ = 0;
    loss_count_ = 0;
    last_report_ = step_;
    interval_start_ = Clock::now();
    wait_before_ = wait;
    synchronizations_before_ = ctx_.synchronizations();
  }

  void save_grid() {
    ScopedWeights averaged(model_.parameters(), ema_.flat());
    SampleOptions sampling;
    sampling.count = options_.sample_count;
    sampling.guidance = options_.model.classes > 0 ? options_.guidance : 1.0;
    sampling.steps = static_cast<int>(options_.sample_steps);
    sampling.seed = static_cast<std::uint64_t>(options_.seed);
    sampling.noise_scale = options_.noise_scale;
    const Tensor images = to_host(ctx_, sample(ctx_, model_, sampling));
    averaged.restore();
    std::vector<std::int32_t> classes;
    for (std::int64_t i = 0; i < sampling.count && options_.model.classes > 0; ++i) {
      classes.push_back(static_cast<std::int32_t>(i % options_.model.classes));
    }
    write_png(files_.sample_path(step_), make_grid(images, classes));
  }

  void save_checkpoint() {
    tuning_.save(ctx_);  // first: the checkpoint's steps were computed by these algorithms
    checkpoint_ = files_.save(step_, [&](const std::string& folder) {
      const double scale = options_.noise_scale > 0
                               ? options_.noise_scale
                               : noise_rescale(options_.model.height, options_.model.width);
      const auto names = options_.model.classes > 0 ? images_->class_names() : std::vector<std::string>{};
      write_diffusers_model(folder, model_, ema_.flat(), scale, names);
      write_training_state(folder, options_, model_.parameters(), optimizer_, {step_, loader_.state()});
    });
    saved_step_ = step_;
    files_.prune(options_.keep);
  }

  const TrainCallbacks& callbacks_;
  RunFolder files_;
  TuningFile tuning_;
  std::shared_ptr<const ImageFolder> images_;
  TrainOptions options_;
  DeviceChoice choice_;
  Context ctx_;
  Dit model_;
  AdamW optimizer_;
  Ema ema_;
  Loader loader_;
  Schedule schedule_;
  TrainStep train_step_;
  std::unique_ptr<TrainLog> log_;
  std::string checkpoint_;  // the last one
  std::int64_t saved_step_ = -1;

  std::int64_t step_ = 0;
  Unread unread_;
  double loss_sum_ = 0;  // of the steps since the last report
  std::int64_t loss_count_ = 0;
  double last_loss_ = 0;
  double last_norm_ = 0;
  std::int64_t last_report_ = 0;
  std::size_t failures_told_ = 0;
  Clock::time_point interval_start_;
  double wait_before_ = 0;
  std::uint64_t synchronizations_before_ = 0;
};

}  // namespace

TrainResult train(const TrainOptions& options, const std::string& out, bool resume,
                  const TrainCallbacks& callbacks) {
  Run run(options, out, resume, callbacks);
  while (!run.finished() && !run.interrupted()) {
    run.advance();
    run.attend_to_intervals();
  }
  return run.result();
}

}  // namespace llsa::nn
