// Devices by name, and what is said where there is none.
#include "core/device_choice.h"

#include <doctest/doctest.h>

#include <string>

#include "core/context.h"

using namespace llsa;

TEST_SUITE_BEGIN("core/device_choice");

TEST_CASE("names of devices") {
  CHECK(device_from_name("cpu") == Device{});
  CHECK(device_from_name("cuda") == Device{DeviceType::cuda, 0});
  CHECK(device_from_name("cuda:0") == Device{DeviceType::cuda, 0});
  CHECK(device_from_name("cuda:12") == Device{DeviceType::cuda, 12});
  if (cuda::device_count() == 0) CHECK(device_from_name("auto") == Device{});
  for (const char* wrong :
       {"", "gpu", "CUDA", "cuda:", "cuda:-1", "cuda:1x", "cuda: 1", "cuda:99999999999"}) {
    CAPTURE(wrong);
    CHECK_THROWS_AS(device_from_name(wrong), ValueError);
  }
}

TEST_CASE("a device that cannot be had is an error that says why and what else to do") {
  // No driver, no device, and a build without CUDA all leave 0 devices; elsewhere there are not so many.
  const int index = cuda::device_count() > 0 ? 1000 : 0;
  try {
    Context ctx(Device{DeviceType::cuda, index});
    FAIL("a context on a device that is not there");
  } catch (const DeviceError& error) {
    const std::string text = std::string(error.what()) + " " + error.hint();
    CAPTURE(text);
    CHECK(text.find(cuda::compiled() ? "cuda:" : "no CUDA") != std::string::npos);
    if (cuda::device_count() == 0) CHECK(text.find("use the device cpu") != std::string::npos);
  }
  CHECK_THROWS_AS(cuda::device_properties(index), DeviceError);
}

TEST_SUITE_END();
