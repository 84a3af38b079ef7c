// Devices by name, as a user writes them.
#pragma once

#include <string_view>

#include "device.h"

namespace llsa {

/// "cpu"; "cuda" (the first one) or "cuda:N"; "auto": the first CUDA device if one can be used, else the CPU.
/// Throws ValueError for any other text. Whether a CUDA device that was named is there shows when a Context
/// is made for it.
Device device_from_name(std::string_view name);

/// Throws ValueError unless device_from_name() knows the name; looks for no device.
void check_device_name(std::string_view name);

}  // namespace llsa
