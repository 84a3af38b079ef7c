// Labels of images from tables, which many image sets have: metadata.jsonl with one JSON object per line, or metadata.csv
// with a header line. `file_name` is the path of an image relative to the folder of the table; `label` is a text or an
// integer. Other columns are ignored.
//
//   {"file_name": "0001.png", "label": "cat"}
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace llsa::nn {

struct ImageLabels {
  std::vector<std::string> tables;        ///< paths below the root
  std::map<std::string, std::string> of;  ///< label by path below the root
};

/// Reads all tables of a tree, given its files below the root in byte order (folder_walk.h). Returns nothing if no table
/// has labels. Throws ValueError, naming table and line, for a malformed line, a file that does not exist or is named
/// twice, and a row without a label among rows that have one; IoError for a table that cannot be read or is larger than
/// 1 GiB.
std::optional<ImageLabels> read_labels(const std::string& root, const std::vector<std::string>& files);

/// Distinct labels in the order of their classes: by value where all are integers, else in byte order.
std::vector<std::string> class_order(const std::set<std::string>& labels);

}  // namespace llsa::nn
