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

/// The device for a name: "cpu", "cuda" (the first CUDA device), "cuda:N", or "auto" (the first CUDA device if
/// it can be used, else the CPU). Throws ValueError for any other text. Whether the named CUDA device exists is
/// checked later, when a Context is made for it.
DeviceChoice choose_device(std::string_view name);
/// The device alone.
Device device_from_name(std::string_view name);

/// A sentence for the user: "device cpu: the GPU was passed over: it has compute capability 7.0, ...". Empty if
/// no GPU was passed over.
std::string passed_over_text(const DeviceChoice& choice);

/// Throws ValueError unless device_from_name() knows the name. Does not look for the device.
void check_device_name(std::string_view name);

}  // namespace llsa
