// Checks and allocation for the flow-matching kernels.
#include "kernels/diffusion.h"

#include <cmath>

#include "kernels/backend.h"
#include "kernels/check.h"
#include "kernels/copy.h"

namespace llsa::kernels {
namespace {

/// [batch], on the context's device.
void check_per_sample(const Context& ctx, const char* op, const check::Argument& a, DType dtype,
                      std::int64_t batch) {
  check::on_device(ctx, op, {a});
  check::dtype(op, a, dtype);
  check::shape(op, a, Shape{batch});
}

std::int64_t batch_of(const char* op, const check::Argument& x) {
  check::rank_at_least(op, x, 1);
  return x.tensor.size(0);
}

}  // namespace

Tensor noise_levels(Context& ctx, const Tensor& sample_ids, NoiseLevel law, std::uint64_t seed,
                    std::uint64_t stream, const LogitNormal& normal) {
  check_per_sample(ctx, "noise_levels", {"sample_ids", sample_ids}, DType::i64,
                   batch_of("noise_levels", {"sample_ids", sample_ids}));
  if (!(std::isfinite(normal.mean) && std::isfinite(normal.deviation) && normal.deviation >= 0.0))
    throw ValueError(cat("[noise_levels] expected a finite mean and a finite deviation of at least 0, got ",
                         normal.mean, " and ", normal.deviation));
  const Tensor sigma = ctx.empty(sample_ids.shape(), DType::f32);
  backend(ctx).diffusion.noise_levels(ctx, contiguous(ctx, sample_ids), law, normal, seed, stream, sigma);
  return sigma;
}

Tensor drop_classes(Context& ctx, const Tensor& y, const Tensor& sample_ids, double probability,
                    std::int32_t null_class, std::uint64_t seed, std::uint64_t stream) {
  const std::int64_t batch = batch_of("drop_classes", {"y", y});
  check_per_sample(ctx, "drop_classes", {"y", y}, DType::i32, batch);
  check_per_sample(ctx, "drop_classes", {"sample_ids", sample_ids}, DType::i64, batch);
  if (!(probability >= 0.0 && probability <= 1.0))
    throw ValueError(cat("[drop_classes] expected a probability from 0 to 1, got ", probability));
  const Tensor out = ctx.empty_like(y);
  backend(ctx).diffusion.drop_classes(ctx, contiguous(ctx, y), contiguous(ctx, sample_ids), probability,
                                      null_class, seed, stream, out);
  return out;
}

Tensor class_rows(Context& ctx, const Tensor& y, std::int32_t classes, std::int32_t tables) {
  check_per_sample(ctx, "class_rows", {"y", y}, DType::i32, batch_of("class_rows", {"y", y}));
  if (classes < 1 || tables < 0 || static_cast<std::int64_t>(classes) * tables > INT32_MAX)
    throw ValueError(
        cat("[class_rows] ", tables, " tables of ", classes, " classes cannot be numbered in 31 bits"));
  const Tensor rows = ctx.empty(Shape{tables, y.size(0)}, DType::i32);
  backend(ctx).diffusion.class_rows(ctx, contiguous(ctx, y), classes, rows);
  return rows;
}

FlowPair flow_mix(Context& ctx, const Tensor& x, const Tensor& eps, const Tensor& sigma, double scale) {
  check_per_sample(ctx, "flow_mix", {"sigma", sigma}, DType::f32, batch_of("flow_mix", {"x", x}));
  check::on_device(ctx, "flow_mix", {{"x", x}, {"eps", eps}});
  check::floating("flow_mix", {"x", x});
  check::like("flow_mix", {"eps", eps}, {"x", x});
  const FlowPair pair{ctx.empty_like(x), ctx.empty_like(x)};
  backend(ctx).diffusion.flow_mix(ctx, contiguous(ctx, x), contiguous(ctx, eps), contiguous(ctx, sigma),
                                  scale, pair.x_t, pair.target);
  return pair;
}

Tensor time_embedding(Context& ctx, const Tensor& t, DType dtype) {
  check_per_sample(ctx, "time_embedding", {"t", t}, DType::f32, batch_of("time_embedding", {"t", t}));
  if (!is_floating(dtype))
    throw DTypeError(cat("[time_embedding] expected a floating type, got ", name_of(dtype)));
  const Tensor out = ctx.empty(Shape{t.size(0), 256}, dtype);
  backend(ctx).diffusion.time_embedding(ctx, contiguous(ctx, t), out);
  return out;
}

}  // namespace llsa::kernels
