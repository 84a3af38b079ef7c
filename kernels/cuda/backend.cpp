// The CUDA table.
#include "kernels/backend.h"

#include "kernels/cuda/attention.h"
#include "kernels/cuda/conv.h"
#include "kernels/cuda/copy.h"
#include "kernels/cuda/cudnn_attention.h"
#include "kernels/cuda/cudnn_conv.h"
#include "kernels/cuda/diffusion.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/index.h"
#include "kernels/cuda/llsa.h"
#include "kernels/cuda/loss.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/norm.h"
#include "kernels/cuda/optim.h"
#include "kernels/cuda/pool.h"
#include "kernels/cuda/random.h"
#include "kernels/cuda/reduce.h"
#include "kernels/cuda/rope.h"
#include "kernels/cuda/softmax.h"
#include "kernels/cuda/tuning.h"

namespace llsa::kernels::cuda {

const Backend& table() {
  static constexpr Backend kTable = {
      .attention = {.forward = attention,
                    .backward = attention_backward,
                    .library_forward = cudnn_attention,
                    .library_backward = cudnn_attention_backward},
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
               .forward = convolve,
               .input_gradient = convolve_input_gradient,
               .weight_gradient = convolve_weight_gradient},
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

}  // namespace llsa::kernels::cuda
