// Scan of an image folder: walk the tree, check the headers on a few threads, then assign the classes.
#include "nn/data/image_folder.h"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <system_error>
#include <thread>
#include <utility>

#include "core/error.h"

namespace llsa::nn {

namespace {

constexpr std::size_t kReasonsShown = 3;  // per warning

struct Tree {
  std::vector<std::string> images;    // below the root
  std::set<std::string> sub_folders;  // directly in the root
  std::vector<SkippedFile> skipped;
  std::int64_t other_files = 0;
};

std::string join(const std::string& folder, const std::string& name) {
  return folder.empty() ? name : folder + "/" + name;
}

/// Names in a folder in byte order, without hidden ones. If it cannot be read: nothing, and errno says why.
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

/// Walks breadth first. Linked folders wait until all real ones are known, so that the name under which a
/// folder counts does not depend on where links to it lie.
Tree walk(const std::string& root) {
  Tree tree;
  std::deque<std::string> real = {""};
  std::deque<std::string> linked;
  std::set<std::pair<dev_t, ino_t>> entered;
  while (!real.empty() || !linked.empty()) {
    auto& queue = real.empty() ? linked : real;
    const std::string folder = queue.front();
    queue.pop_front();
    const std::string full = join(root, folder);
    struct stat info = {};
    if (::stat(full.c_str(), &info) != 0 || !entered.insert({info.st_dev, info.st_ino}).second) continue;
    const auto names = list_names(full);
    if (!names) {
      const std::string reason = std::strerror(errno);
      if (folder.empty()) throw IoError(cat("[data] cannot read the folder ", root, ": ", reason));
      tree.skipped.push_back({folder, cat("the folder cannot be read: ", reason)});
      continue;
    }
    for (const std::string& name : *names) {
      const std::string path = join(folder, name);
      struct stat link = {};
      if (::lstat(join(root, path).c_str(), &link) != 0) continue;  // gone meanwhile
      info = link;
      if (S_ISLNK(link.st_mode) && ::stat(join(root, path).c_str(), &info) != 0) {
        tree.skipped.push_back({path, cat("the link leads nowhere: ", std::strerror(errno))});
      } else if (S_ISDIR(info.st_mode)) {
        if (folder.empty()) tree.sub_folders.insert(name);
        (S_ISLNK(link.st_mode) ? linked : real).push_back(path);
      } else if (!has_image_extension(name)) {
        ++tree.other_files;
      } else if (!S_ISREG(info.st_mode)) {
        tree.skipped.push_back({path, "not a regular file"});
      } else {
        tree.images.push_back(path);
      }
    }
  }
  return tree;
}

struct Check {
  std::string failure;  // empty when usable
  bool rotated = false;
};

/// Checks the headers on a few threads, because on a cold disk each read waits.
std::vector<Check> check_files(const std::string& root, const std::vector<std::string>& paths,
                               const DecodeOptions& decode) {
  std::vector<Check> checks(paths.size());
  std::atomic<std::size_t> next{0};
  auto work = [&] {
    for (std::size_t i = next++; i < paths.size(); i = next++) {
      try {
        checks[i].rotated = probe_image(join(root, paths[i]), decode).orientation != 1;
      } catch (const std::exception& error) {
        checks[i].failure = error.what();
      }
    }
  };
  const std::size_t threads =
      std::min<std::size_t>({std::max(1u, std::thread::hardware_concurrency()), 8, paths.size() / 64 + 1});
  std::vector<std::thread> helpers;
  try {
    for (std::size_t t = 1; t < threads; ++t) helpers.emplace_back(work);
  } catch (const std::system_error&) {  // the system gives no more threads; fewer will do
  }
  work();
  for (auto& helper : helpers) helper.join();
  return checks;
}

std::string extension_list() {
  std::string text;
  for (const auto& extension : image_extensions()) text += (text.empty() ? "*" : ", *") + extension;
  return text;
}

std::uint64_t hash_of(const std::vector<ImageEntry>& entries) {  // FNV-1a
  std::uint64_t hash = 0xcbf29ce484222325u;
  auto mix = [&](unsigned char byte) { hash = (hash ^ byte) * 0x100000001b3u; };
  for (const auto& entry : entries) {
    for (const char c : entry.path) mix(static_cast<unsigned char>(c));
    mix(0);
    for (int shift = 0; shift < 32; shift += 8)
      mix(static_cast<unsigned char>(static_cast<std::uint32_t>(entry.label) >> shift));
  }
  return hash;
}

}  // namespace

ImageFolder::ImageFolder(std::string root, const DecodeOptions& decode)
    : root_(std::move(root)), decode_(decode) {
  while (root_.size() > 1 && root_.back() == '/') root_.pop_back();
  struct stat info = {};
  if (::stat(root_.c_str(), &info) != 0) {
    throw IoError(
        cat("[data] cannot open the folder ", root_, ": ", std::strerror(errno)),
        cat("expected a folder with images (", extension_list(), "), or with one sub-folder per class"));
  }
  if (!S_ISDIR(info.st_mode))
    throw IoError(cat("[data] ", root_, " is not a folder"), "give the folder that holds the images");

  Tree tree = walk(root_);
  std::sort(tree.images.begin(), tree.images.end());
  const std::vector<Check> checks = check_files(root_, tree.images, decode_);
  other_files_ = tree.other_files;
  skipped_ = std::move(tree.skipped);

  std::vector<std::string> usable;
  std::map<std::string, std::int32_t> label_of;
  for (std::size_t i = 0; i < tree.images.size(); ++i) {
    const std::string& path = tree.images[i];
    if (!checks[i].failure.empty()) {
      // The message names the full path; the list has its own column for that.
      const std::string prefix = cat("[image] ", join(root_, path), ": ");
      const std::string& failure = checks[i].failure;
      skipped_.push_back({path, failure.rfind(prefix, 0) == 0 ? failure.substr(prefix.size()) : failure});
      continue;
    }
    rotated_files_ += checks[i].rotated;
    usable.push_back(path);
    const std::size_t slash = path.find('/');
    if (slash != std::string::npos) label_of[path.substr(0, slash)] = 0;
  }
  for (auto& item : label_of) {  // in byte order
    item.second = static_cast<std::int32_t>(class_names_.size());
    class_names_.push_back(item.first);
  }
  for (const std::string& name : tree.sub_folders) {
    if (!label_of.count(name)) empty_classes_.push_back(name);
  }
  for (const std::string& path : usable) {
    const std::size_t slash = path.find('/');
    if (slash != std::string::npos) {
      entries_.push_back({path, label_of.at(path.substr(0, slash))});
    } else if (class_names_.empty()) {
      entries_.push_back({path, 0});
    } else {
      skipped_.push_back({path, "it lies beside the class folders, so it has no class"});
    }
  }
  std::sort(skipped_.begin(), skipped_.end(), [](const auto& a, const auto& b) { return a.path < b.path; });
  if (entries_.empty()) {
    std::string found =
        cat("; found ", tree.images.size(), " files with such a name and ", other_files_, " others");
    if (!skipped_.empty())
      found += cat("; the first left out is ", skipped_[0].path, ": ", skipped_[0].reason);
    throw IoError(cat("[data] no usable image in ", root_, ": looked for ", extension_list(),
                      " in it and below", found));
  }
  fingerprint_ = hash_of(entries_);
}

ImageFolder ImageFolder::with_entries(std::vector<ImageEntry> entries,
                                      std::vector<std::string> class_names) const {
  ImageFolder folder = *this;
  folder.entries_ = std::move(entries);
  folder.class_names_ = std::move(class_names);
  folder.fingerprint_ = hash_of(folder.entries_);
  return folder;
}

std::vector<std::int64_t> ImageFolder::class_counts() const {
  std::vector<std::int64_t> counts(std::max<std::size_t>(1, class_names_.size()), 0);
  for (const auto& entry : entries_) ++counts[static_cast<std::size_t>(entry.label)];
  return counts;
}

std::vector<std::string> ImageFolder::warnings() const {
  std::vector<std::string> sentences;
  if (!skipped_.empty()) {
    std::string text =
        cat(skipped_.size(), skipped_.size() == 1 ? " file was" : " files were", " left out: ");
    for (std::size_t i = 0; i < std::min(kReasonsShown, skipped_.size()); ++i) {
      text += cat(i ? "; " : "", skipped_[i].path, " (", skipped_[i].reason, ")");
    }
    if (skipped_.size() > kReasonsShown) text += "; ...";
    sentences.push_back(text);
  }
  if (!class_names_.empty() && !empty_classes_.empty()) {
    std::string text = "sub-folders without a usable image are no classes: ";
    for (std::size_t i = 0; i < empty_classes_.size(); ++i) text += (i ? ", " : "") + empty_classes_[i];
    sentences.push_back(text);
  }
  if (rotated_files_ > 0) {
    sentences.push_back(cat(rotated_files_, rotated_files_ == 1 ? " JPEG file has" : " JPEG files have",
                            " an EXIF orientation, which is ignored: used as stored"));
  }
  return sentences;
}

Image ImageFolder::load(std::int64_t index) const {
  if (index < 0 || index >= size())
    throw ValueError(cat("[data] image ", index, " of a folder with ", size()));
  return decode_image(join(root_, entries_[static_cast<std::size_t>(index)].path), decode_);
}

}  // namespace llsa::nn
