#include "apps/llsa/report.h"

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <map>
#include <memory>

#include "apps/bench/bench.h"
#include "apps/llsa/commands.h"
#include "apps/llsa/output.h"
#include "apps/llsa/progress.h"
#include "apps/llsa/report_curves.h"
#include "apps/llsa/report_html.h"
#include "apps/llsa/report_nearest.h"
#include "apps/llsa/run_summary.h"
#include "core/atomic_file.h"
#include "core/text_file.h"
#include "nn/checkpoint/diffusers.h"
#include "nn/checkpoint/run_folder.h"
#include "nn/data/grid.h"
#include "nn/data/held_out.h"
#include "nn/data/image_io.h"
#include "nn/data/transform.h"
#include "nn/train_options.h"

namespace llsa::apps {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMostPreviews = 12, kMostPreviewsOfEach = 6, kMostSamples = 16;
constexpr double kClose = 0.5;  // share of the usual distance: a nearer sample is marked
constexpr int kPreviewWidth = 704, kSampleWidth = 192;  // twice what the page shows

using Rows = std::vector<std::vector<std::string>>;

/// A run of the page, and the name by which it is called there.
struct Shown {
  RunSummary summary;
  std::string name;
  nn::RunFolder files;
};

/// A part of the page. If it fails, the page has its error message in its place.
template <class Make>
std::string part(const Make& make) {
  try {
    return make();
  } catch (const std::exception& error) {
    return cat("<p class=\"mark\">Not shown: ", escaped(error.what()), "</p>\n");
  }
}

std::string code(const std::string& text) { return cat("<code>", escaped(text), "</code>"); }

/// A word of a shell command.
std::string shell_word(const std::string& text) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string("/._-+=,").find(c) != std::string::npos;
  };
  if (!text.empty() && std::all_of(text.begin(), text.end(), plain)) return text;
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

/// `count` evenly spread numbers of 0 .. n - 1, including the last one; all numbers if n is smaller.
std::vector<std::size_t> spread(std::size_t n, std::size_t count) {
  std::vector<std::size_t> chosen;
  const std::size_t wanted = std::min(n, count);
  for (std::size_t i = 1; i <= wanted; ++i) chosen.push_back(i * n / wanted - 1);
  return chosen;
}

/// The name of a run, as a heading; empty if the page shows only one run.
std::string heading(const std::vector<Shown>& runs, const Shown& run) {
  return runs.size() > 1 ? cat("<h3>", escaped(run.name), "</h3>\n") : std::string();
}

std::string overview(const std::vector<Shown>& runs) {
  Rows rows;
  for (const auto& [summary, name, files] : runs) {
    const auto last = [&log = summary.log](const char* key, const char* format) {
      const auto value = log.last(key);
      return value ? text(format, *value) : std::string("–");
    };
    const auto& losses = summary.log.points("held_out_loss");
    const auto best = std::min_element(losses.begin(), losses.end(),
                                       [](const PlotPoint& a, const PlotPoint& b) { return a.y < b.y; });
    const auto& peaks = summary.log.points("memory_peak");
    double peak = 0;
    for (const PlotPoint& point : peaks) peak = std::max(peak, point.y);
    rows.push_back({escaped(name), name_of(summary.state), cat(summary.step, " of ", summary.steps),
                    last("loss", "%.4f"), last("held_out_loss", "%.4f"),
                    best == losses.end() ? "–" : text("%.4f at step %.0f", best->y, best->x),
                    last(summary.log.last("fid") ? "fid" : "score_over_real", "%.3g"),
                    last("tokens_per_second", "%.0f"), peaks.empty() ? "–" : bytes_text(peak),
                    cat(age_text(summary.age), " before this page")});
    if (!summary.damage.empty())
      rows.push_back({"", cat("<span class=\"mark\">", escaped(summary.damage), "</span>")});
  }
  return html_table({"run", "state", "step", "loss", "held-out loss", "lowest", "score / real, or FID",
                     "tokens/s", "peak memory", "last entry"},
                    rows);
}

std::string notes(const std::vector<Shown>& runs) {
  Rows rows;
  for (const Shown& run : runs)
    for (const auto& [step, note] : run.summary.log.notes)
      rows.push_back({escaped(run.name), cat(step), escaped(note)});
  return rows.empty() ? "" : cat("<h2>Notes of the log</h2>\n", html_table({"run", "step", "note"}, rows));
}

