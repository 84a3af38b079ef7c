// What training, checkpoints and the programs need of a model that draws images. Dit and PixelFlow are such models; all
// that differs between them stands here, so that a run folder, a checkpoint or a command works with each kind.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "../core/context.h"
#include "callbacks.h"
#include "denoiser.h"
#include "diffusion/sampler.h"
#include "dit_config.h"
#include "parameters.h"

namespace llsa::nn {

class Loader;
struct FlowOptions;
struct Objective;

class ImageModel {
 public:
  virtual ~ImageModel() = default;
  ImageModel(const ImageModel&) = delete;
  ImageModel& operator=(const ImageModel&) = delete;

  virtual ModelKind kind() const = 0;
  /// Resolved. Of a model in stages it describes the last one.
  virtual DitConfig last_stage() const = 0;
  /// Tokens of an image in each stage; a Dit has one.
  virtual std::vector<std::int64_t> tokens_per_stage() const = 0;

  virtual Parameters& parameters() = 0;
  virtual const Parameters& parameters() const = 0;
  virtual Context& context() const = 0;
  /// Recompute each block in backward instead of keeping its activations.
  virtual void set_recompute(bool on) = 0;
  /// The deviation of the noise that the model was trained with. A PixelFlow has none.
  virtual void set_noise_scale(double) {}

  /// This model as losses and samplers take it. It must outlive the Denoiser.
  virtual operator Denoiser() = 0;
  /// What a TrainStep minimises on the loader's batches. A PixelFlow uses class_drop and seed alone. The loader and this
  /// must outlive it.
  virtual Objective objective(Loader& loader, const FlowOptions& options) = 0;
  /// What sample() returns, drawn in the way of this kind. A PixelFlow takes options.steps in each stage, needs no noise
  /// scale, and throws ValueError for another size than its own, for Heun, and for a guidance interval.
  virtual Tensor draw(const SampleOptions& options, const Callbacks& callbacks = {}) = 0;

 protected:
  ImageModel() = default;
};

/// A new model. `last_stage` is that of a PixelFlow. Throws what the constructor of the kind throws, ValueError for keys
/// of `last_stage` that the kind does not have.
std::unique_ptr<ImageModel> make_model(Context& ctx, ModelKind kind, const DitConfig& last_stage,
                                       std::uint64_t seed, DType dtype = DType::f32);

/// The same checks without a model.
void validate_model(ModelKind kind, const DitConfig& last_stage);

}  // namespace llsa::nn
