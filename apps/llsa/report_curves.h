// The curves of runs in a report: plots by gnuplot, or tables without it.
#pragma once

#include <string>
#include <vector>

#include "apps/llsa/run_summary.h"

namespace llsa::apps {

/// At most `most` points: means over equally many points that follow each other. Fewer points stay as they are.
std::vector<PlotPoint> thinned(const std::vector<PlotPoint>& points, std::size_t most);

/// HTML. `names` are those of the runs, which stand beside their curves when there are several; gnuplot works in `folder`. Throws what write_plot() throws.
std::string curves_html(const std::vector<RunSummary>& runs, const std::vector<std::string>& names,
                        const std::string& folder);

}  // namespace llsa::apps
