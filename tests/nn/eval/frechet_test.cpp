// The random-feature score: against closed forms, a direct convolution, and common sense.
#include "nn/eval/frechet.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "core/philox.h"
#include "nn/data/shapes.h"
#include "nn/data/transform.h"
#include "tests/support/files.h"

namespace llsa::nn {
namespace {

using namespace llsa::test;

Tensor features_of(Context& ctx, std::int64_t n, const std::vector<double>& values) {
  Tensor t = ctx.empty({n, static_cast<std::int64_t>(values.size()) / n}, DType::f64);
  std::copy(values.begin(), values.end(), t.data<double>());
  return t;
}

Tensor shapes(Context& ctx, std::int64_t count, std::uint64_t seed, int size = 16) {
  Tensor images = ctx.empty({count, 3, size, size}, DType::f32);
  TransformOptions options;
  options.height = options.width = size;
  for (std::int64_t i = 0; i < count; ++i) {
    crop_to_floats(draw_shape(size, seed, i), options, 0, 0, images.data<float>() + i * 3 * size * size);
  }
  return images;
}

bool close(double a, double b, double tolerance) {
  return std::abs(a - b) <= tolerance * std::max(1.0, std::abs(b));
}

TEST_SUITE_BEGIN("nn/eval/frechet");

TEST_CASE("the distance of one-dimensional Gaussians is (m1 - m2)^2 + (s1 - s2)^2") {
  Context ctx(1);
  const Tensor a = features_of(ctx, 4, {1, 3, 5, 7});  // mean 4, variance 20/3
  const Tensor b = features_of(ctx, 3, {-2, 0, 2});    // mean 0, variance 4
  const double s1 = std::sqrt(20.0 / 3.0 + 1e-6);
  const double s2 = std::sqrt(4.0 + 1e-6);
  CHECK(close(frechet_distance(ctx, a, b), 16 + (s1 - s2) * (s1 - s2), 1e-12));
  CHECK(close(frechet_distance(ctx, b, a), frechet_distance(ctx, a, b), 1e-12));
  CHECK(close(frechet_distance(ctx, a, a), 0, 1e-12));
}

TEST_CASE("covariances that do not commute: the closed form in two dimensions") {
  // tr (S1 S2)^1/2 = sqrt(tr(S1 S2) + 2 sqrt(det S1 det S2)) for 2 x 2.
  Context ctx(1);
  std::vector<double> x;
  std::vector<double> y;
  const Philox random{3, 0};
  for (std::uint64_t i = 0; i < 50; ++i) {
    const double u = random.normal(4 * i);
    const double v = random.normal(4 * i + 1);
    x.insert(x.end(), {2 * u + 0.5 * v, 0.3 * v + u});
    y.insert(y.end(), {0.4 * random.normal(4 * i + 2), 3.0 * random.normal(4 * i + 3) + 1.0});
  }
  auto moments = [](const std::vector<double>& d) {
    const double n = static_cast<double>(d.size()) / 2;
    double m0 = 0, m1 = 0, a = 0, b = 0, c = 0;
    for (std::size_t i = 0; i < d.size(); i += 2) m0 += d[i] / n, m1 += d[i + 1] / n;
    for (std::size_t i = 0; i < d.size(); i += 2) {
      a += (d[i] - m0) * (d[i] - m0) / (n - 1);
      b += (d[i] - m0) * (d[i + 1] - m1) / (n - 1);
      c += (d[i + 1] - m1) * (d[i + 1] - m1) / (n - 1);
    }
    return std::vector<double>{m0, m1, a + 1e-6, b, c + 1e-6};
  };
  const auto p = moments(x);
  const auto q = moments(y);
  const double product_trace = p[2] * q[2] + 2 * p[3] * q[3] + p[4] * q[4];
  const double determinants = (p[2] * p[4] - p[3] * p[3]) * (q[2] * q[4] - q[3] * q[3]);
  const double expected = (p[0] - q[0]) * (p[0] - q[0]) + (p[1] - q[1]) * (p[1] - q[1]) + p[2] + p[4] + q[2] +
                          q[4] - 2 * std::sqrt(product_trace + 2 * std::sqrt(determinants));
  CHECK(close(frechet_distance(ctx, features_of(ctx, 50, x), features_of(ctx, 50, y)), expected, 1e-10));
}

TEST_CASE(
    "sixty dimensions: a shift adds its square, a scale acts as in one dimension, rank deficiency is "
    "survived") {
  Context ctx(1);
  for (const std::int64_t n : {200, 20}) {
    std::vector<double> x(static_cast<std::size_t>(n) * 60);
    const Philox random{4, 1};
    for (std::size_t i = 0; i < x.size(); ++i)
      x[i] = random.normal(i) * (1.0 + static_cast<double>(i % 60)) / 30.0;
    std::vector<double> shifted = x;
    for (double& value : shifted) value += 0.25;
    const Tensor a = features_of(ctx, n, x);
    CHECK(close(frechet_distance(ctx, a, a), 0, 1e-8));
    CHECK(close(frechet_distance(ctx, a, features_of(ctx, n, shifted)), 60 * 0.0625, 1e-8));
  }
}

TEST_CASE("features equal a direct convolution in double") {
  Context ctx(2);
  const Tensor images = shapes(ctx, 3, 5, 10);  // 10 -> 5 -> 3 -> 2 pixels
  const Tensor features = frechet_features(ctx, images);
  REQUIRE(features.shape() == Shape{3, kFrechetFeatures});
  for (int i = 0; i < 3; ++i) {
    int channels = 3;
    int side = 10;
    std::vector<double> x(images.data<float>() + i * 300, images.data<float>() + (i + 1) * 300);
    for (int layer = 0; layer < 3; ++layer) {
      const Philox random{0, static_cast<std::uint64_t>(layer)};
      const int out = (side + 1) / 2;
      std::vector<double> y;
      for (int o = 0; o < 10; ++o) {
        double mean = 0;
        double square = 0;
        for (int p = 0; p < out * out; ++p) {
          double sum = 0;
          for (int c = 0; c < channels; ++c) {
            for (int k = 0; k < 9; ++k) {
              const int row = p / out * 2 + k / 3 - 1;
              const int column = p % out * 2 + k % 3 - 1;
              if (row < 0 || column < 0 || row >= side || column >= side) continue;
              const double weight = random.normal(static_cast<std::uint64_t>((o * channels + c) * 9 + k)) *
                                    std::sqrt(2.0 / (9 * channels));
              sum += weight * x[static_cast<std::size_t>((c * side + row) * side + column)];
            }
          }
          y.push_back(std::max(0.0, sum));
          mean += y.back() / (out * out);
          square += y.back() * y.back() / (out * out);
        }
        const double* row = features.data<double>() + i * 60 + layer * 20;
        CHECK(close(row[o], mean, 1e-5));
        CHECK(std::abs(row[10 + o] - std::sqrt(std::max(0.0, square - mean * mean))) <= 1e-4);
      }
      x = y;
      channels = 10;
      side = out;
    }
  }
}

TEST_CASE(
    "features do not depend on the other images of the set, on threads, or on values beyond the range") {
  Context one(1);
  Context three(3);
  const Tensor images = shapes(one, 300, 6);
  const Tensor all = frechet_features(one, images);
  const Tensor again = frechet_features(three, images);
  CHECK(std::equal(all.data<double>(), all.data<double>() + all.numel(), again.data<double>()));
  const Tensor some = frechet_features(one, images.slice(0, 290, 293));
  for (int i = 0; i < 180; ++i) CHECK(close(some.data<double>()[i], all.data<double>()[290 * 60 + i], 1e-5));
  Tensor loud = one.empty({1, 3, 16, 16}, DType::f32);
  Tensor full = one.empty({1, 3, 16, 16}, DType::f32);
  for (std::int64_t i = 0; i < loud.numel(); ++i) {
    loud.data<float>()[i] = (i % 3) ? 5.0f : -3.0f;
    full.data<float>()[i] = (i % 3) ? 1.0f : -1.0f;
  }
  const Tensor a = frechet_features(one, loud);
  const Tensor b = frechet_features(one, full);
  CHECK(std::equal(a.data<double>(), a.data<double>() + 60, b.data<double>()));
}

TEST_CASE("a reference scores real images near zero, a single class and noise far away") {
  const TempDir dir;
  ShapesOptions options;
  options.out = dir / "held";
  options.count = 640;
  options.seed = 2;
  write_shapes(options);
  const ImageFolder folder(options.out);
  Context ctx(2);
  const FrechetReference reference(ctx, folder, 16, 16, 128, 512);
  CHECK(reference.reference_count() == 512);
  const double real = reference.real_score();
  CHECK(real > 0);
  const double other = reference.score(ctx, shapes(ctx, 128, 9));
  CHECK(other < 3 * real);
  CHECK(real < 3 * other);
  Tensor noise = ctx.empty({128, 3, 16, 16}, DType::f32);
  const Philox random{1, 1};
  for (std::int64_t i = 0; i < noise.numel(); ++i)
    noise.data<float>()[i] = random.normal(static_cast<std::uint64_t>(i));
  CHECK(reference.score(ctx, noise) > 20 * real);
  std::vector<std::int64_t> circles(128);
  for (std::size_t i = 0; i < circles.size(); ++i) circles[i] = static_cast<std::int64_t>(i);
  CHECK(reference.score(ctx, load_images(ctx, folder, circles, 16, 16)) > 3 * real);
  CHECK(FrechetReference(ctx, folder, 16, 16, 128, 512).real_score() == real);
  CHECK(FrechetReference(ctx, folder, 16, 16, 300, 1024).reference_count() == 340);
  CHECK(FrechetReference(ctx, folder, 12, 20, 64, 64).real_score() > 0);
  CHECK(FrechetReference(ctx, folder, 12, 20, 64, 32).reference_count() == 32);

  CHECK_THROWS_WITH_AS(FrechetReference(ctx, folder, 16, 16, 400, 1024), doctest::Contains("800 are needed"),
                       ValueError);
  CHECK_THROWS_AS(FrechetReference(ctx, folder, 16, 16, 1, 10), ValueError);
  CHECK_THROWS_AS(reference.score(ctx, ctx.zeros({8, 3, 8, 8}, DType::f32)), ShapeError);
}

TEST_CASE("wrong shapes and values that are not finite are refused") {
  Context ctx(1);
  CHECK_THROWS_AS(frechet_features(ctx, ctx.zeros({2, 1, 8, 8}, DType::f32)), ShapeError);
  CHECK_THROWS_AS(frechet_features(ctx, ctx.zeros({0, 3, 8, 8}, DType::f32)), ShapeError);
  CHECK_THROWS_AS(frechet_features(ctx, ctx.zeros({2, 3, 8, 8}, DType::f64)), DTypeError);
  Tensor images = ctx.zeros({2, 3, 8, 8}, DType::f32);
  images.data<float>()[200] = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_AS(frechet_features(ctx, images), NonFiniteError);
  const Tensor a = ctx.zeros({3, 4}, DType::f64);
  CHECK_THROWS_AS(frechet_distance(ctx, a, ctx.zeros({3, 5}, DType::f64)), ShapeError);
  CHECK_THROWS_AS(frechet_distance(ctx, a, ctx.zeros({1, 4}, DType::f64)), ShapeError);
  Tensor infinite = ctx.zeros({3, 4}, DType::f64);
  infinite.data<double>()[5] = std::numeric_limits<double>::infinity();
  CHECK_THROWS_AS(frechet_distance(ctx, a, infinite), NonFiniteError);
}

TEST_SUITE_END();

}  // namespace
}  // namespace llsa::nn
