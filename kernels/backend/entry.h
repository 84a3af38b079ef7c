// A function of a device, as the tables hold it: a pointer to the function, which a Profiler can time.
#pragma once

#include <cstddef>
#include <utility>

#include "../../core/profiler.h"

namespace llsa::kernels {

using llsa::bytes_of;  // and beside it those of structs that entries take

template <class Signature>
class Entry;

template <class R, class... Args>
class Entry<R(Args...)> {
 public:
  constexpr Entry(R (*function)(Args...)) : function_(function) {}  // implicit: a table names the function

  /// Calls the function. A profiler shows it under the name of the caller, which is the public function that users
  /// know; a helper of one gives its name.
  R operator()(Args... args, const char* caller = __builtin_FUNCTION()) const {
    if (Profiler::active() == nullptr) return function_(std::forward<Args>(args)...);
    const Profiler::Call call(caller, (0.0 + ... + bytes_of(args)));
    return function_(std::forward<Args>(args)...);
  }
  /// Functions of a library may be missing.
  constexpr bool operator==(std::nullptr_t) const { return function_ == nullptr; }

 private:
  R (*function_)(Args...);
};

}  // namespace llsa::kernels
