// Scan of an image folder: walk the tree, check the files on a few threads, then assign the classes.
#include "nn/data/image_folder.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <set>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

#include "core/error.h"
#include "core/hash.h"
#include "nn/data/file_format.h"
#include "nn/data/label_file.h"

namespace llsa::nn {

namespace {

using namespace std::literals;

constexpr std::size_t kReasonsShown = 3;   // per warning
constexpr std::size_t kNamesShown = 3;     // in a list of folders
constexpr std::size_t kClassesShown = 20;  // with their counts

/// The result of checking a file: an image, a format that is not read, no image (neither a format nor a failure), or a
/// failure.
struct Check {
  std::string format;
  std::string failure;
  std::uint64_t content = 0;
  bool rotated = false;
};

Check check_file(const std::string& path, const DecodeOptions& decode) {
  Check check;
  bool is_image = has_image_extension(path);
  try {
    ByteSource source(path);
    check.format = file_format(source);
    if (!check.format.empty() && !is_read(check.format)) return check;
    is_image = is_image || !check.format.empty();
    if (!is_image) return check;
    check.rotated = probe_image(source, decode).orientation != 1;
    check.content = content_hash(source);
  } catch (const std::exception& error) {
    if (!is_image) return {};
    // The message names the full path; the list has its own column for that.
    const std::string prefix = cat("[image] ", path, ": ");
    check.failure = error.what();
    if (check.failure.starts_with(prefix)) check.failure.erase(0, prefix.size());
  }
  return check;
}

/// Checks the files on a few threads, because on a cold disk each read waits.
std::vector<Check> check_all(const std::string& root, const std::vector<std::string>& paths,
                             const DecodeOptions& decode) {
  std::vector<Check> checks(paths.size());
  std::atomic<std::size_t> next{0};
  auto work = [&] {
    for (std::size_t i = next++; i < paths.size(); i = next++)
      checks[i] = check_file(join_path(root, paths[i]), decode);
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

std::uint64_t hash_of(const std::vector<ImageEntry>& entries, bool contents) {
  Fnv1a hash;
  for (const auto& entry : entries) {
    hash.add(entry.path);
    hash.add(std::uint8_t{0});
    for (int shift = 0; shift < 32; shift += 8)
      hash.add(static_cast<std::uint8_t>(static_cast<std::uint32_t>(entry.label) >> shift));
    if (contents) hash.add_word(entry.content);
  }
  return hash.value();
}

std::string top_folder(const std::string& path) {
  const std::size_t slash = path.find('/');
  return slash == std::string::npos ? std::string() : path.substr(0, slash);
}

bool is_part(const std::string& name) {
  constexpr std::array kParts = {"train"sv, "training"sv, "val"sv,  "valid"sv,   "validation"sv,
                                 "test"sv,  "testing"sv,  "eval"sv, "held_out"sv};
  return std::find(kParts.begin(), kParts.end(), name) != kParts.end();
}

std::string files(std::size_t count) { return cat(count, count == 1 ? " file" : " files"); }
std::string images(std::int64_t count) { return cat(count, count == 1 ? " image" : " images"); }

/// "a, b, c, ...".
std::string first_names(const std::vector<std::string>& names) {
  std::string text;
  for (std::size_t i = 0; i < std::min(kNamesShown, names.size()); ++i) text += (i ? ", " : "") + names[i];
  return text + (names.size() > kNamesShown ? ", ..." : "");
}

}  // namespace

Classes classes_from_name(const std::string& name) {
  if (name == "auto") return Classes::automatic;
  if (name == "none") return Classes::none;
  if (name == "folders") return Classes::folders;
  throw ValueError(cat("[data] classes: expected auto, none or folders, got '", name, "'"));
}

ImageFolder::ImageFolder(std::string root, const DecodeOptions& decode, Classes classes)
    : root_(std::move(root)), decode_(decode), classes_(classes) {
  while (root_.size() > 1 && root_.back() == '/') root_.pop_back();
  struct stat info = {};
  if (::stat(root_.c_str(), &info) != 0) {
    throw IoError(
        cat("[data] cannot open the folder ", root_, ": ", std::strerror(errno)),
        cat("expected a folder with images (", formats_read(), "), or with one sub-folder per class"));
  }
  if (!S_ISDIR(info.st_mode))
    throw IoError(cat("[data] ", root_, " is not a folder"), "give the folder that holds the images");

  FolderTree tree = walk_folder(root_);
  skipped_ = std::move(tree.skipped);
  not_data_ = std::move(tree.not_data);
  litter_ = std::move(tree.litter);
  drawn_ = tree.drawn;
  check_files(tree.files);
  if (entries_.empty()) fail_without_images();
  assign_classes(tree);
  std::sort(skipped_.begin(), skipped_.end(), [](const auto& a, const auto& b) { return a.path < b.path; });
  fingerprint_ = hash_of(entries_, true);
}

void ImageFolder::check_files(const std::vector<std::string>& paths) {
  const std::vector<Check> checks = check_all(root_, paths, decode_);
  std::map<std::string, UnreadFormat> unread;
  for (std::size_t i = 0; i < paths.size(); ++i) {
    const Check& check = checks[i];
    if (!check.failure.empty()) {
      skipped_.push_back({paths[i], check.failure});
    } else if (check.format.empty()) {
      ++other_files_;
    } else if (!is_read(check.format)) {
      UnreadFormat& format = unread[check.format];
      if (format.count++ == 0) format = {check.format, 1, paths[i]};
    } else {
      rotated_files_ += check.rotated;
      entries_.push_back({paths[i], 0, check.content});
    }
  }
  for (auto& format : unread) unread_.push_back(std::move(format.second));
}

void ImageFolder::fail_without_images() const {
  std::string found;
  for (const UnreadFormat& format : unread_)
    found += cat(found.empty() ? "" : ", ", format.count, " ", format.format, " (", format.first, ")");
  if (!skipped_.empty())
    found += cat(found.empty() ? "" : ", ", skipped_.size(), " that cannot be used (", skipped_[0].path, ": ",
                 skipped_[0].reason, ")");
  if (!not_data_.empty())
    found +=
        cat(found.empty() ? "" : ", ", "folders of runs or of drawn images (", first_names(not_data_), ")");
  throw IoError(
      cat("[data] no usable image in ", root_, ": looked for ", formats_read(), " in it and below; found ",
          found, found.empty() ? "" : ", ", other_files_, " other files"),
      unread_.empty() ? std::string() : unread_format_hint(unread_[0].format));
}

// Throws ValueError if all folders with images are named as parts of a data set, one of them as its training part.
void ImageFolder::require_no_parts(const std::map<std::string, std::int64_t>& folders) const {
  const auto train = std::find_if(folders.begin(), folders.end(),
                                  [](const auto& folder) { return folder.first.starts_with("train"); });
  if (train == folders.end() ||
      !std::all_of(folders.begin(), folders.end(), [](const auto& folder) { return is_part(folder.first); }))
    return;
  std::string found, other;
  for (const auto& [name, count] : folders) {
    found += cat(found.empty() ? "" : ", ", name, " with ", images(count));
    if (other.empty() && name != train->first) other = name;
  }
  throw ValueError(cat("[data] ", root_,
                       " has folders that are named as the parts of a data set, not as classes: ", found),
                   cat("take ", root_, "/", train->first, " as the training images",
                       other.empty() ? std::string() : cat(" (and ", root_, "/", other, " as --held-out)"),
                       ", or say --classes none or --classes folders to take all"));
}

void ImageFolder::assign_classes(const FolderTree& tree) {
  if (classes_ == Classes::none) return;
  std::map<std::string, std::int64_t> folders;  // in byte order, with their images
  std::int64_t loose = 0;
  for (const ImageEntry& entry : entries_) {
    const std::string name = top_folder(entry.path);
    ++(name.empty() ? loose : folders[name]);
  }
  if (classes_ == Classes::automatic) {
    require_no_parts(folders);
    if (const auto labels = read_labels(root_, tree.files)) return assign_labels(*labels);
    if (folders.empty()) return;
    if (loose > 0) fail_unclear(folders, loose);
  }
  if (folders.empty())
    throw ValueError(cat("[data] expected sub-folders with images in ", root_,
                         ", which are the classes, got ", images(loose), " in none"),
                     "leave --classes folders out to train without classes");
  std::map<std::string, std::int32_t> label_of;
  for (const auto& folder : folders) {
    label_of[folder.first] = static_cast<std::int32_t>(class_names_.size());
    class_names_.push_back(folder.first);
  }
  for (const std::string& name : tree.sub_folders)
    if (!folders.count(name)) empty_classes_.push_back(name);
  std::vector<ImageEntry> labelled;
  for (ImageEntry& entry : entries_) {
    const std::string name = top_folder(entry.path);
    if (name.empty()) {
      skipped_.push_back({entry.path, "it lies beside the class folders, so it has no class"});
    } else {
      entry.label = label_of.at(name);
      labelled.push_back(std::move(entry));
    }
  }
  entries_ = std::move(labelled);
}

void ImageFolder::assign_labels(const ImageLabels& labels) {
  std::vector<std::string> without;
  std::set<std::string> used;
  for (const ImageEntry& entry : entries_) {
    const auto label = labels.of.find(entry.path);
    if (label == labels.of.end())
      without.push_back(entry.path);
    else
      used.insert(label->second);
  }
  if (!without.empty())
    throw ValueError(
        cat("[data] ", images(static_cast<std::int64_t>(without.size())), " of ", size(), " in ", root_,
            without.size() == 1 ? " has" : " have", " no row in ", first_names(labels.tables), ": ",
            first_names(without)),
        "add rows or move the images away; --classes none and --classes folders leave the table unread");
  label_tables_ = labels.tables;
  class_names_ = class_order(used);
  std::map<std::string, std::int32_t> index;
  for (const std::string& name : class_names_) index.emplace(name, static_cast<std::int32_t>(index.size()));
  for (ImageEntry& entry : entries_) entry.label = index.at(labels.of.at(entry.path));
}

void ImageFolder::fail_unclear(const std::map<std::string, std::int64_t>& folders, std::int64_t loose) const {
  std::vector<std::string> names;
  for (const auto& folder : folders) names.push_back(folder.first);
  throw ValueError(cat("[data] ", root_, " holds ", images(loose), " beside ", names.size(),
                       names.size() == 1 ? " folder" : " folders", " with ", images(size() - loose), " (",
                       first_names(names), "): are these classes?"),
                   cat("--classes none takes all ", size(),
                       " without classes, --classes folders takes the folders as classes and "
                       "leaves the ",
                       loose, " beside them out; or move one or the other away"));
}

ImageFolder ImageFolder::with_entries(std::vector<ImageEntry> entries,
                                      std::vector<std::string> class_names) const {
  ImageFolder folder = *this;
  folder.entries_ = std::move(entries);
  folder.class_names_ = std::move(class_names);
  folder.fingerprint_ = hash_of(folder.entries_, true);
  return folder;
}

bool ImageFolder::matches(std::uint64_t fingerprint) const {
  return fingerprint == fingerprint_ || fingerprint == hash_of(entries_, false);
}

std::vector<std::int64_t> ImageFolder::class_counts() const {
  std::vector<std::int64_t> counts(std::max<std::size_t>(1, class_names_.size()), 0);
  for (const auto& entry : entries_) ++counts[static_cast<std::size_t>(entry.label)];
  return counts;
}

std::string ImageFolder::class_summary() const {
  const std::vector<std::int64_t> counts = class_counts();
  const std::size_t shown = std::min(kClassesShown, class_names_.size());
  std::string text;
  for (std::size_t i = 0; i < shown; ++i) text += cat(i ? ", " : "", class_names_[i], " (", counts[i], ")");
  if (shown < class_names_.size()) {
    const auto [least, most] = std::minmax_element(counts.begin(), counts.end());
    text += cat(", and ", class_names_.size() - shown, " more; the smallest has ", *least, ", the largest ",
                *most);
  }
  return text;
}

std::vector<std::string> ImageFolder::warnings() const {
  std::vector<std::string> sentences;
  if (!skipped_.empty()) {
    std::string text = cat(files(skipped_.size()), skipped_.size() == 1 ? " was" : " were", " left out: ");
    for (std::size_t i = 0; i < std::min(kReasonsShown, skipped_.size()); ++i)
      text += cat(i ? "; " : "", skipped_[i].path, " (", skipped_[i].reason, ")");
    sentences.push_back(text + (skipped_.size() > kReasonsShown ? "; ..." : ""));
  }
  for (const UnreadFormat& format : unread_)
    sentences.push_back(cat(format.count, " ", format.format, format.count == 1 ? " file was" : " files were",
                            " left out (", format.first, format.count > 1 ? ", ..." : "",
                            "), the format is not read: ", unread_format_hint(format.format)));
  if (!not_data_.empty())
    sentences.push_back(cat("folders of runs and of images that a model has drawn are no training data: ",
                            first_names(not_data_), not_data_.size() == 1 ? " was" : " were", " left out"));
  if (drawn_) sentences.push_back(cat(root_, " holds images that a model has drawn, as its labels.csv says"));
  if (!class_names_.empty() && !empty_classes_.empty())
    sentences.push_back(
        cat("sub-folders without a usable image are no classes: ", first_names(empty_classes_)));
  if (class_names_.size() == 1)
    sentences.push_back(
        cat("all images are of one class, ", class_names_[0], ": --classes none trains without classes"));
  if (rotated_files_ > 0 && !decode_.exif)
    sentences.push_back(cat(images(rotated_files_), rotated_files_ == 1 ? " has" : " have",
                            " an EXIF orientation, which is ignored: used as stored"));
  return sentences;
}

Image ImageFolder::load(std::int64_t index) const {
  if (index < 0 || index >= size())
    throw ValueError(cat("[data] image ", index, " of a folder with ", size()));
  return decode_image(join_path(root_, entry(index).path), decode_);
}

}  // namespace llsa::nn
