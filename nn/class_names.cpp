#include "nn/class_names.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>

#include "core/closest.h"
#include "core/error.h"

namespace llsa::nn {
namespace {

std::optional<std::int32_t> as_number(std::string_view text) {
  std::int32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) return std::nullopt;
  return value;
}

}  // namespace

std::int32_t find_class(const std::vector<std::string>& names, int classes, const std::string& wanted) {
  if (const auto found = std::find(names.begin(), names.end(), wanted); found != names.end())
    return static_cast<std::int32_t>(found - names.begin());
  const bool marked = wanted.rfind('#', 0) == 0;
  const bool named_by_numbers =
      std::any_of(names.begin(), names.end(), [](const std::string& name) { return as_number(name); });
  const auto position = as_number(std::string_view(wanted).substr(marked ? 1 : 0));
  if (position && *position < classes && (marked || !named_by_numbers)) return *position;
  throw ValueError(cat("there is no class '", wanted, "': expected ",
                       names.empty() ? "" : cat("one of ", listed(names), ", or "), "a position from #0 to #",
                       classes - 1),
                   did_you_mean(wanted, names));
}

}  // namespace llsa::nn