/// "step 500" of ".../step_000000500.png".
std::string step_text(const std::string& path) {
  const std::string stem = fs::path(path).stem().string();
  const std::int64_t step = nn::step_in_name(stem);
  return step < 0 ? stem : cat("step ", step);
}

nn::TrainOptions options_of(const Shown& run) {
  return nn::TrainOptions::parse(read_text_file(run.files.config_path()), run.files.config_path());
}

/// A picture; if it is wider than `most` pixels, it is made smaller.
std::string picture(const nn::Image& image, const std::string& title, int most) {
  const std::vector<std::uint8_t> png = nn::encode_png(
      image.width > most ? nn::resize(image, most, std::max(1, image.height * most / image.width)) : image);
  return png_element({reinterpret_cast<const char*>(png.data()), png.size()}, title);
}

/// The classes of a grid, in the order of their blocks.
std::string class_text(const Shown& run) {
  const auto latest = run.files.latest();
  if (!latest || !nn::is_diffusers_model(latest->path)) return "";
  std::vector<std::string> names = nn::read_diffusers_model(latest->path).class_names;
  names.resize(std::min(names.size(), static_cast<std::size_t>(options_of(run).sample_count)));
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ", ") + escaped(name);
  return list.empty() ? "" : cat("<p class=\"quiet\">Every class has a block, row by row: ", list, ".</p>\n");
}

std::string previews(const std::vector<Shown>& runs) {
  std::string out =
      "<h2>Previews</h2>\n<p class=\"quiet\">Drawn with the averaged weights, always from the same "
      "noise.</p>\n";
  for (const Shown& run : runs) {
    const std::vector<std::string> grids = sample_grids(run.files.root());
    out += heading(runs, run) + part([&] { return class_text(run); });
    const auto chosen = spread(grids.size(), runs.size() > 1 ? kMostPreviewsOfEach : kMostPreviews);
    if (chosen.empty()) out += "<p>There are none yet.</p>\n";
    if (chosen.size() < grids.size())
      out += cat("<p class=\"quiet\">", chosen.size(), " of ", grids.size(), ", evenly spread.</p>\n");
    out += "<div class=\"strip\">\n";
    for (const std::size_t i : chosen)
      out += part([&] {
        const std::string title = step_text(grids[i]);
        return cat("<figure>", picture(nn::decode_image(grids[i]), title, kPreviewWidth), "<figcaption>",
                   escaped(title), "</figcaption></figure>\n");
      });
    out += "</div>\n";
  }
  return out;
}

/// HTML of a path, which may be broken into lines between its folders.
std::string path_text(const std::string& path) {
  std::string out;
  for (const fs::path& name : fs::path(path)) out += cat(out.empty() ? "" : "/<wbr>", escaped(name.string()));
  return out;
}

std::string nearest_of(const Shown& run, const ReportOptions& options) {
  const std::vector<std::string> grids = sample_grids(run.files.root());
  if (grids.empty()) return "<p>There is no sample grid yet.</p>\n";
  const nn::TrainOptions training = options_of(run);
  const nn::DecodeOptions decode = nn::decode_options(training);
  const auto all =
      nn::split_grid(nn::decode_image(grids.back()), training.model.width, training.model.height);
  std::vector<nn::Image> samples;
  for (const std::size_t i : spread(all.size(), kMostSamples)) samples.push_back(all[i]);
  const auto images = nn::hold_out(std::make_shared<const nn::ImageFolder>(
                                       training.data, decode, nn::classes_from_name(training.classes)),
                                   training.held_out, decode, training.model.classes > 0)
                          .training;
  print_note(cat("searching ", std::min(options.nearest, images->size()), " images of ", images->root(),
                 " for the nearest to ", samples.size(), " samples"));
  Context ctx(options.threads);
  const NearestImages nearest = find_nearest(ctx, *images, samples, training.flip, options.nearest);

  std::string out =
      cat("<p>", samples.size(), " of the ", all.size(), " samples of ", escaped(step_text(grids.back())),
          ", and the nearest of ", nearest.searched, " of ", images->size(), " training images",
          training.flip ? " and their mirror images" : "", ".");
  for (std::size_t kind = 0; kind < kDistanceNames.size(); ++kind)
    out += cat(" By ", kDistanceNames[kind],
               ", the median distance of a training image to the nearest other one is ",
               text("%.3g", nearest.usual[kind]), ".");
  out +=
      " A sample that is nearer than half of that is marked: it may be a copy.</p>\n<div class=\"strip\">\n";
  for (std::size_t i = 0; i < samples.size(); ++i) {
    out += cat("<div class=\"triple\"><figure>", picture(samples[i], cat("sample ", i + 1), kSampleWidth),
               "<figcaption>sample</figcaption></figure>");
    for (std::size_t kind = 0; kind < kDistanceNames.size(); ++kind) {
      const Neighbour& found = nearest.of_samples[i][kind];
      const bool close = found.distance < kClose * nearest.usual[kind];
      out += cat("<figure>", picture(found.image, found.path, kSampleWidth), "<figcaption>",
                 kDistanceNames[kind], ": ", close ? "<span class=\"mark\">close, " : "",
                 text("%.3g", found.distance), close ? "</span>" : "", "<br>", path_text(found.path),
                 "</figcaption></figure>");
    }
    out += "</div>\n";
  }
  return out + "</div>\n";
}

