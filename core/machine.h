// What this process may use of the machine: the machine itself, narrowed by affinity and by control groups
// (containers).
#pragma once

#include <cstddef>

namespace llsa {

/// Processors that this process may run on, at least 1: its affinity, and the processor quota of its control
/// group rounded up.
int available_processors();

/// Bytes of memory: the physical memory, or the limit of the control group where that is lower.
std::size_t available_memory();

}  // namespace llsa
