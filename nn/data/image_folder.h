// A folder of images as a data set: scanned once, checked, sorted.
//
// * The folder is searched recursively (folder_walk.h). The content of a file decides whether it is an image, not its name
//   (file_format.h). Each image's header and structure are checked (probe_image). A file that fails, for example
//   because it may not be read, is left out and listed with the reason; images of formats that are not read are counted
//   by format. The loader handles damage that only decoding finds.
// * If there is a table of labels (label_file.h), its labels are the classes, and it has to name every image. Otherwise
//   each sub-folder of the root that has images is a class, with everything below it. Classes are numbered in byte order
//   of their names. Without such sub-folders there are no classes, and every label is 0. Images directly in the root
//   beside such folders are an error, and so are folders that are named as parts of a data set (train, val, ...), unless
//   `Classes` resolves it.
// * Images are in byte order of their path below the root. The set depends on names and contents alone.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "folder_walk.h"
#include "image_io.h"

namespace llsa::nn {

struct ImageLabels;

struct ImageEntry {
  std::string path;           ///< below the root, with '/'
  std::int32_t label = 0;     ///< index into class_names(), 0 without classes
  std::uint64_t content = 0;  ///< content_hash() of the file
};

/// Where classes come from.
enum class Classes {
  automatic,  ///< tables of labels (label_file.h), else the sub-folders with images, if there are any
  none,       ///< there are no classes: all images of the tree are used
  folders,    ///< the sub-folders with images are the classes; images beside them are left out
};

/// "auto", "none", "folders". Throws ValueError for another name.
Classes classes_from_name(const std::string& name);

/// Files that are left out because of their format.
struct UnreadFormat {
  std::string format;
  std::int64_t count = 0;
  std::string first;  ///< one of them
};

class ImageFolder {
 public:
  /// Scans. Throws IoError, saying what was looked for and found, when the folder is missing, is no folder,
  /// may not be read, or holds no usable image; ValueError when it is not clear which images or classes are
  /// meant; its message has the counts, its hint the ways to resolve it.
  explicit ImageFolder(std::string root, const DecodeOptions& decode = {},
                       Classes classes = Classes::automatic);

  /// The same folder with other entries, whose labels index other names of classes: a part of it, or all of
  /// it as another folder labels it.
  ImageFolder with_entries(std::vector<ImageEntry> entries, std::vector<std::string> class_names) const;

  const std::string& root() const { return root_; }
  const DecodeOptions& decode() const { return decode_; }
  Classes classes() const { return classes_; }
  std::int64_t size() const { return static_cast<std::int64_t>(entries_.size()); }
  const std::vector<ImageEntry>& entries() const { return entries_; }
  const ImageEntry& entry(std::int64_t index) const { return entries_[static_cast<std::size_t>(index)]; }
  /// Empty without classes.
  const std::vector<std::string>& class_names() const { return class_names_; }
  /// The tables that the labels come from; empty if they come from folders, or there are no labels.
  const std::vector<std::string>& label_tables() const { return label_tables_; }
  /// Images per class; one number without classes.
  std::vector<std::int64_t> class_counts() const;
  /// "cat (120), dog (80)", shortened where there are many.
  std::string class_summary() const;

  /// The files that were left out, in order of path: damaged ones, unreadable ones, images without a class.
  const std::vector<SkippedFile>& skipped() const { return skipped_; }
  /// Image formats that are not read, in the order of their names.
  const std::vector<UnreadFormat>& unread_formats() const { return unread_; }
  /// Folders that hold no training data: those of runs, and those of pictures that a model has drawn.
  const std::vector<std::string>& not_data() const { return not_data_; }
  /// Files and folders that systems leave behind (folder_walk.h). They were not searched.
  const std::vector<std::string>& litter() const { return litter_; }
  /// Files that are no images.
  std::int64_t other_files() const { return other_files_; }
  /// Images whose EXIF orientation is not upright.
  std::int64_t rotated_files() const { return rotated_files_; }
  /// Sentences for a log: how many files were left out, with the first reasons, and what may be a mistake.
  std::vector<std::string> warnings() const;

  /// Hash of all paths, labels and contents. Equal fingerprints mean the same training data.
  std::uint64_t fingerprint() const { return fingerprint_; }
  /// Whether a stored fingerprint is that of this folder. Fingerprints of earlier versions, which hash paths and labels
  /// only, are recognised, too.
  bool matches(std::uint64_t fingerprint) const;

  /// Decodes one image; thread-safe. Throws IoError as decode_image, ValueError for an index outside.
  Image load(std::int64_t index) const;

 private:
  void check_files(const std::vector<std::string>& files);
  void assign_classes(const FolderTree& tree);
  void assign_labels(const ImageLabels& labels);
  void require_no_parts(const std::map<std::string, std::int64_t>& folders) const;
  [[noreturn]] void fail_unclear(const std::map<std::string, std::int64_t>& folders,
                                 std::int64_t loose) const;
  [[noreturn]] void fail_without_images() const;

  std::string root_;
  DecodeOptions decode_;
  Classes classes_;
  std::vector<ImageEntry> entries_;
  std::vector<std::string> class_names_;
  std::vector<std::string> empty_classes_;
  std::vector<std::string> label_tables_;
  std::vector<SkippedFile> skipped_;
  std::vector<UnreadFormat> unread_;
  std::vector<std::string> not_data_;
  std::vector<std::string> litter_;
  bool drawn_ = false;
  std::int64_t other_files_ = 0;
  std::int64_t rotated_files_ = 0;
  std::uint64_t fingerprint_ = 0;
};

}  // namespace llsa::nn
