#include "nn/train_folder.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <exception>
#include <functional>
#include <new>
#include <tuple>
#include <utility>

#include "core/atomic_file.h"
#include "core/number.h"
#include "core/text_file.h"
#include "kernels/copy.h"
#include "kernels/make.h"
#include "kernels/matmul.h"
#include "nn/checkpoint/checksums.h"
#include "nn/checkpoint/diffusers.h"
#include "nn/checkpoint/init_from.h"
#include "nn/data/grid.h"
#include "nn/data/image_list.h"
#include "nn/diffusion/flow.h"
#include "nn/diffusion/sampler.h"
#include "nn/json.h"
#include "nn/number_list.h"
#include "nn/share_work.h"
#include "nn/train_machine.h"

namespace llsa::nn {
namespace {

// Of a checkpoint.
constexpr const char* kOptions = "training_state/config.json";
constexpr const char* kImages = "training_state/images.list";
constexpr std::size_t kLongestImageList = std::size_t{4} << 30;

// The images that a checkpoint was trained on. Checkpoints of earlier versions do not list them.
std::optional<std::vector<ImageEntry>> read_image_list(const std::string& checkpoint) {
  const std::string path = checked_file(checkpoint, kImages);
  return path_exists(path) ? parse_image_list(read_text_file(path, kLongestImageList)) : std::nullopt;
}

// The name of an average in a checkpoint.
std::string name_of(const Ema& average) { return number_text(average.options().max_decay); }

// What read() reads of a checkpoint. If that is damaged, the error says how to go on without it.
template <class Read>
auto read_checkpoint(const CheckpointPath& latest, Read read) {
  const auto hint = [&](const Error& error) {
    const std::string &own = error.hint(), way = way_around(latest.path);
    if (own.empty() || way.empty()) return own + way;
    return own.find(way) != std::string::npos ? own : cat(own, "; ", way);
  };
  try {
    return read();
  } catch (const IoError& error) {
    throw IoError(error.what(), hint(error));
  } catch (const ValueError& error) {
    throw ValueError(error.what(), hint(error));
  }
}

// Does work that the run does not depend on. If it fails, a warning says so.
template <class Work>
void attempt(const TrainCallbacks& host, const std::string& failure, Work work) {
  const auto tell = [&](const std::exception& error) {
    host.on_message(cat("warning: ", failure, ": ", error.what()));
  };
  try {
    work();
  } catch (const Error& error) {
    tell(error);
  } catch (const std::bad_alloc& error) {
    tell(error);
  }
}

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += "\n  " + line;
  return text;
}

std::string images_text(const HeldOutLoss& loss) { return std::to_string(loss.folder().fingerprint()); }

bool same_images(const BestCheckpoint& best, const HeldOutLoss& held_out) {
  const auto images = as_number<std::uint64_t>(best.images);
  return images && held_out.folder().matches(*images);
}

// Held-out losses can be compared only if they are over the same images and noise. The training images do not matter.
bool best_is_comparable(const BestCheckpoint& best, const HeldOutLoss& held_out,
                        const std::vector<SettingChange>& changes) {
  constexpr std::array kDecisive = {"eval_images", "noise_scale", "background", "exif"};
  return same_images(best, held_out) &&
         std::none_of(changes.begin(), changes.end(), [&](const SettingChange& change) {
           return std::find(kDecisive.begin(), kDecisive.end(), change.key) != kDecisive.end();
         });
}

// Where the loader continues. Other images have another order, so they begin with a new epoch.
LoaderState position_on_resume(const LoaderState& saved, const LoaderState& now, bool same_seed,
                               bool same_images) {
  const std::uint64_t seed = same_seed ? saved.seed : now.seed;
  if (!same_images) return {seed, saved.epoch + 1, 0, now.fingerprint};
  return {seed, saved.epoch, saved.cursor, saved.fingerprint};
}

}  // namespace

TrainFolder::TrainFolder(const TrainRun& run, const std::string& path)
    : run_(run),
      state_{run.model.parameters(), run.optimizer, nullptr, &run.loader},
      files_(path),
      tuning_(files_.tuning_path()) {}

