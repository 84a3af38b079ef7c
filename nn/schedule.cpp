// Learning-rate schedules.
#include "nn/schedule.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace llsa::nn {

double Schedule::at(std::int64_t n) const {
  if (n < warmup) return lr * static_cast<double>(n + 1) / static_cast<double>(warmup);
  if (kind == Kind::constant) return lr;
  // The cosine starts at lr with the first step after the warm-up and arrives at the last one.
  const auto length = static_cast<double>(std::max<std::int64_t>(1, steps - 1 - warmup));
  const double part = std::min(1.0, static_cast<double>(n - warmup) / length);
  return lr *
         (final_fraction + (1.0 - final_fraction) * 0.5 * (1.0 + std::cos(3.14159265358979323846 * part)));
}

void Schedule::validate() const {
  if (!(lr > 0.0) || !std::isfinite(lr))
    throw ValueError(cat("[schedule] expected a learning rate above 0, got ", lr));
  if (warmup < 0) throw ValueError(cat("[schedule] expected at least 0 warm-up steps, got ", warmup));
  if (steps < 1) throw ValueError(cat("[schedule] expected at least 1 step, got ", steps));
  if (!(final_fraction >= 0.0 && final_fraction <= 1.0))
    throw ValueError(cat("[schedule] expected a final fraction from 0 to 1, got ", final_fraction));
}

Schedule::Kind schedule_kind(const std::string& name) {
  if (name == "constant") return Schedule::Kind::constant;
  if (name == "cosine") return Schedule::Kind::cosine;
  throw ValueError(cat("[schedule] expected \"constant\" or \"cosine\", got \"", name, '"'));
}

std::string name_of(Schedule::Kind kind) { return kind == Schedule::Kind::cosine ? "cosine" : "constant"; }

}  // namespace llsa::nn
