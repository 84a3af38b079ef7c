// Checks and allocation for the flow-matching kernels.
#include "kernels/diffusion.h"

#include "kernels/backend.h"
#include "kernels/copy.h"

namespace llsa::kernels {
namespace {

void require(const char* op, const char* name, const Tensor& x, DType dtype, std::int64_t batch) {
  if (x.dtype() != dtype)
    throw DTypeError(
        cat("[", op, "] expected ", name, " of type ", name_of(dtype), ", got ", name_of(x.dtype())));
  if (x.rank() != 1 || x.size(0) != batch)
    throw ShapeError(cat("[", op, "] expected ", name, " of shape [", batch, "], got ", x.shape()));
}

std::int64_t batch_of(const char* op, const char* name, const Tensor& x) {
  if (x.rank() < 1) throw ShapeError(cat("[", op, "] expected ", name, " with a batch axis, got a scalar"));
  return x.size(0);
}

}  // namespace

Tensor noise_levels(Context& ctx, const Tensor& sample_ids, NoiseLevel law, std::uint64_t seed,
                    std::uint64_t stream) {
  require("noise_levels", "sample_ids", sample_ids, DType::i64,
          batch_of("noise_levels", "sample_ids", sample_ids));
  const Tensor sigma = ctx.empty(sample_ids.shape(), DType::f32);
  backend(ctx).diffusion.noise_levels(ctx, contiguous(ctx, sample_ids), law, seed, stream, sigma);
  return sigma;
}

Tensor drop_classes(Context& ctx, const Tensor& y, const Tensor& sample_ids, double probability,
                    std::int32_t null_class, std::uint64_t seed, std::uint64_t stream) {
  const std::int64_t batch = batch_of("drop_classes", "y", y);
  require("drop_classes", "y", y, DType::i32, batch);
  require("drop_classes", "sample_ids", sample_ids, DType::i64, batch);
  if (!(probability >= 0.0 && probability <= 1.0))
    throw ValueError(cat("[drop_classes] expected a probability from 0 to 1, got ", probability));
  const Tensor out = ctx.empty_like(y);
  backend(ctx).diffusion.drop_classes(ctx, contiguous(ctx, y), contiguous(ctx, sample_ids), probability,
                                      null_class, seed, stream, out);
  return out;
}

Tensor class_rows(Context& ctx, const Tensor& y, std::int32_t classes, std::int32_t tables) {
  require("class_rows", "y", y, DType::i32, batch_of("class_rows", "y", y));
  if (classes < 1 || tables < 0 || static_cast<std::int64_t>(classes) * tables > INT32_MAX)
    throw ValueError(
        cat("[class_rows] ", tables, " tables of ", classes, " classes cannot be numbered in 31 bits"));
  const Tensor rows = ctx.empty(Shape{tables, y.size(0)}, DType::i32);
  backend(ctx).diffusion.class_rows(ctx, contiguous(ctx, y), classes, rows);
  return rows;
}

FlowPair flow_mix(Context& ctx, const Tensor& x, const Tensor& eps, const Tensor& sigma, double scale) {
  require("flow_mix", "sigma", sigma, DType::f32, batch_of("flow_mix", "x", x));
  if (eps.shape() != x.shape())
    throw ShapeError(cat("[flow_mix] x has shape ", x.shape(), ", eps has ", eps.shape()));
  if (!is_floating(x.dtype()) || eps.dtype() != x.dtype())
    throw DTypeError(cat("[flow_mix] expected x and eps of one floating type, got ", name_of(x.dtype()),
                         " and ", name_of(eps.dtype())));
  const FlowPair pair{ctx.empty_like(x), ctx.empty_like(x)};
  backend(ctx).diffusion.flow_mix(ctx, contiguous(ctx, x), contiguous(ctx, eps), contiguous(ctx, sigma),
                                  scale, pair.x_t, pair.target);
  return pair;
}

Tensor time_embedding(Context& ctx, const Tensor& t, DType dtype) {
  require("time_embedding", "t", t, DType::f32, batch_of("time_embedding", "t", t));
  if (!is_floating(dtype))
    throw DTypeError(cat("[time_embedding] expected a floating type, got ", name_of(dtype)));
  const Tensor out = ctx.empty(Shape{t.size(0), 256}, dtype);
  backend(ctx).diffusion.time_embedding(ctx, contiguous(ctx, t), out);
  return out;
}

}  // namespace llsa::kernels
