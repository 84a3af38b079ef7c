// Checked JSON over nlohmann-json, which parses; the checks are here.
#include "nn/json.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "core/closest.h"
#include "core/error.h"

namespace llsa::nn {

using Json = nlohmann::ordered_json;

struct JsonObject::Data {
  Json json = Json::object();
  std::string where;
  std::set<std::string> known;  // keys asked for, present or not
};

namespace {

// No document of ours is deeper than four objects. Copying and printing a value calls itself at every level, so a
// document that is much deeper would overflow the stack.
constexpr int kMaxDepth = 32;

std::string short_dump(const Json& value) {
  std::string text = value.dump();
  if (text.size() > 40) text = text.substr(0, 37) + "...";
  return text;
}

/// "a string "x"", "the number -1", "null"
std::string describe(const Json& value) {
  if (value.is_null()) return "null";
  const char* kind = value.is_string()         ? "the string "
                     : value.is_boolean()      ? "the boolean "
                     : value.is_number_float() ? "the number "
                     : value.is_number()       ? "the integer "
                     : value.is_array()        ? "the list "
                                               : "the object ";
  return kind + short_dump(value);
}

[[noreturn]] void wrong(const std::string& where, const std::string& key, const std::string& expected,
                        const Json& value, std::string hint = {}) {
  throw ValueError(cat("[", where, "] key \"", key, "\": expected ", expected, ", got ", describe(value)),
                   std::move(hint));
}

std::string range_text(const char* what, double least, double most) {
  TextStream out;
  out.precision(15);
  out << what;
  if (std::isfinite(most))
    out << " from " << least << " to " << most;
  else if (std::isfinite(least))
    out << " of at least " << least;
  return out.str();
}

/// The integer in a JSON value, if it is one: 2.0 and true are none, -1 is not 18446744073709551615.
std::optional<std::int64_t> as_integer(const Json& value) {
  if (!value.is_number_integer()) return std::nullopt;
  if (value.is_number_unsigned() && value.get<std::uint64_t>() > static_cast<std::uint64_t>(INT64_MAX))
    return std::nullopt;
  return value.get<std::int64_t>();
}

}  // namespace

JsonObject::JsonObject(const std::string& text, std::string where) : data_(std::make_unique<Data>()) {
  data_->where = std::move(where);
  std::vector<std::set<std::string>> open;  // keys seen in every object that is open
  const auto watch = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (depth > kMaxDepth)
      throw ValueError(cat("[", data_->where, "] is nested deeper than ", kMaxDepth, " objects and lists"));
    if (event == Json::parse_event_t::object_start) open.emplace_back();
    if (event == Json::parse_event_t::object_end) open.pop_back();
    if (event == Json::parse_event_t::key && !open.back().insert(parsed.get<std::string>()).second)
      throw ValueError(cat("[", data_->where, "] key ", parsed.dump(), " is given twice"),
                       "keep one of the two");
    return true;
  };
  try {
    data_->json = Json::parse(text, watch);
  } catch (const Json::exception& e) {
    std::string what = e.what();
    if (const auto at = what.find("] "); at != std::string::npos)
      what.erase(0, at + 2);  // drop the package's own tag
    throw ValueError(cat("[", data_->where, "] is not valid JSON: ", what));
  }
  if (!data_->json.is_object())
    throw ValueError(cat("[", data_->where, "] expected a JSON object { .. }, got ", describe(data_->json)));
}

JsonObject::JsonObject(std::unique_ptr<Data> data) : data_(std::move(data)) {}
JsonObject::~JsonObject() = default;
JsonObject::JsonObject(JsonObject&&) noexcept = default;
JsonObject& JsonObject::operator=(JsonObject&&) noexcept = default;

const std::string& JsonObject::where() const { return data_->where; }

bool JsonObject::has(const std::string& key) const { return data_->json.contains(key); }

bool JsonObject::absent_or_null(const std::string& key) {
  data_->known.insert(key);
  return !has(key) || data_->json.at(key).is_null();
}

bool JsonObject::is_off(const std::string& key) {
  return absent_or_null(key) || data_->json.at(key) == Json(false);
}

bool JsonObject::is_string(const std::string& key) const {
  return has(key) && data_->json.at(key).is_string();
}
bool JsonObject::is_array(const std::string& key) const { return has(key) && data_->json.at(key).is_array(); }

bool JsonObject::boolean(const std::string& key, bool otherwise) {
  data_->known.insert(key);
  if (!has(key)) return otherwise;
  const Json& value = data_->json.at(key);
  if (!value.is_boolean()) wrong(data_->where, key, "true or false", value);
  return value.get<bool>();
}

std::int64_t JsonObject::integer(const std::string& key, std::int64_t otherwise, std::int64_t least,
                                 std::int64_t most, const std::string& also) {
  data_->known.insert(key);
  if (!has(key)) return otherwise;
  const Json& value = data_->json.at(key);
  const auto found = as_integer(value);
  if (!found || *found < least || *found > most)
    wrong(data_->where, key, cat("an integer from ", least, " to ", most, also), value);
  return *found;
}

double JsonObject::number(const std::string& key, double otherwise, double least, double most) {
  data_->known.insert(key);
  if (!has(key)) return otherwise;
  const Json& value = data_->json.at(key);
  if (!value.is_number()) wrong(data_->where, key, range_text("a number", least, most), value);
  const double found = value.get<double>();
  if (!(found >= least && found <= most))
    wrong(data_->where, key, range_text("a number", least, most), value);
  return found;
}

std::string JsonObject::string(const std::string& key, const std::string& otherwise) {
  data_->known.insert(key);
  if (!has(key)) return otherwise;
  const Json& value = data_->json.at(key);
  if (!value.is_string()) wrong(data_->where, key, "a string", value);
  return value.get<std::string>();
}

