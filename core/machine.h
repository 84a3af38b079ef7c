// The machine, and what this process may use of it: all of it, narrowed by affinity and by control groups
// (containers, batch systems). Both versions of control groups are read, on every level above the process.
#pragma once

#include <cstddef>
#include <string>

namespace llsa {

/// Processors that this process may run on, at least 1: its affinity, and the processor quota of its control
/// groups rounded up. `root` is where /proc and /sys are found.
int available_processors(const std::string& root = {});

/// Bytes of memory that this process can still take without being killed: the available memory of the machine, or the rest
/// of a control group's limit if that is less. Cached files that the system can drop count as available; swap does not.
std::size_t available_memory(const std::string& root = {});

/// The name of this machine.
std::string host_name();

/// The set of processors in this process's affinity as a text: equal for processes that share their processors.
std::string processor_set();

/// Bytes of memory that the machine has, or the smallest limit of the control groups of this process if that is less.
std::size_t total_memory(const std::string& root = {});

/// "AMD EPYC 9654 96-Core Processor", as the system names the processor.
std::string processor_name(const std::string& root = {});

}  // namespace llsa
