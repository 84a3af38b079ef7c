#include "nn/image_model.h"

#include "nn/dit.h"
#include "nn/pixelflow.h"

namespace llsa::nn {

std::unique_ptr<ImageModel> make_model(Context& ctx, ModelKind kind, const DitConfig& last_stage,
                                       std::uint64_t seed, DType dtype) {
  if (kind == ModelKind::pixelflow)
    return std::make_unique<PixelFlow>(ctx, PixelFlowConfig::of_last_stage(last_stage), seed, dtype);
  return std::make_unique<Dit>(ctx, last_stage, seed, dtype);
}

void validate_model(ModelKind kind, const DitConfig& last_stage) {
  if (kind == ModelKind::pixelflow)
    PixelFlowConfig::of_last_stage(last_stage).validate();
  else
    last_stage.validate();
}

}  // namespace llsa::nn
