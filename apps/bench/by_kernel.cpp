#include "apps/bench/by_kernel.h"

namespace llsa::apps {
namespace {

double share_of(const Profile& profile, double seconds) {
  return profile.seconds > 0 ? seconds / profile.seconds : 0;
}

double per_run(const Profile& profile, double value) {
  return profile.runs > 0 ? value / static_cast<double>(profile.runs) : 0;
}

/// "| 2 | 0.531 | 4.1 % | 12.6 | 23.7 | 0.84 | 1580 |", without what is not known.
std::string columns(const Profile& profile, const ProfiledWork& work) {
  const auto amount_and_rate = [&](double amount, double unit) {
    if (amount <= 0) return std::string(" | |");
    return text(" %.4g |", per_run(profile, amount) / unit) +
           (work.seconds > 0 ? text(" %.4g |", amount / work.seconds / 1e9) : std::string(" |"));
  };
  return text(" %.4g | %.4f | %.1f %% |", per_run(profile, static_cast<double>(work.calls)),
              1e3 * per_run(profile, work.seconds), 100 * share_of(profile, work.seconds)) +
         amount_and_rate(work.bytes, 1e6) + amount_and_rate(work.flops, 1e9);
}

nn::JsonWriter figure(const Profile& profile, const ProfiledWork& work) {
  nn::JsonWriter json;
  json.add("calls", per_run(profile, static_cast<double>(work.calls)));
  json.add("ms", 1e3 * per_run(profile, work.seconds)).add("share", share_of(profile, work.seconds));
  const auto add = [&](const char* amount_name, const char* rate_name, double amount) {
    if (amount <= 0) return;
    json.add(amount_name, per_run(profile, amount));
    if (work.seconds > 0) json.add(rate_name, amount / work.seconds / 1e9);
  };
  add("bytes", "gb_per_second", work.bytes);
  add("flops", "gflops", work.flops);
  return json;
}

/// Microseconds per run of the kernels that a prediction speaks of.
double measured(const Profile& profile, const PredictedKernels& predicted) {
  double seconds = 0;
  for (const ProfiledOp& op : profile.ops)
    for (const ProfiledKernel& kernel : op.kernels)
      if (kernel.text.place.find(predicted.place) != std::string::npos) seconds += kernel.work.seconds;
  return 1e6 * per_run(profile, seconds);
}

}  // namespace

std::vector<std::string> table_of(const Profile& profile) {
  bool device = false;
  for (const ProfiledOp& op : profile.ops) device = device || !op.kernels.empty();
  std::vector<std::string> lines = {
      cat("| ", device ? "op, kernel" : "op", " | calls | ms | share | MB | GB/s | GFLOP | GFLOP/s |",
          device ? " launched as |" : ""),
      cat("|---|--:|--:|--:|--:|--:|--:|--:|", device ? "---|" : "")};
  for (const ProfiledOp& op : profile.ops) {
    lines.push_back(cat("| ", op.name, " |", columns(profile, op.work), device ? " |" : ""));
    for (const ProfiledKernel& kernel : op.kernels)
      lines.push_back(cat("| - ", kernel.text.name, " |", columns(profile, kernel.work), " ",
                          kernel.text.resources, " |"));
  }
  const auto line = [&](const char* name, double seconds) {
    lines.push_back(text("| %s | | %.4f | %.1f %% | | | | |%s", name, 1e3 * per_run(profile, seconds),
                         100 * share_of(profile, seconds), device ? " |" : ""));
  };
  line("elsewhere", profile.elsewhere());
  line("all", profile.seconds);
  const double cost = static_cast<double>(profile.spans) * profile.span_seconds;
  lines.emplace_back();
  lines.push_back(
      text("Per run, mean of %lld. Timing takes %.2f us for each of %.4g pieces of work, %.1f %% of the time "
           "above%s",
           static_cast<long long>(profile.runs), 1e6 * profile.span_seconds,
           per_run(profile, static_cast<double>(profile.spans)), 100 * share_of(profile, cost),
           device ? "; nothing is replayed from CUDA graphs." : "."));
  return lines;
}

std::vector<std::string> table_of(const Profile& profile, const std::vector<PredictedKernels>& predictions) {
  if (predictions.empty()) return {};
  std::vector<std::string> lines = {"| kernels | predicted us | measured us | measured over predicted |",
                                    "|---|--:|--:|--:|"};
  for (const PredictedKernels& p : predictions) {
    const double us = measured(profile, p);
    lines.push_back(text("| %s | %.0f | %.1f | x%.2f |", p.name, p.microseconds, us, us / p.microseconds));
  }
  return lines;
}

nn::JsonWriter figure_of(const Profile& profile, const std::vector<PredictedKernels>& predictions) {
  nn::JsonWriter json, ops, predicted;
  json.add("runs", profile.runs).add("ms", 1e3 * per_run(profile, profile.seconds));
  json.add("elsewhere_ms", 1e3 * per_run(profile, profile.elsewhere()));
  json.add("timed", per_run(profile, static_cast<double>(profile.spans)));
  json.add("cost_of_timing_us", 1e6 * profile.span_seconds);
  for (const ProfiledOp& op : profile.ops) {
    nn::JsonWriter row = figure(profile, op.work), kernels;
    for (const ProfiledKernel& kernel : op.kernels)
      kernels.add(kernel.text.name, figure(profile, kernel.work)
                                        .add("place", kernel.text.place)
                                        .add("launched_as", kernel.text.resources));
    if (!op.kernels.empty()) row.add("kernels", kernels);
    ops.add(op.name, row);
  }
  json.add("ops", ops);
  for (const PredictedKernels& p : predictions)
    predicted.add(
        p.name,
        nn::JsonWriter().add("predicted_us", p.microseconds).add("measured_us", measured(profile, p)));
  if (!predictions.empty()) json.add("predicted", predicted);
  return json;
}

Profile profile_calls(const BenchRequest& request, int runs, const std::function<void()>& call) {
  Profiler profiler(request.ctx, request.ranges);
  CallTimer timer(request.ctx, request.flush_bytes);  // which empties the L2 cache between the calls
  timer.run([&](int) { call(); }, 2);
  timer.run(
      [&](int) {
        const Profiler::Running running(profiler);
        call();
      },
      runs);
  return profiler.read();
}

}  // namespace llsa::apps
