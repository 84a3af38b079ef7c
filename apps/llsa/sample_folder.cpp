#include "apps/llsa/sample_folder.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>
#include <utility>

#include "core/atomic_file.h"
#include "core/closest.h"
#include "core/error.h"
#include "core/text_file.h"
#include "nn/data/file_format.h"
#include "nn/data/folder_walk.h"
#include "nn/data/grid.h"
#include "nn/data/image_io.h"

namespace llsa::apps {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kLongestTable = std::size_t{1} << 30;

std::string table_path(const std::string& folder) { return nn::join_path(folder, nn::kDrawnTable); }

std::string settings_path(const std::string& folder) { return nn::join_path(folder, "sample.json"); }

std::string table_head() { return cat(nn::kDrawnHead, '\n'); }

std::string file_name(std::int64_t image) {
  char name[32];
  std::snprintf(name, sizeof name, "%06lld.png", static_cast<long long>(image));
  return name;
}

bool is_drawn(const std::string& name) {
  const std::size_t digits = name.find_first_not_of("0123456789");
  return digits != std::string::npos && digits >= 6 && name.substr(digits) == ".png";
}

std::string quoted(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? "\"\"" : std::string(1, c);
  return out + '"';
}

void check(const std::string& what, const std::string& path, const std::error_code& error) {
  if (error) throw IoError(cat("cannot ", what, ' ', path, ": ", error.message()));
}

std::vector<std::string> images_in(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error))
    if (const std::string name = it->path().filename().string(); nn::has_image_extension(name))
      names.push_back(name);
  check("read", folder, error);
  std::sort(names.begin(), names.end());
  return names;
}

/// How many rows of a table are complete, as expected, and have their picture. The rest of the file is cut off: a half-written
/// row, and rows without a picture. Their images are drawn again.
std::int64_t rows_to_keep(const std::string& folder, const std::string& table, const SampleLabels& labels) {
  const std::string text = read_text_file(table, kLongestTable), header = table_head();
  std::size_t kept = std::min(header.size(), text.size());
  if (text.compare(0, kept, header, 0, kept) != 0)
    throw ValueError(cat(table, " does not begin with \"", nn::kDrawnHead, '"'), "give another folder");
  std::int64_t rows = 0;
  for (; kept < text.size(); ++rows) {
    const std::string row = labels.row(rows);
    const std::size_t length = std::min(row.size(), text.size() - kept);
    if (text.compare(kept, length, row, 0, length) != 0)
      throw ValueError(cat(table, " was written with other classes or another seed: expected the row \"",
                           row.substr(0, row.size() - 1), "\", got \"",
                           text.substr(kept, std::min(text.find('\n', kept), text.size()) - kept), '"'),
                       "draw as in the earlier call, or into another folder");
    if (length < row.size() || !path_exists(folder + "/" + file_name(rows))) break;
    kept += row.size();
  }
  std::error_code error;
  fs::resize_file(table, kept < header.size() ? 0 : kept, error);
  check("cut off", table, error);
  return rows;
}

/// Compares with the settings of the earlier call. Calls of earlier versions have left none.
void require_equal_settings(const std::string& path, const nn::JsonWriter& settings) {
  if (!path_exists(path)) return;
  std::map<std::string, std::string> earlier;
  for (const auto& [key, value] : nn::JsonObject(read_text_file(path), path).entries()) earlier[key] = value;
  std::string differences;
  bool other_weights = false;
  for (const auto& [key, value] : nn::JsonObject(settings.line(), "settings").entries()) {
    const auto found = earlier.find(key);
    if (found == earlier.end() || found->second == value) continue;
    other_weights = other_weights || key == "weights";
    if (key == "checkpoint" && !other_weights) continue;
    differences += cat(differences.empty() ? "" : "; ", key, ' ', found->second, ", now ", value);
  }
  if (!differences.empty())
    throw ValueError(
        cat("the images in ", fs::path(path).parent_path().string(), " were drawn otherwise: ", differences),
        "draw as in the earlier call, give another folder, or remove its images with --replace");
}

}  // namespace

std::string SampleLabels::row(std::int64_t image) const {
  const std::string name =
      classes.empty() ? std::string() : classes[static_cast<std::size_t>(image) % classes.size()];
  return cat(file_name(image), ',', quoted(name), ',', seed, '\n');
}

SampleFolder::SampleFolder(std::string path, SampleLabels labels, Earlier earlier,
                           const nn::JsonWriter& settings)
    : path_(std::move(path)), labels_(std::move(labels)), table_(nullptr, std::fclose) {
  make_folder(path_);
  const std::string table = table_path(path_);
  const bool has_table = path_exists(table);
  const std::vector<std::string> images = images_in(path_);
  std::vector<std::string> others;
  for (const std::string& name : images)
    if (!has_table || !is_drawn(name)) others.push_back(name);

  if (earlier == Earlier::refuse && (has_table || !images.empty()))
    throw IoError(cat(path_, " holds ", images.size(), " images already",
                      images.empty() ? std::string() : cat(": ", listed(images))),
                  "give another folder, go on with --resume, or remove them with --replace");
  if (!others.empty())
    throw IoError(cat(path_, " holds images that llsa sample has not drawn: ", listed(others)),
                  has_table ? "move them away, or give another folder"
                            : "those that it has drawn are listed in labels.csv; give another folder");
  if (earlier == Earlier::replace) {
    std::error_code error;
    for (const std::string& name : images) {
      fs::remove(fs::path(path_) / name, error);
      check("remove", path_ + "/" + name, error);
    }
    fs::remove(table, error);
    check("remove", table, error);
  } else if (has_table) {
    require_equal_settings(settings_path(path_), settings);
    done_ = rows_to_keep(path_, table, labels_);
  }
  remove_stale_temporaries(path_);  // of a call that was killed
  if (!has_table || earlier == Earlier::replace)
    write_file_atomically(settings_path(path_), settings.pretty());
  table_.reset(std::fopen(table.c_str(), "ab"));
  if (!table_) throw IoError(cat("cannot write ", table, ": ", std::strerror(errno)));
  if (std::fseek(table_.get(), 0, SEEK_END) != 0 ||
      (std::ftell(table_.get()) == 0 && std::fputs(table_head().c_str(), table_.get()) < 0))
    throw IoError(cat("cannot write ", table, ": ", std::strerror(errno)));
}

void SampleFolder::add(const Tensor& images) {
  std::string rows;
  for (std::int64_t i = 0; i < images.size(0); ++i, ++done_) {
    nn::write_png(path_ + "/" + file_name(done_), nn::to_image(images.select(0, i)));
    rows += labels_.row(done_);
  }
  if (std::fwrite(rows.data(), 1, rows.size(), table_.get()) != rows.size() || std::fflush(table_.get()) != 0)
    throw IoError(cat("cannot write ", table_path(path_), ": ", std::strerror(errno)));
}

}  // namespace llsa::apps