void TrainFolder::begin() {
  if (leads()) {
    if (files_.holds_run()) {
      throw ValueError(
          cat(files_.root(), " holds a run already, with a checkpoint at step ", files_.latest()->step),
          "go on with it by --resume, or give another --out");
    }
    files_.prepare();
    files_.mark_new();
  }
  if (!run_.options.init_from.empty()) {
    const std::string source = resolve_checkpoint(run_.options.init_from);
    run_.host.on_message(cat("weights from ", source));
    for (const std::string& note : init_from_diffusers_model(run_.model, source, class_names()))
      run_.host.on_message(note);
  }
  if (leads()) {
    write_file_atomically(files_.config_path(), run_.options.json());
    log_ = std::make_unique<TrainLog>(files_.log_path(), 0, run_.host.on_message);
    log_->write_machine(0, machine_text(run_.ctx, run_.ranks.size()));
  }
  settle_products(false);
}

std::int64_t TrainFolder::resume() {
  const CheckpointPath latest = checkpoint_to_resume(files_);
  const auto before = read_checkpoint(latest, [&] {
    return std::tuple{read_training_options(latest.path), read_loader_state(latest.path),
                      read_image_list(latest.path)};
  });
  const TrainOptions& stored = std::get<0>(before);
  const LoaderState& saved = std::get<1>(before);
  const auto& images = std::get<2>(before);
  std::vector<SettingChange> changes = changes_on_resume(stored, run_.options);
  const bool same_data = run_.images.matches(saved.fingerprint);
  if (!same_data)
    changes.push_back({"data", OnResume::ask,
                       cat("data: the images in ", run_.images.root(), " are not those of the saved run",
                           images ? cat(": ", image_changes(*images, run_.images.entries()))
                                  : std::string(" (added, removed, renamed, changed, or held out)"))});
  const auto best = leads() ? files_.best() : std::nullopt;
  const bool comparable = !best || !run_.held_out || best_is_comparable(*best, *run_.held_out, changes);
  if (!comparable && !same_images(*best, *run_.held_out))
    changes.push_back({"held_out", OnResume::ask,
                       cat("held_out: the held-out images in ", run_.held_out->folder().root(),
                           " are not those of the saved run (added, removed, renamed or changed)")});
  const std::vector<std::string> notes = require_allowed(changes);

  if (leads()) files_.prepare();
  saved_step_ = read_checkpoint(latest, [&] {
    const std::int64_t step =
        restore_training_state(latest.path, {state_.parameters, state_.optimizer, nullptr, nullptr});
    run_.ema.restore(read_diffusers_weights(run_.model.parameters(), latest.path), step);
    for (const auto& other : run_.ema.others())
      other->restore(read_diffusers_weights(run_.model.parameters(), latest.path, name_of(*other)), step);
    run_.loader.restore(
        position_on_resume(saved, run_.loader.state(), stored.seed == run_.options.seed, same_data));
    return step;
  });
  checkpoint_ = latest.path;
  run_.host.on_message(cat("resumed at step ", saved_step_, " from ", latest.path));
  if (!notes.empty())
    run_.host.on_message(
        cat("changed; from here on the weights may differ from those of a run without the change:",
            joined(notes)));
  if (!comparable) {
    files_.unmark_best();
    run_.host.on_message(
        "earlier held-out losses cannot be compared: the best checkpoint is looked for anew");
  }
  if (leads()) {
    write_file_atomically(files_.config_path(), run_.options.json());
    log_ = std::make_unique<TrainLog>(files_.log_path(), saved_step_, run_.host.on_message);
    log_->write_machine(saved_step_, machine_text(run_.ctx, run_.ranks.size()));
    log_->write(saved_step_, notes);
  }
  settle_products(true);
  return saved_step_;
}

// A sentence for each change. Throws ValueError for changes that are impossible or that the host does not allow.
std::vector<std::string> TrainFolder::require_allowed(const std::vector<SettingChange>& changes) const {
  std::vector<std::string> refused, asked, all;
  for (const SettingChange& change : changes) {
    all.push_back(change.text);
    if (change.on_resume == OnResume::refuse) refused.push_back(change.text);
    if (change.on_resume == OnResume::ask) asked.push_back(change.text);
  }
  if (!refused.empty())
    throw ValueError(cat("cannot resume ", files_.root(), " with another configuration:", joined(refused)),
                     "start a new run, with --init-from for the weights");
  if (!asked.empty() && !run_.host.allow_changes(asked))
    throw ValueError(
        cat("to resume ", files_.root(), " would change what it learns from:", joined(asked)),
        "restore the earlier settings and images, or give --allow-changes to go on with the changes");
  return all;
}

