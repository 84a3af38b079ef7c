// Failed calls of the CUDA runtime and of its libraries, and launches that failed, as exceptions: with the
// command's text and place, what the status says, and what to do about it. For files compiled with CUDA
// headers only.
//
//     [where] COMMAND failed at FILE:LINE for OPERANDS: DESCRIPTION (NAME_OF_STATUS)
//
// The line is that of the call, without macros: builtins as default arguments are evaluated by the caller.
// (clang 14 has no std::source_location with libstdc++.)
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <string>

#include "../error.h"

namespace llsa::cuda {

/// A line of a source file; by default, where it is a default argument, the caller's.
struct Place {
  const char* file = nullptr;
  int line = 0;

  static constexpr Place here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return {file, line};
  }
  /// "core/cuda/check.h:28": from the root of the repository, whatever the build made of __FILE__.
  std::string str() const;

  friend bool operator==(const Place&, const Place&) = default;
};

/// A command as messages name it. Converts from its text, where a function that takes one is called.
struct Command {
  const char* text;
  Place place;

  constexpr Command(const char* text_, Place place_ = Place::here()) : text(text_), place(place_) {}
};

/// What a user can do about a command that a library could not run without saying why.
inline constexpr const char* kEarlierCommandHint =
    "what failed may be an earlier command: with CUDA_LAUNCH_BLOCKING=1 in the environment that one is named";

/// What a user can do about an error of the runtime; empty where its name says it all.
std::string hint_for(cudaError_t status);

/// Throws CudaError unless the status is cudaSuccess.
void check(cudaError_t status, const Command& command);

/// Throws CudaError for a kernel that could not be launched. kernel: its mangled name; "" if that is unknown.
[[noreturn]] void launch_failed(cudaError_t status, const char* kernel, dim3 grid, dim3 block,
                                std::size_t shared_bytes, const Place& place);

/// Throws CudaError for a failed call of a library. `where` begins the message, `operands` (may be empty)
/// says what the call was for, `status` what the library says. When the device itself is broken, which a
/// library says in words of its own or not at all, its error is added, and the hint is the one for that.
[[noreturn]] void library_failed(const char* where, const Command& command, const std::string& operands,
                                 const std::string& status, const std::string& hint);

}  // namespace llsa::cuda

/// A call, or a function, and its text: two arguments of a function that takes a status and a Command.
#define LLSA_CALL(...) (__VA_ARGS__), #__VA_ARGS__

#define LLSA_CUDA_CHECK(call) ::llsa::cuda::check((call), #call)
