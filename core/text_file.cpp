#include "core/text_file.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "core/error.h"

namespace llsa {

std::string read_text_file(const std::string& path, std::size_t most) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), std::fclose);
  if (!file) throw IoError(cat("cannot open ", path, ": ", std::strerror(errno)));
  std::string text;
  char buffer[1 << 16];
  while (const std::size_t n = std::fread(buffer, 1, sizeof buffer, file.get())) {
    text.append(buffer, n);
    if (text.size() > most)
      throw IoError(cat("cannot read ", path, ": expected at most ", most, " bytes of text, it has more"),
                    "is it the file that you mean?");
  }
  if (std::ferror(file.get())) throw IoError(cat("cannot read ", path, ": ", std::strerror(errno)));
  return text;
}

bool path_exists(const std::string& path) {
  struct stat info = {};
  if (::stat(path.c_str(), &info) == 0) return true;
  if (errno == ENOENT || errno == ENOTDIR) return false;
  throw IoError(cat("cannot look for ", path, ": ", std::strerror(errno)));
}

}  // namespace llsa
