// The CPU table.
#include "kernels/backend.h"

#include "kernels/cpu/attention.h"
#include "kernels/cpu/conv.h"
#include "kernels/cpu/copy.h"
#include "kernels/cpu/diffusion.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/index.h"
#include "kernels/cpu/llsa.h"
#include "kernels/cpu/loss.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/norm.h"
#include "kernels/cpu/optim.h"
#include "kernels/cpu/pool.h"
#include "kernels/cpu/random.h"
#include "kernels/cpu/reduce.h"
#include "kernels/cpu/rope.h"
#include "kernels/cpu/softmax.h"
#include "kernels/cpu/tuning.h"

namespace llsa::kernels::cpu {

const Backend& table() {
  static constexpr Backend kTable = {
      .attention = {.forward = attention,
                    .backward = attention_backward,
                    .library_forward = nullptr,
                    .library_backward = nullptr},
      .llsa = {.pyramid = llsa_pyramid,
               .select = llsa_select,
               .transpose = index_transpose,
               .attend = llsa_attend,
               .attend_backward = llsa_attend_backward},
      .copy = {.copy = copy, .fill = fill},
      .elementwise = {.binary = binary,
                      .affine = affine,
                      .unary = unary,
                      .unary_backward = unary_backward,
                      .accumulate = accumulate,
                      .all_finite = all_finite},
      .reduce = {.reduce = reduce},
      .matmul = {.matmul = matmul, .linear = linear, .linear_backward = linear_backward},
      .conv = {.im2col = im2col,
               .col2im = col2im,
               .forward = nullptr,
               .input_gradient = nullptr,
               .weight_gradient = nullptr},
      .diffusion = {.noise_levels = noise_levels,
                    .drop_classes = drop_classes,
                    .class_rows = class_rows,
                    .flow_mix = flow_mix,
                    .time_embedding = time_embedding},
      .softmax = {.softmax = softmax,
                  .softmax_backward = softmax_backward,
                  .log_sum_exp = log_sum_exp,
                  .log_sum_exp_backward = log_sum_exp_backward},
      .norm = {.layer_norm = layer_norm,
               .layer_norm_backward = layer_norm_backward,
               .rms_norm = rms_norm,
               .rms_norm_backward = rms_norm_backward,
               .gate_residual = gate_residual,
               .gate_residual_backward = gate_residual_backward},
      .rope = {.rope = rope, .qkv_split = qkv_split, .qkv_split_backward = qkv_split_backward},
      .index = {.gather_rows = gather_rows, .scatter_rows = scatter_rows, .inverse_order = inverse_order},
      .pool = {.mean_pool = mean_pool, .mean_pool_backward = mean_pool_backward},
      .loss = {.mse = mse,
               .mse_backward = mse_backward,
               .cross_entropy = cross_entropy,
               .cross_entropy_backward = cross_entropy_backward},
      .random = {.fill_random = fill_random},
      .optim = {.sum_squares = sum_squares,
                .clip_gradient = clip_gradient,
                .advance_step = advance_step,
                .adamw = adamw,
                .ema_decay = ema_decay,
                .ema_update = ema_update},
      .tuning = {.tune = tune_products, .choices = product_choices, .restore = restore_product_choices},
  };
  return kTable;
}

}  // namespace llsa::kernels::cpu
