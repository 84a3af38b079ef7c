// tuning.json of a run: the algorithms by which its matrix products are computed (kernels/matmul.h).
//
//   {"machine": "..", "products": {"KIND": "ALGORITHM", ..}, "check": "16 hexadecimal digits"}
//
// The check is a hash of everything else. Without it, a changed digit would be another algorithm, and the run
// would go on with other bits, or fail.
#pragma once

#include <cstddef>
#include <string>
#include <utility>

#include "../../core/context.h"

namespace llsa::nn {

class TuningFile {
 public:
  explicit TuningFile(std::string path) : path_(std::move(path)) {}

  /// Removes the file of a run that ended before its first checkpoint. Throws IoError.
  void remove();

  /// Restores the choices of the file, if there is one, in a context that has computed no product yet. If
  /// they were made on another machine they are ignored, and a sentence for the user is returned, else "".
  /// Throws IoError when the file cannot be read, ValueError with its name and what to do when it is damaged.
  std::string restore(Context& ctx);

  /// Writes the context's choices if the file lacks some of them. Throws IoError.
  void save(Context& ctx);

 private:
  std::string path_;
  std::size_t count_ = 0;  // choices that the file and the context share; none is ever changed
};

}  // namespace llsa::nn
