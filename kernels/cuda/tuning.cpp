#include "kernels/cuda/tuning.h"

#include "kernels/cuda/cublaslt.h"

namespace llsa::kernels::cuda {

void tune_products(Context& ctx, bool on) { CublasLt::of(ctx).tune(on); }

ProductChoices product_choices(Context& ctx) { return CublasLt::of(ctx).choices(ctx); }

bool restore_product_choices(Context& ctx, const ProductChoices& choices) {
  return CublasLt::of(ctx).restore(ctx, choices);
}

}  // namespace llsa::kernels::cuda
