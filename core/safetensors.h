// The safetensors file format: an 8-byte little-endian header length, a JSON header, raw tensor bytes.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tensor.h"

namespace llsa {

/// A safetensors file mapped read-only into memory: tensors are views of the mapping, which lives as long as
/// they do. Writing through such a tensor is a fault; copy it first.
class SafetensorsFile {
 public:
  /// Checks the whole header: lengths, JSON, dtypes, shapes, offsets that overlap, leave gaps or leave the
  /// file, duplicate names. Throws IoError that names the file, the tensor and what is wrong.
  explicit SafetensorsFile(const std::string& path);

  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::map<std::string, Tensor>& tensors() const { return tensors_; }
  bool contains(const std::string& name) const { return tensors_.count(name) != 0; }
  /// Throws IoError naming the file and the closest names when absent.
  const Tensor& at(const std::string& name) const;

 private:
  std::string path_;
  std::map<std::string, std::string> metadata_;
  std::map<std::string, Tensor> tensors_;
};

/// Writes contiguous CPU tensors in the given order, 8-byte aligned, through a temporary file, fsync and
/// rename: after a failure the old file, if any, is whole and the temporary one is gone. Throws IoError (disk
/// full, no permission, duplicate name).
void write_safetensors(const std::string& path, const std::vector<std::pair<std::string, Tensor>>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace llsa
