// A small PixelFlow learns coloured shapes: images are drawn in four stages, from 4x4 to 32x32 pixels, and the last one uses
// LLSA. Writes pixelflow_files/images.png, and checks that the loss fell by half. Takes the number of steps: pixelflow [300].
#include <llsa/llsa.h>

#include <filesystem>
#include <iostream>

namespace nn = llsa::nn;

int main(int argc, char** argv) {
  const int steps = argc > 1 ? std::stoi(argv[1]) : 300;
  const std::string folder = "pixelflow_files";
  std::filesystem::remove_all(folder);
  nn::write_shapes({.out = folder + "/shapes", .count = 256, .size = 32});

  llsa::Context ctx;
  nn::PixelFlowConfig config{.size = 32, .patch = 2, .heads = 4, .head_dim = 16, .layers = 3, .classes = 4};
  config.attention = nn::AttentionKind::llsa;
  config.llsa.block = 16;  // of the last stage's 256 tokens
  config.llsa.topk = {4};
  config.llsa.levels = 1;
  nn::PixelFlow flow(ctx, config, /*seed=*/0);
  const nn::Denoiser model = flow;

  const auto images = std::make_shared<nn::ImageFolder>(folder + "/shapes");
  nn::Loader loader(ctx, images, {.batch = 32, .height = 32, .width = 32});  // eight for each stage
  nn::AdamW adam(flow.parameters(), {.weight_decay = 0.0, .clip = 1.0});
  nn::Ema average(flow.parameters(), {.max_decay = 0.98, .warm_up = false});  // 0.9999 in long runs
  nn::TrainStep step(flow.parameters(), adam, &average, nn::cascade_objective(ctx, model, loader));
  double first = 0, last = 0;
  for (int i = 0; i < steps; ++i) {
    step.run(/*learning_rate=*/2e-3);
    if (i > 0 && i % 50 != 0 && i != steps - 1) continue;
    last = ctx.item(step.loss());
    if (i == 0) first = last;
    std::cout << "step " << i + 1 << "  loss " << last << '\n';
  }

  const nn::ScopedWeights averaged(flow.parameters(), average.flat());
  const nn::CascadeSampleOptions options{.count = 16, .guidance = 2.4, .steps = 10};
  const llsa::Tensor drawn = llsa::to_host(ctx, nn::sample_cascade(ctx, model, options));
  nn::write_png(folder + "/images.png", nn::make_grid(drawn, nn::sample_classes(model, options)));
  return last < 0.5 * first ? 0 : 1;
}
