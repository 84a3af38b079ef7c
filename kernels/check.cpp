#include "kernels/check.h"

namespace llsa::kernels {

void check_device(const Context& ctx, const char* where, std::initializer_list<const Tensor*> tensors) {
  for (const Tensor* x : tensors) {
    if (x->defined() && x->device() != ctx.device()) {
      throw DeviceError(
          cat("[", where, "] expected tensors on ", ctx.device().str(), ", got one on ", x->device().str()));
    }
  }
}

void check_floating(const char* where, const Tensor& x) {
  if (!is_floating(x.dtype()))
    throw DTypeError(cat("[", where, "] expected f32, bf16 or f64, got ", name_of(x.dtype())));
}

void check_same_dtype(const char* where, const Tensor& a, const Tensor& b) {
  if (a.dtype() != b.dtype()) {
    throw DTypeError(
        cat("[", where, "] expected one dtype, got ", name_of(a.dtype()), " and ", name_of(b.dtype())),
        "cast one of them");
  }
}

void check_shape(const char* where, const char* name, const Tensor& x, const Shape& expected) {
  if (!(x.shape() == expected))
    throw ShapeError(cat("[", where, "] expected ", name, " of shape ", expected, ", got ", x.shape()));
}

}  // namespace llsa::kernels
