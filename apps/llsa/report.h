// One HTML file that shows a run, or several side by side: curves, previews, the nearest training images, configuration,
// checkpoints. It needs no other file.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace llsa::apps {

struct ReportOptions {
  std::int64_t nearest = 10'000;  ///< training images that are searched at most; 0 = none
  int threads = 0;                ///< for the search; 0 = LLSA_THREADS or all processors
};

/// Writes the page of these run folders atomically. The page says which parts of a run could not be read. Throws IoError
/// if a folder holds no run or the page cannot be written, Error if gnuplot fails.
void write_report(const std::vector<std::string>& folders, const std::string& out,
                  const ReportOptions& options = {});

}  // namespace llsa::apps
