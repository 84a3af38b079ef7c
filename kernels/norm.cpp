// Norms and their fusions: checks and allocation.
#include "kernels/norm.h"

#include "kernels/backend.h"
#include "kernels/check.h"
#include "kernels/copy.h"

namespace llsa::kernels {
namespace {

void check_input(const Context& ctx, const char* op, const Tensor& x, double eps) {
  check::on_device(ctx, op, {{"x", x}});
  check::floating(op, {"x", x});
  check::rank_at_least(op, {"x", x}, 1);
  if (x.size(-1) == 0)
    throw ShapeError(cat("[", op, "] expected rows of at least one element, got x of shape ", x.shape()));
  if (!(eps >= 0)) throw ValueError(cat("[", op, "] expected eps >= 0, got ", eps));
}

/// An optional vector over the last axis.
void check_vector(const Context& ctx, const char* op, const check::Argument& a, const Tensor& x) {
  if (!a.tensor.defined()) return;
  check::on_device(ctx, op, {a});
  check::dtype(op, a, x.dtype());
  if (a.tensor.rank() != 1 || a.tensor.numel() != x.size(-1))
    throw ShapeError(cat("[", op, "] expected ", a.name, " of shape [", x.size(-1), "], the last axis of x ",
                         x.shape(), ", got ", a.tensor.shape()));
}

/// A vector over C per sample: [b,C] for x [b,N,C].
void check_modulation(const Context& ctx, const char* op, const check::Argument& a, const Tensor& x) {
  check::on_device(ctx, op, {a});
  check::dtype(op, a, x.dtype());
  check::shape(op, a, Shape{x.size(0), x.size(2)});
}

/// [...,C] as [R,C].
Tensor as_rows(Context& ctx, const Tensor& x) {
  const std::int64_t c = x.size(-1);
  return contiguous(ctx, x).reshape(Shape{x.numel() / c, c});
}
Tensor contiguous_or_none(Context& ctx, const Tensor& x) { return x.defined() ? contiguous(ctx, x) : x; }

}  // namespace

NormResult layer_norm(Context& ctx, const Tensor& x, const Tensor& weight, const Tensor& bias, double eps) {
  const char* op = "layer_norm";
  check_input(ctx, op, x, eps);
  check_vector(ctx, op, {"weight", weight}, x);
  check_vector(ctx, op, {"bias", bias}, x);
  const DType statistics = accumulator_of(x.dtype());
  const Shape rows = without_last_axis(x.shape());
  NormResult out{ctx.empty_like(x), ctx.empty(rows, statistics), ctx.empty(rows, statistics)};
  backend(ctx).norm.layer_norm(ctx, as_rows(ctx, x), contiguous_or_none(ctx, weight),
                               contiguous_or_none(ctx, bias), eps, out.y, out.mean, out.rstd);
  return out;
}

NormGrads layer_norm_backward(Context& ctx, const Tensor& dy, const Tensor& x, const Tensor& weight,
                              const Tensor& mean, const Tensor& rstd, bool need_db) {
  const std::int64_t c = x.size(-1);
  NormGrads out{ctx.empty_like(x), {}, {}};
  if (weight.defined()) out.dw = ctx.empty(Shape{c}, x.dtype());
  if (need_db) out.db = ctx.empty(Shape{c}, x.dtype());
  backend(ctx).norm.layer_norm_backward(ctx, as_rows(ctx, dy), as_rows(ctx, x),
                                        contiguous_or_none(ctx, weight), mean, rstd, out.dx, out.dw, out.db);
  return out;
}

RmsNormResult rms_norm(Context& ctx, const Tensor& x, const Tensor& weight, double eps) {
  const char* op = "rms_norm";
  check_input(ctx, op, x, eps);
  check_vector(ctx, op, {"weight", weight}, x);
  RmsNormResult out{ctx.empty_like(x), ctx.empty(without_last_axis(x.shape()), accumulator_of(x.dtype()))};
  backend(ctx).norm.rms_norm(ctx, as_rows(ctx, x), contiguous_or_none(ctx, weight), eps, out.y, out.rstd);
  return out;
}

NormGrads rms_norm_backward(Context& ctx, const Tensor& dy, const Tensor& x, const Tensor& weight,
                            const Tensor& rstd) {
  NormGrads out{ctx.empty_like(x), {}, {}};
  if (weight.defined()) out.dw = ctx.empty(Shape{x.size(-1)}, x.dtype());
  backend(ctx).norm.rms_norm_backward(ctx, as_rows(ctx, dy), as_rows(ctx, x), contiguous_or_none(ctx, weight),
                                      rstd, out.dx, out.dw);
  return out;
}

NormResult layer_norm_modulate(Context& ctx, const Tensor& x, const Tensor& shift, const Tensor& scale,
                               double eps) {
  const char* op = "layer_norm_modulate";
  check_input(ctx, op, x, eps);
  check::rank(op, {"x", x}, 3, "[b,N,C]");
  check_modulation(ctx, op, {"shift", shift}, x);
  check_modulation(ctx, op, {"scale", scale}, x);
  const DType statistics = accumulator_of(x.dtype());
  const Shape rows = without_last_axis(x.shape());
  NormResult out{ctx.empty_like(x), ctx.empty(rows, statistics), ctx.empty(rows, statistics)};
  backend(ctx).norm.layer_norm_modulate(ctx, contiguous(ctx, x), with_unit_last_stride(ctx, shift),
                                        with_unit_last_stride(ctx, scale), eps, out.y, out.mean, out.rstd);
  return out;
}

ModulateGrads layer_norm_modulate_backward(Context& ctx, const Tensor& dy, const Tensor& x,
                                           const Tensor& scale, const Tensor& mean, const Tensor& rstd) {
  const Shape per_sample{x.size(0), x.size(2)};
  const ModulateGrads out{ctx.empty_like(x), ctx.empty(per_sample, x.dtype()),
                          ctx.empty(per_sample, x.dtype())};
  backend(ctx).norm.layer_norm_modulate_backward(ctx, contiguous(ctx, dy), contiguous(ctx, x),
                                                 with_unit_last_stride(ctx, scale), mean, rstd, out.dx,
                                                 out.dshift, out.dscale);
  return out;
}

Tensor gate_residual(Context& ctx, const Tensor& x, const Tensor& y, const Tensor& gate) {
  const char* op = "gate_residual";
  check_input(ctx, op, x, 0);
  check::rank(op, {"x", x}, 3, "[b,N,C]");
  check::on_device(ctx, op, {{"y", y}});
  check::like(op, {"y", y}, {"x", x});
  check_modulation(ctx, op, {"gate", gate}, x);
  const Tensor z = ctx.empty_like(x);
  backend(ctx).norm.gate_residual(ctx, contiguous(ctx, x), contiguous(ctx, y),
                                  with_unit_last_stride(ctx, gate), z);
  return z;
}

GateGrads gate_residual_backward(Context& ctx, const Tensor& dz, const Tensor& y, const Tensor& gate) {
  const GateGrads out{ctx.empty_like(y), ctx.empty(Shape{y.size(0), y.size(2)}, y.dtype())};
  backend(ctx).norm.gate_residual_backward(ctx, contiguous(ctx, dz), contiguous(ctx, y),
                                           with_unit_last_stride(ctx, gate), out.dy, out.dgate);
  return out;
}

GateNormResult gate_norm_modulate(Context& ctx, const Tensor& x, const Tensor& y, const Tensor& factors,
                                  double eps) {
  const char* op = "gate_norm_modulate";
  check_input(ctx, op, x, eps);
  check::rank(op, {"x", x}, 3, "[b,N,C]");
  check::on_device(ctx, op, {{"y", y}, {"factors", factors}});
  check::like(op, {"y", y}, {"x", x});
  check::dtype(op, {"factors", factors}, x.dtype());
  check::shape(op, {"factors", factors}, Shape{x.size(0), 3 * x.size(2)});
  const DType statistics = accumulator_of(x.dtype());
  const Shape rows = without_last_axis(x.shape());
  GateNormResult out{ctx.empty_like(x), ctx.empty_like(x), ctx.empty(rows, statistics),
                     ctx.empty(rows, statistics)};
  backend(ctx).norm.gate_norm_modulate(ctx, contiguous(ctx, x), contiguous(ctx, y),
                                       with_unit_last_stride(ctx, factors), eps, out.r, out.h, out.mean,
                                       out.rstd);
  return out;
}

GateNormGrads gate_norm_modulate_backward(Context& ctx, const Tensor& dr, const Tensor& dh, const Tensor& r,
                                          const Tensor& y, const Tensor& factors, const Tensor& mean,
                                          const Tensor& rstd) {
  GateNormGrads out{ctx.empty_like(r), ctx.empty_like(r), ctx.empty(factors.shape(), r.dtype())};
  backend(ctx).norm.gate_norm_modulate_backward(ctx, contiguous_or_none(ctx, dr), contiguous(ctx, dh), r,
                                                contiguous(ctx, y), with_unit_last_stride(ctx, factors), mean,
                                                rstd, out.dx, out.dy, out.dfactors);
  return out;
}

}  // namespace llsa::kernels
