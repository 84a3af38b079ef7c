// No choice on the CPU: oneDNN has one way to compute a product. Contracts in kernels/tuning_table.h.
#pragma once

#include "../tuning_table.h"

namespace llsa::kernels::cpu {

void tune_products(Context& ctx, bool on);
ProductChoices product_choices(Context& ctx);
bool restore_product_choices(Context& ctx, const ProductChoices& choices);

}  // namespace llsa::kernels::cpu
