#include "core/device_choice.h"

#include <optional>

#include "core/cuda/device.h"
#include "core/error.h"
#include "core/number.h"

namespace llsa {
namespace {

std::string with_hint(const std::string& text, const std::string& hint) {
  return hint.empty() ? text : cat(text, "; ", hint);
}

/// The first CUDA device, or the CPU.
DeviceChoice automatic_choice() {
  try {
    const cuda::DeviceObstacle obstacle = cuda::device_obstacle(0);
    if (obstacle.reason.empty()) return {Device{DeviceType::cuda, 0}, ""};
    return {Device{}, obstacle.absent ? "" : with_hint(obstacle.reason, obstacle.hint)};
  } catch (const Error& error) {  // there is a driver, and it reports an error
    return {Device{}, with_hint(error.what(), error.hint())};
  }
}

/// The device for a name other than "auto"; nothing if the text names no device.
std::optional<Device> named_device(std::string_view name) {
  constexpr std::string_view kIndexed = "cuda:";
  if (name == "cpu") return Device{};
  if (name == "cuda") return Device{DeviceType::cuda, 0};
  if (name.substr(0, kIndexed.size()) != kIndexed) return std::nullopt;
  const std::string_view digits = name.substr(kIndexed.size());
  const auto index = as_number<int>(digits);
  if (!index || *index < 0) return std::nullopt;
  return Device{DeviceType::cuda, *index};
}

}  // namespace

DeviceChoice choose_device(std::string_view name) {
  check_device_name(name);
  if (name == "auto") return automatic_choice();
  return {*named_device(name), ""};
}

Device device_from_name(std::string_view name) { return choose_device(name).device; }

std::string passed_over_text(const DeviceChoice& choice) {
  if (choice.passed_over.empty()) return "";
  return cat("device ", choice.device.str(), ": the GPU was passed over: ", choice.passed_over);
}

void check_device_name(std::string_view name) {
  if (name != "auto" && !named_device(name))
    throw ValueError(cat("[device] expected auto, cpu, cuda or cuda:N, got '", name, "'"));
}

}  // namespace llsa
