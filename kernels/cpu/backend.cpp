// The CPU table.
#include "kernels/backend.h"

#include "kernels/cpu/conv.h"
#include "kernels/cpu/copy.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/reduce.h"

namespace llsa::kernels::cpu {

const Backend& table() {
  static constexpr Backend kTable = {
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
  };
  return kTable;
}

}  // namespace llsa::kernels::cpu
