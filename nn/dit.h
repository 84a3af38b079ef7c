// The pixel-space Diffusion Transformer.
//
// pixels -> patches -> Morton order -> proj_in (+ position embedding) -> blocks -> norm, modulate, proj_out
// -> raster order -> pixels
//
//   cond_i = time MLP_i(t) (+ class table_i[y])                       every block i has its own
//   shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = six chunks of linear_i(SiLU(cond_i))
//   x += gate_a Attn(LN(x) (1 + scale_a) + shift_a)
//   x += gate_m FF(LN(x) (1 + scale_m) + shift_m)
//   out = proj_out_2(LN(x) (1 + scale) + shift)                       shift, scale = proj_out_1(SiLU(cond_0))
//
// The conditioning of all blocks is a few rows of small products; it is computed for all blocks at once, over
// weights that lie one behind the other in the flat parameter buffer.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "attention.h"
#include "denoiser.h"
#include "dit_config.h"
#include "image_model.h"
#include "modules.h"
#include "parameters.h"

namespace llsa::nn {

class Dit : public ImageModel {
 public:
  /// Resolves the configuration (`auto` attention), allocates and initialises. dtype: f32, bf16 or f64, what
  /// it computes with.
  Dit(Context& ctx, const DitConfig& config, std::uint64_t seed, DType dtype = DType::f32);
  ~Dit() override;

  /// x [b,channels,height,width] in the model's dtype, t f32 [b] (model time 1..1000), y i32 [b] (class, or
  /// null_class(); ignored and may be undefined without classes) -> the network's output
  /// [b,out_channels,height,width]: the flow, or with pred_x0 the image. Any size that the patch divides.
  Var forward(const Var& x, const Tensor& t, const Tensor& y);
  /// This model in the form that flow_loss(), sample() and a TrainStep take. The Denoiser returns the flow, whatever
  /// the network's output is. The model must outlive it.
  operator Denoiser() override;
  Objective objective(Loader& loader, const FlowOptions& options) override;
  Tensor draw(const SampleOptions& options, const Callbacks& callbacks = {}) override;
  /// The deviation s of the noise that the model was trained with (flow.h), at the size it is made for; 0 =
  /// noise_rescale of the size, as for a new model. load_diffusers_model() sets it.
  void set_noise_scale(double scale) override { noise_scale_ = scale; }

  ModelKind kind() const override { return ModelKind::dit; }
  DitConfig last_stage() const override { return config_; }
  std::vector<std::int64_t> tokens_per_stage() const override { return {config_.tokens()}; }
  Parameters& parameters() override { return parameters_; }
  const Parameters& parameters() const override { return parameters_; }
  /// Resolved: the attention kind is not `automatic`.
  const DitConfig& config() const { return config_; }
  Context& context() const override { return ctx_; }
  /// The class that stands for "no class".
  int null_class() const { return config_.classes; }

  void set_recompute(bool on) override { recompute_ = on; }

 private:
  struct Block;
  struct Grid {  // what depends on the number of tokens only
    Tensor order, inverse;
    kernels::RopeTable rope;
  };
  const Grid& grid(std::int64_t rows, std::int64_t columns);
  Var conditioning(const Tensor& t, const Tensor& y) const;
  Var position(std::int64_t rows, std::int64_t columns, const Grid& grid) const;

  Context& ctx_;
  DitConfig config_;
  bool recompute_ = false;
  double noise_scale_ = 0;
  Parameters parameters_;
  std::vector<std::shared_ptr<const Block>> blocks_;
  Linear time_1_, time_2_, modulation_;  // of all blocks: stacked
  Var class_tables_;
  Linear proj_in_, proj_out_1_, proj_out_2_;
  Var pos_embed_;
  std::map<std::pair<std::int64_t, std::int64_t>, Grid> grids_;
};

/// The attention layer of such a DiT; its attention kind is resolved.
AttentionOptions attention_options(const DitConfig& config);

/// Bilinear resize (half-pixel centres, clamped at the border) of a position embedding [rows,columns,C] to
/// another grid.
Var resize_position_embedding(const Var& grid, std::int64_t rows, std::int64_t columns);

}  // namespace llsa::nn
