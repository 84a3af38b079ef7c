#include "kernels/cpu/tuning.h"

namespace llsa::kernels::cpu {

void tune_products(Context&, bool) {}

ProductChoices product_choices(Context& ctx) { return {ctx.device().str(), {}}; }

bool restore_product_choices(Context& ctx, const ProductChoices& choices) {
  return choices.machine == ctx.device().str();
}

}  // namespace llsa::kernels::cpu
