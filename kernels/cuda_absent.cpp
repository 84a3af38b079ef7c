// The CUDA table of a build without CUDA: every function throws.
#include "kernels/backend.h"

namespace llsa::kernels::cuda {
namespace {

/// Converts to any function pointer: to a function that throws.
struct Absent {
  template <class R, class... Args>
  using Function = R (*)(Args...);

  template <class R, class... Args>
  constexpr operator Function<R, Args...>() const {
    return [](Args...) -> R {
      throw DeviceError("[backend] this build has no CUDA",
                        "build with a CUDA toolkit, or use the device cpu");
    };
  }
};

constexpr Absent absent;

constexpr Backend kTable = {
    .attention = {.forward = absent, .backward = absent},
    .llsa = {.pyramid = absent,
             .select = absent,
             .transpose = absent,
             .attend = absent,
             .attend_backward = absent},
    .copy = {.copy = absent, .fill = absent},
    .elementwise = {.binary = absent,
                    .affine = absent,
                    .unary = absent,
                    .unary_backward = absent,
                    .accumulate = absent,
                    .all_finite = absent},
    .reduce = {.reduce = absent},
    .matmul = {.matmul = absent, .linear = absent, .linear_backward = absent},
    .conv = {.im2col = absent, .col2im = absent},
    .diffusion = {.noise_levels = absent,
                  .drop_classes = absent,
                  .class_rows = absent,
                  .flow_mix = absent,
                  .time_embedding = absent},
};

}  // namespace

const Backend& table() { return kTable; }

}  // namespace llsa::kernels::cuda