std::vector<std::string> TrainFolder::class_names() const {
  return run_.options.model.classes > 0 ? run_.images.class_names() : std::vector<std::string>{};
}

// Decides before the first product by which algorithms products are computed. What the run has chosen earlier
// it keeps, whether it still tunes or not, so that a resumed run gives the same bits.
void TrainFolder::settle_products(bool resumed) {
  if (!resumed && leads()) tuning_.remove();
  if (const std::string note = resumed ? tuning_.restore(run_.ctx) : ""; !note.empty())
    run_.host.on_message(note);
  if (run_.options.tune && run_.ctx.device().is_cpu())
    run_.host.on_message("tune: the cpu has one algorithm for every product, there is nothing to choose");
  kernels::tune_products(run_.ctx, run_.options.tune);
}

// Nothing when the host wants to stop.
std::optional<double> TrainFolder::held_out_loss() {
  HeldOutLoss& loss_of = *run_.held_out;
  const std::size_t known = loss_of.skipped().size();
  const std::optional<double> loss =
      loss_of(run_.ctx, run_.model, {.should_stop = std::ref(run_.host.should_stop)}, run_.ranks);
  for (std::size_t i = known; i < loss_of.skipped().size(); ++i)
    run_.host.on_message(
        cat("left out held-out ", loss_of.skipped()[i].path, ": ", loss_of.skipped()[i].reason));
  return loss;
}

void TrainFolder::log(const StepReport& report) {
  if (leads()) log_->write(report);
}

bool TrainFolder::evaluated(std::int64_t step) const {
  return run_.ranks.any(leads() && log_->evaluated_step() >= step);
}

bool TrainFolder::has_grid(std::int64_t step) const {
  return run_.ranks.any(leads() && path_exists(files_.sample_path(step)));
}

// As attempt(), for work that the processes share. They can go on after what all of them throw; after anything else they
// are out of step.
template <class Work>
void TrainFolder::attempt_together(const std::string& failure, Work work) const {
  if (run_.ranks.size() == 1) return attempt(run_.host, failure, work);
  try {
    work();
  } catch (const SharedWorkError& error) {
    run_.host.on_message(cat("warning: ", failure, ": ", error.what()));
  }
}

// What could be computed; `done` unless the host wanted to stop, or something failed.
EvaluationReport TrainFolder::evaluate_average(std::int64_t step, const Tensor& average, bool& done) {
  EvaluationReport report = {.step = step};
  attempt_together(cat("no evaluation of step ", step), [&] {
    ScopedWeights averaged(run_.model.parameters(), average);
    if (run_.held_out) report.held_out_loss = held_out_loss();
    if (run_.held_out && !report.held_out_loss) return;
    if (run_.scorer)
      report.score = (*run_.scorer)(run_.model, {.should_stop = std::ref(run_.host.should_stop)});
    if (run_.scorer && !report.score) return;
    averaged.restore();
    done = true;
  });
  if (!done || !leads()) return report;
  done = false;
  attempt(run_.host, cat("no evaluation of step ", step), [&] {
    const auto best = files_.best();
    report.best = report.held_out_loss && std::isfinite(*report.held_out_loss) &&
                  (!best || *report.held_out_loss < best->held_out_loss);
    done = true;
  });
  return report;
}

void TrainFolder::evaluate(std::int64_t step) {
  const Tensor average = run_.ema.whole();
  bool done = false;
  EvaluationReport report = evaluate_average(step, average, done);
  if (run_.ranks.any(done && report.best) && saved_step_ != step) save(step, false);
  if (!done || !leads()) return;
  report.best = report.best && saved_step_ == step;
  evaluation_ = report;
  if (report.best) {
    attempt(run_.host, cat("step ", step, " could not be marked as the best"), [&] {
      files_.mark_best({step, *report.held_out_loss, images_text(*run_.held_out)});
      files_.prune(run_.options.keep);  // the one that was the best
    });
  }
  // The log comes last: a run that is killed before evaluates again when it is resumed from this step.
  log_->write(report);
  run_.host.on_evaluation(report);
}

std::string TrainFolder::best_checkpoint() const {
  const auto best = files_.best();
  return best ? files_.checkpoint_path(best->step) : std::string();
}

