#include "apps/llsa/output.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "core/error.h"

namespace llsa::apps {

void check_output(const std::string& path) {
  namespace fs = std::filesystem;
  if (path.empty()) return;
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) throw IoError(cat("cannot write ", path, ": it is a folder"));
  const std::string folder = fs::path(path).has_parent_path() ? fs::path(path).parent_path().string() : ".";
  if (!fs::is_directory(folder, ignored))
    throw IoError(cat("cannot write ", path, ": there is no folder ", folder), "make it first");
  if (access(folder.c_str(), W_OK | X_OK) != 0)
    throw IoError(cat("cannot write ", path, ": ", std::strerror(errno)));
}

std::string printable(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](char c) { return (c >= 0 && c < ' ') || c == 0x7f; }, '?');
  return text;
}

void print_note(const std::string& text) {
  if (!text.empty()) std::fprintf(stderr, "note: %s\n", text.c_str());
}

}  // namespace llsa::apps
