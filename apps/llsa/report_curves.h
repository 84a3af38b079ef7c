// The curves of runs in a report: plots by gnuplot, or tables without it.
#pragma once

#include <string>
#include <vector>

#include "apps/llsa/run_summary.h"

namespace llsa::apps {

/// Reduces a series to at most `most` points, the means of groups of consecutive points. Shorter series are unchanged.
std::vector<PlotPoint> thinned(const std::vector<PlotPoint>& points, std::size_t most);

/// Returns HTML. `names` are the names of the runs, which label the curves if there are several runs. gnuplot works in
/// `folder`. Throws what write_plot() throws.
std::string curves_html(const std::vector<RunSummary>& runs, const std::vector<std::string>& names,
                        const std::string& folder);

}  // namespace llsa::apps
