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

TEST_CASE("a choice says why a GPU was passed over, and nothing where none was") {
  CHECK(choose_device("cpu").passed_over.empty());
  CHECK(choose_device("cuda:3").passed_over.empty());
  CHECK(choose_device("cuda:3").device == Device{DeviceType::cuda, 3});
  CHECK_THROWS_AS(choose_device("gpu"), ValueError);
  CHECK(choose_device("auto").device == device_from_name("auto"));
  if (!cuda::compiled()) CHECK(choose_device("auto").passed_over.empty());
  CHECK(passed_over_text({}).empty());
  CHECK(passed_over_text({Device{}, "it is too old"}) ==
        "device cpu: the GPU was passed over: it is too old");
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
