// A folder of images as a data set: scanned once, checked, sorted.
//
// * The folder is searched recursively for files with an image extension, in any case. Names that begin with
//   a dot are ignored. Links are followed. Every folder is entered once, real ones before linked ones, so
//   loops end.
// * If the root has sub-folders with images, each of them is a class, with everything below it. Classes are
//   numbered in byte order of their names. Images directly in the root then have no class, and are left out
//   with a warning. Without such sub-folders there are no classes, and every label is 0.
// * Each file's header and structure are checked (probe_image). A file that fails, for example because it may
//   not be read, is left out and listed with the reason. The loader handles damage that only decoding finds.
// * Images are in byte order of their path below the root, so the set depends on the names alone.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "image_io.h"

namespace llsa::nn {

struct ImageEntry {
  std::string path;    ///< below the root, with '/'
  std::int32_t label;  ///< index into class_names(), 0 without classes
};

/// A file or folder that was left out, and why.
struct SkippedFile {
  std::string path;
  std::string reason;
};

class ImageFolder {
 public:
  /// Scans. Throws IoError, saying what was looked for and found, when the folder is missing, is no folder,
  /// may not be read, or holds no usable image.
  explicit ImageFolder(std::string root, const DecodeOptions& decode = {});

  /// The same folder with other entries, whose labels index other names of classes: a part of it, or all of
  /// it as another folder labels it.
  ImageFolder with_entries(std::vector<ImageEntry> entries, std::vector<std::string> class_names) const;

  const std::string& root() const { return root_; }
  std::int64_t size() const { return static_cast<std::int64_t>(entries_.size()); }
  const std::vector<ImageEntry>& entries() const { return entries_; }
  /// Empty without classes.
  const std::vector<std::string>& class_names() const { return class_names_; }
  /// Images per class; one number without classes.
  std::vector<std::int64_t> class_counts() const;

  /// What was left out, in order of path.
  const std::vector<SkippedFile>& skipped() const { return skipped_; }
  /// Files without an image extension.
  std::int64_t other_files() const { return other_files_; }
  /// JPEG files whose EXIF orientation is not upright. They are used as stored.
  std::int64_t rotated_files() const { return rotated_files_; }
  /// Whole sentences for a log: how many files were left out with the first reasons, folders without images,
  /// rotated files.
  std::vector<std::string> warnings() const;

  /// Hash of all paths and labels: a resumed run compares it.
  std::uint64_t fingerprint() const { return fingerprint_; }

  /// Decodes one image; thread-safe. Throws IoError as decode_image, ValueError for an index outside.
  Image load(std::int64_t index) const;

 private:
  std::string root_;
  DecodeOptions decode_;
  std::vector<ImageEntry> entries_;
  std::vector<std::string> class_names_;
  std::vector<std::string> empty_classes_;
  std::vector<SkippedFile> skipped_;
  std::int64_t other_files_ = 0;
  std::int64_t rotated_files_ = 0;
  std::uint64_t fingerprint_ = 0;
};

}  // namespace llsa::nn
