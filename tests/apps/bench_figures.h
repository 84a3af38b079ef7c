// Options of benchmarks in tests, and helpers that read their output.
#pragma once

#include <string>
#include <vector>

#include "apps/bench/bench.h"

namespace llsa::apps {

inline int count_of(const std::string& text, const std::string& part) {
  int count = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

inline std::vector<std::string> names_of(const Figures& figures) {
  std::vector<std::string> names;
  for (const auto& figure : figures) names.push_back(figure.first);
  return names;
}

inline std::string json_of(const Figures& figures, const std::string& name) {
  for (const auto& figure : figures)
    if (figure.first == name) return figure.second.line();
  return "no figure " + name;
}

inline BenchRequest request_of(Context& ctx, DType dtype = DType::f32) {
  return {ctx, dtype, Ceilings{100.0, 200.0, 0, 0, 0, {}}, 65536, Budget(0), 0, false};
}

}  // namespace llsa::apps
