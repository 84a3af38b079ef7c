// The files of a tree of images that may be training data. Left out are names that begin with a dot, the files and
// folders that systems, archives and network disks leave behind (litter, such as thumbnails and deleted files), the
// folders of runs, and the folders of pictures that a model has drawn.
//
// Links are followed. Every folder is entered once, real folders before linked ones. So loops end, and a folder keeps
// its real path wherever links to it lie.
#pragma once

#include <string>
#include <vector>

namespace llsa::nn {

/// A file or folder that was left out, and why.
struct SkippedFile {
  std::string path;
  std::string reason;
};

struct FolderTree {
  std::vector<std::string> files;  ///< below the root, with '/', in byte order
  std::vector<std::string>
      sub_folders;                    ///< names of the folders in the root that were entered, in byte order
  std::vector<SkippedFile> skipped;   ///< folders that cannot be read, links without a target
  std::vector<std::string> not_data;  ///< the folders of runs and of drawn pictures
  std::vector<std::string> litter;    ///< files and folders that systems leave behind
  bool drawn = false;                 ///< the root itself holds pictures that a model has drawn
};

/// `llsa sample --each` writes this table, of this head, beside the pictures that it draws.
inline constexpr const char* kDrawnTable = "labels.csv";
inline constexpr const char* kDrawnHead = "file,class,seed";

/// Walks the tree. Throws IoError when the root cannot be read.
FolderTree walk_folder(const std::string& root);

/// "folder/name", or the name alone for an empty folder.
std::string join_path(const std::string& folder, const std::string& name);

}  // namespace llsa::nn
