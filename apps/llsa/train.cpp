#include <cstdio>
#include <memory>
#include <optional>

#include "apps/bench/by_kernel.h"
#include "apps/llsa/commands.h"
#include "apps/llsa/model_flags.h"
#include "apps/llsa/output.h"
#include "apps/llsa/presets.h"
#include "apps/llsa/processes.h"
#include "apps/llsa/progress.h"
#include "apps/llsa/report.h"
#include "apps/llsa/stop_signal.h"
#include "core/atomic_file.h"
#include "core/text_file.h"
#include "nn/checkpoint/run_folder.h"
#include "nn/diffusers_config.h"
#include "nn/train.h"
#include "nn/train_folder.h"

namespace llsa::apps {
namespace {

// The options of a file: a configuration of a run, or the config.json of a published model.
nn::TrainOptions options_of(const std::string& path) {
  const std::string text = read_text_file(path);
  if (!nn::is_diffusers_config(text, path)) return nn::TrainOptions::parse(text, path);
  const nn::DiffusersConfig published = nn::parse_diffusers_config(text, path);
  if (launch_of_environment().rank == 0)
    for (const std::string& note : published.notes) print_note(note);
  nn::TrainOptions options;
  options.kind = nn::name_of(published.kind);
  options.model = published.config;
  options.model_classes = published.config.classes;
  return options;
}

// The options before flags are applied: from the file, else those of the run to be resumed, else defaults.
nn::TrainOptions base_options(const TrainArgs& args, bool resume) {
  if (!args.config.empty()) return options_of(args.config);
  if (!args.preset.empty()) return preset(args.preset);
  if (resume) return nn::read_training_options(nn::checkpoint_to_resume(nn::RunFolder(args.out)).path);
  return {};
}

nn::TrainOptions effective_options(const TrainArgs& args, bool resume) {
  nn::TrainOptions options = base_options(args, resume);
  apply_settings(options, args.settings);
  apply_model_flags(options.model, args.model);
  try {
    options.validate();
  } catch (const ValueError& error) {  // a file that is wrong by itself was refused when it was read
    throw UsageError(error.what(), error.hint());
  }
  if (options.data.empty() && !args.print_config)
    throw UsageError("llsa train needs a folder of images", "give it with --data DIR");
  return options;
}

// Keeps RUN/report.html up to date, also when the training ends by an exception. The page has no nearest images, because
// the search for them would delay the training.
class LiveReport {
 public:
  LiveReport(const TrainArgs& args, Progress& progress)
      : run_(args.out), every_(args.report_every), progress_(progress) {}
  ~LiveReport() {
    if (started_) write();
  }
  LiveReport(const LiveReport&) = delete;
  LiveReport& operator=(const LiveReport&) = delete;

  void report(const nn::StepReport& report) {
    if (every_ == 0) return;
    started_ = true;
    if (report.step < next_ || report.step == report.steps) return;
    write();
    next_ = (report.step / every_ + 1) * every_;
  }

 private:
  void write() {
    try {
      write_report({run_}, run_ + "/report.html", {.nearest = 0});
    } catch (const std::exception& error) {
      progress_.message(cat("warning: no report: ", error.what()));
    }
  }

  const std::string run_;
  const std::int64_t every_;
  Progress& progress_;
  std::int64_t next_ = every_;
  bool started_ = false;
};

}  // namespace

int run_train(const TrainArgs& args) {
  if (args.nvtx && args.profile == 0)
    throw UsageError("--nvtx marks what --profile times", "give --profile N, too");
  if (args.nvtx) {  // refused before a folder is made
    Context host(1);
    const Profiler check(host, true);
  }
  if (args.out.empty() && (args.resume != Resume::no || !args.print_config))
    throw UsageError("llsa train needs a folder for the run", "give it with --out DIR");
  const bool resume =
      args.resume == Resume::automatic ? nn::RunFolder(args.out).holds_run() : args.resume == Resume::yes;
  const nn::TrainOptions options = effective_options(args, resume);
  if (args.print_config) {
    std::printf("%s", options.json().c_str());
    return 0;
  }
  const std::unique_ptr<Communicator> joined = join_processes();
  Communicator& ranks = joined ? *joined : one_process();
  Progress progress(ProgressStyle::of_terminal(args.quiet));
  nn::TrainCallbacks callbacks;
  LiveReport live(args, progress);
  callbacks.on_report = [&](const nn::StepReport& report) {
    progress.report(report);
    live.report(report);
  };
  callbacks.on_message = [&](const std::string& text) { progress.message(text); };
  callbacks.should_stop = stop_requested;
  callbacks.allow_changes = [&](const std::vector<std::string>&) { return args.allow_changes; };
  callbacks.profile = {args.profile, args.nvtx, [&](const Profile& profile) {
                         for (const std::string& line : table_of(profile)) progress.message(line);
                         try {
                           write_file_atomically(args.out + "/profile.json", figure_of(profile).pretty());
                         } catch (const IoError& error) {
                           progress.message(cat("warning: no profile.json: ", error.what()));
                         }
                       }};
  listen_for_stop();
  if (args.resume == Resume::automatic && !resume && ranks.leads())
    progress.message(cat(args.out, " has no checkpoint to resume from: a new run begins"));
  const nn::TrainResult result = nn::train(options, args.out, resume, callbacks, ranks);
  if (ranks.leads())
    progress.message(
        cat(result.stopped ? "stopped" : "done", " at step ", result.step, ", checkpoint ", result.checkpoint,
            result.best_checkpoint.empty() ? std::string()
                                           : cat(", lowest held-out loss in ", result.best_checkpoint),
            result.stopped ? "; go on with --resume" : ""));
  return result.stopped ? kStoppedCode : 0;
}

}  // namespace llsa::apps
