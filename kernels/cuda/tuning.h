// The choice of cuBLASLt's algorithms (cublaslt.h). Contracts in kernels/tuning_table.h.
#pragma once

#include "../tuning_table.h"

namespace llsa::kernels::cuda {

void tune_products(Context& ctx, bool on);
ProductChoices product_choices(Context& ctx);
bool restore_product_choices(Context& ctx, const ProductChoices& choices);

}  // namespace llsa::kernels::cuda