void TrainFolder::save(std::int64_t step, bool required) {
  tried_step_ = step;
  try {
    write_checkpoint(step);
  } catch (const IoError& error) {
    // Other processes wait for the parts of the checkpoint that this one did not come to.
    if (required || run_.ranks.size() > 1) throw;
    tried_step_ = saved_step_;
    const std::int64_t every = run_.options.save_every, last = run_.options.steps;
    run_.host.on_message(
        cat("warning: step ", step, " could not be saved: ", error.what(), error.hint().empty() ? "" : "; ",
            error.hint(), "; ",
            checkpoint_.empty() ? "there is no checkpoint yet" : checkpoint_ + " is still there",
            "; the run goes on and tries again at step ",
            every > 0 ? std::min(last, (step / every + 1) * every) : last));
    return;
  }
  saved_step_ = step;
  if (leads())
    attempt(run_.host, "an old checkpoint could not be removed", [&] { files_.prune(run_.options.keep); });
  wait_for_all();
}

void TrainFolder::write_checkpoint(std::int64_t step) {
  if (leads()) tuning_.save(run_.ctx);  // first: the checkpoint's steps were computed by these algorithms
  const TrainOptions& options = run_.options;
  const auto write = [&](const std::string& folder) {
    const double scale = options.noise_scale > 0 ? options.noise_scale
                                                 : noise_rescale(options.model.height, options.model.width);
    const Tensor average = run_.ema.whole();
    if (leads()) write_diffusers_model(folder, run_.model, average, scale, class_names());
    for (const auto& other : run_.ema.others()) {
      const Tensor flat = other->whole();
      if (leads()) write_diffusers_average(folder, run_.model, flat, name_of(*other));
    }
    write_training_state(folder, state_, step);
    if (!leads()) return;
    write_file_atomically(cat(folder, "/", kOptions), options.json());
    write_file_atomically(cat(folder, "/", kImages), image_list(run_.images.entries()));
  };
  if (leads()) {
    checkpoint_ = files_.save(step, write);
  } else {
    write({});
    checkpoint_ = files_.checkpoint_path(step);
  }
}

SampleOptions sampling_options(const TrainOptions& options) {
  SampleOptions sampling;
  sampling.guidance = options.model.classes > 0 ? options.guidance : 1.0;
  sampling.guided = guidance_interval(options.guidance_interval);
  sampling.sampler = sampler_kind(options.sampler);
  sampling.steps = static_cast<int>(options.sample_steps);
  sampling.noise_scale = options.noise_scale;
  return sampling;
}

void TrainFolder::draw(std::int64_t step) {
  SampleOptions sampling = sampling_options(run_.options);
  sampling.count = run_.options.sample_count;
  sampling.seed = static_cast<std::uint64_t>(run_.options.seed);
  sampling.batch = run_.options.batch;  // so that the host is asked about as often as in training
  const Tensor average = run_.ema.whole();
  const std::string failure = cat("no sample grid of step ", step);
  std::vector<Tensor> images;
  bool done = false;
  attempt_together(failure, [&] {
    ScopedWeights averaged(run_.model.parameters(), average);
    const auto take = [&](const Tensor& batch) { images.push_back(batch); };
    // A callback may have a state of its own, so it is not copied.
    done = draw_batches(run_.model, sampling, {.should_stop = std::ref(run_.host.should_stop)}, take,
                        run_.ranks);
    averaged.restore();
  });
  if (done && leads())
    attempt(run_.host, failure, [&] {
      Context host(1);
      write_png(files_.sample_path(step),
                make_grid(kernels::concat(host, images, 0), sample_classes(run_.model, sampling)));
    });
  wait_for_all();
}

TrainOptions read_training_options(const std::string& checkpoint) {
  const std::string path = checked_file(checkpoint, kOptions);
  if (!path_exists(path)) {
    throw IoError(cat(checkpoint, " has no training_state: it can be sampled from, not resumed"),
                  "start a new run from its weights with --init-from");
  }
  const std::string text = read_text_file(path);
  TrainOptions options = TrainOptions::parse(text, path);
  if (!JsonObject(text, path).has("exif")) options.exif = "ignore";  // as earlier versions did
  return options;
}

TrainOptions stored_options(const std::string& run) {
  const CheckpointPath latest = checkpoint_to_resume(RunFolder(run));
  return read_checkpoint(latest, [&] { return read_training_options(latest.path); });
}

}  // namespace llsa::nn
