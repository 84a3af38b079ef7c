// tuning.json of a run: by which algorithms its matrix products are computed (kernels/matmul.h).
//
//   {"machine": "..", "products": {"KIND": "ALGORITHM", ..}, "check": "16 hexadecimal digits"}
//
// The check covers everything else: an algorithm with one digit changed would be another algorithm, and the
// run would go on with other bits, or not at all.
#pragma once

#include <cstddef>
#include <string>
#include <utility>

#include "../../core/context.h"

namespace llsa::nn {

class TuningFile {
 public:
  explicit TuningFile(std::string path) : path_(std::move(path)) {}

  /// Removes what a run that ended before its first checkpoint has left. Throws IoError.
  void remove();

  /// Brings the choices of the file, if there is one, into a context that has computed no product yet.
  /// Returns a sentence for the user when they are another machine's and were left out, else "". Throws
  /// IoError when the file cannot be read, ValueError with its name and what to do when it is damaged.
  std::string restore(Context& ctx);

  /// Writes the context's choices, if there are any that the file does not hold. Throws IoError.
  void save(Context& ctx);

 private:
  std::string path_;
  std::size_t count_ = 0;  // choices that the file and the context share; none is ever changed
};

}  // namespace llsa::nn
