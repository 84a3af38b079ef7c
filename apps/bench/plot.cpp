#include "apps/bench/plot.h"

#include <spawn.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <iomanip>

#include "core/atomic_file.h"
#include "core/error.h"

extern char** environ;

namespace llsa::apps {
namespace {

/// In single quotes, in which gnuplot changes nothing but two quotes into one.
std::string quoted(const std::string& text) {
  std::string result = "'";
  for (const char c : text) result += c == '\'' ? std::string("''") : std::string(1, c);
  return result + "'";
}

bool has_errors(const PlotSeries& series) {
  for (const PlotPoint& point : series.points)
    if (point.error) return true;
  return false;
}

std::string style_of(const PlotSeries& series) {
  constexpr std::size_t kMostWithPoints = 50;
  const bool points = series.points.size() <= kMostWithPoints;
  return cat(has_errors(series) ? "yerrorlines"
             : points           ? "linespoints"
                                : "lines",
             " linewidth 2", series.colour > 0 ? cat(" linetype ", series.colour) : std::string(),
             points ? " pointsize 0.9" : "");
}

std::string data_text(const std::vector<PlotSeries>& all) {
  TextStream out;
  out << std::setprecision(9);
  for (const PlotSeries& series : all) {
    out << "# " << series.name << ": x, y" << (has_errors(series) ? ", error" : "") << "\n";
    for (const PlotPoint& point : series.points) {
      out << point.x << " " << point.y;
      if (has_errors(series)) out << " " << point.error.value_or(0);
      out << "\n";
    }
    out << "\n\n";  // ends a block
  }
  return out.str();
}

/// What gnuplot should show of an axis where all values are equal; for others it finds a range by itself.
std::string range_text(const char* axis, const std::vector<PlotSeries>& all, double PlotPoint::*coordinate) {
  const double value = all[0].points[0].*coordinate;
  for (const PlotSeries& series : all)
    for (const PlotPoint& point : series.points)
      if (point.*coordinate != value || point.error) return "";
  const double around = value == 0 ? 1 : std::abs(value) / 10;
  return cat("set ", axis, "range [", value - around, ":", value + around, "]\n");
}

std::string script_text(const Plot& plot, const std::vector<PlotSeries>& all, const std::string& name) {
  std::string lines;
  for (std::size_t i = 0; i < all.size(); ++i) {
    lines += cat(i == 0 ? "plot " : ", \\\n     ", quoted(name + ".dat"), " index ", i, " with ",
                 style_of(all[i]), " title ", quoted(all[i].name));
  }
  const std::string size = cat("size ", plot.width, ",", plot.height);
  return cat(
      "# Draws ", name, ".svg and ", name, ".png: gnuplot ", name, ".gp\n", "set encoding utf8\nset title ",
      quoted(plot.title), " noenhanced\nset xlabel ", quoted(plot.x_label), " noenhanced\nset ylabel ",
      quoted(plot.y_label), " noenhanced\n",
      "set key outside right top Left reverse noenhanced\nset grid\nset linetype 5 linecolor rgb 'gray40'\n",
      plot.log_x ? "set logscale x 2\n" : "", plot.log_y ? "set logscale y 10\n" : "",
      range_text("x", all, &PlotPoint::x), range_text("y", all, &PlotPoint::y), "set terminal svg ", size,
      " background rgb 'white'\nset output ", quoted(name + ".svg"), "\n", lines, "\nset terminal pngcairo ",
      size, "\nset output ", quoted(name + ".png"), "\nreplot\nunset output\n");
}

/// False if the program is not installed.
bool run_gnuplot(const std::string& folder, const std::string& script) {
  std::string program = "gnuplot", option = "-e", change = "cd " + quoted(folder), file = script;
  char* const arguments[] = {program.data(), option.data(), change.data(), file.data(), nullptr};
  pid_t child = 0;
  const int error = posix_spawnp(&child, "gnuplot", nullptr, nullptr, arguments, environ);
  if (error == ENOENT) return false;
  if (error != 0) throw Error(cat("gnuplot cannot be started: ", std::strerror(error)));
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) throw Error(cat("cannot wait for gnuplot: ", std::strerror(errno)));
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 127) return false;  // some systems look for it in the child
  if (status != 0) {
    throw Error(cat("gnuplot failed on ", script),
                cat("its messages stand above; the script is in ", folder, " and can be run by hand"));
  }
  return true;
}

}  // namespace

bool write_strip(const std::vector<Picture>& pictures, const std::string& folder, const std::string& name) {
  constexpr std::size_t kPerRow = 6, kSide = 220;
  const std::size_t columns = std::min(kPerRow, pictures.size());
  const std::size_t rows = (pictures.size() + kPerRow - 1) / kPerRow;
  std::string script =
      cat("# Draws ", name, ".png: gnuplot ", name, ".gp\nset encoding utf8\nset terminal pngcairo size ",
          columns * kSide, ",", rows * (kSide + 20), "\nset output ", quoted(name + ".png"),
          "\nunset border\nunset tics\nunset key\nset size ratio -1\nset multiplot layout ", rows, ",",
          columns, "\n");
  for (const Picture& picture : pictures)
    script += cat("set title ", quoted(picture.title), " noenhanced offset 0,-0.7\nplot ",
                  quoted(picture.path), " binary filetype=png with rgbimage\n");
  make_folder(folder);
  write_file_atomically(folder + "/" + name + ".gp", script + "unset multiplot\nunset output\n");
  return run_gnuplot(folder, name + ".gp");
}

bool write_plot(const Plot& plot, const std::string& folder, const std::string& name) {
  std::vector<PlotSeries> drawn;
  for (const PlotSeries& series : plot.series)
    if (!series.points.empty()) drawn.push_back(series);
  if (drawn.empty())
    throw ValueError(cat("[write_plot] expected a series with at least one point in ", name, ", got none"));
  make_folder(folder);
  const std::string path = folder + "/" + name;
  write_file_atomically(path + ".dat", data_text(drawn));
  write_file_atomically(path + ".gp", script_text(plot, drawn, name));
  return run_gnuplot(folder, name + ".gp");
}

}  // namespace llsa::apps