std::string JsonObject::choice(const std::string& key, const std::string& otherwise,
                               const std::vector<std::string>& words) {
  data_->known.insert(key);
  if (!has(key)) return otherwise;
  const Json& value = data_->json.at(key);
  if (value.is_string() && std::find(words.begin(), words.end(), value.get<std::string>()) != words.end())
    return value.get<std::string>();
  std::string list;
  for (const auto& word : words) list += cat(list.empty() ? "" : ", ", '"', word, '"');
  wrong(data_->where, key, "one of " + list, value,
        value.is_string() ? did_you_mean(value.get<std::string>(), words) : "");
}

std::vector<std::int64_t> JsonObject::integers(const std::string& key,
                                               const std::vector<std::int64_t>& otherwise, std::int64_t least,
                                               std::int64_t most) {
  data_->known.insert(key);
  if (!has(key)) return otherwise;
  const Json& value = data_->json.at(key);
  const Json list = value.is_array() ? value : Json::array({value});
  std::vector<std::int64_t> out;
  for (const Json& item : list) {
    const auto found = as_integer(item);
    if (found && *found >= least && *found <= most) out.push_back(*found);
  }
  if (out.size() != list.size() || out.empty())
    wrong(data_->where, key, cat("an integer or a list of integers from ", least, " to ", most), value);
  return out;
}

std::vector<std::string> JsonObject::strings(const std::string& key,
                                             const std::vector<std::string>& otherwise) {
  data_->known.insert(key);
  if (!has(key)) return otherwise;
  const Json& value = data_->json.at(key);
  std::vector<std::string> out;
  for (const Json& item : value) {
    if (item.is_string()) out.push_back(item.get<std::string>());
  }
  if (!value.is_array() || out.size() != value.size()) wrong(data_->where, key, "a list of strings", value);
  return out;
}

JsonObject JsonObject::object(const std::string& key) {
  data_->known.insert(key);
  auto inner = std::make_unique<Data>();
  inner->where = data_->where + ": " + key;
  if (has(key)) {
    if (!data_->json.at(key).is_object()) wrong(data_->where, key, "an object { .. }", data_->json.at(key));
    inner->json = data_->json.at(key);
  }
  return JsonObject(std::move(inner));
}

std::vector<std::pair<std::string, std::string>> JsonObject::entries() const {
  std::vector<std::pair<std::string, std::string>> all;
  for (const auto& item : data_->json.items()) all.emplace_back(item.key(), item.value().dump());
  return all;
}

std::vector<std::string> JsonObject::unread() const {
  std::vector<std::string> keys;
  for (const auto& item : data_->json.items())
    if (data_->known.count(item.key()) == 0) keys.push_back(item.key());
  return keys;
}

void JsonObject::finish() const {
  const auto keys = unread();
  if (keys.empty()) return;
  throw ValueError(cat("[", data_->where, "] unknown key \"", keys.front(), '"'),
                   did_you_mean(keys.front(), {data_->known.begin(), data_->known.end()}));
}

JsonWriter& JsonWriter::put(const std::string& key, std::string text) {
  entries_.push_back({key, std::move(text), nullptr});
  return *this;
}

namespace {

std::string number_text(double value) {
  if (std::isnan(value)) return "\"NaN\"";
  if (std::isinf(value)) return value > 0 ? "\"Infinity\"" : "\"-Infinity\"";
  return Json(value).dump();  // the shortest text that reads back as the same double
}

// Text that is not UTF-8 (the name of a file or folder, say) must not make writing fail.
template <class T>
std::string value_text(const T& value) {
  return Json(value).dump(-1, ' ', false, Json::error_handler_t::replace);
}

template <class T>
std::string list_text(const std::vector<T>& values) {
  std::string text = "[";
  for (const T& value : values) text += (text.size() > 1 ? ", " : "") + value_text(value);
  return text + "]";
}

}  // namespace

JsonWriter& JsonWriter::add(const std::string& key, bool value) { return put(key, value ? "true" : "false"); }
JsonWriter& JsonWriter::add(const std::string& key, std::int64_t value) {
  return put(key, std::to_string(value));
}
JsonWriter& JsonWriter::add(const std::string& key, double value) { return put(key, number_text(value)); }
JsonWriter& JsonWriter::add(const std::string& key, const std::string& value) {
  return put(key, value_text(value));
}
JsonWriter& JsonWriter::add(const std::string& key, const std::vector<std::int64_t>& values) {
  return put(key, list_text(values));
}
JsonWriter& JsonWriter::add(const std::string& key, const std::vector<std::string>& values) {
  return put(key, list_text(values));
}
JsonWriter& JsonWriter::add(const std::string& key, const JsonWriter& object) {
  entries_.push_back({key, {}, std::make_shared<JsonWriter>(object)});
  return *this;
}
JsonWriter& JsonWriter::add_null(const std::string& key) { return put(key, "null"); }

std::string JsonWriter::line() const {
  std::string text = "{";
  for (const Entry& e : entries_)
    text += cat(text.size() > 1 ? ", " : "", value_text(e.key), ": ", e.object ? e.object->line() : e.text);
  return text + "}";
}

std::string JsonWriter::indented(int depth) const {
  if (entries_.empty()) return "{}";
  const std::string margin(static_cast<std::size_t>(2 * depth), ' ');
  std::string text = "{\n";
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    const Entry& e = entries_[i];
    text += cat(margin, "  ", value_text(e.key), ": ", e.object ? e.object->indented(depth + 1) : e.text,
                i + 1 < entries_.size() ? "," : "", "\n");
  }
  return text + margin + "}";
}

std::string JsonWriter::pretty() const { return indented(0) + "\n"; }

}  // namespace llsa::nn
