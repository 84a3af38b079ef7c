// CUDA flow-matching kernels; contracts in kernels/diffusion_table.h.
#pragma once

#include "../diffusion_table.h"

namespace llsa::kernels::cuda {

void noise_levels(Context& ctx, const Tensor& ids, NoiseLevel law, std::uint64_t seed, std::uint64_t stream,
                  const Tensor& sigma);
void drop_classes(Context& ctx, const Tensor& y, const Tensor& ids, double probability,
                  std::int32_t null_class, std::uint64_t seed, std::uint64_t stream, const Tensor& out);
void class_rows(Context& ctx, const Tensor& y, std::int32_t classes, const Tensor& rows);
void flow_mix(Context& ctx, const Tensor& x, const Tensor& eps, const Tensor& sigma, double scale,
              const Tensor& x_t, const Tensor& target);
void time_embedding(Context& ctx, const Tensor& t, const Tensor& out);

}  // namespace llsa::kernels::cuda
