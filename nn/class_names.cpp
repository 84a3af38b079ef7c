#include "nn/class_names.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <string_view>

#include "core/closest.h"
#include "core/error.h"
#include "core/number.h"

namespace llsa::nn {
namespace {

std::optional<std::int32_t> as_position(std::string_view text) {
  const auto number = as_number<std::int32_t>(text);
  return number && *number >= 0 ? number : std::nullopt;
}

}  // namespace

std::int32_t find_class(const std::vector<std::string>& names, int classes, const std::string& wanted) {
  if (const auto found = std::find(names.begin(), names.end(), wanted); found != names.end())
    return static_cast<std::int32_t>(found - names.begin());
  const bool marked = wanted.rfind('#', 0) == 0;
  const bool named_by_numbers =
      std::any_of(names.begin(), names.end(), [](const std::string& name) { return as_position(name); });
  const auto position = as_position(std::string_view(wanted).substr(marked ? 1 : 0));
  if (position && *position < classes && (marked || !named_by_numbers)) return *position;
  throw ValueError(cat("there is no class '", wanted, "': expected ",
                       names.empty() ? "" : cat("one of ", listed(names), ", or "), "a position from #0 to #",
                       classes - 1),
                   did_you_mean(wanted, names));
}

ClassMatch match_classes(const std::vector<std::string>& names, std::int64_t classes,
                         const std::vector<std::string>& earlier_names, std::int64_t earlier_classes) {
  ClassMatch match{std::vector<std::int64_t>(static_cast<std::size_t>(classes), -1), {}};
  if (names.empty() || earlier_names.empty()) {
    const std::string unnamed = earlier_names.empty() ? "the checkpoint does not name its classes"
                                                      : "the classes of this model have no names";
    if (classes == earlier_classes) {
      std::iota(match.rows.begin(), match.rows.end(), std::int64_t{0});
      match.note = cat("class table: the ", classes, " rows are taken by position, because ", unnamed);
    } else {
      match.note = cat("class table: all rows but the one for no class start fresh, because ", unnamed,
                       ", and it has ", earlier_classes, ", not ", classes);
    }
    return match;
  }
  if (names == earlier_names) {
    std::iota(match.rows.begin(), match.rows.end(), std::int64_t{0});
    return match;
  }
  std::vector<std::string> kept, fresh, unused;
  for (std::size_t i = 0; i < names.size(); ++i) {
    const auto found = std::find(earlier_names.begin(), earlier_names.end(), names[i]);
    if (found != earlier_names.end()) match.rows[i] = found - earlier_names.begin();
    (found != earlier_names.end() ? kept : fresh).push_back(names[i]);
  }
  for (const std::string& name : earlier_names)
    if (std::find(kept.begin(), kept.end(), name) == kept.end()) unused.push_back(name);
  match.note = cat("class table: ",
                   kept.empty() ? "no row is taken" : cat("rows are taken by name for ", listed(kept)));
  if (!fresh.empty()) match.note += cat("; new and fresh: ", listed(fresh));
  if (!unused.empty()) match.note += cat("; not used of the checkpoint: ", listed(unused));
  return match;
}

}  // namespace llsa::nn
