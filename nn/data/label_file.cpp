#include "nn/data/label_file.h"

#include <algorithm>
#include <filesystem>
#include <limits>
#include <utility>

#include "core/error.h"
#include "core/number.h"
#include "core/text_file.h"
#include "nn/data/folder_walk.h"
#include "nn/json.h"

namespace llsa::nn {

namespace {

constexpr std::size_t kLongestTable = std::size_t{1} << 30;

struct Row {
  std::string file, label;
  bool has_label = false;
  std::int64_t line = 0;
};

std::string place(const std::string& table, std::int64_t line) { return cat(table, ": line ", line); }

std::vector<Row> read_jsonl(const std::string& text, const std::string& table) {
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  std::vector<Row> rows;
  std::int64_t line = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    const std::string part = text.substr(at, end - at);
    at = end + 1;
    ++line;
    if (part.find_first_not_of(" \t\r") == std::string::npos) continue;
    JsonObject json(part, place(table, line));
    Row row{json.string("file_name", ""), "", !json.absent_or_null("label"), line};
    if (row.file.empty()) throw ValueError(cat(place(table, line), " has no file_name"));
    if (row.has_label)
      row.label = json.is_string("label") ? json.string("label", "")
                                          : cat(json.integer("label", 0, -kMost, kMost, "a text"));
    rows.push_back(row);
  }
  return rows;
}

/// The records of a CSV text (RFC 4180), each with the line where it begins. Empty lines are passed over.
std::vector<std::pair<std::int64_t, std::vector<std::string>>> read_csv_records(const std::string& text,
                                                                                const std::string& table) {
  std::vector<std::pair<std::int64_t, std::vector<std::string>>> records;
  std::int64_t line = 1;
  for (std::size_t at = text.starts_with("\xEF\xBB\xBF") ? 3 : 0; at < text.size();) {
    const std::int64_t begin = line;
    std::vector<std::string> fields(1);
    bool quoted = false, ended = false;
    for (; at < text.size() && !ended; ++at) {
      const char c = text[at];
      if (c == '\n') ++line;
      const char next = at + 1 < text.size() ? text[at + 1] : '\0';
      if (c == '"' && quoted && next == '"') {
        fields.back() += c;
        ++at;
      } else if (c == '"' && (quoted || fields.back().empty())) {
        quoted = !quoted;
      } else if (c == ',' && !quoted) {
        fields.emplace_back();
      } else if (c == '\n' && !quoted) {
        ended = true;
      } else if (quoted || c != '\r' || next != '\n') {
        fields.back() += c;
      }
    }
    if (quoted) throw ValueError(cat(place(table, begin), ": a quote is not closed"));
    if (fields.size() > 1 || !fields[0].empty()) records.emplace_back(begin, std::move(fields));
  }
  return records;
}

std::vector<Row> read_csv(const std::string& text, const std::string& table) {
  const auto records = read_csv_records(text, table);
  if (records.empty()) return {};
  const std::vector<std::string>& head = records[0].second;
  const auto column = [&](const char* name) {
    return static_cast<std::size_t>(std::find(head.begin(), head.end(), name) - head.begin());
  };
  const std::size_t file = column("file_name"), label = column("label");
  if (label == head.size()) return {};
  if (file == head.size())
    throw ValueError(cat(place(table, records[0].first), ": the head has no column file_name"));
  std::vector<Row> rows;
  for (std::size_t i = 1; i < records.size(); ++i) {
    const auto& [line, fields] = records[i];
    if (fields.size() != head.size())
      throw ValueError(
          cat(place(table, line), " has ", fields.size(), " fields, the head has ", head.size()));
    const bool has_label = !fields[label].empty();
    if (fields[file].empty()) throw ValueError(cat(place(table, line), " has no file_name"));
    rows.push_back({fields[file], has_label ? fields[label] : "", has_label, line});
  }
  return rows;
}

}  // namespace

std::optional<ImageLabels> read_labels(const std::string& root, const std::vector<std::string>& files) {
  ImageLabels labels;
  std::map<std::string, std::string> named_in;
  for (const std::string& path : files) {
    const std::filesystem::path table(path);
    const bool jsonl = table.filename() == "metadata.jsonl";
    if (!jsonl && table.filename() != "metadata.csv") continue;
    const std::string full = join_path(root, path), text = read_text_file(full, kLongestTable);
    const std::vector<Row> rows = jsonl ? read_jsonl(text, full) : read_csv(text, full);
    if (std::none_of(rows.begin(), rows.end(), [](const Row& row) { return row.has_label; })) continue;
    labels.tables.push_back(path);
    for (const Row& row : rows) {
      const std::string where = place(full, row.line);
      const std::string file = (table.parent_path() / row.file).lexically_normal().string();
      if (!row.has_label)
        throw ValueError(cat(where, " has no label, others have one"), "give every image one, or none");
      if (!std::binary_search(files.begin(), files.end(), file))
        throw ValueError(cat(where, " names ", row.file, ", which is not there"),
                         "file_name is relative to the folder of the table");
      const auto [found, is_new] = named_in.emplace(file, where);
      if (!is_new) throw ValueError(cat(where, " names ", row.file, " again, after ", found->second));
      labels.of[file] = row.label;
    }
  }
  if (labels.tables.empty()) return std::nullopt;
  return labels;
}

std::vector<std::string> class_order(const std::set<std::string>& labels) {
  std::vector<std::string> names(labels.begin(), labels.end());
  const auto number = [](const std::string& name) { return as_number<std::int64_t>(name); };
  if (std::all_of(names.begin(), names.end(),
                  [&](const std::string& name) { return number(name).has_value(); }))
    std::stable_sort(names.begin(), names.end(),
                     [&](const std::string& a, const std::string& b) { return *number(a) < *number(b); });
  return names;
}

}  // namespace llsa::nn
