#include "nn/data/image_list.h"

#include <cstddef>
#include <cstdint>

#include "core/closest.h"
#include "core/error.h"
#include "core/number.h"

namespace llsa::nn {
namespace {

constexpr std::size_t kPathsShown = 3;  // of each kind of change

std::string counted(const std::vector<std::string>& paths, const char* what) {
  return cat(paths.size(), what, paths.empty() ? std::string() : cat(" (", listed(paths, kPathsShown), ")"));
}

}  // namespace

std::string image_list(const std::vector<ImageEntry>& entries) {
  std::string text;
  for (const ImageEntry& entry : entries) {
    text += std::to_string(entry.content) + ' ' + std::to_string(entry.label) + ' ' + entry.path;
    text += '\0';
  }
  return text;
}

std::optional<std::vector<ImageEntry>> parse_image_list(std::string_view text) {
  std::vector<ImageEntry> entries;
  while (!text.empty()) {
    const std::size_t end = text.find('\0');
    if (end == std::string_view::npos) return std::nullopt;
    const std::string_view record = text.substr(0, end);
    text.remove_prefix(end + 1);
    const std::size_t first = record.find(' '), second = record.find(' ', first + 1);
    if (second == std::string_view::npos) return std::nullopt;
    const auto content = as_number<std::uint64_t>(record.substr(0, first));
    const auto label = as_number<std::int32_t>(record.substr(first + 1, second - first - 1));
    if (!content || !label) return std::nullopt;
    entries.push_back({std::string(record.substr(second + 1)), *label, *content});
  }
  return entries;
}

std::string image_changes(const std::vector<ImageEntry>& before, const std::vector<ImageEntry>& now) {
  std::vector<std::string> added, removed, changed;
  auto old = before.begin();
  for (const ImageEntry& entry : now) {
    for (; old != before.end() && old->path < entry.path; ++old) removed.push_back(old->path);
    if (old == before.end() || old->path != entry.path) {
      added.push_back(entry.path);
      continue;
    }
    if (old->content != entry.content || old->label != entry.label) changed.push_back(entry.path);
    ++old;
  }
  for (; old != before.end(); ++old) removed.push_back(old->path);
  return cat(counted(added, added.size() == 1 ? " image added" : " images added"), ", ",
             counted(removed, " removed"), ", ", counted(changed, " changed"));
}

}  // namespace llsa::nn
