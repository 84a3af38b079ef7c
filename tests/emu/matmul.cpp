// Matrix products under the emulator. On a device they are cuBLASLt's; here the CPU backend computes them, on
// the same memory.
#include "kernels/cuda/matmul.h"

#include "kernels/cpu/matmul.h"

namespace llsa::kernels::cuda {
namespace {

Context& host() {
  static Context context(1);
  return context;
}

}  // namespace

void matmul(Context&, const Tensor& a, const Tensor& b, const Tensor& out) { cpu::matmul(host(), a, b, out); }

void linear(Context&, const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& y,
            const Tensor& pre) {
  cpu::linear(host(), x, w, bias, y, pre);
}

void linear_backward(Context&, const LinearBackwardArgs& args) { cpu::linear_backward(host(), args); }

}  // namespace llsa::kernels::cuda
