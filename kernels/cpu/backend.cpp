// The CPU table.
#include "kernels/backend.h"

#include "kernels/cpu/attention.h"
#include "kernels/cpu/conv.h"
#include "kernels/cpu/copy.h"
#include "kernels/cpu/diffusion.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/llsa.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/reduce.h"

namespace llsa::kernels::cpu {

const Backend& table() {
  static constexpr Backend kTable = {
      .attention = {.forward = attention, .backward = attention_backward},
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
      .conv = {.im2col = im2col, .col2im = col2im},
      .diffusion = {.noise_levels = noise_levels,
                    .drop_classes = drop_classes,
                    .class_rows = class_rows,
                    .flow_mix = flow_mix,
                    .time_embedding = time_embedding},
  };
  return kTable;
}

}  // namespace llsa::kernels::cpu
