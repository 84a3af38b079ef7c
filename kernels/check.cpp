#include "kernels/check.h"

#include <vector>

#include "kernels/copy.h"

namespace llsa::kernels {

Shape without_last_axis(const Shape& shape) {
  return Shape(std::vector<std::int64_t>(shape.begin(), shape.end() - 1));
}

namespace check {

void on_device(const Context& ctx, const char* op, std::initializer_list<Argument> arguments) {
  for (const Argument& a : arguments) {
    if (!a.tensor.defined())
      throw ValueError(cat("[", op, "] expected a tensor ", a.name, ", got an undefined one"));
    if (a.tensor.device() != ctx.device())
      throw DeviceError(
          cat("[", op, "] expected ", a.name, " on ", ctx.device().str(), ", got ", a.tensor.device().str()),
          "copy the tensor to the context's device first");
  }
}

void floating(const char* op, const Argument& a) {
  if (!is_floating(a.tensor.dtype()))
    throw DTypeError(
        cat("[", op, "] expected ", a.name, " of dtype f32, bf16 or f64, got ", name_of(a.tensor.dtype())));
}

void dtype(const char* op, const Argument& a, DType wanted) {
  if (a.tensor.dtype() != wanted)
    throw DTypeError(cat("[", op, "] expected ", a.name, " of dtype ", name_of(wanted), ", got ",
                         name_of(a.tensor.dtype())),
                     wanted == DType::i32 ? "a std::vector<std::int32_t> makes such a tensor" : "");
}

void same_dtype(const char* op, const Argument& a, const Argument& b) {
  if (a.tensor.dtype() != b.tensor.dtype())
    throw DTypeError(cat("[", op, "] expected ", a.name, " and ", b.name, " of one dtype, got ",
                         name_of(a.tensor.dtype()), " and ", name_of(b.tensor.dtype())),
                     "cast one of them");
}

void rank(const char* op, const Argument& a, int wanted, const char* letters) {
  if (a.tensor.rank() != wanted)
    throw ShapeError(cat("[", op, "] expected ", a.name, " of shape ", letters, ", got ", a.tensor.shape()));
}

void rank_at_least(const char* op, const Argument& a, int wanted) {
  if (a.tensor.rank() < wanted)
    throw ShapeError(
        cat("[", op, "] expected ", a.name, " with at least ", wanted, " axes, got ", a.tensor.shape()));
}

void shape(const char* op, const Argument& a, const Shape& wanted) {
  if (!(a.tensor.shape() == wanted))
    throw ShapeError(cat("[", op, "] expected ", a.name, " of shape ", wanted, ", got ", a.tensor.shape()));
}

void scalar(const char* op, const Argument& a, DType wanted) {
  dtype(op, a, wanted);
  if (a.tensor.numel() != 1)
    throw ShapeError(cat("[", op, "] expected ", a.name, " with one element, got ", a.tensor.shape()));
}

void like(const char* op, const Argument& a, const Argument& reference) {
  if (!(a.tensor.shape() == reference.tensor.shape()))
    throw ShapeError(cat("[", op, "] expected ", a.name, " of ", reference.name, "'s shape ",
                         reference.tensor.shape(), ", got ", a.tensor.shape()));
  dtype(op, a, reference.tensor.dtype());
}

Tensor heads(Context& ctx, const char* op, const Argument& a) {
  on_device(ctx, op, {a});
  floating(op, a);
  if (a.tensor.rank() != 4 || a.tensor.numel() == 0)
    throw ShapeError(
        cat("[", op, "] expected ", a.name, " as [b,H,N,D] without empty axes, got ", a.tensor.shape()));
  return with_unit_last_stride(ctx, a.tensor);
}

}  // namespace check
}  // namespace llsa::kernels
