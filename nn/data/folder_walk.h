// The files of a tree of images, without what is no data: names that begin with a dot, what systems, archives and
// network disks leave in folders (thumbnails and deleted files among them), the folders of runs, and pictures that a
// model has drawn.
//
// Links are followed. Every folder is entered once, real ones before linked ones, so loops end and the name under which
// a folder counts does not depend on where links to it lie.
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
  std::vector<SkippedFile> skipped;   ///< folders that cannot be read, links that lead nowhere
  std::vector<std::string> not_data;  ///< folders of runs, and of drawn pictures
  std::vector<std::string> litter;    ///< what systems leave in folders
  bool drawn = false;                 ///< the root itself holds pictures that a model has drawn
};

/// Walks the tree. Throws IoError when the root cannot be read.
FolderTree walk_folder(const std::string& root);

/// "folder/name", or the name alone for an empty folder.
std::string join_path(const std::string& folder, const std::string& name);

}  // namespace llsa::nn
