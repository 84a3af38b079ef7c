// The safetensors file format: an 8-byte little-endian header length, a JSON header, raw tensor bytes.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tensor.h"

namespace llsa {

/// A safetensors file mapped into memory. Its tensors are views of the mapping, which lives as long as they do.
/// Writing to a tensor changes this process's copy of the page, never the file. Tensors whose bytes are not
/// aligned to their dtype are copied, and so are F16 tensors, which become f32. The file must not be shortened while it
/// is mapped; replacing it by write_safetensors is safe.
class SafetensorsFile {
 public:
  /// Checks the whole file before any tensor is handed out: lengths, JSON, duplicate names, dtypes, shapes, and
  /// offsets, which must neither overlap nor leave gaps nor exceed the file. Any dtype other than F32, F64, BF16,
  /// F16, I32, I64 and U8 is an error. Throws IoError that names the file, the tensor and what is wrong.
  explicit SafetensorsFile(const std::string& path);

  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::map<std::string, Tensor>& tensors() const { return tensors_; }
  bool contains(const std::string& name) const { return tensors_.count(name) != 0; }
  /// Throws IoError that names the file and the closest names if there is no such tensor.
  const Tensor& at(const std::string& name) const;

 private:
  std::string path_;
  std::map<std::string, std::string> metadata_;
  std::map<std::string, Tensor> tensors_;
};

/// Writes contiguous CPU tensors through an AtomicFile, so a failure leaves the old file as it was. Tensors with
/// larger elements come first, which aligns every tensor to its dtype; otherwise the order is kept. Throws
/// IoError (disk full, no permission, ...), ValueError (a name that is duplicate, reserved or not UTF-8),
/// ShapeError (not contiguous), DeviceError (not on the CPU).
void write_safetensors(const std::string& path, const std::vector<std::pair<std::string, Tensor>>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace llsa
