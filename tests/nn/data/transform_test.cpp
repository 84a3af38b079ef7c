// Resampling against PIL, geometry of crops, flips, value range.
#include "nn/data/transform.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <set>

#include "core/error.h"
#include "tests/nn/data/image_bytes.h"
#include "tests/support/files.h"

namespace llsa::nn {
namespace {

using namespace llsa::test;

Image pattern(int width, int height) {
  Image image(width, height);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      for (int c = 0; c < 3; ++c)
        image.at(x, y)[c] = static_cast<std::uint8_t>((37 * x * x + 59 * y + 11 * x * y + 83 * c) % 256);
    }
  }
  return image;
}

TEST_SUITE_BEGIN("nn/data/transform");

TEST_CASE("resize agrees with PIL's bilinear filter to one level") {
  // PIL rounds between the two passes, hence the tolerance.
  struct Case {
    int from_width, from_height, width, height;
    std::vector<int> expected;
  };
  const std::vector<Case> cases = {
      {7, 5, 3, 4, {65,  134, 149, 116, 169, 165, 105, 151, 152, 122, 127, 107,
                    118, 124, 131, 96,  94,  131, 170, 90,  102, 94,  153, 98,
                    146, 164, 117, 167, 90,  159, 179, 85,  100, 130, 144, 109}},
      {4, 3, 6, 5, {0,   83,  166, 19,  102, 185, 56,  139, 179, 129, 212, 82,  113, 196, 151,
                    77,  160, 243, 24,  107, 190, 45,  128, 159, 84,  151, 122, 161, 158, 97,
                    147, 179, 134, 114, 197, 177, 59,  142, 225, 83,  166, 121, 127, 168, 37,
                    209, 78,  119, 199, 154, 109, 169, 252, 79,  94,  177, 107, 122, 128, 83,
                    144, 83,  80,  129, 100, 166, 98,  129, 161, 71,  154, 134, 118, 201, 28,
                    148, 103, 58,  156, 26,  109, 75,  115, 198, 30,  113, 196, 5,   88,  171}},
      {13, 9, 4, 3, {115, 131, 123, 111, 135, 135, 126, 120, 136, 126, 133, 130,
                     137, 111, 126, 132, 126, 125, 123, 125, 129, 114, 122, 134,
                     116, 122, 130, 115, 116, 144, 118, 112, 148, 97,  110, 118}}};
  for (const auto& c : cases) {
    const Image out = resize(pattern(c.from_width, c.from_height), c.width, c.height);
    REQUIRE(out.pixels.size() == c.expected.size());
    int worst = 0;
    for (std::size_t i = 0; i < c.expected.size(); ++i)
      worst = std::max(worst, std::abs(out.pixels[i] - c.expected[i]));
    CHECK(worst <= 1);
  }
}

TEST_CASE("resize keeps equal sizes and constant images, and refuses empty ones") {
  CHECK(resize(pattern(9, 4), 9, 4).pixels == pattern(9, 4).pixels);
  const Image flat(31, 17, {3, 128, 255});
  for (const auto& size : {std::pair{1, 1}, {5, 9}, {64, 50}}) {
    CHECK(resize(flat, size.first, size.second).pixels ==
          Image(size.first, size.second, {3, 128, 255}).pixels);
  }
  CHECK_THROWS_AS(resize(flat, 0, 4), ShapeError);
}

TEST_CASE("resize_to_cover fits the side that decides") {
  auto size = [](const Image& image) { return std::pair{image.width, image.height}; };
  CHECK(size(resize_to_cover(Image(100, 50), 16, 16)) == std::pair{32, 16});
  CHECK(size(resize_to_cover(Image(50, 100), 16, 16)) == std::pair{16, 32});
  CHECK(size(resize_to_cover(Image(8, 8), 16, 16)) == std::pair{16, 16});
  CHECK(size(resize_to_cover(Image(30, 30), 20, 30)) == std::pair{30, 30});
  CHECK(size(resize_to_cover(Image(99, 101), 30, 20)) == std::pair{29, 30});
  for (int width = 1; width < 40; ++width) {
    for (int height = 1; height < 40; ++height) {
      const Image image = resize_to_cover(Image(width, height), 7, 5);
      const bool covers = image.width >= 5 && image.height >= 7 && (image.width == 5 || image.height == 7);
      if (!covers) FAIL_CHECK(width << " x " << height << " became " << image.width << " x " << image.height);
    }
  }
  CHECK_THROWS_AS(resize_to_cover(Image(1, 100000), 64, 64), ShapeError);
  CHECK_THROWS_AS(resize_to_cover(Image(5, 5), 0, 4), ShapeError);
}

