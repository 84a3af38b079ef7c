// Errors of the library. Every failure is an exception: the library never prints, exits or aborts.
//
// A message names the place and both sides ("[layer_norm] weight has 64 elements, x has last dimension 96");
// hint() says what to do about it, and is empty where the message says it all.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

namespace llsa {

class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message, std::string hint = {})
      : std::runtime_error(message), hint_(std::move(hint)) {}

  const std::string& hint() const noexcept { return hint_; }

 private:
  std::string hint_;
};

/// Shapes or sizes that do not fit together, or that overflow.
class ShapeError : public Error {
  using Error::Error;
};
/// A dtype that an operation does not take.
class DTypeError : public Error {
  using Error::Error;
};
/// A device that is absent, or tensors on different devices.
class DeviceError : public Error {
  using Error::Error;
};
/// An argument outside its range, an unknown key, an inconsistent configuration.
class ValueError : public Error {
  using Error::Error;
};
/// A file that cannot be read or written, or whose content is malformed.
class IoError : public Error {
  using Error::Error;
};
/// A failed CUDA call.
class CudaError : public Error {
  using Error::Error;
};
/// An allocation that failed; the message says what was asked and what is held.
class OutOfMemoryError : public Error {
  using Error::Error;
};
/// A value that is not finite where it has to be.
class NonFiniteError : public Error {
  using Error::Error;
};

/// A stream into a string that writes numbers in the same way under every C and C++ locale.
struct TextStream : std::ostringstream {
  TextStream() { imbue(std::locale::classic()); }
};

/// Joins anything with an operator<< into one string: cat("got ", 3, " of ", shape).
template <class... Parts>
std::string cat(const Parts&... parts) {
  TextStream out;
  (out << ... << parts);
  return out.str();
}

}  // namespace llsa
