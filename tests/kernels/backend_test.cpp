// The table of a device that the build does not have. A build with CUDA has another one in its place, so the
// file is compiled here once more, in a namespace of its own.
#include "kernels/backend.h"

#include <doctest/doctest.h>

#include <array>
#include <bit>

#include "core/error.h"
#include "kernels/bench_ceilings.h"

#define cuda cuda_absent
#include "kernels/cuda_absent.cpp"  // NOLINT(bugprone-suspicious-include)
#undef cuda

using namespace llsa;

TEST_SUITE_BEGIN("kernels/backend");

TEST_CASE("every function of an absent backend says what to do") {
  Context ctx(1);
  const Tensor x = ctx.zeros({2, 2}, DType::f32);
  const auto refuses = [](auto&& call) {
    try {
      call();
    } catch (const DeviceError& error) {
      return std::string(error.what()) == "[backend] this build has no CUDA" &&
             error.hint() == "build with a CUDA toolkit, or use the device cpu";
    }
    return false;
  };
  const auto check = [&](const kernels::Backend& absent) {
    // All that can be converted to a pointer does the same when it is called: that none is missing is enough.
    using Functions = std::array<void (*)(), sizeof(kernels::Backend) / sizeof(void (*)())>;
    for (const auto function : std::bit_cast<Functions>(absent)) CHECK((function != nullptr));
    CHECK(refuses([&] { absent.matmul.matmul(ctx, x, x, x); }));
    CHECK(refuses([&] { absent.copy.fill(ctx, x, 0.0); }));
    CHECK(refuses([&] { absent.tuning.tune(ctx, true); }));
    CHECK(refuses([&] { absent.tuning.choices(ctx); }));
    CHECK(refuses([&] { absent.tuning.restore(ctx, {}); }));
  };
  check(kernels::cuda_absent::table());
  if (!cuda::compiled()) check(kernels::cuda::table());
  CHECK(refuses([&] { kernels::cuda_absent::mma_loop(ctx, 1, x); }));
  CHECK(refuses([&] { kernels::cuda_absent::exp2_loop(ctx, 1, x); }));
  CHECK(refuses([&] { kernels::cuda_absent::gather_loop(ctx, x, 1, false, x); }));
}

TEST_SUITE_END();
