// S, B and L are the sizes of the DiT paper (Peebles and Xie, arXiv 2212.09748), trained as in the paper of LLSA at 128 x
// 128: batches of 16 at a constant rate of 1e-4.
#include "apps/llsa/presets.h"

#include "apps/llsa/commands.h"
#include "apps/llsa/demo_recipe.h"
#include "core/closest.h"

namespace llsa::apps {
namespace {

nn::TrainOptions sized(int size, int width, int heads, int layers) {
  nn::TrainOptions options;
  options.model.height = options.model.width = size;
  options.model.heads = heads;
  options.model.head_dim = width / heads;
  options.model.layers = layers;
  options.batch = 16;
  options.steps = 100'000;
  return options;
}

nn::TrainOptions small() {
  nn::TrainOptions options = sized(32, 128, 4, 6);
  options.batch = 8;
  options.steps = 20'000;
  options.lr = 1e-3;
  options.schedule = "cosine";
  options.warmup = 200;
  return options;
}

}  // namespace

const std::vector<Preset>& presets() {
  static const std::vector<Preset> all = {
      {"tiny", "the demo: 16 x 16, width 64, 4 blocks, 3,000 steps; minutes on a CPU", demo_recipe},
      {"small", "32 x 32, width 128, 6 blocks, 20,000 steps; hours on a CPU", small},
      {"dit-s", "DiT-S at 128 x 128: width 384, 12 blocks", [] { return sized(128, 384, 6, 12); }},
      {"dit-b", "DiT-B at 128 x 128: width 768, 12 blocks", [] { return sized(128, 768, 12, 12); }},
      {"dit-l", "DiT-L at 128 x 128: width 1024, 24 blocks", [] { return sized(128, 1024, 16, 24); }},
  };
  return all;
}

nn::TrainOptions preset(const std::string& name) {
  std::vector<std::string> names;
  for (const Preset& known : presets()) {
    if (name == known.name) return known.options();
    names.emplace_back(known.name);
  }
  throw UsageError(cat("--preset takes one of ", listed(names), ", got '", name, "'"));
}

}  // namespace llsa::apps
