#include "kernels/backend.h"

#include <doctest/doctest.h>

#include "core/error.h"

using namespace llsa;

TEST_SUITE_BEGIN("kernels/backend");

TEST_CASE("a build without CUDA has no backend for its devices, and says what to do") {
  CHECK(&kernels::backend(Device{}) == &kernels::cpu::kBackend);
  const Device gpu{DeviceType::cuda, 0};
  if (cuda::compiled()) {
    CHECK(&kernels::backend(gpu) == kernels::cuda::kBackend);
    return;
  }
  try {
    kernels::backend(gpu);
    FAIL("expected a DeviceError");
  } catch (const DeviceError& error) {
    CHECK(std::string(error.what()) == "[backend] this build has no CUDA");
    CHECK(error.hint() == "build with a CUDA toolkit, or use the device cpu");
  }
}

TEST_SUITE_END();
