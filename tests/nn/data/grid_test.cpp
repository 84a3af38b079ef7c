// Layout and rounding of picture grids.
#include "nn/data/grid.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/context.h"
#include "core/error.h"

namespace llsa::nn {
namespace {

/// n images of 2 x 3 (height x width); image i is filled with the grey level 10 i.
Tensor levels(Context& ctx, int n) {
  Tensor images = ctx.empty({n, 3, 2, 3}, DType::f32);
  for (std::int64_t i = 0; i < images.numel(); ++i) {
    images.data<float>()[i] = static_cast<float>(i / 18 * 10) / 127.5f - 1.0f;
  }
  return images;
}

TEST_SUITE_BEGIN("nn/data/grid");

TEST_CASE("values are rounded and clamped, a NaN shows as magenta") {
  Context ctx(1);
  Tensor image = ctx.empty({3, 1, 4}, DType::f32);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  const float values[12] = {-1, 1, -7, 0, 0, inf, 9, nan, 1, -inf, 0.5f, 0};
  std::copy(values, values + 12, image.data<float>());
  CHECK(to_image(image).pixels ==
        std::vector<std::uint8_t>{0, 128, 255, 255, 255, 0, 0, 255, 191, 255, 0, 255});
  for (int v = 0; v < 256; ++v) {  // every level survives
    image.data<float>()[0] = static_cast<float>(v) / 127.5f - 1.0f;
    CHECK(to_image(image).pixels[0] == v);
  }
  const Tensor turned = image.transpose(1, 2);  // any strides
  CHECK(to_image(turned).height == 4);
  CHECK(to_image(turned).at(0, 2)[2] == 191);
  CHECK_THROWS_AS(to_image(ctx.empty({1, 2, 2}, DType::f32)), ShapeError);
  CHECK_THROWS_AS(to_image(ctx.empty({3, 0, 2}, DType::f32)), ShapeError);
  CHECK_THROWS_AS(to_image(ctx.empty({3, 2, 2}, DType::f64)), DTypeError);
}

TEST_CASE("row by row, with margins and enlargement") {
  Context ctx(1);
  GridOptions options;
  options.columns = 2;
  options.margin = 1;
  options.scale = 2;
  options.background = {7, 8, 9};
  const Image grid = make_grid(levels(ctx, 3), {}, options);
  CHECK(grid.width == 1 + 2 * 7);
  CHECK(grid.height == 1 + 2 * 5);
  CHECK(grid.at(0, 0)[0] == 7);
  CHECK(grid.at(0, 0)[2] == 9);
  CHECK(grid.at(1, 1)[0] == 0);
  CHECK(grid.at(6, 4)[0] == 0);
  CHECK(grid.at(7, 4)[0] == 7);
  CHECK(grid.at(8, 1)[0] == 10);
  CHECK(grid.at(1, 6)[0] == 20);
  CHECK(grid.at(8, 6)[1] == 8);  // no fourth image
}

TEST_CASE("classes begin new rows, in order, stably") {
  Context ctx(1);
  GridOptions options;
  options.margin = 0;
  options.scale = 1;
  const Image grid = make_grid(levels(ctx, 5), {4, 1, 4, 1, 1}, options);
  CHECK(grid.width == 9);  // the largest class has three
  CHECK(grid.height == 4);
  const int expected[2][3] = {{10, 30, 40}, {0, 20, 32}};
  for (int r = 0; r < 2; ++r) {
    for (int c = 0; c < 3; ++c) CHECK(grid.at(3 * c, 2 * r)[0] == expected[r][c]);
  }
  options.columns = 2;
  CHECK(make_grid(levels(ctx, 5), {4, 1, 4, 1, 1}, options).height == 6);
}

TEST_CASE("many classes with few images stand side by side, with an empty column between them") {
  Context ctx(1);
  GridOptions options;
  options.margin = 1;
  options.scale = 1;
  const auto cycle = [](int images, int classes) {
    std::vector<std::int32_t> out(static_cast<std::size_t>(images));
    for (int i = 0; i < images; ++i) out[static_cast<std::size_t>(i)] = i % classes;
    return out;
  };
  // 16 classes with two images each: two pairs in each of eight rows, where two columns of sixteen would be tall.
  const Image grid = make_grid(levels(ctx, 32), cycle(32, 16), options);
  CHECK(grid.width == 1 + 5 * 4);
  CHECK(grid.height == 1 + 8 * 3);
  const auto level = [&](int row, int column) { return grid.at(1 + column * 4, 1 + row * 3)[0]; };
  for (int c = 0; c < 16; ++c) {
    CHECK(level(c / 2, c % 2 * 3) == std::min(255, c * 10));
    CHECK(level(c / 2, c % 2 * 3 + 1) == std::min(255, (c + 16) * 10));
    CHECK(level(c / 2, 2) == 32);
  }
  CHECK(split_grid(grid, 3, 2, options).size() == 32);

  CHECK(make_grid(levels(ctx, 16), cycle(16, 4), options).width == 1 + 4 * 4);  // square as it is
  const Image many = make_grid(ctx.zeros({1000, 3, 1, 1}, DType::f32), cycle(1000, 1000), options);
  CHECK(many.width == 1 + 32 * 2);  // one image of each: no columns between
  CHECK(many.height == 1 + 32 * 2);
}

TEST_CASE("defaults: about square, tiny images enlarged") {
  Context ctx(1);
  const Image grid = make_grid(levels(ctx, 10));
  CHECK(grid.width == 2 + 4 * (3 * 8 + 2));
  CHECK(grid.height == 2 + 3 * (2 * 8 + 2));
  CHECK(make_grid(ctx.zeros({1, 3, 16, 16}, DType::f32)).width == 68);
  CHECK(make_grid(ctx.zeros({1, 3, 128, 128}, DType::f32)).width == 132);
  CHECK(make_grid(ctx.zeros({40, 3, 64, 64}, DType::f32), std::vector<std::int32_t>(40, 1)).width ==
        2 + 16 * 66);
}

TEST_CASE("wrong arguments are refused") {
  Context ctx(1);
  CHECK_THROWS_AS(make_grid(ctx.empty({0, 3, 2, 2}, DType::f32)), ShapeError);
  CHECK_THROWS_AS(make_grid(ctx.empty({3, 2, 2}, DType::f32)), ShapeError);
  CHECK_THROWS_AS(make_grid(levels(ctx, 3), {1, 2}), ShapeError);
  GridOptions options;
  options.margin = -1;
  CHECK_THROWS_AS(make_grid(levels(ctx, 3), {}, options), ValueError);
  options.margin = 1 << 30;
  CHECK_THROWS_AS(make_grid(levels(ctx, 9), {}, options), ShapeError);
  CHECK_THROWS_AS(check_grid({100'000, 3, 256, 256}), ShapeError);
  CHECK_NOTHROW(check_grid({64, 3, 256, 256}));
}

TEST_CASE("a grid is split into the images it was made of") {
  Context ctx(1);
  for (const std::vector<std::int32_t>& classes : {std::vector<std::int32_t>{}, {0, 1, 0, 1, 0}})
    for (const int scale : {0, 1, 3}) {
      CAPTURE(scale);
      GridOptions options;
      options.scale = scale;
      const Tensor images = levels(ctx, 5);
      const std::vector<Image> parts = split_grid(make_grid(images, classes, options), 3, 2, options);
      REQUIRE(parts.size() == 5);
      const std::vector<std::int64_t> order = classes.empty() ? std::vector<std::int64_t>{0, 1, 2, 3, 4}
                                                              : std::vector<std::int64_t>{0, 2, 4, 1, 3};
      for (std::size_t i = 0; i < 5; ++i)
        CHECK(parts[i].pixels == to_image(images.select(0, order[i])).pixels);
    }
  CHECK_THROWS_AS(split_grid(make_grid(levels(ctx, 5)), 4, 2), ShapeError);
  CHECK_THROWS_AS(split_grid(Image(1, 1), 3, 2), ShapeError);
}

TEST_SUITE_END();

}  // namespace
}  // namespace llsa::nn
