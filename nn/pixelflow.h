// PixelFlow: a transformer that draws images in four stages of growing resolution (arXiv 2504.07963; the stages are in
// diffusion/cascade.h).
//
//   cond = time MLP(T) + size MLP(tokens per side) + class table[y]              one vector for all blocks
//   shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = six chunks of linear_i(SiLU(cond))
//   x += gate_a Attn(LN(x) (1 + scale_a) + shift_a)
//   x += gate_m FF(RMS(x) weight (1 + scale_m) + shift_m)
//   out = proj_out_2(LN(x) (1 + scale) + shift)                                  shift, scale = proj_out_1(SiLU(cond))
//
// q and k are normalised over the full width, before the head split, and in RoPE the first half of a head turns by the
// column. LLSA, VSA or SLA replaces full attention in the last stage only, where the tokens are then in Morton order.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "attention.h"
#include "denoiser.h"
#include "diffusion/cascade.h"
#include "dit_config.h"
#include "image_model.h"
#include "modules.h"
#include "parameters.h"

namespace llsa::nn {

/// The defaults are the model XL of the paper: 676,611,120 parameters.
struct PixelFlowConfig {
  int size = 256;  ///< pixels of a side in the last stage
  int patch = 4;
  int heads = 16;
  int head_dim = 72;
  int layers = 28;
  int image_channels = 3;
  int classes = 1000;  ///< 0 = not class-conditional

  AttentionKind attention = AttentionKind::full;  ///< in the last stage
  LlsaOptions llsa = {};                          ///< block and topk hold for VSA and SLA, too
  bool vsa_gate = true;                           ///< VSA: each attention layer has a gate, zero at start

  std::int64_t channels() const { return static_cast<std::int64_t>(heads) * head_dim; }
  /// Pixels of a side in stage 0..3.
  std::int64_t side(int stage) const { return size >> (kCascadeStages - 1 - stage); }
  /// A DiT with the tokens and the attention of the last stage, whose rules and plan hold here, too.
  DitConfig last_stage() const;
  /// The inverse. Throws ValueError naming the first key that a PixelFlow has no choice in.
  static PixelFlowConfig of_last_stage(const DitConfig& config);
  /// Throws ValueError naming the first field that is out of range or does not fit the others; a size that eight patches
  /// do not divide names the nearest sizes that they do.
  void validate() const;
  /// The same with the attention kind `automatic` replaced by what it stands for in the last stage, as in a DiT.
  PixelFlowConfig resolved() const;
};

class PixelFlow : public ImageModel {
 public:
  /// Resolves the configuration, allocates and initialises: linear layers Xavier uniform, conditioning N(0, 0.02),
  /// modulation and output zero. dtype: f32, bf16 or f64, what it computes with.
  PixelFlow(Context& ctx, const PixelFlowConfig& config, std::uint64_t seed, DType dtype = DType::f32);
  ~PixelFlow() override;

  /// x [b,channels,side,side] with the side of one of the four stages, t f32 [b] (model time 0..999), y i32 [b] (class, or
  /// null_class(); ignored and may be undefined without classes) -> the flow, of the shape of x and in the model's dtype.
  Var forward(const Var& x, const Tensor& t, const Tensor& y) const;
  /// This model as cascade_loss() and sample_cascade() take it. It must outlive the Denoiser.
  operator Denoiser() override;
  Objective objective(Loader& loader, const FlowOptions& options) override;
  Tensor draw(const SampleOptions& options, const Callbacks& callbacks = {}) override;

  ModelKind kind() const override { return ModelKind::pixelflow; }
  DitConfig last_stage() const override { return config_.last_stage(); }
  std::vector<std::int64_t> tokens_per_stage() const override;
  Parameters& parameters() override { return parameters_; }
  const Parameters& parameters() const override { return parameters_; }
  /// Resolved: the attention kind is not `automatic`.
  const PixelFlowConfig& config() const { return config_; }
  Context& context() const override { return ctx_; }
  /// The class that stands for "no class".
  int null_class() const { return config_.classes; }

  void set_recompute(bool on) override { recompute_ = on; }

 private:
  struct Block;
  struct Stage {
    Tensor order, inverse;  // of the tokens; undefined where they stay in raster order
    kernels::RopeTable rope;
    Tensor size;  // f32 [1]: tokens per side
  };
  Stage make_stage(std::int64_t tokens_per_side, bool full) const;
  int stage_of(const Var& x) const;
  Var conditioning(const Tensor& t, const Tensor& y, const Stage& stage) const;

  Context& ctx_;
  PixelFlowConfig config_;
  bool recompute_ = false;
  Parameters parameters_;
  std::vector<std::shared_ptr<const Block>> blocks_;
  std::array<Stage, kCascadeStages> stages_;
  Linear patch_embed_, time_1_, time_2_, size_1_, size_2_;
  Var class_table_;
  Linear modulation_;  // of all blocks: stacked
  Linear proj_out_1_, proj_out_2_;
};

}  // namespace llsa::nn
