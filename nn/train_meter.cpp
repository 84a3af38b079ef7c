#include "nn/train_meter.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <sstream>
#include <utility>

#include "autograd/var.h"
#include "core/number.h"
#include "kernels/copy.h"

namespace llsa::nn {

// Every image is in one stage, and all stages have equally many images.
std::int64_t tokens_per_step(const ImageModel& model, const TrainOptions& options) {
  const std::vector<std::int64_t> stages = model.tokens_per_stage();
  return options.batch * options.accumulate * std::accumulate(stages.begin(), stages.end(), std::int64_t{0}) /
         static_cast<std::int64_t>(stages.size());
}

namespace {

double mean_over_ranks(Communicator& ranks, double own) {
  double sum = 0;
  for (const std::string& text : ranks.gather(cat(own))) sum += as_number<double>(text).value_or(0);
  return sum / ranks.size();
}

}  // namespace

TrainMeter::TrainMeter(const TrainRun& run, TrainFolder& folder, std::int64_t step)
    : run_(run),
      folder_(folder),
      step_(step),
      losses_(run.ctx.zeros({kMostUnread}, DType::f32)),
      norms_(run.ctx.zeros({kMostUnread}, DType::f64)),
      reported_step_(step) {
  start_interval();
}

void TrainMeter::start_interval() {
  loss_sum_ = 0;
  count_ = 0;
  reported_step_ = step_;
  start_ = Clock::now();
  wait_before_ = run_.loader.wait_seconds();
  rank_wait_before_ = run_.ranks.wait_seconds();
  synchronizations_before_ = run_.ctx.synchronizations();
}

void TrainMeter::pause() {
  paused_ = Clock::now();
  rank_wait_paused_ = run_.ranks.wait_seconds();
}

void TrainMeter::unpause() {
  start_ += Clock::now() - paused_;
  rank_wait_before_ += run_.ranks.wait_seconds() - rank_wait_paused_;
}

bool TrainMeter::do_step() {
  const auto slot = static_cast<std::int64_t>(positions_.size());
  const LoaderState before = run_.loader.state();
  bool done = false;
  try {
    done = run_.step.run(run_.schedule.at(step_));
  } catch (...) {
    run_.loader.restore(before);
    throw;
  }
  if (!done) {
    run_.loader.restore(before);
    return false;
  }
  positions_.push_back(before);
  ++step_;
  kernels::copy(run_.ctx, run_.step.loss(), losses_.select(0, slot));
  kernels::copy(run_.ctx, run_.optimizer.gradient_norm(), norms_.slice(0, slot, slot + 1));
  return true;
}

void TrainMeter::read() {
  const auto count = static_cast<std::int64_t>(positions_.size());
  if (count == 0) return;
  const std::vector<float> losses = kernels::to_vector<float>(run_.ctx, losses_.slice(0, 0, count));
  const std::vector<double> norms = kernels::to_vector<double>(run_.ctx, norms_.slice(0, 0, count));
  for (std::size_t i = 0; i < losses.size(); ++i) {
    if (!std::isfinite(losses[i]) || !std::isfinite(norms[i])) {
      log_diverged(i, losses[i], norms[i]);
      fail_at(i, losses[i]);
    }
    loss_sum_ += losses[i];
    last_norm_ = norms[i];
    ++count_;
  }
  positions_.clear();
}

std::int64_t TrainMeter::step_of(std::size_t slot) const {
  return step_ - static_cast<std::int64_t>(positions_.size() - slot) + 1;
}

StepReport TrainMeter::report_of(std::int64_t step, double loss, double norm) const {
  StepReport report;
  report.step = step;
  report.steps = run_.options.steps;
  report.loss = loss;
  report.gradient_norm = norm;
  report.learning_rate = run_.schedule.at(step - 1);
  report.held_out_loss = folder_.last_evaluation().held_out_loss;
  report.score = folder_.last_evaluation().score;
  report.memory = run_.ctx.allocator()->stats();
  return report;
}

// The last lines of the log are the mean of the steps before that one, and that one.
void TrainMeter::log_diverged(std::size_t slot, double loss, double norm) {
  const std::int64_t step = step_of(slot);
  if (count_ > 0) folder_.log(report_of(step - 1, loss_sum_ / static_cast<double>(count_), last_norm_));
  folder_.log(report_of(step, loss, norm));
}

// The optimiser has not moved the weights since that step, so doing it again shows where it went wrong.
void TrainMeter::fail_at(std::size_t slot, double loss) {
  const std::int64_t step = step_of(slot);
  std::string cause;
  run_.loader.restore(positions_[slot]);
  try {
    const FindNonFinite finder;
    run_.step.compute_gradients();
  } catch (const NonFiniteError& error) {
    cause = error.what();
  }
  const std::vector<std::string> causes = run_.ranks.gather(cause);
  const auto found =
      std::find_if(causes.begin(), causes.end(), [](const auto& text) { return !text.empty(); });
  cause = found == causes.end() ? cat("loss ", loss, ", no single op to blame") : *found;
  const std::string& last = folder_.checkpoint();
  throw NonFiniteError(
      cat("training diverged at step ", step, ": ", cause),
      cat("a lower --lr or a longer --warmup may help; ",
          last.empty() ? "there is no checkpoint yet" : "the last good checkpoint is " + last));
}

// Of the steps since the last report.
StepReport TrainMeter::measured() const {
  const double seconds = std::chrono::duration<double>(Clock::now() - start_).count();
  const double rate = seconds > 0 ? static_cast<double>(step_ - reported_step_) / seconds : 0;
  const TrainOptions& options = run_.options;
  StepReport report = report_of(step_, loss_sum_ / static_cast<double>(count_), last_norm_);
  report.tokens_per_second = rate * static_cast<double>(tokens_per_step(run_.model, options));
  report.data_wait = seconds > 0 ? std::min(1.0, (run_.loader.wait_seconds() - wait_before_) / seconds) : 0;
  if (run_.ranks.size() > 1)
    report.rank_wait = mean_over_ranks(
        run_.ranks,
        seconds > 0 ? std::min(1.0, (run_.ranks.wait_seconds() - rank_wait_before_) / seconds) : 0);
  report.remaining_seconds = rate > 0 ? static_cast<double>(options.steps - step_) / rate : 0;
  report.synchronizations = run_.ctx.synchronizations() - synchronizations_before_;
  return report;
}

void TrainMeter::report_early() {
  if (count_ > 0) run_.host.on_report(measured());
}

void TrainMeter::log() {
  if (count_ == 0) return;
  logged_ = measured();
  last_loss_ = logged_->loss;
  folder_.log(*logged_);
  start_interval();
}

void TrainMeter::report() {
  if (!logged_) return;
  StepReport report = *std::exchange(logged_, std::nullopt);
  report.held_out_loss = folder_.last_evaluation().held_out_loss;
  report.score = folder_.last_evaluation().score;
  run_.host.on_report(report);
  report_failures();
}

// Several processes may each find that a file cannot be decoded.
void TrainMeter::report_failures() {
  const std::vector<SkippedFile> failures = run_.loader.failures();
  std::string own;
  for (; failures_told_ < failures.size(); ++failures_told_)
    own += cat("left out ", failures[failures_told_].path, ": ", failures[failures_told_].reason, '\n');
  for (const std::string& texts : run_.ranks.gather(own)) {
    std::istringstream lines(texts);
    for (std::string line; std::getline(lines, line);)
      if (told_.insert(line).second) run_.host.on_message(line);
  }
}

}  // namespace llsa::nn
