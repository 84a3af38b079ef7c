#include "nn/train_folder.h"

#include <charconv>
#include <cmath>
#include <cstddef>
#include <functional>

#include "core/atomic_file.h"
#include "core/text_file.h"
#include "kernels/make.h"
#include "kernels/matmul.h"
#include "nn/checkpoint/diffusers.h"
#include "nn/data/grid.h"
#include "nn/diffusion/flow.h"
#include "nn/diffusion/sampler.h"
#include "nn/json.h"
#include "nn/number_list.h"

namespace llsa::nn {
namespace {

std::string options_path(const std::string& checkpoint) {
  return training_state_folder(checkpoint) + "/config.json";
}

// The name of an average in a checkpoint.
std::string name_of(const Ema& average) { return number_text(average.options().max_decay); }

// What read() reads of a checkpoint. If that is damaged, the error says how to go on without it.
template <class Read>
auto read_checkpoint(const RunFolder& files, const CheckpointPath& latest, Read read) {
  const auto hint = [&](const Error& error) {
    const std::vector<CheckpointPath> all = files.checkpoints();
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

void require_resumable(const RunFolder& files, const TrainOptions& stored, const TrainOptions& now) {
  const auto obstacles = resume_obstacles(stored, now);
  if (obstacles.empty()) return;
  std::string message = cat("cannot resume ", files.root(), " with another configuration:");
  for (const std::string& obstacle : obstacles) message += "\n  " + obstacle;
  throw ValueError(message,
                   "steps, intervals, device and threads may change; for anything else start a new run, "
                   "with --init-from for the weights");
}

std::string images_text(const HeldOutLoss& loss) { return std::to_string(loss.folder().fingerprint()); }

// Losses over other images cannot be compared.
void require_same_held_out(const RunFolder& files, const std::optional<HeldOutLoss>& held_out) {
  const auto best = files.best();
  std::uint64_t images = 0;
  if (best) std::from_chars(best->images.data(), best->images.data() + best->images.size(), images);
  if (!best || !held_out || held_out->folder().matches(images)) return;
  throw ValueError(
      cat("the held-out images in ", held_out->folder().root(),
          " are not those of the saved run (files or classes were added, removed, renamed or changed)"),
      cat("bring them back, or remove ", files.best_path(), " to look for the best anew"));
}

}  // namespace

TrainFolder::TrainFolder(const TrainRun& run, const std::string& path)
    : run_(run),
      state_{run.model.parameters(), run.optimizer, nullptr, &run.loader},
      files_(path),
      tuning_(files_.tuning_path()) {}

void TrainFolder::begin() {
  if (const auto latest = files_.latest()) {
    throw ValueError(cat(files_.root(), " holds a run already, with a checkpoint at step ", latest->step),
                     "go on with it by --resume, or give another --out");
  }
  files_.prepare();
  if (!run_.options.init_from.empty()) {
    const std::string source = resolve_checkpoint(run_.options.init_from);
    run_.host.on_message(cat("weights from ", source));
    for (const std::string& note : init_from_diffusers_model(run_.model, source)) run_.host.on_message(note);
  }
  write_file_atomically(files_.config_path(), run_.options.json());
  log_ = std::make_unique<TrainLog>(files_.log_path(), 0);
  settle_products(false);
}

std::int64_t TrainFolder::resume() {
  const CheckpointPath latest = checkpoint_to_resume(files_);
  require_resumable(files_,
                    read_checkpoint(files_, latest, [&] { return read_training_options(latest.path); }),
                    run_.options);
  files_.prepare();
  require_same_held_out(files_, run_.held_out);
  saved_step_ = read_checkpoint(files_, latest, [&] {
    const std::int64_t step = restore_training_state(latest.path, state_);
    run_.ema.restore(read_diffusers_weights(run_.model.parameters(), latest.path), step);
    for (const auto& other : run_.ema.others())
      other->restore(read_diffusers_weights(run_.model.parameters(), latest.path, name_of(*other)), step);
    return step;
  });
  checkpoint_ = latest.path;
  run_.host.on_message(cat("resumed at step ", saved_step_, " from ", latest.path));
  write_file_atomically(files_.config_path(), run_.options.json());
  log_ = std::make_unique<TrainLog>(files_.log_path(), saved_step_);
  settle_products(true);
  return saved_step_;
}

// Decides before the first product by which algorithms products are computed. What the run has chosen earlier
// it keeps, whether it still tunes or not, so that a resumed run gives the same bits.
void TrainFolder::settle_products(bool resumed) {
  if (!resumed) tuning_.remove();
  if (const std::string note = tuning_.restore(run_.ctx); !note.empty()) run_.host.on_message(note);
  if (run_.options.tune && run_.ctx.device().is_cpu())
    run_.host.on_message("tune: the cpu has one algorithm for every product, there is nothing to choose");
  kernels::tune_products(run_.ctx, run_.options.tune);
}

// Nothing when the host wants to stop.
std::optional<double> TrainFolder::held_out_loss() {
  HeldOutLoss& loss_of = *run_.held_out;
  const std::size_t known = loss_of.skipped().size();
  const std::optional<double> loss =
      loss_of(run_.ctx, run_.model, {.should_stop = std::ref(run_.host.should_stop)});
  for (std::size_t i = known; i < loss_of.skipped().size(); ++i)
    run_.host.on_message(
        cat("left out held-out ", loss_of.skipped()[i].path, ": ", loss_of.skipped()[i].reason));
  return loss;
}

void TrainFolder::evaluate(std::int64_t step) {
  EvaluationReport report = {.step = step};
  ScopedWeights averaged(run_.model.parameters(), run_.ema.flat());
  if (run_.held_out && !(report.held_out_loss = held_out_loss())) return;
  if (run_.scorer) {
    report.score = (*run_.scorer)(run_.model, {.should_stop = std::ref(run_.host.should_stop)});
    if (!report.score) return;
  }
  averaged.restore();
  evaluation_ = report;
  const auto best = files_.best();
  report.best = report.held_out_loss && std::isfinite(*report.held_out_loss) &&
                (!best || *report.held_out_loss < best->held_out_loss);
  if (report.best) {
    if (saved_step_ != step) save(step);
    files_.mark_best({step, *report.held_out_loss, images_text(*run_.held_out)});
    files_.prune(run_.options.keep);  // the one that was the best
  }
  // The log comes last: a run that is killed before evaluates again when it is resumed from this step.
  log_->write(report);
  run_.host.on_evaluation(report);
}

std::string TrainFolder::best_checkpoint() const {
  const auto best = files_.best();
  return best ? files_.checkpoint_path(best->step) : std::string();
}

void TrainFolder::save(std::int64_t step) {
  tuning_.save(run_.ctx);  // first: the checkpoint's steps were computed by these algorithms
  const TrainOptions& options = run_.options;
  checkpoint_ = files_.save(step, [&](const std::string& folder) {
    const double scale = options.noise_scale > 0 ? options.noise_scale
                                                 : noise_rescale(options.model.height, options.model.width);
    const auto names = options.model.classes > 0 ? run_.images.class_names() : std::vector<std::string>{};
    write_diffusers_model(folder, run_.model, run_.ema.flat(), scale, names);
    for (const auto& other : run_.ema.others())
      write_diffusers_average(folder, run_.model, other->flat(), name_of(*other));
    write_training_state(folder, state_, step);
    write_file_atomically(options_path(folder), options.json());
  });
  saved_step_ = step;
  files_.prune(options.keep);
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
  ScopedWeights averaged(run_.model.parameters(), run_.ema.flat());
  // A callback may have a state of its own, so it is not copied.
  const Tensor images =
      to_host(run_.ctx, run_.model.draw(sampling, {.should_stop = std::ref(run_.host.should_stop)}));
  averaged.restore();
  if (images.size(0) < sampling.count) return;
  write_png(files_.sample_path(step), make_grid(images, sample_classes(run_.model, sampling)));
}

TrainOptions read_training_options(const std::string& checkpoint) {
  const std::string path = options_path(checkpoint);
  if (!path_exists(path)) {
    throw IoError(cat(checkpoint, " has no training_state: it can be sampled from, not resumed"),
                  "start a new run from its weights with --init-from");
  }
  const std::string text = read_text_file(path);
  TrainOptions options = TrainOptions::parse(text, path);
  if (!JsonObject(text, path).has("exif")) options.exif = "ignore";  // as earlier versions did
  return options;
}

}  // namespace llsa::nn
