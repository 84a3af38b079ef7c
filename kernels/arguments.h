// Argument checks shared by the operations. Messages read "[op] expected ..., got ...".
#pragma once

#include <initializer_list>

#include "../core/context.h"

namespace llsa::kernels {

/// The dtype in which values of a floating dtype are summed: f64 for f64, f32 for f32 and bf16.
inline DType accumulator_of(DType dtype) { return dtype == DType::f64 ? DType::f64 : DType::f32; }

namespace check {

/// A tensor argument and its name in messages.
struct Argument {
  const char* name;
  const Tensor& tensor;
};

/// Defined and on the context's device.
inline void on_device(const Context& ctx, const char* op, std::initializer_list<Argument> arguments) {
  for (const Argument& a : arguments) {
    if (!a.tensor.defined())
      throw ValueError(cat("[", op, "] expected a tensor ", a.name, ", got an undefined one"));
    if (a.tensor.device() != ctx.device())
      throw DeviceError(
          cat("[", op, "] expected ", a.name, " on ", ctx.device().str(), ", got ", a.tensor.device().str()),
          "copy the tensor to the context's device first");
  }
}

inline void floating(const char* op, const Argument& a) {
  if (!is_floating(a.tensor.dtype()))
    throw DTypeError(
        cat("[", op, "] expected ", a.name, " of dtype f32, bf16 or f64, got ", name_of(a.tensor.dtype())));
}

inline void dtype(const char* op, const Argument& a, DType wanted) {
  if (a.tensor.dtype() != wanted)
    throw DTypeError(cat("[", op, "] expected ", a.name, " of dtype ", name_of(wanted), ", got ",
                         name_of(a.tensor.dtype())));
}

inline void rank(const char* op, const Argument& a, int wanted, const char* letters) {
  if (a.tensor.rank() != wanted)
    throw ShapeError(cat("[", op, "] expected ", a.name, " of shape ", letters, ", got ", a.tensor.shape()));
}

inline void rank_at_least(const char* op, const Argument& a, int wanted) {
  if (a.tensor.rank() < wanted)
    throw ShapeError(
        cat("[", op, "] expected ", a.name, " with at least ", wanted, " axes, got ", a.tensor.shape()));
}

inline void shape(const char* op, const Argument& a, const Shape& wanted) {
  if (!(a.tensor.shape() == wanted))
    throw ShapeError(cat("[", op, "] expected ", a.name, " of shape ", wanted, ", got ", a.tensor.shape()));
}

/// One element of a dtype.
inline void scalar(const char* op, const Argument& a, DType wanted) {
  dtype(op, a, wanted);
  if (a.tensor.numel() != 1)
    throw ShapeError(cat("[", op, "] expected ", a.name, " with one element, got ", a.tensor.shape()));
}

/// Same shape and dtype as another tensor.
inline void like(const char* op, const Argument& a, const Argument& reference) {
  if (!(a.tensor.shape() == reference.tensor.shape()))
    throw ShapeError(cat("[", op, "] expected ", a.name, " of ", reference.name, "'s shape ",
                         reference.tensor.shape(), ", got ", a.tensor.shape()));
  dtype(op, a, reference.tensor.dtype());
}

}  // namespace check

/// x's shape without its last axis; x has at least one.
inline Shape without_last_axis(const Shape& shape) {
  return Shape(std::vector<std::int64_t>(shape.begin(), shape.end() - 1));
}

/// x itself when its last axis has unit stride, else a contiguous copy made by `contiguous`.
template <class Contiguous>
Tensor with_unit_last_stride(const Tensor& x, Contiguous&& contiguous) {
  return x.rank() > 0 && (x.stride(-1) == 1 || x.size(-1) == 1) ? x : contiguous(x);
}

}  // namespace llsa::kernels
