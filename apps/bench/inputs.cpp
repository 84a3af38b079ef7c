#include "apps/bench/inputs.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/copy.h"
#include "kernels/elementwise.h"
#include "kernels/index.h"
#include "kernels/matmul.h"
#include "kernels/random.h"
#include "kernels/rope.h"
#include "nn/morton.h"
#include "nn/rope_table.h"

namespace llsa::apps {
namespace {

constexpr std::int64_t kChannels = 32;
constexpr std::int64_t kFinest = 128;  // cells along a side in the finest octave

/// [n, knots]: rows of weights that interpolate linearly between knots - 1 equal cells.
Tensor interpolation(Context& ctx, std::int64_t n, std::int64_t knots) {
  std::vector<float> weights(static_cast<std::size_t>(n * knots), 0.0f);
  for (std::int64_t i = 0; i < n; ++i) {
    const double at =
        (static_cast<double>(i) + 0.5) / static_cast<double>(n) * static_cast<double>(knots - 1);
    const auto left = std::min(static_cast<std::int64_t>(at), knots - 2);
    const double share = at - static_cast<double>(left);
    weights[static_cast<std::size_t>(i * knots + left)] = static_cast<float>(1 - share);
    weights[static_cast<std::size_t>(i * knots + left + 1)] = static_cast<float>(share);
  }
  return kernels::from_vector(ctx, weights, {n, knots});
}

/// Sum over octaves of 2, 4, 8, .. cells along a side, amplitude 2 / cells: [b * channels, rows, columns].
Tensor octave_noise(Context& ctx, std::int64_t batch, std::int64_t rows, std::int64_t columns,
                    std::uint64_t seed) {
  const std::int64_t fields = batch * kChannels;
  Tensor sum = ctx.zeros({fields, rows, columns}, DType::f32);
  for (std::int64_t cells = 2; cells <= kFinest && cells <= std::max(rows, columns); cells *= 2) {
    const std::int64_t knots = cells + 1;
    const Tensor values =
        kernels::affine(ctx,
                        kernels::random_normal(ctx, {fields, knots, knots}, DType::f32, seed,
                                               static_cast<std::uint64_t>(100 + cells)),
                        2.0 / static_cast<double>(cells), 0.0);
    const Tensor tall = kernels::matmul(ctx, interpolation(ctx, rows, knots), values);
    kernels::accumulate(ctx, kernels::matmul(ctx, tall, interpolation(ctx, columns, knots), false, true),
                        sum);
  }
  return sum;
}

}  // namespace

std::string name_of(InputKind kind) { return kind == InputKind::randn ? "randn" : "structured"; }

std::int64_t grid_rows(std::int64_t tokens) {
  std::int64_t rows = 1;
  for (std::int64_t r = 1; r * r <= tokens; ++r)
    if (tokens % r == 0) rows = r;
  return rows;
}

AttentionInputs make_inputs(Context& ctx, InputKind kind, std::int64_t batch, std::int64_t heads,
                            std::int64_t tokens, std::int64_t head_dim, DType dtype, std::uint64_t seed) {
  const Shape shape{batch, heads, tokens, head_dim};
  const auto normal = [&](std::uint64_t stream) {
    return kernels::random_normal(ctx, shape, dtype, seed, stream);
  };
  const Tensor d_o = normal(3);
  if (kind == InputKind::randn) return {normal(0), normal(1), normal(2), d_o};

  const std::int64_t rows = grid_rows(tokens), columns = tokens / rows, width = heads * head_dim;
  const Tensor fields = octave_noise(ctx, batch, rows, columns, seed)
                            .reshape({batch, kChannels, tokens})
                            .transpose(1, 2);  // [b,N,channels], raster order
  const std::vector<std::int32_t> order = nn::morton_order(rows, columns);
  const Tensor x = kernels::cast(ctx,
                                 kernels::gather_tokens(ctx, kernels::contiguous(ctx, fields),
                                                        kernels::from_vector(ctx, order, {tokens})),
                                 dtype);  // [b,N,channels], Morton order
  const Tensor projection = kernels::cast(
      ctx,
      kernels::affine(ctx, kernels::random_normal(ctx, {3 * width, kChannels}, DType::f32, seed, 4),
                      1.0 / std::sqrt(static_cast<double>(kChannels)), 0.0),
      dtype);
  const Tensor ones = ctx.empty({head_dim}, dtype);
  kernels::fill(ctx, ones, 1.0);
  const kernels::RopeTable table =
      nn::rope_table(ctx, rows, columns, rows, columns, head_dim, order, DType::f32);
  const kernels::QkvHeads qkv = kernels::qkv_split(ctx, kernels::linear(ctx, x, projection, {}),
                                                   static_cast<int>(heads), ones, ones, 1e-6, table);
  return {qkv.q, qkv.k, qkv.v, d_o};
}

}  // namespace llsa::apps
