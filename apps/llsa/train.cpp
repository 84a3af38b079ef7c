#include <cstdio>
#include <optional>

#include "apps/llsa/commands.h"
#include "apps/llsa/model_flags.h"
#include "apps/llsa/presets.h"
#include "apps/llsa/progress.h"
#include "apps/llsa/report.h"
#include "apps/llsa/stop_signal.h"
#include "core/text_file.h"
#include "nn/checkpoint/run_folder.h"
#include "nn/train.h"
#include "nn/train_folder.h"

namespace llsa::apps {
namespace {

// The options before flags are applied: from the file, else those of the run to be resumed, else defaults.
nn::TrainOptions base_options(const TrainArgs& args) {
  if (!args.config.empty()) return nn::TrainOptions::parse(read_text_file(args.config), args.config);
  if (!args.preset.empty()) return preset(args.preset);
  if (args.resume) return nn::read_training_options(nn::checkpoint_to_resume(nn::RunFolder(args.out)).path);
  return {};
}

nn::TrainOptions effective_options(const TrainArgs& args) {
  nn::TrainOptions options = base_options(args);
  for (const auto& [flag, text] : args.settings) {
    for (const nn::Setting& setting : nn::train_settings()) {
      if (flag != setting.flag) continue;
      try {
        nn::set_from_text(options, setting, text);
      } catch (const ValueError& error) {
        throw UsageError(error.what(), error.hint());
      }
    }
  }
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

// RUN/report.html without the nearest images, whose search would keep the training waiting.
void report_run(const std::string& run, Progress& progress) {
  try {
    write_report({run}, run + "/report.html", {.nearest = 0});
  } catch (const std::exception& error) {
    progress.message(cat("warning: no report: ", error.what()));
  }
}

}  // namespace

int run_train(const TrainArgs& args) {
  if (args.out.empty() && (args.resume || !args.print_config))
    throw UsageError("llsa train needs a folder for the run", "give it with --out DIR");
  const nn::TrainOptions options = effective_options(args);
  if (args.print_config) {
    std::printf("%s", options.json().c_str());
    return 0;
  }
  Progress progress(ProgressStyle::of_terminal(args.quiet));
  nn::TrainCallbacks callbacks;
  std::int64_t next_report = args.report_every;
  callbacks.on_report = [&](const nn::StepReport& report) {
    progress.report(report);
    if (args.report_every == 0 || report.step < next_report || report.step == report.steps) return;
    report_run(args.out, progress);
    next_report = (report.step / args.report_every + 1) * args.report_every;
  };
  callbacks.on_message = [&](const std::string& text) { progress.message(text); };
  callbacks.should_stop = stop_requested;
  listen_for_stop();
  const nn::TrainResult result = nn::train(options, args.out, args.resume, callbacks);
  if (args.report_every > 0) report_run(args.out, progress);
  progress.message(
      cat(result.stopped ? "stopped" : "done", " at step ", result.step, ", checkpoint ", result.checkpoint,
          result.best_checkpoint.empty() ? std::string()
                                         : cat(", lowest held-out loss in ", result.best_checkpoint),
          result.stopped ? "; go on with --resume" : ""));
  return 0;
}

}  // namespace llsa::apps
