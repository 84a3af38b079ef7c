// The CUDA table of a build without CUDA, and what else there is of CUDA: every function throws.
#include "kernels/backend.h"
#include "kernels/bench_ceilings.h"

namespace llsa::kernels::cuda {
namespace {

[[noreturn]] void refuse() {
  throw DeviceError("[backend] this build has no CUDA", "build with a CUDA toolkit, or use the device cpu");
}

/// Converts to any function pointer: to a function that throws.
struct Absent {
  template <class R, class... Args>
  using Function = R (*)(Args...);

  template <class R, class... Args>
  constexpr operator Function<R, Args...>() const {
    return [](Args...) -> R { refuse(); };
  }
};

constexpr Absent absent;

constexpr Backend kTable = {
    .attention = {.forward = absent,
                  .backward = absent,
                  .library_forward = absent,
                  .library_backward = absent},
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
    .conv = {.im2col = absent,
             .col2im = absent,
             .forward = absent,
             .input_gradient = absent,
             .weight_gradient = absent},
    .diffusion = {.noise_levels = absent,
                  .drop_classes = absent,
                  .class_rows = absent,
                  .flow_mix = absent,
                  .time_embedding = absent},
    .softmax = {.softmax = absent,
                .softmax_backward = absent,
                .log_sum_exp = absent,
                .log_sum_exp_backward = absent},
    .norm = {.layer_norm = absent,
             .layer_norm_backward = absent,
             .rms_norm = absent,
             .rms_norm_backward = absent,
             .gate_residual = absent,
             .gate_residual_backward = absent},
    .rope = {.rope = absent, .qkv_split = absent, .qkv_split_backward = absent},
    .index = {.gather_rows = absent, .scatter_rows = absent, .inverse_order = absent},
    .pool = {.mean_pool = absent, .mean_pool_backward = absent},
    .loss = {.mse = absent,
             .mse_backward = absent,
             .cross_entropy = absent,
             .cross_entropy_backward = absent},
    .random = {.fill_random = absent},
    .optim = {.sum_squares = absent,
              .clip_gradient = absent,
              .advance_step = absent,
              .adamw = absent,
              .ema_decay = absent,
              .ema_update = absent},
    .tuning = {.tune = absent, .choices = absent, .restore = absent},
};

}  // namespace

const Backend& table() { return kTable; }

void mma_loop(Context&, std::int64_t, const Tensor&) { refuse(); }
void exp2_loop(Context&, std::int64_t, const Tensor&) { refuse(); }
void gather_loop(Context&, const Tensor&, std::int64_t, bool, const Tensor&) { refuse(); }

}  // namespace llsa::kernels::cuda
