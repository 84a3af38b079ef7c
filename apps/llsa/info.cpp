#include <cstdio>

#include "apps/llsa/commands.h"
#include "apps/llsa/progress.h"
#include "core/safetensors.h"
#include "nn/checkpoint/diffusers.h"
#include "nn/checkpoint/run_folder.h"
#include "nn/checkpoint/training_state.h"
#include "nn/diffusers_config.h"

namespace llsa::apps {

namespace {

void print_stages(const nn::ImageModel& model) {
  const nn::DitConfig last = model.last_stage();
  const std::vector<std::int64_t> tokens = model.tokens_per_stage();
  std::printf("stages       ");
  for (std::size_t s = 0; s < tokens.size(); ++s) {
    const int side = last.height >> (tokens.size() - 1 - s);
    std::printf("%s%d x %d: %lld tokens", s ? ", " : "", side, side, static_cast<long long>(tokens[s]));
  }
  std::printf("\n");
}

}  // namespace

int run_info(const InfoArgs& args) {
  const std::string checkpoint = nn::resolve_checkpoint(args.model);
  const nn::DiffusersModel model = nn::read_diffusers_model(checkpoint);
  const nn::DitConfig& config = model.config;

  // Loading checks every tensor against the configuration.
  Context ctx(1);
  const auto loaded = nn::load_diffusers_model(ctx, model);
  const bool pixelflow = model.kind == nn::ModelKind::pixelflow;
  std::printf("checkpoint   %s\n", checkpoint.c_str());
  std::printf("model        %s%lld parameters: %d blocks, width %d, %d heads of %d\n",
              pixelflow ? "PixelFlow, " : "", static_cast<long long>(loaded->parameters().parameter_count()),
              config.layers, config.channels(), config.heads, config.head_dim);
  std::printf("images       %d x %d pixels, patch %d: %lld tokens%s\n", config.height, config.width,
              config.patch, static_cast<long long>(config.tokens()),
              config.reorder && !pixelflow ? " in Morton order" : "");
  if (pixelflow) print_stages(*loaded);
  std::printf("attention    %s%s", pixelflow ? "in the last stage " : "",
              nn::name_of(config.attention).c_str());
  if (config.attention == nn::AttentionKind::vsa || config.attention == nn::AttentionKind::sla) {
    const LlsaPlan plan = config.plan();
    std::printf(": block %d, %d of %lld blocks picked, %lld keys per query%s", plan.block, plan.width[0],
                static_cast<long long>(plan.count[1]), static_cast<long long>(plan.keys_per_query()),
                config.attention == nn::AttentionKind::vsa && config.vsa_gate ? ", with a gate" : "");
  }
  if (config.attention == nn::AttentionKind::llsa) {
    const LlsaPlan plan = config.plan();
    std::printf(": block %d, %d levels (%d enriched), %lld keys per query%s", plan.block, plan.levels,
                plan.enriched, static_cast<long long>(plan.keys_per_query()),
                plan.own ? ", the own block always picked" : "");
  }
  std::printf("\nclasses      ");
  if (config.classes == 0) std::printf("none");
  for (int c = 0; c < config.classes; ++c) {
    const auto at = static_cast<std::size_t>(c);
    std::printf("%s%s", c ? ", " : "",
                at < model.class_names.size() ? model.class_names[at].c_str() : cat(c).c_str());
  }
  std::printf("\n");
  if (!pixelflow)
    std::printf("predicts     %s\nnoise scale  %g\n", config.pred_x0 ? "the image (pred_x0)" : "the flow",
                model.noise_scale);
  for (const std::string& average : nn::diffusers_averages(checkpoint))
    std::printf("average      %s beside the first one (--ema %s)\n", average.c_str(), average.c_str());
  const std::string obstacle = nn::diffusers_reader_obstacle(config, model.kind);
  std::printf("published program   %s\n",
              obstacle.empty() ? "computes the same" : ("does not compute the same: " + obstacle).c_str());
  if (nn::has_training_state(checkpoint)) {
    std::printf("training     state of step %lld, can be resumed\n",
                static_cast<long long>(nn::read_training_step(checkpoint)));
  } else {
    std::printf("training     no state: can be sampled from and be a start for --init-from\n");
  }
  for (const std::string& note : model.notes) std::printf("note         %s\n", note.c_str());
  return 0;
}

}  // namespace llsa::apps
