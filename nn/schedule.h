// Learning rate over the steps of a run.
#pragma once

#include <cstdint>
#include <string>

namespace llsa::nn {

/// Linear warm-up from lr / warmup to lr over the first `warmup` steps, then constant, or half a cosine down
/// to lr * final_fraction at the last step.
struct Schedule {
  enum class Kind { constant, cosine };
  Kind kind = Kind::constant;
  double lr = 1e-4;
  std::int64_t warmup = 0;
  std::int64_t steps = 1;  ///< of the whole run (cosine)
  double final_fraction = 0.05;

  /// The rate of step n = 0, 1, .. steps - 1.
  double at(std::int64_t n) const;
  /// Throws ValueError for values out of range.
  void validate() const;
};

/// "constant", "cosine". Throws ValueError for another word.
Schedule::Kind schedule_kind(const std::string& name);
std::string name_of(Schedule::Kind kind);

}  // namespace llsa::nn