std::string nearest_images(const std::vector<Shown>& runs, const ReportOptions& options) {
  std::string out = "<h2>Nearest training images</h2>\n";
  if (options.nearest == 0) {
    std::string words;
    for (const Shown& run : runs) words += cat(" ", shell_word(run.files.root()));
    return cat(out, "<p>They were not looked for. This command does it:</p>\n<pre>llsa report",
               escaped(words), "</pre>\n");
  }
  out +=
      "<p class=\"quiet\">Small pixels: the root of the mean squared difference of images that are made "
      "smaller, to at most 16 pixels a side, channels from 0 to 1. Random features: the distance of the 60 "
      "features by which <code>llsa eval</code> scores, each divided by its standard deviation over the "
      "training images. Training images are cropped at the centre.</p>\n";
  for (const Shown& run : runs) out += heading(runs, run) + part([&] { return nearest_of(run, options); });
  return out;
}

using Entries = std::vector<std::pair<std::string, std::string>>;

Entries configuration_of(const Shown& run) {
  return nn::JsonObject(read_text_file(run.files.config_path()), run.files.config_path()).entries();
}

/// Keys in which runs differ, with the value of each run.
std::string differences(const std::vector<Shown>& runs) {
  std::vector<std::string> keys, head = {"key"};
  std::map<std::string, std::vector<std::string>> values;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    head.push_back(escaped(runs[i].name));
    for (const auto& [key, value] : configuration_of(runs[i])) {
      const auto [at, is_new] = values.try_emplace(key, runs.size());
      if (is_new) keys.push_back(key);
      at->second[i] = value;
    }
  }
  Rows rows;
  for (const std::string& key : keys) {
    const auto& of_key = values[key];
    if (std::all_of(of_key.begin(), of_key.end(),
                    [&](const std::string& value) { return value == of_key[0]; }))
      continue;
    std::vector<std::string> row = {code(key)};
    for (const std::string& value : of_key) row.push_back(code(value));
    rows.push_back(row);
  }
  return rows.empty() ? "<p>The runs have the same configuration.</p>\n" : html_table(head, rows);
}

std::string configuration(const std::vector<Shown>& runs) {
  std::string out = "<h2>Configuration</h2>\n";
  if (runs.size() > 1) out += cat("<h3>Differences</h3>\n", part([&] { return differences(runs); }));
  std::map<std::string, std::string> defaults;
  for (const auto& [key, value] : nn::JsonObject(nn::TrainOptions().json(), "defaults").entries())
    defaults[key] = value;
  for (const Shown& run : runs)
    out += part([&] {
      Rows rows, usual;
      for (const auto& [key, value] : configuration_of(run))
        (defaults[key] == value ? usual : rows).push_back({code(key), code(value)});
      return cat(heading(runs, run), "<p class=\"quiet\">Other than the defaults:</p>\n",
                 html_table({"key", "value"}, rows), "<details><summary>", usual.size(),
                 " keys at their defaults</summary>\n", html_table({"key", "value"}, usual), "</details>\n");
    });
  return out;
}

std::uintmax_t bytes_below(const std::string& folder) {
  std::uintmax_t bytes = 0;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    std::error_code ignored;
    if (entry.is_regular_file(ignored)) bytes += entry.file_size();
  }
  return bytes;
}

