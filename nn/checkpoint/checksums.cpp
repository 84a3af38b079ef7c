#include "nn/checkpoint/checksums.h"

#include <algorithm>
#include <filesystem>
#include <vector>

#include "core/atomic_file.h"
#include "core/checksum.h"
#include "core/error.h"
#include "core/text_file.h"
#include "nn/checkpoint/run_folder.h"

namespace llsa::nn {
namespace {

namespace fs = std::filesystem;

constexpr const char* kName = "checksums.xxh64";

std::string list_path(const std::string& checkpoint) { return (fs::path(checkpoint) / kName).string(); }

}  // namespace

void write_checksums(const std::string& checkpoint) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::recursive_directory_iterator at(checkpoint, error), end; !error && at != end; at.increment(error))
    if (at->is_regular_file(error))
      names.push_back(fs::path(at->path()).lexically_relative(checkpoint).string());
  if (error) throw IoError(cat("cannot list ", checkpoint, ": ", error.message()));
  std::sort(names.begin(), names.end());
  std::string list;
  for (const std::string& name : names) list += cat(file_checksum(checkpoint + "/" + name), "  ", name, "\n");
  write_file_atomically(list_path(checkpoint), list);
}

std::string checked_file(const std::string& checkpoint, const std::string& name) {
  const std::string path = (fs::path(checkpoint) / name).string(), list = list_path(checkpoint);
  if (!path_exists(list) || !path_exists(path)) return path;
  const std::string found = file_checksum(path), lines = cat("\n", read_text_file(list));
  if (lines.find(cat("\n", found, "  ", name, "\n")) != std::string::npos) return path;
  const std::string way = way_around(checkpoint);
  throw IoError(cat(path, " is damaged: its checksum is ", found, ", not the one in ", list),
                cat(way.empty() ? "bring it back from a copy" : way,
                    "; if the file was changed on purpose, remove ", list));
}

}  // namespace llsa::nn
