#include "core/device_choice.h"

#include <charconv>
#include <optional>
#include <system_error>

#include "core/cuda/device.h"
#include "core/error.h"

namespace llsa {
namespace {

bool first_cuda_device_is_usable() {
  if (cuda::device_count() == 0) return false;
  try {
    cuda::device_properties(0);
    return true;
  } catch (const Error&) {
    return false;
  }
}

/// The device named other than by "auto"; nothing for a text that names none.
std::optional<Device> named_device(std::string_view name) {
  constexpr std::string_view kIndexed = "cuda:";
  if (name == "cpu") return Device{};
  if (name == "cuda") return Device{DeviceType::cuda, 0};
  if (name.substr(0, kIndexed.size()) != kIndexed) return std::nullopt;
  const std::string_view digits = name.substr(kIndexed.size());
  int index = -1;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
  if (error != std::errc() || end != digits.data() + digits.size() || index < 0) return std::nullopt;
  return Device{DeviceType::cuda, index};
}

}  // namespace

Device device_from_name(std::string_view name) {
  check_device_name(name);
  if (name == "auto") return first_cuda_device_is_usable() ? Device{DeviceType::cuda, 0} : Device{};
  return *named_device(name);
}

void check_device_name(std::string_view name) {
  if (name != "auto" && !named_device(name))
    throw ValueError(cat("[device] expected auto, cpu, cuda or cuda:N, got '", name, "'"));
}

}  // namespace llsa
