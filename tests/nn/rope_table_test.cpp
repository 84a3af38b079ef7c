#include "nn/rope_table.h"

#include <doctest/doctest.h>

#include <cmath>
#include <numeric>

#include "core/error.h"
#include "kernels/copy.h"
#include "nn/morton.h"

namespace llsa::nn {

namespace {

std::vector<std::int32_t> raster(std::int64_t n) {
  std::vector<std::int32_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  return order;
}

}  // namespace

TEST_SUITE_BEGIN("nn/rope_table");

TEST_CASE("rows turn one half, columns the other, ids travel with their tokens") {
  Context ctx(1);
  const std::int64_t rows = 5, columns = 3, d = 16;
  const auto order = morton_order(rows, columns);
  for (const bool columns_first : {false, true}) {
    CAPTURE(columns_first);
    const auto table = rope_table(ctx, rows, columns, rows, columns, d, order, DType::f64, columns_first);
    REQUIRE(table.cos.shape() == Shape{15, 8});
    const auto cosines = kernels::to_vector<double>(ctx, table.cos);
    const auto sines = kernels::to_vector<double>(ctx, table.sin);
    for (std::size_t i = 0; i < 15; ++i)
      for (std::size_t j = 0; j < 8; ++j) {
        const double id = (j < 4) != columns_first ? order[i] / columns : order[i] % columns;
        const double angle = id * std::pow(10000.0, -2.0 * static_cast<double>(j % 4) / 8.0);
        CHECK(cosines[8 * i + j] == doctest::Approx(std::cos(angle)).epsilon(1e-12));
        CHECK(sines[8 * i + j] == doctest::Approx(std::sin(angle)).epsilon(1e-12));
      }
  }
}

TEST_CASE("ids are scaled to the rope size and clamped to it") {
  Context ctx(1);
  const auto ids = [&](std::int64_t n, std::int64_t r) {  // omega_0 = 1: the angle of pair 0 is the row id
    const auto table = rope_table(ctx, n, 1, r, 1, 4, raster(n), DType::f64);
    const auto c = kernels::to_vector<double>(ctx, table.cos);
    const auto s = kernels::to_vector<double>(ctx, table.sin);
    std::vector<double> out;
    for (std::size_t i = 0; i < c.size(); i += 2) out.push_back(std::atan2(s[i], c[i]));
    return out;
  };
  const std::vector<double> doubled = {0.0, 0.25, 0.75, 1.0};  // -0.25 and 1.25 before clamping
  const auto stretched = ids(4, 2);
  for (std::size_t i = 0; i < 4; ++i) CHECK(stretched[i] == doctest::Approx(doubled[i]));
  CHECK(ids(2, 4)[0] == doctest::Approx(0.5));
  CHECK(ids(2, 4)[1] == doctest::Approx(2.5));
  CHECK(ids(3, 1)[2] == doctest::Approx(0.0));
}

TEST_CASE("errors") {
  Context ctx(1);
  CHECK_THROWS_AS(rope_table(ctx, 2, 2, 2, 2, 6, raster(4), DType::f32), ValueError);
  CHECK_THROWS_AS(rope_table(ctx, 2, 2, 0, 2, 8, raster(4), DType::f32), ValueError);
  CHECK_THROWS_AS(rope_table(ctx, 2, 2, 2, 2, 8, raster(3), DType::f32), ShapeError);
}

TEST_SUITE_END();

}  // namespace llsa::nn
