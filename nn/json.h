// JSON with every key checked: a reader that knows which keys were asked for, and a small writer.
//
// Some mistakes that common JSON libraries accept are errors here: a key given twice, -1 or 2.7 where a count
// is expected, a key that nobody reads. Messages name the document, the key, what was expected and what came.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace llsa::nn {

/// A parsed JSON object. All getters throw ValueError for a value of the wrong type or outside its range; the
/// forms with a default return it when the key is absent.
class JsonObject {
 public:
  /// `where` names the document in messages ("run/config.json"). Throws ValueError for malformed text (line
  /// and column), a document that is not an object or is nested deeper than 32 levels, or a duplicate key at any depth.
  JsonObject(const std::string& text, std::string where);
  ~JsonObject();
  JsonObject(JsonObject&&) noexcept;
  JsonObject& operator=(JsonObject&&) noexcept;

  const std::string& where() const;
  bool has(const std::string& key) const;
  /// True when the key is absent or null; marks it as read.
  bool absent_or_null(const std::string& key);
  /// True if the key is absent, null or false, so that the setting is off; marks it as read.
  bool is_off(const std::string& key);
  bool is_string(const std::string& key) const;
  bool is_array(const std::string& key) const;

  bool boolean(const std::string& key, bool otherwise);
  /// `also` says in the message what else the caller accepts.
  std::int64_t integer(const std::string& key, std::int64_t otherwise, std::int64_t least, std::int64_t most,
                       const std::string& also = {});
  double number(const std::string& key, double otherwise, double least, double most);
  std::string string(const std::string& key, const std::string& otherwise);
  /// One of the given words.
  std::string choice(const std::string& key, const std::string& otherwise,
                     const std::vector<std::string>& words);
  /// A list of integers; a single integer counts as a list of one.
  std::vector<std::int64_t> integers(const std::string& key, const std::vector<std::int64_t>& otherwise,
                                     std::int64_t least, std::int64_t most);
  /// A list of strings.
  std::vector<std::string> strings(const std::string& key, const std::vector<std::string>& otherwise);
  /// The object under a key, empty when absent; its messages are named "where: key".
  JsonObject object(const std::string& key);

  /// All keys in order, each with the text of its value.
  std::vector<std::pair<std::string, std::string>> entries() const;

  /// Keys that nobody has asked for yet.
  std::vector<std::string> unread() const;
  /// Throws ValueError for the first unread key, with the closest known one as a hint.
  void finish() const;

 private:
  struct Data;
  explicit JsonObject(std::unique_ptr<Data> data);
  std::unique_ptr<Data> data_;
};

/// Builds a JSON object in the order of the calls. Numbers are written so that reading gives the same bits;
/// NaN and infinities become the strings "NaN", "Infinity", "-Infinity".
class JsonWriter {
 public:
  JsonWriter& add(const std::string& key, bool value);
  JsonWriter& add(const std::string& key, std::int64_t value);
  JsonWriter& add(const std::string& key, int value) { return add(key, static_cast<std::int64_t>(value)); }
  JsonWriter& add(const std::string& key, double value);
  JsonWriter& add(const std::string& key, const std::string& value);
  JsonWriter& add(const std::string& key, const char* value) { return add(key, std::string(value)); }
  JsonWriter& add(const std::string& key, const std::vector<std::int64_t>& values);
  JsonWriter& add(const std::string& key, const std::vector<std::string>& values);
  JsonWriter& add(const std::string& key, const JsonWriter& object);
  JsonWriter& add_null(const std::string& key);
  /// The object on one line ("{"a": 1}"), or indented by two spaces with a final newline.
  std::string line() const;
  std::string pretty() const;

 private:
  JsonWriter& put(const std::string& key, std::string text);
  std::string indented(int depth) const;
  struct Entry {
    std::string key;
    std::string text;                    ///< the value's JSON text, or
    std::shared_ptr<JsonWriter> object;  ///< a nested object
  };
  std::vector<Entry> entries_;
};

}  // namespace llsa::nn
