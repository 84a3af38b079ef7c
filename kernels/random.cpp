// Random tensors: checks and allocation.
#include "kernels/random.h"

#include "kernels/backend.h"
#include "kernels/check.h"
#include "kernels/copy.h"

namespace llsa::kernels {
namespace {

Tensor draw(Context& ctx, const char* op, Distribution distribution, const Shape& shape, DType dtype,
            std::uint64_t seed, std::uint64_t stream) {
  if (!is_floating(dtype))
    throw DTypeError(cat("[", op, "] expected dtype f32, bf16 or f64, got ", name_of(dtype)));
  const Tensor x = ctx.empty(shape, dtype);
  backend(ctx).random.fill_random(ctx, distribution, seed, stream, Tensor(), x.reshape(Shape{1, x.numel()}),
                                  op);
  return x;
}

Tensor draw_samples(Context& ctx, const char* op, Distribution distribution, const Shape& shape, DType dtype,
                    std::uint64_t seed, std::uint64_t stream, const Tensor& sample_ids) {
  if (!is_floating(dtype))
    throw DTypeError(cat("[", op, "] expected dtype f32, bf16 or f64, got ", name_of(dtype)));
  check::on_device(ctx, op, {{"sample_ids", sample_ids}});
  check::dtype(op, {"sample_ids", sample_ids}, DType::i64);
  if (shape.rank() < 1) throw ShapeError(cat("[", op, "] expected a shape [b,...], got ", shape));
  check::shape(op, {"sample_ids", sample_ids}, Shape{shape[0]});
  const Tensor x = ctx.empty(shape, dtype);
  if (x.numel() == 0) return x;
  backend(ctx).random.fill_random(ctx, distribution, seed, stream, contiguous(ctx, sample_ids),
                                  x.reshape(Shape{shape[0], x.numel() / shape[0]}), op);
  return x;
}

}  // namespace

std::uint64_t sample_stream(std::uint64_t stream, std::int64_t sample_id) {
  // A bijection of 64 bits (rounds of shift and odd multiplication), so that two samples of one purpose never share a
  // stream, and the streams of neighbouring samples do not fall on those of other purposes.
  auto h = static_cast<std::uint64_t>(sample_id) + 0x9E3779B97F4A7C15u;
  h = (h ^ (h >> 32)) * 0xD6E8FEB86659FD93u;
  h = (h ^ (h >> 32)) * 0xD6E8FEB86659FD93u;
  return stream ^ h ^ (h >> 32);
}

Tensor random_uniform(Context& ctx, const Shape& shape, DType dtype, std::uint64_t seed,
                      std::uint64_t stream) {
  return draw(ctx, "random_uniform", Distribution::uniform, shape, dtype, seed, stream);
}

Tensor random_normal(Context& ctx, const Shape& shape, DType dtype, std::uint64_t seed,
                     std::uint64_t stream) {
  return draw(ctx, "random_normal", Distribution::normal, shape, dtype, seed, stream);
}

Tensor random_uniform_samples(Context& ctx, const Shape& shape, DType dtype, std::uint64_t seed,
                              std::uint64_t stream, const Tensor& sample_ids) {
  return draw_samples(ctx, "random_uniform_samples", Distribution::uniform, shape, dtype, seed, stream,
                      sample_ids);
}

Tensor random_normal_samples(Context& ctx, const Shape& shape, DType dtype, std::uint64_t seed,
                             std::uint64_t stream, const Tensor& sample_ids) {
  return draw_samples(ctx, "random_normal_samples", Distribution::normal, shape, dtype, seed, stream,
                      sample_ids);
}

}  // namespace llsa::kernels
