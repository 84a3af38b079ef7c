// The safetensors file format: an 8-byte little-endian header length, a JSON header, raw tensor bytes.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tensor.h"

namespace llsa {

/// A safetensors file mapped into memory: tensors are views of the mapping, which lives as long as they do.
/// Writing to such a tensor changes this process's copy of the page, never the file. Tensors whose bytes are
/// not aligned to their dtype are copied. The file must not be shortened while it is mapped; files replaced
/// by rename, as here, never are.
class SafetensorsFile {
 public:
  /// Checks everything before any tensor is handed out: lengths, JSON, duplicate names, dtypes, shapes,
  /// offsets that overlap, leave gaps or leave the file. A dtype outside F32, F64, BF16, I32, I64, U8 is an
  /// error as well, whichever tensor has it. Throws IoError that names the file, the tensor and what is
  /// wrong.
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

/// Writes contiguous CPU tensors through an AtomicFile: after a failure the old file, if any, is whole. Order
/// as given, but larger elements first, so that every tensor is aligned to its dtype. Throws IoError (disk
/// full, no permission, ...), ValueError (a name that is duplicate, reserved or not UTF-8), ShapeError (not
/// contiguous), DeviceError (not on the CPU).
void write_safetensors(const std::string& path, const std::vector<std::pair<std::string, Tensor>>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace llsa
