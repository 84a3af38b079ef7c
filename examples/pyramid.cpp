// Draws the pyramid of an image:  pyramid [OUT.png [IMAGE]]
//
// A pixel is a token of three channels. The picture shows the tokens and the two coarse levels above them, in Morton
// order and in the order of rows. Lines are the borders of the blocks that become one token of the next level.
#include <llsa/kernels/llsa_stages.h>
#include <llsa/llsa.h>
#include <llsa/nn/data/transform.h>
#include <llsa/nn/morton.h>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

namespace nn = llsa::nn;

constexpr int kSide = 64, kBlock = 16, kLevels = 2, kScale = 4, kMargin = 8;

int main(int argc, char** argv) {
  llsa::Context ctx;
  const nn::Image image = argc > 2 ? nn::resize(nn::decode_image(argv[2]), kSide, kSide)
                                   : nn::draw_shape(kSide, /*seed=*/1, /*index=*/1);
  const int panel = kSide * kScale + kMargin;
  nn::Image picture((kLevels + 1) * panel - kMargin, 2 * panel - kMargin, {255, 255, 255});

  for (const bool morton : {true, false}) {
    // order[i] is the pixel of token i, place[pixel] is its token.
    std::vector<std::int32_t> order(kSide * kSide);
    std::iota(order.begin(), order.end(), 0);
    if (morton) order = nn::morton_order(kSide, kSide);
    const std::vector<std::int32_t> place = nn::inverse_order(order);

    std::vector<float> tokens;
    for (const std::int32_t pixel : order)
      for (int channel = 0; channel < 3; ++channel) tokens.push_back(image.pixels[3 * pixel + channel]);
    const llsa::Tensor fine = llsa::from_vector(ctx, tokens, {1, 1, kSide * kSide, 3});
    const llsa::LlsaPlan plan = llsa::kernels::llsa_plan(kSide * kSide, {.block = kBlock, .levels = kLevels});
    std::vector<llsa::Tensor> levels = llsa::kernels::llsa_pyramid(ctx, fine, plan);
    levels.insert(levels.begin(), fine);

    for (int level = 0, span = 1; level <= kLevels; ++level, span *= kBlock)
      for (int y = 0; y < kSide * kScale; ++y)
        for (int x = 0; x < kSide * kScale; ++x) {
          const auto token_at = [&](int px, int py) { return place[py / kScale * kSide + px / kScale]; };
          const int block = token_at(x, y) / (span * kBlock);
          const bool border = (x > 0 && token_at(x - 1, y) / (span * kBlock) != block) ||
                              (y > 0 && token_at(x, y - 1) / (span * kBlock) != block);
          const float* colour = levels[level].data<float>() + 3 * (token_at(x, y) / span);
          std::uint8_t* to = picture.at(level * panel + x, (morton ? 0 : panel) + y);
          for (int channel = 0; channel < 3; ++channel)
            to[channel] = border ? 255 : static_cast<std::uint8_t>(colour[channel] + 0.5F);
        }
  }
  nn::write_png(argc > 1 ? argv[1] : "pyramid.png", picture);
}
