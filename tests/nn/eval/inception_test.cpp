// The Inception network against a separate reference in f64: weights and images by a formula.
#include "nn/eval/inception.h"

#include <doctest/doctest.h>

#include <filesystem>

#include "core/error.h"
#include "nn/data/shapes.h"
#include "nn/eval/drawn_score.h"
#include "nn/eval/image_statistics.h"
#include "tests/support/files.h"
#include "tests/support/inception_weights.h"
#include "tests/support/kernels.h"
#include "tests/support/text.h"

namespace llsa::nn {
namespace {

using namespace llsa::test;

TEST_SUITE_BEGIN("nn/eval/inception");

/// Image n of the reference.
Image golden_image(int n) {
  constexpr int kSizes[3][2] = {{32, 32}, {45, 60}, {320, 350}};
  const int height = kSizes[n][0], width = kSizes[n][1];
  Image image(width, height);
  for (int c = 0; c < 3; ++c)
    for (int y = 0; y < height; ++y)
      for (int x = 0; x < width; ++x) {
        const int a = ((3 + c) * x + (5 + 2 * n) * y + 40 * c) % 512, t = a < 256 ? a : 511 - a;
        const std::uint64_t noise =
            word_of(hash_of(cat("image", n)), static_cast<std::uint64_t>((c * height + y) * width + x)) >> 59;
        image.at(x, y)[c] = static_cast<std::uint8_t>(std::clamp(t + static_cast<int>(noise) - 16, 0, 255));
      }
  return image;
}

TEST_CASE(
    "features and logits to 2e-5 of the largest, resized levels to 2e-3, both resizes; wrong files are "
    "named") {
  Context ctx;
  const TempDir dir;
  auto tensors = inception_tensors(ctx);
  REQUIRE(tensors.size() == 472);
  const std::string path = dir / "weights.safetensors";
  write_safetensors(path, tensors);
  const Inception network(ctx, path);
  const SafetensorsFile golden(LLSA_SOURCE_DIR "/tests/golden/metrics.safetensors");
  double worst = 0, worst_level = 0;
  for (int n = 0; n < 3; ++n)
    for (const InceptionResize resize : {InceptionResize::aa, InceptionResize::tf}) {
      const std::string name = cat("i", n, ".", name_of(resize), ".");
      CAPTURE(name);
      std::map<std::string, Tensor> found;
      const InceptionOutput out = network(levels_of(ctx, golden_image(n)), resize, &found);
      found["pool3"] = out.features;
      found["logits_unbiased"] = out.logits;
      for (const char* key : {"f64", "f192", "f768", "pool3", "logits_unbiased"}) {
        CAPTURE(key);
        const double error = deviation(values_of(ctx, found.at(key)), values_of(ctx, golden.at(name + key)));
        CHECK(error <= 2e-5);
        worst = std::max(worst, error);
      }
      const Tensor grid = found.at("resized").slice(2, 0, 299, 37).slice(3, 0, 299, 37);
      const Values levels = values_of(ctx, grid), expected = values_of(ctx, golden.at(name + "grid"));
      REQUIRE(levels.size() == expected.size());
      for (std::size_t i = 0; i < levels.size(); ++i) {
        const double error = std::abs(levels[i] - expected[i]);
        CHECK(error <= 2e-3);
        worst_level = std::max(worst_level, error);
      }
    }
  MESSAGE("largest relative error ", worst, ", largest error of a level ", worst_level);

  // Statistics of a folder: kept in a file, and refused for anything else.
  ShapesOptions shapes;
  shapes.out = dir / "shapes";
  shapes.count = 6;
  write_shapes(shapes);
  const ImageFolder folder(shapes.out);
  FeatureOptions options;
  options.height = options.width = 12;
  std::int64_t seen = 0;
  Callbacks callbacks;
  callbacks.on_progress = [&](std::int64_t done, std::int64_t) { seen = done; };
  const ImageStatistics made = statistics_of(ctx, ctx, network, folder, options, nullptr, callbacks);
  CHECK(seen == 6);
  CHECK(made.count() == 6);
  CHECK(made.inception_score().mean >= 1 - 1e-12);
  const std::string kept = dir / "statistics.safetensors";
  save_statistics(kept, made, network, folder, options);
  const ImageStatistics loaded = load_statistics(kept, network, folder, options);
  CHECK(loaded.count() == 6);
  CHECK(values_of(ctx, loaded.gaussian().factor()) == values_of(ctx, made.gaussian().factor()));
  CHECK(values_of(ctx, loaded.gaussian().mean()) == values_of(ctx, made.gaussian().mean()));
  CHECK(values_of(ctx, loaded.kept(ctx)) == values_of(ctx, made.kept(ctx)));
  const auto other_options = [&](auto change) {
    FeatureOptions other = options;
    change(other);
    return failure_of<ValueError>([&] { load_statistics(kept, network, folder, other); });
  };
  CHECK(contains(other_options([](auto& o) { o.resize = InceptionResize::tf; }),
                 "resize: the file's aa, now tf"));
  CHECK(contains(other_options([](auto& o) { o.height = o.width = 0; }),
                 "size: the file's 12 x 12, now as they are"));

  // Within training: what eval computes, and the statistics of the real images are kept.
  DitConfig config;
  config.height = config.width = 12;
  config.head_dim = 8;
  config.layers = 1;
  const auto model = make_model(ctx, ModelKind::dit, config.resolved(), 0);
  DrawnScoreOptions score = {.inception = path, .statistics = dir / "real"};
  score.sampling.count = 2;
  score.sampling.steps = 1;
  ImageStatistics drawn;
  drawn.add(ctx, ctx, network(levels_of(ctx, model->draw(score.sampling)), options.resize));
  DrawnScorer scorer(ctx, std::make_shared<const ImageFolder>(folder), 12, 12, score);
  CHECK(scorer.is_fid());
  CHECK(scorer(*model)->value == frechet_distance(ctx, drawn.gaussian(), made.gaussian()));
  CHECK(load_statistics(score.statistics, network, folder, options).count() == 6);

  std::filesystem::remove(shapes.out + "/circle/000000.png");
  const ImageFolder fewer(shapes.out);
  CHECK(contains(failure_of<ValueError>([&] { load_statistics(kept, network, fewer, options); }),
                 "images: the file's 6 with the fingerprint"));
  CHECK(contains(failure_of<IoError>([&] { load_statistics(path, network, folder, options); }),
                 "does not hold statistics"));

  const auto refused = [&](const std::string& file) {
    return failure_of<IoError>([&] { const Inception other(ctx, file); });
  };
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 100);
  CHECK(contains(refused(path), path));
  const auto with = [&](auto change) {
    auto changed = std::vector(tensors.begin(), tensors.begin() + 10);
    change(changed);
    write_safetensors(dir / "other.safetensors", changed);
    return refused(dir / "other.safetensors");
  };
  CHECK(contains(with([](auto& all) { all.erase(all.begin() + 2); }), "Conv2d_1a_3x3.bn.bias"));
  CHECK(contains(with([&](auto& all) { all[1].second = ctx.zeros({31}, DType::f32); }),
                 "expected Conv2d_1a_3x3.bn.weight of shape [32]"));
  CHECK(contains(with([&](auto& all) { all[4].second = ctx.zeros({32}, DType::i32); }), "a floating dtype"));
  CHECK(contains(refused(dir / "nothing.safetensors"), "nothing.safetensors"));
}

TEST_CASE("levels: what a picture file would hold") {
  Context ctx(1);
  const Tensor x =
      kernels::from_vector(ctx, std::vector<float>{-1.5f, -1.0f, 0.0f, 1.0f, 2.0f, 0.0039f}, {1, 3, 1, 2});
  CHECK(values_of(ctx, levels_of(ctx, x)) == Values{0, 0, 128, 255, 255, 128});
  x.data<float>()[3] = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_AS(levels_of(ctx, x), NonFiniteError);
  CHECK_THROWS_AS(inception_resize("bilinear"), ValueError);
}

TEST_SUITE_END();

}  // namespace
}  // namespace llsa::nn
