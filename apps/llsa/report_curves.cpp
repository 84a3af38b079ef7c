#include "apps/llsa/report_curves.h"

#include <algorithm>
#include <limits>

#include "apps/bench/bench.h"
#include "apps/llsa/report_html.h"
#include "core/error.h"
#include "core/text_file.h"

namespace llsa::apps {
namespace {

constexpr std::size_t kMostPoints = 400, kRowsOfTables = 12;
constexpr double kLogRange = 30;  // an axis whose values span more than this factor is logarithmic

/// A key of the log, and its name on an axis.
struct Curve {
  const char* key;
  const char* label;
};
constexpr Curve kCurves[] = {{"loss", "training loss"},
                             {"held_out_loss", "held-out loss"},
                             {"score_over_real", "score / score of real images"},
                             {"fid", "FID"},
                             {"gradient_norm", "gradient norm"},
                             {"learning_rate", "learning rate"},
                             {"tokens_per_second", "tokens per second"}};

bool spans_decades(const Plot& plot) {
  double least = std::numeric_limits<double>::infinity(), most = 0;
  for (const PlotSeries& series : plot.series)
    for (const PlotPoint& point : series.points) {
      least = std::min(least, point.y);
      most = std::max(most, point.y);
    }
  return least > 0 && most > kLogRange * least;
}

std::string table_html(const Plot& plot) {
  std::vector<std::vector<std::string>> rows;
  for (const PlotSeries& series : plot.series)
    for (const PlotPoint& point : thinned(series.points, kRowsOfTables))
      rows.push_back({escaped(series.name), text("%.0f", point.x), text("%.5g", point.y)});
  return cat("<h3>", escaped(plot.y_label), "</h3>\n", html_table({"run", "step", "value"}, rows));
}

}  // namespace

std::vector<PlotPoint> thinned(const std::vector<PlotPoint>& points, std::size_t most) {
  const std::size_t group = (points.size() + most - 1) / most;
  if (group <= 1) return points;
  std::vector<PlotPoint> means;
  for (std::size_t begin = 0; begin < points.size(); begin += group) {
    const std::size_t end = std::min(begin + group, points.size());
    PlotPoint sum;
    for (std::size_t i = begin; i < end; ++i) {
      sum.x += points[i].x;
      sum.y += points[i].y;
    }
    const auto count = static_cast<double>(end - begin);
    means.push_back({.x = sum.x / count, .y = sum.y / count});
  }
  return means;
}

std::string curves_html(const std::vector<RunSummary>& runs, const std::vector<std::string>& names,
                        const std::string& folder) {
  std::string pictures, tables;
  bool averaged = false;
  for (const Curve& curve : kCurves) {
    Plot plot = {};
    plot.title = plot.y_label = curve.label;
    plot.x_label = "step";
    plot.width = 600;
    plot.height = 330;
    for (std::size_t i = 0; i < runs.size(); ++i) {
      const auto& points = runs[i].log.points(curve.key);
      averaged = averaged || points.size() > kMostPoints;
      if (!points.empty())
        plot.series.push_back(
            {runs.size() > 1 ? names[i] : "", thinned(points, kMostPoints), static_cast<int>(i) + 1});
    }
    if (plot.series.empty()) continue;
    plot.log_y = spans_decades(plot);
    if (write_plot(plot, folder, curve.key))
      pictures +=
          cat("<img class=\"plot\" alt=\"", escaped(plot.title), "\" src=\"",
              data_uri("image/svg+xml", read_text_file(cat(folder, "/", curve.key, ".svg"))), "\">\n");
    else
      tables += table_html(plot);
  }
  std::string out = "<h2>Curves</h2>\n";
  if (pictures.empty() && tables.empty()) return out + "<p>The log has no steps yet.</p>\n";
  if (averaged)
    out += cat("<p class=\"quiet\">Logs of more than ", kMostPoints,
               " entries are drawn as means over groups of consecutive entries.</p>\n");
  if (!tables.empty())
    out +=
        "<p>gnuplot is not installed, so there are tables in place of the plots; each row is the mean of a "
        "group of consecutive entries.</p>\n";
  return out + (pictures.empty() ? "" : cat("<div class=\"grid\">\n", pictures, "</div>\n")) + tables;
}

}  // namespace llsa::apps