std::string checkpoints(const std::vector<Shown>& runs) {
  std::string out = "<h2>Checkpoints</h2>\n";
  for (const Shown& run : runs) {
    const auto found = run.files.checkpoints();
    out += heading(runs, run) + part([&] {
             if (found.empty()) return std::string("<p>There is none yet.</p>\n");
             const auto best = run.files.best();
             Rows rows;
             for (const nn::CheckpointPath& checkpoint : found)
               rows.push_back({cat(checkpoint.step), code(checkpoint.path),
                               bytes_text(static_cast<double>(bytes_below(checkpoint.path))),
                               best && best->step == checkpoint.step
                                   ? text("lowest held-out loss, %.4f", best->held_out_loss)
                                   : std::string()});
             const std::string folder = shell_word(run.files.root());
             const bool finished = run.summary.state == RunState::finished;
             return html_table({"step", "folder", "size", ""}, rows) +
                    cat("<p>To go on", finished ? " for as many steps again" : "",
                        ", and to draw images:</p>\n<pre>llsa train --out ", escaped(folder), " --resume",
                        finished ? cat(" --steps ", 2 * run.summary.steps) : std::string(), "\nllsa sample ",
                        escaped(folder), " --out grid.png</pre>\n");
           });
  }
  return out;
}

std::string machine(const std::vector<Shown>& runs) {
  Rows rows;
  for (const Shown& run : runs) {
    const auto& machines = run.summary.log.machines;
    for (std::size_t i = 0; i < machines.size(); ++i)
      if (i == 0 || machines[i].second != machines[i - 1].second)
        rows.push_back({escaped(run.name), cat(machines[i].first), escaped(machines[i].second)});
    if (machines.empty()) rows.push_back({escaped(run.name), "", "The log does not name it."});
  }
  char time_text[64] = "";
  const std::time_t now = std::time(nullptr);
  std::tm utc = {};
  if (gmtime_r(&now, &utc) != nullptr) std::strftime(time_text, sizeof time_text, "%Y-%m-%d %H:%M UTC", &utc);
  return cat("<h2>Machine</h2>\n", html_table({"run", "from step", "machine"}, rows),
             "<p class=\"quiet\">This page was written at ", time_text, " by llsa ", LLSA_VERSION, ".</p>\n");
}

/// Names of the runs: the folders as they were given, or the last part of a single one.
std::vector<std::string> names_of(const std::vector<std::string>& folders) {
  const auto normal = [](const fs::path& folder) { return (folder / "").lexically_normal().parent_path(); };
  if (folders.size() == 1) return {printable(normal(fs::absolute(folders[0])).filename().string())};
  std::vector<std::string> names;
  for (const std::string& folder : folders) names.push_back(printable(normal(folder).string()));
  return names;
}

}  // namespace

void write_report(const std::vector<std::string>& folders, const std::string& out,
                  const ReportOptions& options) {
  check_output(out);
  const std::vector<std::string> names = names_of(folders);
  std::vector<Shown> runs;
  for (std::size_t i = 0; i < folders.size(); ++i) {
    if (!is_run_folder(folders[i]))
      throw IoError(cat(folders[i], " is not the folder of a run: it has no log.jsonl"),
                    "llsa runs DIR lists the runs below DIR");
    runs.push_back({summary_of(folders[i]), names[i], nn::RunFolder(folders[i])});
  }
  std::vector<RunSummary> summaries;
  for (const Shown& run : runs) summaries.push_back(run.summary);
  const std::string title = runs.size() == 1 ? names[0] : cat(runs.size(), " training runs");
  const AtomicDirectory plots(out + ".plots");  // never committed: it vanishes at the end
  write_file_atomically(out, html_page(title, cat("<h1>", escaped(title), "</h1>\n", overview(runs),
                                                  curves_html(summaries, names, plots.temporary()),
                                                  notes(runs), previews(runs), nearest_images(runs, options),
                                                  configuration(runs), checkpoints(runs), machine(runs))));
}

int run_report(const ReportArgs& args) {
  const std::string out = args.out.empty() ? args.runs.front() + "/report.html" : args.out;
  write_report(args.runs, out, {args.nearest, args.threads});
  std::printf("wrote %s\n", out.c_str());
  return 0;
}

}  // namespace llsa::apps