TEST_CASE("crop: centre, range, channel order") {
  Image image(5, 3);
  image.pixels = test_pixels(5, 3);
  TransformOptions options;
  options.height = options.width = 3;
  std::vector<float> out(27);
  crop_to_floats(image, options, 1, 2, out.data());
  for (int y = 0; y < 3; ++y) {
    for (int x = 0; x < 3; ++x) {
      for (int c = 0; c < 3; ++c) {
        const float expected = static_cast<float>(image.at(x + 1, y)[c]) / 127.5f - 1.0f;
        CHECK(out[static_cast<std::size_t>(c * 9 + y * 3 + x)] == expected);
      }
    }
  }
  Image extremes(2, 1);
  extremes.pixels = {0, 255, 0, 255, 0, 255};
  options.height = 1;
  options.width = 2;
  crop_to_floats(extremes, options, 0, 0, out.data());
  CHECK(std::vector<float>(out.begin(), out.begin() + 6) == std::vector<float>{-1, 1, 1, -1, -1, 1});
  options.width = 3;
  CHECK_THROWS_AS(crop_to_floats(extremes, options, 0, 0, out.data()), ShapeError);
}

TEST_CASE("random crops and flips depend on seed and sample id, and reach every place") {
  Image image(8, 4);
  for (int x = 0; x < 8; ++x) {
    for (int y = 0; y < 4; ++y) image.at(x, y)[0] = static_cast<std::uint8_t>(x);
  }
  TransformOptions options;
  options.height = options.width = 4;
  options.random_crop = options.flip = true;
  std::vector<float> out(48);
  std::vector<float> again(48);
  std::set<std::pair<int, bool>> seen;
  int flips = 0;
  for (std::int64_t id = 0; id < 400; ++id) {
    crop_to_floats(image, options, 7, id, out.data());
    crop_to_floats(image, options, 7, id, again.data());
    CHECK(out == again);
    const int left = static_cast<int>(std::lround((out[0] + 1) * 127.5f));
    const int right = static_cast<int>(std::lround((out[3] + 1) * 127.5f));
    CHECK(std::abs(left - right) == 3);
    seen.insert({std::min(left, right), left > right});
    flips += left > right;
  }
  CHECK(seen.size() == 10);  // five places, mirrored or not
  CHECK(flips > 150);
  CHECK(flips < 250);
}

TEST_CASE("load_images stacks images and can pass over damaged ones") {
  const TempDir dir;
  write_file(dir / "a.png", as_text(rgb_png(4, 4, 1)));
  Bytes damaged = rgb_png(4, 4, 2);
  damaged[60] ^= 1;
  write_file(dir / "b.png", as_text(damaged));
  write_file(dir / "c.png", as_text(rgb_png(8, 4, 3)));
  const ImageFolder folder(dir.path());
  REQUIRE(folder.size() == 3);
  Context ctx(2);
  const Tensor two = load_images(ctx, folder, {2, 0}, 4, 4);
  CHECK(two.shape() == Shape{2, 3, 4, 4});
  CHECK(two.data<float>()[48] == static_cast<float>(test_pixels(4, 4, 1)[0]) / 127.5f - 1.0f);
  CHECK_THROWS_AS(load_images(ctx, folder, {0, 1, 2}, 4, 4), IoError);
  std::vector<SkippedFile> skipped;
  const Tensor kept = load_images(ctx, folder, {1, 0, 2, 1}, 4, 4, &skipped);
  REQUIRE(skipped.size() == 2);
  CHECK(skipped[1].path == "b.png");
  CHECK(!skipped[1].reason.empty());
  CHECK(kept.shape() == Shape{2, 3, 4, 4});
  CHECK(std::equal(kept.data<float>(), kept.data<float>() + 48, two.data<float>() + 48));
  CHECK(!load_images(ctx, folder, {1}, 4, 4, &skipped).defined());
  CHECK_THROWS_AS(load_images(ctx, folder, {3}, 4, 4, &skipped), ValueError);
}

TEST_SUITE_END();

}  // namespace
}  // namespace llsa::nn
