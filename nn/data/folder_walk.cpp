#include "nn/data/folder_walk.h"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <deque>
#include <fstream>
#include <memory>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "core/error.h"

namespace llsa::nn {

namespace {

using namespace std::literals;

// In lower case. Names that begin with a dot are left out anyway.
constexpr std::array kLitter = {"thumbs.db"sv,
                                "ehthumbs.db"sv,
                                "ehthumbs_vista.db"sv,
                                "desktop.ini"sv,
                                "$recycle.bin"sv,
                                "recycler"sv,
                                "system volume information"sv,  // Windows
                                "__macosx"sv,
                                "icon\r"sv,
                                "temporary items"sv,  // macOS, and archives made there
                                "network trash folder"sv,
                                "lost+found"sv,  // servers and Unix
                                "@eadir"sv,
                                "#recycle"sv,
                                "#snapshot"sv,
                                "@tmp"sv,
                                "@sharebin"sv,  // network disks
                                "@recycle"sv,
                                "@recently-snapshot"sv,
                                "~snapshot"sv,
                                "picasa.ini"sv,
                                "zbthumbnail.info"sv,
                                "_vti_cnf"sv,
                                "__pycache__"sv};  // programs

bool is_litter(const std::string& name) {
  std::string lower = name;
  for (char& c : lower)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return std::find(kLitter.begin(), kLitter.end(), lower) != kLitter.end();
}

// Names in a folder in byte order, without hidden ones. If it cannot be read: nothing, and errno says why.
std::optional<std::vector<std::string>> list_names(const std::string& folder) {
  const std::unique_ptr<DIR, int (*)(DIR*)> handle(::opendir(folder.c_str()), &::closedir);
  if (!handle) return std::nullopt;
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = ::readdir(handle.get())) {
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  }
  if (errno != 0) return std::nullopt;
  std::sort(names.begin(), names.end());
  return names;
}

bool has(const std::vector<std::string>& names, const char* name) {
  return std::binary_search(names.begin(), names.end(), name);
}

// The folder of a run (checkpoint/run_folder.h), or of a sweep, whose runs and pictures lie in its sub-folders.
bool is_run(const std::vector<std::string>& names) {
  return (has(names, "config.json") && has(names, "checkpoints")) ||
         (has(names, "table.json") && has(names, "table.md"));
}

bool holds_drawn(const std::string& folder, const std::vector<std::string>& names) {
  if (!has(names, kDrawnTable)) return false;
  std::array<char, 64> line = {};  // longer than the head; a file may be one endless line
  std::ifstream(join_path(folder, kDrawnTable)).getline(line.data(), line.size());
  std::string_view head = line.data();
  if (head.ends_with('\r')) head.remove_suffix(1);
  return head == kDrawnHead;
}

}  // namespace

std::string join_path(const std::string& folder, const std::string& name) {
  return folder.empty() ? name : folder + "/" + name;
}

FolderTree walk_folder(const std::string& root) {
  FolderTree tree;
  std::deque<std::string> real = {""};
  std::deque<std::string> linked;
  std::set<std::pair<dev_t, ino_t>> entered;
  while (!real.empty() || !linked.empty()) {
    auto& queue = real.empty() ? linked : real;
    const std::string folder = queue.front();
    queue.pop_front();
    const std::string full = folder.empty() ? root : root + "/" + folder;
    struct stat info = {};
    if (::stat(full.c_str(), &info) != 0 || !entered.insert({info.st_dev, info.st_ino}).second) continue;
    auto names = list_names(full);
    if (!names) {
      const std::string reason = std::strerror(errno);
      if (folder.empty()) throw IoError(cat("[data] cannot read the folder ", root, ": ", reason));
      tree.skipped.push_back({folder, cat("the folder cannot be read: ", reason)});
      continue;
    }
    const bool run = is_run(*names), drawn = holds_drawn(full, *names);
    if (folder.empty()) {
      tree.drawn = drawn;
      // The root is both a folder of images and a run folder.
      if (run)
        std::erase_if(*names, [](const std::string& n) { return n == "checkpoints" || n == "samples"; });
    } else if (run || drawn) {
      tree.not_data.push_back(folder);
      continue;
    }
    for (const std::string& name : *names) {
      const std::string path = join_path(folder, name);
      struct stat link = {};
      if (::lstat((root + "/" + path).c_str(), &link) != 0) continue;  // gone meanwhile
      info = link;
      if (is_litter(name)) {
        tree.litter.push_back(path);
      } else if (S_ISLNK(link.st_mode) && ::stat((root + "/" + path).c_str(), &info) != 0) {
        tree.skipped.push_back({path, cat("the link leads nowhere: ", std::strerror(errno))});
      } else if (S_ISDIR(info.st_mode)) {
        (S_ISLNK(link.st_mode) ? linked : real).push_back(path);
        if (folder.empty()) tree.sub_folders.push_back(name);
      } else {
        tree.files.push_back(path);
      }
    }
  }
  std::erase_if(tree.sub_folders, [&](const std::string& name) {
    return std::find(tree.not_data.begin(), tree.not_data.end(), name) != tree.not_data.end();
  });
  for (auto* paths : {&tree.files, &tree.not_data, &tree.litter}) std::sort(paths->begin(), paths->end());
  return tree;
}

}  // namespace llsa::nn
