// Decoding of every format and layout, refusal of every kind of damage, PNG round trip.
#include "nn/data/image_io.h"

#include <doctest/doctest.h>

#include <sys/stat.h>
#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "core/error.h"
#include "nn/data/file_format.h"
#include "nn/data/orientation.h"
#include "tests/nn/data/image_bytes.h"
#include "tests/support/child_process.h"
#include "tests/support/files.h"
#include "tests/support/text.h"

namespace llsa::nn {
namespace {

using namespace llsa::test;

/// The message of the IoError, empty when there is none.
std::string refusal(const Bytes& bytes, const std::string& name = "picture.img",
                    const DecodeOptions& options = {}) {
  try {
    decode_image(bytes, name, options);
  } catch (const IoError& error) {
    return error.what();
  }
  return {};
}

TEST_SUITE_BEGIN("nn/data/image_io");

TEST_CASE("RGB files of every lossless format give the same pixels") {
  const Bytes rgb = test_pixels(5, 3);
  CHECK(decode_image(make_png(5, 3, 8, 2, rgb), "a").pixels == rgb);
  CHECK(decode_image(make_bmp(5, 3, rgb), "a").pixels == rgb);
  CHECK(decode_image(make_bmp(5, 3, rgb, true), "a").pixels == rgb);
  CHECK(decode_image(make_tga(5, 3, rgb), "a.tga").pixels == rgb);
  CHECK(decode_image(make_tga(5, 3, rgb, true), "a.TGA").pixels == rgb);
  CHECK(decode_image(make_pnm(5, 3, rgb), "a").pixels == rgb);
  const Image image = decode_image(rgb_png(5, 3), "a");
  CHECK(image.width == 5);
  CHECK(image.height == 3);
}

TEST_CASE("grey, palette, 16-bit and transparent PNG become RGB") {
  CHECK(decode_image(make_png(3, 1, 8, 0, {0, 100, 255}), "a").pixels ==
        Bytes{0, 0, 0, 100, 100, 100, 255, 255, 255});
  CHECK(decode_image(make_png(4, 1, 1, 0, {0xA0}), "a").pixels ==
        Bytes{255, 255, 255, 0, 0, 0, 255, 255, 255, 0, 0, 0});
  CHECK(decode_image(make_png(1, 1, 16, 2, {10, 99, 20, 99, 30, 99}), "a").pixels == Bytes{10, 20, 30});

  const Bytes palette = png_chunk("PLTE", {1, 2, 3, 200, 100, 50});
  CHECK(decode_image(make_png(2, 1, 8, 3, {1, 0}, palette), "a").pixels == Bytes{200, 100, 50, 1, 2, 3});
  DecodeOptions white;
  white.background = {255, 255, 255};
  Bytes with_transparency = palette;
  append(with_transparency, png_chunk("tRNS", {255, 0}));
  CHECK(decode_image(make_png(2, 1, 8, 3, {1, 0}, with_transparency), "a").pixels == Bytes{0, 0, 0, 1, 2, 3});
  CHECK(decode_image(make_png(2, 1, 8, 3, {1, 0}, with_transparency), "a", white).pixels ==
        Bytes{255, 255, 255, 1, 2, 3});

  // One colour of an RGB file declared transparent: the header does not show it.
  CHECK(decode_image(make_png(2, 1, 8, 2, {9, 8, 7, 1, 2, 3}, png_chunk("tRNS", {0, 9, 0, 8, 0, 7})), "a",
                     white)
            .pixels == Bytes{255, 255, 255, 1, 2, 3});

  CHECK(decode_image(make_png(2, 1, 8, 4, {200, 255, 200, 0}), "a", white).pixels ==
        Bytes{200, 200, 200, 255, 255, 255});
  DecodeOptions coloured;
  coloured.background = {10, 200, 30};
  const Bytes mixed = decode_image(make_png(1, 1, 8, 6, {250, 100, 0, 51}), "a", coloured).pixels;  // a fifth
  CHECK(mixed == Bytes{58, 180, 24});
}

TEST_CASE("other layouts: 16-bit and grey PNM, TGA whose fourth byte is no alpha, GIF, JPEG") {
  CHECK(decode_image(make_pnm(2, 1, {7, 200}, "P5"), "a").pixels == Bytes{7, 7, 7, 200, 200, 200});
  CHECK(decode_image(make_pnm(2, 1, {7, 200, 255, 255}, "P5", 65535), "a").pixels ==
        Bytes{8, 8, 8, 255, 255, 255});
  CHECK(decode_image(make_pnm(1, 1, {0, 0, 1, 0, 0, 3}, "P6", 511), "a").pixels == Bytes{0, 128, 1});
  CHECK(decode_image(make_pnm(2, 1, {7, 99}, "P5", 15), "a").pixels == Bytes{119, 119, 119, 255, 255, 255});
  const Bytes rgb = test_pixels(2, 2);
  CHECK(decode_image(make_tga(2, 2, rgb, false, 32, 0), "a.tga").pixels == rgb);
  CHECK(decode_image(make_tga(2, 2, rgb, false, 32, 8), "a.tga").pixels == Bytes(12, 0));
  const Bytes first = {255, 0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0};
  CHECK(decode_image(make_gif(2, 2, {1, 2, 3, 0}), "a").pixels == first);
  CHECK(decode_image(make_gif(2, 2, {1, 2, 3, 0}, -1, 3), "a").pixels == first);  // of three frames
  DecodeOptions white;
  white.background = {255, 255, 255};
  CHECK(decode_image(make_gif(2, 1, {1, 2}, 2), "a", white).pixels == Bytes{255, 0, 0, 255, 255, 255});

  const Image grey = decode_image(make_jpeg(), "a");
  CHECK(grey.width == 8);
  CHECK(std::abs(grey.at(0, 0)[1] - 21) <= 2);
  CHECK(std::abs(grey.at(7, 7)[1] - 220) <= 2);
  Bytes appended = make_jpeg();
  append(appended, Bytes(200000, 1));  // as some cameras do
  CHECK(decode_image(appended, "a").pixels == grey.pixels);
}

TEST_CASE("every shortened file is refused, at every length") {
  struct Sample {
    std::string name;
    Bytes bytes;
  };
  const Bytes rgb = test_pixels(6, 5);
  const std::vector<Sample> samples = {{"a.png", rgb_png(6, 5)},
                                       {"a.jpg", make_jpeg()},
                                       {"a.bmp", make_bmp(6, 5, rgb)},
                                       {"a.tga", make_tga(6, 5, rgb)},
                                       {"b.tga", make_tga(6, 5, rgb, true)},
                                       {"a.ppm", make_pnm(6, 5, rgb)},
                                       {"a.gif", make_gif(3, 2, {1, 2, 3, 0, 1, 2})}};
  for (const auto& sample : samples) {
    CAPTURE(sample.name);
    CHECK(refusal(sample.bytes, sample.name).empty());
    const bool is_gif = sample.name == "a.gif";  // its last byte, the trailer, is not needed
    for (std::size_t n = 0; n + (is_gif ? 1 : 0) < sample.bytes.size(); ++n) {
      CAPTURE(n);
      CHECK(contains(refusal(head(sample.bytes, n), sample.name), sample.name));
    }
    CHECK(contains(refusal(head(sample.bytes, sample.bytes.size() - 3), sample.name), "ends early"));
  }
}

TEST_CASE("damage, foreign content and sizes beyond the limit are refused with a reason") {
  Bytes flipped = rgb_png(6, 5);
  flipped[60] ^= 1;  // in the pixels: stb_image would not notice
  CHECK(contains(refusal(flipped), "wrong checksum of chunk IDAT"));
  CHECK(contains(refusal({}), "empty"));
  CHECK(contains(refusal({'h', 'e', 'l', 'l', 'o', ' ', 'w', 'o', 'r', 'l', 'd'}), "not an image"));
  CHECK(contains(refusal(Bytes(4000, 0x41)), "not an image"));
  CHECK(contains(refusal(Bytes(4000, 0x41), "a.tga"), "TGA"));
  CHECK(contains(refusal({'P', '3', '\n', '1', ' ', '1', ' ', '9'}), "P3"));
  Bytes no_image;
  append(no_image, head(make_gif(1, 1, {1}), 13 + 12));
  no_image.push_back(0x3B);
  CHECK(contains(refusal(no_image), "no image"));

  DecodeOptions small;
  small.max_pixels = 29;
  CHECK(contains(refusal(rgb_png(6, 5), "a", small), "too large: 6 x 5 pixels, the limit is 29"));
  small.max_pixels = 30;
  CHECK(refusal(rgb_png(6, 5), "a", small).empty());

  // Headers that claim more than a file of any size could hold.
  Bytes png = rgb_png(1, 1);
  for (std::size_t i = 16; i < 24; ++i) png[i] = 0xFF;
  CHECK(contains(refusal(png), "too large"));
  Bytes bmp = make_bmp(1, 1, {1, 2, 3});
  for (std::size_t i = 18; i < 26; ++i) bmp[i] = i == 21 || i == 25 ? 0x7F : 0xFF;
  CHECK(contains(refusal(bmp), "too large"));
  bmp[22] = bmp[23] = bmp[24] = 0;
  bmp[25] = 0x80;  // height -2^31
  CHECK(!refusal(bmp).empty());
  for (std::size_t i = 18; i < 26; ++i) bmp[i] = 0xFF;  // width -1
  CHECK(contains(refusal(bmp), "-1 x 1"));
  Bytes pnm;
  append(pnm, "P6 99999999999999999999999 99999999999999999999 255 ");
  CHECK(contains(refusal(pnm), "too large"));
  CHECK(contains(refusal(make_pnm(0, 3, {})), "0 x 3"));
  Bytes tga = make_tga(1, 1, {1, 2, 3});
  tga[12] = tga[13] = tga[14] = tga[15] = 0xFF;
  CHECK(contains(refusal(tga, "a.tga"), "too large"));
  Bytes jpeg = make_jpeg();
  for (std::size_t i = 0; i + 1 < jpeg.size(); ++i) {
    if (jpeg[i] == 0xFF && jpeg[i + 1] == 0xC0) jpeg[i + 5] = jpeg[i + 6] = jpeg[i + 7] = jpeg[i + 8] = 0xFF;
  }
  CHECK(contains(refusal(jpeg), "too large"));
  jpeg = make_jpeg();
  for (std::size_t i = 0; i + 1 < jpeg.size(); ++i) {
    if (jpeg[i] == 0xFF && jpeg[i + 1] == 0xC4) jpeg[i + 5] = 200;  // 200 codes of one bit
  }
  CHECK(contains(refusal(jpeg), "impossible code lengths"));
}

TEST_CASE("a byte changed anywhere never does worse than an IoError") {
  const Bytes rgb = test_pixels(4, 3);
  DecodeOptions options;
  options.max_pixels = 100000;
  const std::vector<Bytes> samples = {rgb_png(4, 3),       make_jpeg(6),
                                      make_bmp(4, 3, rgb), make_tga(4, 3, rgb, true),
                                      make_pnm(4, 3, rgb), make_gif(2, 2, {1, 2, 3, 0})};
  int refused = 0;
  for (const Bytes& sample : samples) {
    for (std::size_t i = 0; i < sample.size(); ++i) {
      for (const int change : {0x01, 0x80, 0xFF}) {
        Bytes bytes = sample;
        bytes[i] = static_cast<std::uint8_t>(bytes[i] ^ change);
        refused += !refusal(bytes, "a.tga", options).empty();
      }
    }
  }
  CHECK(refused > 100);
}

TEST_CASE("files: the header is read without decoding, errors name the file") {
  const TempDir dir;
  write_file(dir / "a.png", as_text(rgb_png(7, 4)));
  write_file(dir / "turned.jpg", as_text(make_jpeg(6)));
  const ImageInfo info = probe_image(dir / "a.png");
  CHECK(info.format == "PNG");
  CHECK(info.width == 7);
  CHECK(info.height == 4);
  CHECK(info.channels == 3);
  CHECK(info.orientation == 1);
  CHECK(probe_image(dir / "turned.jpg").orientation == 6);
  write_file(dir / "top.bmp", as_text(make_bmp(5, 3, test_pixels(5, 3), true)));
  CHECK(probe_image(dir / "top.bmp").height == 3);
  CHECK(decode_image(dir / "a.png").pixels == test_pixels(7, 4));

  auto message = [](const std::string& path) -> std::string {
    try {
      probe_image(path);
    } catch (const IoError& error) {
      return error.what();
    }
    return {};
  };
  CHECK(contains(message(dir / "absent.png"), "absent.png: cannot be opened: No such file"));
  CHECK(contains(message(dir.path()), "not a regular file"));
  write_file(dir / "empty.png", "");
  CHECK(contains(message(dir / "empty.png"), "empty.png: the file is empty"));
  write_file(dir / "short.png", as_text(head(rgb_png(7, 4), 100)));
  CHECK(contains(message(dir / "short.png"), "short.png: ends early"));
  REQUIRE(mkfifo((dir / "pipe.png").c_str(), 0644) == 0);
  CHECK(contains(message(dir / "pipe.png"), "not a regular file"));
}

TEST_CASE("a file that may not be read is an error, also for root's children") {
  const TempDir dir;
  write_file(dir / "a.png", as_text(rgb_png(2, 2)));
  REQUIRE(chmod((dir / "a.png").c_str(), 0) == 0);
  const int code = run_as_ordinary_user([&] {
    try {
      probe_image(dir / "a.png");
    } catch (const IoError& error) {
      return contains(error.what(), "Permission denied") ? 0 : 2;
    }
    return 1;
  });
  CHECK(code == 0);
}

TEST_CASE("PNG round trip, on disk under its final name only") {
  const TempDir dir;
  Image image(13, 7);
  image.pixels = test_pixels(13, 7, 5);
  write_png(dir / "out.png", image);
  CHECK(decode_image(dir / "out.png").pixels == image.pixels);
  CHECK(decode_image(encode_png(image), "a").pixels == image.pixels);
  CHECK(dir.entries() == 1);
  CHECK_THROWS_AS(write_png(dir / "missing/out.png", image), IoError);
  CHECK_THROWS_AS(encode_png(Image()), ShapeError);
  CHECK_THROWS_AS(Image(0, 5), ShapeError);
  CHECK_THROWS_AS(Image(1 << 16, 1 << 16), ShapeError);

  Image noise(64, 64);
  std::uint32_t state = 1;
  for (auto& byte : noise.pixels)
    byte = static_cast<std::uint8_t>((state = state * 1664525u + 1013904223u) >> 24);
  write_png(dir / "out.png", image);
  const int code = run_in_child([&] {
    limit_file_size(4096);  // as on a full disk
    try {
      write_png(dir / "out.png", noise);
    } catch (const IoError&) {
      return 0;
    }
    return 1;
  });
  CHECK(code == 0);
  CHECK(decode_image(dir / "out.png").pixels == image.pixels);  // the old one is whole
  CHECK(dir.entries() == 1);
}

TEST_CASE("every orientation is made upright: the corners are where the camera saw them") {
  // Corners of a 3 x 2 image as stored, 0 1 above 2 3; where they lie when it is upright.
  const int corners[9][4] = {{},           {0, 1, 2, 3}, {1, 0, 3, 2}, {3, 2, 1, 0}, {2, 3, 0, 1},
                             {0, 2, 1, 3}, {2, 0, 3, 1}, {3, 1, 2, 0}, {1, 3, 0, 2}};
  Image stored(3, 2);
  for (const int c : {0, 1, 2, 3}) stored.at(c % 2 * 2, c / 2)[0] = static_cast<std::uint8_t>(10 + c);
  stored.at(1, 0)[2] = 99;  // between the corners 0 and 1
  for (int orientation = 1; orientation <= 8; ++orientation) {
    CAPTURE(orientation);
    const Image image = upright(stored, orientation);
    REQUIRE(image.width == (orientation < 5 ? 3 : 2));
    REQUIRE(image.height == (orientation < 5 ? 2 : 3));
    for (const int c : {0, 1, 2, 3})
      CHECK(image.at(c % 2 * (image.width - 1), c / 2 * (image.height - 1))[0] ==
            10 + corners[orientation][c]);
    CHECK(std::count(image.pixels.begin(), image.pixels.end(), 99) == 1);
  }
}

TEST_CASE("the EXIF orientation of JPEG and PNG is applied, unless it is to be ignored") {
  const Image stored = decode_image(make_jpeg(), "a");
  DecodeOptions ignore;
  ignore.exif = false;
  for (int orientation = 2; orientation <= 8; ++orientation) {
    CAPTURE(orientation);
    CHECK(decode_image(make_jpeg(orientation), "a").pixels == upright(stored, orientation).pixels);
    CHECK(decode_image(make_jpeg(orientation), "a", ignore).pixels == stored.pixels);
  }
  CHECK(decode_image(make_jpeg(9), "a").pixels == stored.pixels);  // there is no such orientation
  Bytes exif = {'I', 'I', 42, 0, 8, 0, 0, 0, 1, 0, 0x12, 1, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0};
  const Bytes png = make_png(3, 2, 8, 2, test_pixels(3, 2), png_chunk("eXIf", exif));
  Image picture(3, 2);
  picture.pixels = test_pixels(3, 2);
  const Image turned = decode_image(png, "a");
  CHECK(turned.width == 2);
  CHECK(turned.pixels == upright(picture, 6).pixels);
  CHECK(decode_image(png, "a", ignore).pixels == picture.pixels);
  const TempDir dir;
  write_file(dir / "a.png", as_text(png));
  CHECK(probe_image(dir / "a.png").orientation == 6);
  CHECK(probe_image(dir / "a.png").height == 3);
  CHECK(probe_image(dir / "a.png", ignore).height == 2);
  exif.resize(20);  // the block ends inside its only entry
  CHECK(decode_image(make_png(3, 2, 8, 2, test_pixels(3, 2), png_chunk("eXIf", exif)), "a").width == 3);
}

TEST_CASE("names and colours") {
  CHECK(has_image_extension("a/b.PNG"));
  CHECK(has_image_extension("b.heic"));
  CHECK(has_image_extension("x.JpEg"));
  CHECK(!has_image_extension("png"));
  CHECK(!has_image_extension("a.png/b"));
  CHECK(!has_image_extension("notes.txt"));
  CHECK(parse_colour("white") == Rgb{255, 255, 255});
  CHECK(parse_colour("#0a10Ff") == Rgb{10, 16, 255});
  CHECK(parse_colour("1,20,255") == Rgb{1, 20, 255});
  for (const char* bad :
       {"", "blue-ish", "#12345", "#12345g", "1,2", "1,2,3,4", "1,2,256", "1,,3", "-1,2,3", "1,2,3 "}) {
    CAPTURE(bad);
    CHECK_THROWS_AS(parse_colour(bad), ValueError);
  }
}

TEST_SUITE_END();

}  // namespace
}  // namespace llsa::nn
