// Plots by gnuplot, an optional program: what is drawn and how to draw it are written in any case.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace llsa::apps {

struct PlotPoint {
  double x = 0, y = 0;
  std::optional<double> error = {};  ///< half the length of the bar that is drawn through the point
};

struct PlotSeries {
  std::string name;
  std::vector<PlotPoint> points;
  int colour = 0;  ///< number of one of gnuplot's colours, from 1 on; 0 = by the place in the plot
};

/// Texts are drawn as they stand; none of them may hold a line break.
struct Plot {
  std::string title;
  std::string x_label, y_label;       ///< with the unit
  bool log_x = false, log_y = false;  ///< x with base 2, since sizes are doubled; y with base 10
  std::vector<PlotSeries> series;  ///< those without points are not drawn; long ones are lines without points
  int width = 1000, height = 600;  ///< pixels
};

/// A PNG file with a title above it.
struct Picture {
  std::string title, path;
};

/// Writes NAME.gp and has gnuplot draw the pictures side by side, six in a row, into NAME.png. Otherwise as
/// write_plot().
bool write_strip(const std::vector<Picture>& pictures, const std::string& folder, const std::string& name);

/// Writes NAME.dat (one block for each series) and NAME.gp (the script, which draws from within the folder), and has
/// gnuplot draw NAME.svg and NAME.png. Makes the folder. Returns whether gnuplot is installed: without it there are no
/// pictures. Throws ValueError where no series has a point, IoError for files, and Error if gnuplot fails.
bool write_plot(const Plot& plot, const std::string& folder, const std::string& name);

}  // namespace llsa::apps
