// llsa sweep: every variant and seed is an ordinary run in OUT/VARIANT/seed-S; the tables are made from the logs of the
// runs and from steps that are timed at the end, variant by variant in turns.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdio>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <thread>

#include "apps/bench/bench.h"
#include "apps/bench/plot.h"
#include "apps/bench/step.h"
#include "apps/llsa/commands.h"
#include "apps/llsa/output.h"
#include "apps/llsa/progress.h"
#include "apps/llsa/run_summary.h"
#include "apps/llsa/stop_signal.h"
#include "apps/llsa/sweep_file.h"
#include "core/atomic_file.h"
#include "core/device_choice.h"
#include "core/machine.h"
#include "core/text_file.h"
#include "nn/checkpoint/run_folder.h"
#include "nn/ema.h"
#include "nn/eval/scores.h"
#include "nn/image_model.h"
#include "nn/json.h"
#include "nn/train.h"
#include "nn/train_folder.h"
#include "nn/train_memory.h"

namespace llsa::apps {
namespace {

namespace fs = std::filesystem;

using Measures = std::map<std::string, double>;

constexpr int kTimingRounds = 3;

/// One variant, trained with one seed.
struct Run {
  const SweepVariant* variant;
  std::int64_t seed;
  std::string folder;
  enum class State { waiting, running, finished, stopped, failed } state = State::waiting;
  std::string error = {};
  Measures measures = {};

  std::string name() const { return cat(variant->name, ", seed ", seed); }
};

void say(const Run& run, const std::string& text) {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  std::fprintf(stderr, "[%s] %s\n", run.name().c_str(), text.c_str());
}

/// The runs of a sweep are compared, so each has to be trained from its first step with the settings of the file. Only the
/// number of steps and the machine may change.
void require_unchanged(const nn::RunFolder& files, const nn::TrainOptions& options) {
  const nn::TrainOptions stored = nn::read_training_options(nn::checkpoint_to_resume(files).path);
  for (const nn::SettingChange& change : nn::changes_on_resume(stored, options))
    if (change.on_resume == nn::OnResume::note && change.key != "steps" && change.key != "device" &&
        change.key != "tune")
      throw ValueError(cat(files.root(), " was begun with another configuration: ", change.text),
                       "remove the folder, or give the variant another name");
}

/// Begins the run, or resumes it from its latest checkpoint. Throws what train() throws.
void train(Run& run, const Run* from, int jobs) {
  nn::TrainOptions options = run.variant->options;
  options.seed = run.seed;
  if (from) options.init_from = from->folder;
  if (jobs > 1 && options.threads == 0) options.threads = std::max(1, available_processors() / jobs);
  nn::TrainCallbacks callbacks;
  auto last = std::chrono::steady_clock::time_point();
  callbacks.on_report = [&](const nn::StepReport& report) {
    const auto now = std::chrono::steady_clock::now();
    if (report.step < report.steps && now - last < std::chrono::seconds(10)) return;
    last = now;
    say(run, report_text(report));
  };
  callbacks.on_message = [&](const std::string& text) { say(run, text); };
  callbacks.should_stop = stop_requested;
  const nn::RunFolder files(run.folder);
  const bool resume = files.holds_run();
  if (resume) require_unchanged(files, options);
  make_folder(fs::path(run.folder).parent_path().string());
  const nn::TrainResult result = nn::train(options, run.folder, resume, callbacks);
  run.state = result.stopped ? Run::State::stopped : Run::State::finished;
}

/// All runs, `jobs` at a time. A run waits for the one that it starts from.
class Scheduler {
 public:
  Scheduler(std::vector<Run>& runs, int jobs) : runs_(runs), jobs_(jobs) {}

  void run() {
    std::vector<std::thread> threads;
    for (int i = 1; i < jobs_; ++i) threads.emplace_back([this] { work(); });
    work();
    for (std::thread& thread : threads) thread.join();
  }

 private:
  Run* start_of(const Run& run) {
    for (Run& other : runs_)
      if (other.variant->name == run.variant->from && other.seed == run.seed) return &other;
    return nullptr;
  }

