#include "kernels/tuning.h"

#include "kernels/backend.h"

namespace llsa::kernels {

void tune_products(Context& ctx, bool on) { backend(ctx).tuning.tune(ctx, on); }

ProductChoices product_choices(Context& ctx) { return backend(ctx).tuning.choices(ctx); }

bool restore_product_choices(Context& ctx, const ProductChoices& choices) {
  return backend(ctx).tuning.restore(ctx, choices);
}

}  // namespace llsa::kernels
