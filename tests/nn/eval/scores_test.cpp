// FID, Inception Score, KID and the network behind them against a separate reference (tests/golden/metrics.safetensors).
#include "nn/eval/scores.h"

#include <doctest/doctest.h>

#include <cmath>

#include "core/error.h"
#include "core/safetensors.h"
#include "kernels/copy.h"
#include "nn/eval/gaussian.h"
#include "tests/support/kernels.h"
#include "tests/support/text.h"

namespace llsa::nn {
namespace {

using namespace llsa::test;

TEST_SUITE_BEGIN("nn/eval/scores");

struct Golden {
  SafetensorsFile file{LLSA_SOURCE_DIR "/tests/golden/metrics.safetensors"};
  Context ctx;
  Tensor get(const std::string& name) { return file.at(name); }
  Values values(const std::string& name) { return values_of(ctx, get(name)); }
};

/// The rows of x by number.
Tensor rows_of(Context& ctx, const Tensor& x, const std::int32_t* numbers, std::int64_t count) {
  const Tensor rows = ctx.empty({count, x.size(1)}, DType::f64);
  for (std::int64_t i = 0; i < count; ++i)
    std::copy_n(x.data<double>() + numbers[i] * x.size(1), x.size(1), rows.data<double>() + i * x.size(1));
  return rows;
}

TEST_CASE("FID to 1e-9, also with fewer images than features, equal sets, far means, added in parts") {
  Golden golden;
  for (int c = 0; c < 4; ++c) {
    CAPTURE(c);
    const Tensor x = golden.get(cat("fid", c, ".x")), y = golden.get(cat("fid", c, ".y"));
    const double expected = golden.values(cat("fid", c, ".fid"))[0];
    for (const std::int64_t part : {7, 1000}) {
      CAPTURE(part);
      const auto fit = [&](const Tensor& all) {
        Gaussian gaussian;
        for (std::int64_t i = 0; i < all.size(0); i += part)
          gaussian.add(golden.ctx, all.slice(0, i, std::min(all.size(0), i + part)));
        return gaussian;
      };
      const double found = frechet_distance(golden.ctx, fit(x), fit(y));
      if (c == 2)
        CHECK(std::abs(found) <= 1e-10);
      else
        CHECK(std::abs(found - expected) <= 1e-9 * expected);
    }
  }
  Gaussian gaussian;
  gaussian.add(golden.ctx, golden.get("fid0.x"));
  CHECK(deviation(values_of(golden.ctx, gaussian.mean()), golden.values("fid0.mu")) <= 1e-13);
  const Tensor r = gaussian.factor();
  const std::int64_t f = gaussian.width();
  Values covariance(static_cast<std::size_t>(f * f));
  for (std::int64_t k = 0; k < f; ++k)
    for (std::int64_t i = 0; i < f; ++i)
      for (std::int64_t j = 0; j < f; ++j)
        covariance[static_cast<std::size_t>(i * f + j)] += r.data<double>()[k * f + i] *
                                                           r.data<double>()[k * f + j] /
                                                           static_cast<double>(gaussian.count() - 1);
  CHECK(deviation(covariance, golden.values("fid0.sigma")) <= 1e-12);
}

TEST_CASE("Inception Score to 1e-9") {
  Golden golden;
  for (int c = 0; c < 2; ++c) {
    CAPTURE(c);
    const Tensor logits = golden.get(cat("is", c, ".logits"));
    InceptionScore score;
    const std::int64_t n = logits.size(0);
    for (std::int64_t part = 0; part < 10; ++part) {
      const std::int64_t begin = part * n / 10, end = (part + 1) * n / 10;
      score.add(logits.slice(0, begin, begin + 2), part);
      score.add(logits.slice(0, begin + 2, end), part);
    }
    const auto parts = score.parts();
    CHECK(deviation(parts, golden.values(cat("is", c, ".split"))) <= 1e-9);
    const MeanAndSpread found = mean_and_spread(parts);
    CHECK(found.mean == doctest::Approx(golden.values(cat("is", c, ".mean"))[0]).epsilon(1e-9));
    CHECK(found.spread == doctest::Approx(golden.values(cat("is", c, ".std0"))[0]).epsilon(1e-9));
  }
  InceptionScore few(3);
  CHECK(few.parts().empty());
  few.add(golden.get("is0.logits"), 2);
  CHECK(few.parts().size() == 1);
  CHECK_THROWS_AS(few.add(golden.get("is0.logits"), 3), ValueError);
  CHECK_THROWS_AS(few.add(golden.get("fid0.x"), 2), ShapeError);
}

TEST_CASE("Kernel Inception Distance to 1e-9") {
  Golden golden;
  const Tensor x = golden.get("kid.x"), y = golden.get("kid.y"), ix = golden.get("kid.ix"),
               iy = golden.get("kid.iy");
  std::vector<double> found;
  for (std::int64_t s = 0; s < 5; ++s)
    found.push_back(squared_mmd(golden.ctx, rows_of(golden.ctx, x, ix.data<std::int32_t>() + s * 40, 40),
                                rows_of(golden.ctx, y, iy.data<std::int32_t>() + s * 40, 40)));
  CHECK(deviation(found, golden.values("kid.mmd")) <= 1e-9);
  CHECK(mean_and_spread(found).mean == doctest::Approx(golden.values("kid.mean")[0]).epsilon(1e-9));
  CHECK(mean_and_spread(found).spread == doctest::Approx(golden.values("kid.std")[0]).epsilon(1e-9));
  CHECK(squared_mmd(golden.ctx, x.slice(0, 0, 50), y) ==
        doctest::Approx(golden.values("kid.all")[0]).epsilon(1e-9));
  const auto parts = kernel_distances(golden.ctx, x, y, 20, 40);
  CHECK(parts.size() == 20);
  CHECK(std::abs(mean_and_spread(parts).mean - golden.values("kid.all")[0]) <
        3 * mean_and_spread(parts).spread + 1e-12);
  CHECK_THROWS_AS(kernel_distances(golden.ctx, x, y, 1, 51), ValueError);
}

TEST_CASE("the sum of singular values: known matrices, and any number of threads") {
  Context one(1), three(3);
  const std::int64_t n = 150;
  const Tensor diagonal = one.zeros({4, 4}, DType::f64);
  for (int i = 0; i < 4; ++i) diagonal.data<double>()[5 * i] = std::pow(-10.0, i);
  CHECK(sum_of_singular_values(one, diagonal) == doctest::Approx(1111).epsilon(1e-14));
  CHECK(sum_of_singular_values(one, one.zeros({5, 5}, DType::f64)) == 0);
  const Tensor x = random_tensor(one, {n, n}, DType::f64, 1);
  CHECK(sum_of_singular_values(three, x) == sum_of_singular_values(one, x));
  // A rank-one matrix u v^T has the singular value |u| |v|.
  const Tensor rank_one = one.empty({n, n}, DType::f64);
  double uu = 0, vv = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    uu += x.data<double>()[i] * x.data<double>()[i];
    vv += x.data<double>()[n + i] * x.data<double>()[n + i];
    for (std::int64_t j = 0; j < n; ++j)
      rank_one.data<double>()[i * n + j] = x.data<double>()[i] * x.data<double>()[n + j];
  }
  CHECK(sum_of_singular_values(one, rank_one) == doctest::Approx(std::sqrt(uu * vv)).epsilon(1e-13));
}

TEST_SUITE_END();

}  // namespace
}  // namespace llsa::nn