  /// The next run that can begin; waits for one. Null when there is none.
  Run* next() {
    std::unique_lock lock(mutex_);
    for (;;) {
      bool blocked = false;
      for (Run& run : runs_) {
        if (run.state != Run::State::waiting) continue;
        const Run* from = start_of(run);
        if (stop_requested()) {
          run.state = Run::State::stopped;
        } else if (from && from->state == Run::State::failed) {
          run.state = Run::State::failed;
          run.error = cat("the variant that it starts from, ", from->variant->name, ", failed");
        } else if (from && from->state != Run::State::finished) {
          blocked = from->state != Run::State::stopped;
          if (!blocked) run.state = Run::State::stopped;
        } else {
          run.state = Run::State::running;
          return &run;
        }
      }
      if (!blocked) return nullptr;
      changed_.wait(lock);
    }
  }

  void work() {
    while (Run* run = next()) {
      std::string error;
      try {
        train(*run, start_of(*run), jobs_);
      } catch (const std::exception& failure) {
        error = failure.what();
      }
      const std::lock_guard lock(mutex_);
      if (!error.empty()) {
        run->state = Run::State::failed;
        run->error = error;
        say(*run, "failed: " + error);
      }
      changed_.notify_all();
    }
    changed_.notify_all();
  }

  std::vector<Run>& runs_;
  int jobs_;
  std::mutex mutex_;
  std::condition_variable changed_;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// What the log of a finished run says.
Measures read_log(const std::string& folder) {
  const RunLog log = read_run_log(nn::RunFolder(folder).log_path());
  Measures measures;
  for (const char* key : {"loss", "held_out_loss", "score_over_real", "fid"})
    if (const auto last = log.last(key)) measures[key] = *last;
  for (const PlotPoint& point : log.points("held_out_loss")) {
    double& best = measures.try_emplace("best_held_out_loss", point.y).first->second;
    best = std::min(best, point.y);
  }
  for (const PlotPoint& point : log.points("memory_peak"))
    measures["peak_mib"] = std::max(measures["peak_mib"], point.y / (1 << 20));
  std::vector<double> rates;
  for (const PlotPoint& point : log.points("tokens_per_second")) rates.push_back(point.y);
  if (!rates.empty()) measures["tokens_per_second"] = median(rates);
  return measures;
}

/// Times the steps of all variants with a finished run, in turns, so that a machine whose speed drifts is fair to all.
void time_variants(const Sweep& sweep, std::vector<Run>& runs) {
  std::map<std::string, std::vector<double>> seconds;
  for (int round = 0; round < kTimingRounds && !stop_requested(); ++round)
    for (const SweepVariant& variant : sweep.variants) {
      const auto finished = [&](const Run& run) {
        return run.variant == &variant && run.state == Run::State::finished;
      };
      if (std::none_of(runs.begin(), runs.end(), finished)) continue;
      if (variant.options.model_kind() != nn::ModelKind::dit)
        continue;  // a PixelFlow has the rate of its log
      const nn::TrainOptions& options = variant.options;
      Context ctx(choose_device(options.device).device, static_cast<int>(options.threads));
      ctx.allow_tf32(options.tf32);
      seconds[variant.name].push_back(time_training_step(ctx, options.model, options.batch,
                                                         dtype_from_name(options.dtype),
                                                         {.calls = 10, .seconds = 2})
                                          .median);
    }
  for (Run& run : runs) {
    const auto& rounds = seconds[run.variant->name];
    if (run.state != Run::State::finished || rounds.empty()) continue;
    const double step = median(rounds);
    run.measures["step_ms"] = 1e3 * step;
    run.measures["tokens_per_second"] =
        static_cast<double>(run.variant->options.batch * run.variant->options.model.tokens()) / step;
  }
}

// ---- tables -----------------------------------------------------------------------------------------------

/// A measure's mean and spread over the seeds; empty if no finished run has the measure.
std::optional<nn::MeanAndSpread> summary_of(const std::vector<Run>& runs, const SweepVariant& variant,
                                            const std::string& key) {
  std::vector<double> values;
  for (const Run& run : runs)
    if (run.variant == &variant && run.state == Run::State::finished)
      if (const auto found = run.measures.find(key); found != run.measures.end())
        values.push_back(found->second);
  if (values.empty()) return std::nullopt;
  return nn::mean_and_spread(values);
}

const char* state_text(Run::State state) {
  switch (state) {
    case Run::State::finished:
      return "finished";
    case Run::State::failed:
      return "failed";
    default:
      return "not finished";
  }
}

std::string markdown(const Sweep& sweep, const std::vector<Run>& runs, const std::string& title) {
  const auto shown = [&](const SweepMeasure& measure) {
    return std::any_of(sweep.variants.begin(), sweep.variants.end(), [&](const SweepVariant& variant) {
      return summary_of(runs, variant, measure.key).has_value();
    });
  };
  std::string head = "| variant |", line = "|---|";
  for (const SweepMeasure& measure : sweep_measures())
    if (shown(measure)) {
      head += cat(" ", measure.title, " |");
      line += "---:|";
    }
  std::string table = cat("# ", title, "\n\n", head, "\n", line, "\n");
  for (const SweepVariant& variant : sweep.variants) {
    table += cat("| ", variant.name, " |");
    for (const SweepMeasure& measure : sweep_measures()) {
      if (!shown(measure)) continue;
      const auto summary = summary_of(runs, variant, measure.key);
      if (!summary)
        table += " |";
      else if (summary->spread > 0)
        table += text(" %.*f ± %.*f |", measure.digits, summary->mean, measure.digits, summary->spread);
      else
        table += text(" %.*f |", measure.digits, summary->mean);
    }
    table += '\n';
  }
  table +=
      cat("\nMean and spread over ", sweep.seeds.size(), sweep.seeds.size() == 1 ? " seed" : " seeds",
          ". Steps were timed after the training, in ", kTimingRounds, " rounds through all variants.\n");
  for (const Run& run : runs)
    if (run.state != Run::State::finished)
      table += cat("\n* ", run.name(), ": ", state_text(run.state), run.error.empty() ? "" : ": ", run.error,
                   "\n");

  return table;
}

std::string json_table(const Sweep& sweep, const std::vector<Run>& runs) {
  nn::JsonWriter all;
  for (const SweepVariant& variant : sweep.variants) {
    nn::JsonWriter rows;
    for (const Run& run : runs) {
      if (run.variant != &variant) continue;
      nn::JsonWriter row;
      row.add("state", state_text(run.state)).add("folder", run.folder);
      if (!run.error.empty()) row.add("error", run.error);
      for (const auto& [key, value] : run.measures) row.add(key, value);
      rows.add(cat("seed ", run.seed), row);
    }
    all.add(variant.name, rows);
  }
  return all.pretty();
}

/// A measure's title, or the key of the configuration.
std::string title_of(const std::string& axis) {
  for (const SweepMeasure& measure : sweep_measures())
    if (axis == measure.key) return measure.title;
  return axis;
}

/// The place of a variant on an axis: a measure, or a number of its configuration.
std::optional<nn::MeanAndSpread> place_of(const std::vector<Run>& runs, const SweepVariant& variant,
                                          const std::string& axis) {
  if (const auto measured = summary_of(runs, variant, axis)) return measured;
  for (const auto& [key, value] : variant.numbers)
    if (key == axis) return nn::MeanAndSpread{value, 0};
  return std::nullopt;
}

/// Draws the plots whose variants have both values, and the last sample grids of the first seed side by side. Variants
/// of one series are in the order of x. Returns sentences on what is missing.
std::vector<std::string> draw_pictures(const Sweep& sweep, const std::vector<Run>& runs,
                                       const std::string& folder) {
  std::vector<std::string> notes;
  bool drawn = true;
  for (const SweepPlot& wanted : sweep.plots) {
    Plot plot = {};
    plot.title = wanted.name;
    plot.x_label = title_of(wanted.x);
    plot.y_label = title_of(wanted.y);
    std::map<std::string, std::size_t> places;
    for (const SweepVariant& variant : sweep.variants) {
      const auto x = place_of(runs, variant, wanted.x), y = place_of(runs, variant, wanted.y);
      if (!x || !y) {
        notes.push_back(cat("plot ", wanted.name, ": ", variant.name, " has no ", x ? wanted.y : wanted.x));
        continue;
      }
      std::string series = variant.name;
      for (const auto& [key, value] : nn::JsonObject(variant.options.json(), "configuration").entries())
        if (key == wanted.series) series = cat(key, " = ", value);
      const auto [at, is_new] = places.emplace(series, plot.series.size());
      if (is_new) plot.series.push_back({.name = series, .points = {}});
      PlotPoint point = {.x = x->mean, .y = y->mean};
      if (y->spread > 0) point.error = y->spread;
      plot.series[at->second].points.push_back(point);
    }
    for (PlotSeries& series : plot.series)
      std::sort(series.points.begin(), series.points.end(),
                [](const PlotPoint& a, const PlotPoint& b) { return a.x < b.x; });
    if (!plot.series.empty()) drawn = write_plot(plot, folder, wanted.name) && drawn;
  }
  std::vector<Picture> grids;
  for (const Run& run : runs) {
    const std::vector<std::string> of_run = sample_grids(run.folder);
    if (!of_run.empty() && run.seed == sweep.seeds.front())
      grids.push_back({run.variant->name, fs::absolute(of_run.back()).string()});
  }
  if (!grids.empty()) drawn = write_strip(grids, folder, "grids") && drawn;
  if (!drawn)
    notes.push_back(cat("gnuplot is not installed: ", folder, " has the data and scripts of the plots"));
  return notes;
}

/// What a variant takes, without running it.
int check(const Sweep& sweep) {
  std::printf("%-24s %10s %16s %12s %14s %14s %8s\n", "variant", "tokens", "keys per query", "parameters",
              "training state", "with a batch", "steps");
  for (const SweepVariant& variant : sweep.variants) {
    Context ctx(1);
    nn::TrainOptions options = variant.options;
    const auto made = nn::make_model(ctx, options.model_kind(), options.model, 0);
    const nn::DitConfig model = options.model = made->last_stage();
    // Of VSA and SLA: the tokens of the picked blocks, as the paper of LLSA counts.
    const std::int64_t keys =
        model.attention == nn::AttentionKind::full ? model.tokens() : model.plan().keys_per_query();
    const nn::TrainMemory memory = nn::train_memory(options, made->parameters().flat_size(), 0, ctx.device());
    std::printf("%-24s %10lld %16lld %12s %14s %14s %8lld\n", variant.name.c_str(),
                static_cast<long long>(model.tokens()), static_cast<long long>(keys),
                count_text(static_cast<double>(made->parameters().parameter_count())).c_str(),
                bytes_text(memory.state()).c_str(), bytes_text(memory.model()).c_str(),
                static_cast<long long>(options.steps));
  }
  std::printf("%zu variants, %zu seeds: %zu runs\n", sweep.variants.size(), sweep.seeds.size(),
              sweep.variants.size() * sweep.seeds.size());
  return 0;
}

}  // namespace

int run_sweep(const SweepArgs& args) {
  Sweep sweep = parse_sweep(read_text_file(args.file), args.file);
  if (!args.data.empty())
    for (SweepVariant& variant : sweep.variants) variant.options.data = args.data;
  if (args.check) return check(sweep);
  if (args.out.empty()) throw UsageError("llsa sweep needs a folder for its runs", "give it with --out DIR");
  make_folder(args.out);
  listen_for_stop();
  std::vector<Run> runs;
  for (const SweepVariant& variant : sweep.variants)
    for (const std::int64_t seed : sweep.seeds)
      runs.push_back({&variant, seed, cat(args.out, "/", variant.name, "/seed-", seed)});
  Scheduler(runs, args.jobs).run();
  for (Run& run : runs)
    if (run.state == Run::State::finished) run.measures = read_log(run.folder);
  time_variants(sweep, runs);
  const std::vector<std::string> notes = draw_pictures(sweep, runs, args.out + "/plots");
  std::string table = markdown(sweep, runs, fs::path(args.file).stem().string());
  if (path_exists(args.out + "/plots/grids.png")) table += "\n![The last sample grids](plots/grids.png)\n";
  write_file_atomically(args.out + "/table.md", table);
  write_file_atomically(args.out + "/table.json", json_table(sweep, runs));
  for (const std::string& note : notes) print_note(note);
  std::printf("%s\ntables: %s/table.md, %s/table.json; pictures: %s/plots\n", table.c_str(), args.out.c_str(),
              args.out.c_str(), args.out.c_str());
  const auto any = [&](Run::State state) {
    return std::any_of(runs.begin(), runs.end(), [state](const Run& run) { return run.state == state; });
  };
  if (any(Run::State::failed)) return 1;
  return any(Run::State::stopped) ? kStoppedCode : 0;
}

}  // namespace llsa::apps
