// Images of all common kinds are compared with the output of a reference decoder (tests/data/images/make.py).
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <string>

#include "core/error.h"
#include "nn/data/file_format.h"
#include "nn/data/image_io.h"
#include "tests/nn/data/image_bytes.h"
#include "tests/support/files.h"
#include "tests/support/text.h"

namespace llsa::nn {
namespace {

using namespace llsa::test;

const std::string kImages = LLSA_SOURCE_DIR "/tests/data/images/";

/// The largest difference of a level between the decoded image and the reference.
int deviation(const std::string& name) {
  const Image image = decode_image(kImages + name);
  const std::string expected = read_file(kImages + name + ".rgb");
  const bool turned = name.starts_with("exif6");
  REQUIRE(image.width == (turned ? 8 : 12));
  REQUIRE(image.height == (turned ? 12 : 8));
  REQUIRE(image.pixels.size() == expected.size());
  int largest = 0;
  for (std::size_t i = 0; i < expected.size(); ++i)
    largest = std::max(largest, std::abs(image.pixels[i] - static_cast<std::uint8_t>(expected[i])));
  return largest;
}

TEST_SUITE_BEGIN("nn/data/reference_images");

TEST_CASE("PNG as the reference decodes them: palette, 16 bits, grey, alpha, turned") {
  for (const char* name : {"palette.png", "grey16.png", "exif6.png"})
    CHECK_MESSAGE(deviation(name) == 0, name);
  // Rounding of a mean of two colours.
  for (const char* name : {"palette_transparent.png", "grey_alpha.png", "alpha.png"})
    CHECK_MESSAGE(deviation(name) <= 1, name);
}

// JPEG decoders may round the inverse cosine transform and the colours differently.
TEST_CASE(
    "JPEG within 3 levels of the reference: grey, progressive, CMYK with and without Adobe's marker, YCCK, "
    "turned") {
  for (const char* name : {"rgb.jpg", "subsampled.jpg", "grey.jpg", "progressive.jpg", "no_transform.jpg",
                           "exif6.jpg", "cmyk_adobe.jpg", "cmyk_plain.jpg"})
    CHECK_MESSAGE(deviation(name) <= 3, name);
  CHECK(deviation("ycck.jpg") <= 2);
}

TEST_CASE("WebP as the reference decodes them; a build without libwebp says so") {
  if (!is_read("WebP")) {
    const std::string message = failure_of<IoError>([] { decode_image(kImages + "lossless.webp"); });
    CHECK(contains(message, "WebP, is not read"));
    CHECK(contains(message, "libwebp-dev"));
    return;
  }
  for (const char* name : {"lossless.webp", "exif6.webp", "animation.webp"})
    CHECK_MESSAGE(deviation(name) == 0, name);
  CHECK(deviation("alpha.webp") <= 1);
  CHECK(deviation("lossy.webp") <= 3);
  CHECK(probe_image(kImages + "alpha.webp").channels == 4);
  CHECK(probe_image(kImages + "exif6.webp").orientation == 6);
  for (const char* name : {"lossless.webp", "alpha.webp", "lossy.webp", "exif6.webp", "animation.webp"}) {
    CAPTURE(name);
    const std::string text = read_file(kImages + name);
    const Bytes bytes(text.begin(), text.end());
    for (std::size_t n = 12; n < bytes.size(); ++n)
      CHECK(contains(failure_of<IoError>([&] { decode_image(head(bytes, n), name); }), "ends early"));
    DecodeOptions small;
    small.max_pixels = 95;
    CHECK(contains(failure_of<IoError>([&] { decode_image(bytes, name, small); }), "too large: 12 x 8"));
    for (std::size_t i = 0; i < bytes.size(); ++i) {  // never worse than an IoError
      Bytes changed = bytes;
      changed[i] ^= 0xFF;
      failure_of<IoError>([&] { decode_image(changed, name, {.max_pixels = 100000}); });
    }
  }
}

TEST_SUITE_END();

}  // namespace
}  // namespace llsa::nn
