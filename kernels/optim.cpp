// The optimiser's arithmetic: checks and allocation.
#include "kernels/optim.h"

#include <cmath>

#include "kernels/backend.h"
#include "kernels/check.h"
#include "kernels/copy.h"
#include "kernels/reduce.h"

namespace llsa::kernels {
namespace {

/// Buffers that are updated in place: contiguous f32 or f64 of one size.
void check_buffers(const Context& ctx, const char* op, std::initializer_list<check::Argument> buffers) {
  check::on_device(ctx, op, buffers);
  const check::Argument& first = *buffers.begin();
  if (first.tensor.dtype() != DType::f32 && first.tensor.dtype() != DType::f64)
    throw DTypeError(
        cat("[", op, "] expected ", first.name, " of dtype f32 or f64, got ", name_of(first.tensor.dtype())));
  for (const check::Argument& a : buffers) {
    check::like(op, a, first);
    if (!a.tensor.is_contiguous())
      throw ValueError(cat("[", op, "] expected a contiguous ", a.name, ", got strides of a view"));
  }
}

void check_scalar(const Context& ctx, const char* op, const check::Argument& a, DType dtype) {
  check::on_device(ctx, op, {a});
  check::scalar(op, a, dtype);
}

void check_optional_scalar(const Context& ctx, const char* op, const check::Argument& a, DType dtype) {
  if (a.tensor.defined()) check_scalar(ctx, op, a, dtype);
}

/// The bf16 copy of the weights.
void check_low(const Context& ctx, const char* op, const check::Argument& low, const Tensor& w) {
  check::on_device(ctx, op, {low});
  check::dtype(op, low, DType::bf16);
  check::shape(op, low, w.shape());
  if (!low.tensor.is_contiguous())
    throw ValueError(cat("[", op, "] expected a contiguous ", low.name, ", got strides of a view"));
}

void check_adamw(const Context& ctx, const char* op, const AdamWBuffers& buffers, const AdamWScalars& scalars,
                 const AdamWOptions& options) {
  check_buffers(ctx, op, {{"w", buffers.w}, {"g", buffers.g}, {"m", buffers.m}, {"v", buffers.v}});
  if (buffers.low.defined()) check_low(ctx, op, {"low", buffers.low}, buffers.w);
  check_scalar(ctx, op, {"lr", scalars.lr}, DType::f64);
  check_scalar(ctx, op, {"step", scalars.step}, DType::i64);
  check_optional_scalar(ctx, op, {"factor", scalars.factor}, DType::f64);
  check_optional_scalar(ctx, op, {"skip", scalars.skip}, DType::i32);
  for (const double beta : {options.beta1, options.beta2})
    if (!(beta >= 0 && beta < 1)) throw ValueError(cat("[", op, "] expected betas in [0, 1), got ", beta));
  if (!(options.eps >= 0)) throw ValueError(cat("[", op, "] expected eps >= 0, got ", options.eps));
  if (!(options.weight_decay >= 0))
    throw ValueError(cat("[", op, "] expected weight_decay >= 0, got ", options.weight_decay));
}

}  // namespace

Tensor square_sums(Context& ctx, const Tensor& g) {
  check::on_device(ctx, "square_sums", {{"g", g}});
  check::floating("square_sums", {"g", g});
  const Tensor sums = ctx.empty(Shape{(g.numel() + kSquareStretch - 1) / kSquareStretch}, DType::f64);
  backend(ctx).optim.square_sums(ctx, contiguous(ctx, g), sums);
  return sums;
}

Tensor sum_squares(Context& ctx, const Tensor& g) { return sum(ctx, square_sums(ctx, g), {0}, true); }

ClipResult clip_gradient(Context& ctx, const Tensor& sum_squares, double max_norm) {
  const ClipResult out{ctx.empty(Shape{1}, DType::f64), ctx.empty(Shape{1}, DType::f64),
                       ctx.empty(Shape{1}, DType::i32)};
  clip_gradient(ctx, sum_squares, max_norm, out);
  return out;
}

void clip_gradient(Context& ctx, const Tensor& sum_squares, double max_norm, const ClipResult& into) {
  check_scalar(ctx, "clip_gradient", {"sum_squares", sum_squares}, DType::f64);
  check_scalar(ctx, "clip_gradient", {"norm", into.norm}, DType::f64);
  check_scalar(ctx, "clip_gradient", {"factor", into.factor}, DType::f64);
  check_scalar(ctx, "clip_gradient", {"skip", into.skip}, DType::i32);
  if (!(max_norm >= 0) || std::isinf(max_norm))
    throw ValueError(cat("[clip_gradient] expected a finite max_norm >= 0, got ", max_norm));
  backend(ctx).optim.clip_gradient(ctx, sum_squares, max_norm, into.norm, into.factor, into.skip);
}

void advance_step(Context& ctx, const Tensor& step, const Tensor& skip) {
  check_scalar(ctx, "advance_step", {"step", step}, DType::i64);
  check_optional_scalar(ctx, "advance_step", {"skip", skip}, DType::i32);
  backend(ctx).optim.advance_step(ctx, step, skip);
}

void adamw_step(Context& ctx, const AdamWBuffers& buffers, const AdamWScalars& scalars,
                const AdamWOptions& options) {
  check_adamw(ctx, "adamw_step", buffers, scalars, options);
  backend(ctx).optim.adamw(ctx, buffers, scalars, options, Tensor(), Tensor());
}

void adamw_ema_step(Context& ctx, const AdamWBuffers& buffers, const AdamWScalars& scalars,
                    const AdamWOptions& options, const Tensor& ema, const Tensor& decay) {
  check_adamw(ctx, "adamw_ema_step", buffers, scalars, options);
  check_buffers(ctx, "adamw_ema_step", {{"w", buffers.w}, {"ema", ema}});
  check_scalar(ctx, "adamw_ema_step", {"decay", decay}, DType::f64);
  backend(ctx).optim.adamw(ctx, buffers, scalars, options, ema, decay);
}

void sgd_step(Context& ctx, const SgdBuffers& buffers, const SgdScalars& scalars, const SgdOptions& options) {
  const char* op = "sgd_step";
  if (!(options.momentum >= 0 && options.momentum < 1))
    throw ValueError(cat("[", op, "] expected a momentum in [0, 1), got ", options.momentum));
  if (!(options.weight_decay >= 0))
    throw ValueError(cat("[", op, "] expected weight_decay >= 0, got ", options.weight_decay));
  if (buffers.v.defined() != (options.momentum > 0))
    throw ValueError(
        cat("[", op, "] expected a velocity if and only if there is momentum, which is ", options.momentum));
  check_buffers(ctx, op, {{"w", buffers.w}, {"g", buffers.g}});
  if (buffers.v.defined()) check_buffers(ctx, op, {{"w", buffers.w}, {"v", buffers.v}});
  if (buffers.low.defined()) check_low(ctx, op, {"low", buffers.low}, buffers.w);
  check_scalar(ctx, op, {"lr", scalars.lr}, DType::f64);
  check_optional_scalar(ctx, op, {"factor", scalars.factor}, DType::f64);
  check_optional_scalar(ctx, op, {"skip", scalars.skip}, DType::i32);
  backend(ctx).optim.sgd(ctx, buffers, scalars, options);
}

Tensor ema_decay(Context& ctx, const Tensor& step, const EmaOptions& options) {
  check_scalar(ctx, "ema_decay", {"step", step}, DType::i64);
  if (!(options.power >= 0)) throw ValueError(cat("[ema_decay] expected power >= 0, got ", options.power));
  if (!(options.max_decay >= 0 && options.max_decay <= 1))
    throw ValueError(cat("[ema_decay] expected max_decay in [0, 1], got ", options.max_decay));
  const Tensor decay = ctx.empty(Shape{1}, DType::f64);
  if (options.warm_up)
    backend(ctx).optim.ema_decay(ctx, step, options, decay);
  else
    fill(ctx, decay, options.max_decay);
  return decay;
}

void ema_update(Context& ctx, const Tensor& ema, const Tensor& w, const Tensor& decay, const Tensor& skip) {
  check_buffers(ctx, "ema_update", {{"ema", ema}, {"w", w}});
  check_scalar(ctx, "ema_update", {"decay", decay}, DType::f64);
  check_optional_scalar(ctx, "ema_update", {"skip", skip}, DType::i32);
  backend(ctx).optim.ema_update(ctx, ema, w, decay, skip);
}

}  // namespace llsa::kernels
