// Devices by name, as a user writes them.
#pragma once

#include <string>
#include <string_view>

#include "device.h"

namespace llsa {

struct DeviceChoice {
  Device device;
  std::string passed_over;  ///< why "auto" is the CPU although there is a GPU; else empty
};

/// "cpu"; "cuda" (the first one) or "cuda:N"; "auto": the first CUDA device if one can be used, else the CPU.
/// Throws ValueError for any other text. Whether a CUDA device that was named is there shows when a Context
/// is made for it.
DeviceChoice choose_device(std::string_view name);
/// The device alone.
Device device_from_name(std::string_view name);

/// For a user, where the device is announced: "device cpu: the GPU was passed over: it has compute capability
/// 7.0, ..."; empty where nothing was passed over.
std::string passed_over_text(const DeviceChoice& choice);

/// Throws ValueError unless device_from_name() knows the name; looks for no device.
void check_device_name(std::string_view name);

}  // namespace llsa
