// How a host watches work that takes long, and ends it early.
//
// Every such function of the library takes callbacks in the same way. Each of them may be empty. They are
// called by the thread that called the function, between two steps of the work. An exception that one throws
// leaves the function, but none is needed to end it: should_stop is enough.
#pragma once

#include <cstdint>
#include <functional>

namespace llsa::nn {

struct Callbacks {
  /// Told after every step how many of all steps are done.
  std::function<void(std::int64_t done, std::int64_t total)> on_progress = {};
  /// Asked after every step; true ends the work. What is then returned stands at the function.
  std::function<bool()> should_stop = {};
};

}  // namespace llsa::nn
