// Fig. 4 of `llsa bench paper` (paper.h): throughput of the key-value backward, by transpose, by mask, and as the
// library does it.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "apps/bench/mask_backward.h"
#include "apps/bench/paper.h"
#include "apps/bench/plot.h"

namespace llsa::apps {

// Shared by both figures.
constexpr int kPaperPicks = 8;  // of LLSA
constexpr std::uint64_t kPaperSeed = 7;
/// "b = 1, H = 4, D = 64"
std::string shape_text(std::int64_t heads, std::int64_t head_dim);
/// An entry of the list at the end: what was not measured, at which size, and why.
std::string left_out_text(const std::string& what, std::int64_t tokens, const std::string& why);
/// " (b = 1, H = 4, D = 64, f32, CPU)", for the title of a plot.
std::string setting_text(const Context& ctx, std::int64_t heads, std::int64_t head_dim, DType dtype);

/// On the CPU all three ways are measured. On a GPU only the library's is, since the scan of a mask would need a kernel of
/// its own.
class KeyValueFigure {
 public:
  /// Adds to `figures` and to `left_out`. All arguments must outlive it.
  KeyValueFigure(const BenchRequest& request, const PaperOptions& options, CallTimer& timer, Figures& figures,
                 std::vector<std::string>& left_out)
      : request_(request), options_(options), timer_(timer), figures_(figures), left_out_(left_out) {}

  /// Checks the results, then prints the head of the table. Throws Error for a wrong one.
  void begin();
  /// Measures and prints one row.
  void measure(std::int64_t tokens);
  Plot plot() const;

 private:
  struct Problem {
    KeyValueInputs in;
    kernels::LlsaResult forward;
  };
  Problem problem(std::int64_t tokens) const;
  void check();
  bool with_mask() const { return request_.ctx.device().is_cpu(); }

  const BenchRequest& request_;
  const PaperOptions& options_;
  CallTimer& timer_;
  Figures& figures_;
  std::vector<std::string>& left_out_;
  std::map<std::string, std::vector<PlotPoint>> rates_;
};

}  // namespace llsa::apps
