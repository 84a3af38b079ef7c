// llsa runs: the runs below a folder, in a table.
#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "apps/bench/bench.h"
#include "apps/llsa/commands.h"
#include "apps/llsa/output.h"
#include "apps/llsa/run_summary.h"
#include "nn/json.h"

namespace llsa::apps {
namespace {

namespace fs = std::filesystem;

/// Run folders in order of their names. A run folder is not searched for further runs, and links are not followed.
std::vector<std::string> runs_below(const std::string& root) {
  if (!fs::is_directory(root)) throw IoError(cat("there is no folder ", root));
  if (is_run_folder(root)) return {root};
  std::vector<std::string> found;
  fs::recursive_directory_iterator it(root, fs::directory_options::skip_permission_denied), end;
  for (; it != end; ++it) {
    std::error_code ignored;
    if (it->is_symlink(ignored) || !it->is_directory(ignored) || !is_run_folder(it->path().string()))
      continue;
    found.push_back(it->path().string());
    it.disable_recursion_pending();
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::string number_text(const std::optional<double>& value) { return value ? text("%.4f", *value) : "-"; }

/// The width of a text on a terminal, if every UTF-8 character takes one column.
std::size_t width_of(const std::string& text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

void print_table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths(rows.front().size());
  for (const auto& row : rows)
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width_of(row[i]));
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string blank(widths[i] - width_of(row[i]), ' ');
      line += (i == 0 ? "" : "  ") + (i < 2 ? row[i] + blank : blank + row[i]);  // names left, numbers right
    }
    std::printf("%s\n", line.c_str());
  }
}

}  // namespace

int run_runs(const RunsArgs& args) {
  const std::vector<std::string> folders = runs_below(args.folder);
  std::vector<std::vector<std::string>> rows = {{"run", "state", "step", "loss", "held-out", "age"}};
  nn::JsonWriter all;
  std::vector<std::string> damages;
  for (const std::string& folder : folders) {
    const RunSummary run = summary_of(folder);
    nn::JsonWriter row;
    row.add("state", name_of(run.state)).add("step", run.step).add("steps", run.steps);
    for (const char* key : {"loss", "held_out_loss", "score", "score_over_real", "fid"})
      if (const auto value = run.log.last(key)) row.add(key, *value);
    row.add("age_seconds", run.age);
    if (!run.damage.empty()) row.add("damage", run.damage);
    all.add(folder, row);
    const std::string name = fs::path(folder).lexically_relative(args.folder).string();
    rows.push_back({printable(name == "." ? folder : name), name_of(run.state),
                    cat(run.step, "/", run.steps > 0 ? cat(run.steps) : "?"),
                    number_text(run.log.last("loss")), number_text(run.log.last("held_out_loss")),
                    age_text(run.age)});
    if (!run.damage.empty()) damages.push_back(printable(run.damage));
  }
  if (args.json) {
    std::printf("%s", all.pretty().c_str());
    return 0;
  }
  if (folders.empty()) {
    std::printf("no runs below %s\n", args.folder.c_str());
    return 0;
  }
  print_table(rows);
  for (const std::string& damage : damages) std::printf("damaged: %s\n", damage.c_str());
  return 0;
}

}  // namespace llsa::apps
