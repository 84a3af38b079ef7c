// One HTML file that shows a run, or several side by side: curves, previews, the nearest training images, configuration,
// checkpoints. It needs no other file.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace llsa::apps {

struct ReportOptions {
  std::int64_t nearest = 10'000;  ///< training images that are searched at most; 0 = none
  int threads = 0;                ///< for that; 0 = LLSA_THREADS or all processors
};

/// Writes the page of these folders of runs, atomically. What cannot be read of a run is named on the page. Throws
/// IoError when there is no run in a folder or the page cannot be written, Error when gnuplot fails.
void write_report(const std::vector<std::string>& folders, const std::string& out,
                  const ReportOptions& options = {});

}  // namespace llsa::apps
