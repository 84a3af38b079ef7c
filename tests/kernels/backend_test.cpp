// The table of a device that this build does not have.
#include "kernels/backend.h"

#include <doctest/doctest.h>

#include "core/error.h"

using namespace llsa;

TEST_SUITE_BEGIN("kernels/backend");

TEST_CASE("every function of an absent backend says what to do") {
  if (cuda::compiled()) return;
  Context ctx(1);
  const Tensor x = ctx.zeros({2, 2}, DType::f32);
  const kernels::Backend& absent = kernels::cuda::table();
  const auto refuses = [](auto&& call) {
    try {
      call();
    } catch (const DeviceError& error) {
      return std::string(error.what()) == "[backend] this build has no CUDA" &&
             error.hint() == "build with a CUDA toolkit, or use the device cpu";
    }
    return false;
  };
  CHECK(refuses([&] { absent.matmul.matmul(ctx, x, x, x); }));
  CHECK(refuses([&] { absent.copy.fill(ctx, x, 0.0); }));
  CHECK(refuses([&] { absent.tuning.tune(ctx, true); }));
  CHECK(refuses([&] { absent.tuning.choices(ctx); }));
  CHECK(refuses([&] { absent.tuning.restore(ctx, {}); }));
}

TEST_SUITE_END();
