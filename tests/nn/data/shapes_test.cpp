// The demo data set: determinism, what is drawn, how it is written.
#include "nn/data/shapes.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <set>

#include "core/error.h"
#include "nn/data/image_folder.h"
#include "tests/support/files.h"

namespace llsa::nn {
namespace {

namespace fs = std::filesystem;
using namespace llsa::test;

ShapesOptions options_for(const std::string& out, std::int64_t count = 12, int size = 8,
                          std::uint64_t seed = 1) {
  ShapesOptions options;
  options.out = out;
  options.count = count;
  options.size = size;
  options.seed = seed;
  return options;
}

TEST_SUITE_BEGIN("nn/data/shapes");

TEST_CASE("an image depends on seed and index alone, and images differ") {
  CHECK(draw_shape(16, 1, 5).pixels == draw_shape(16, 1, 5).pixels);
  CHECK(draw_shape(16, 1, 5).pixels != draw_shape(16, 2, 5).pixels);
  std::set<std::vector<std::uint8_t>> distinct;
  for (int i = 0; i < 200; ++i) distinct.insert(draw_shape(16, 1, i).pixels);
  CHECK(distinct.size() == 200);
  CHECK_THROWS_AS(draw_shape(3, 1, 0), ValueError);
  CHECK_THROWS_AS(draw_shape(5000, 1, 0), ValueError);
}

TEST_CASE("the shape is bright at the centre, save for the ring, on a dark ground with vertical gradient") {
  for (std::int64_t i = 0; i < 80; ++i) {
    const Image image = draw_shape(64, 3, i);
    auto brightest = [&](int x, int y) { return *std::max_element(image.at(x, y), image.at(x, y) + 3); };
    CHECK((brightest(32, 32) > 180) == (i % 4 != 1));
    CHECK(brightest(0, 0) < 90);
    CHECK(brightest(63, 63) < 90);
    for (int c = 0; c < 3; ++c) CHECK(image.at(0, 40)[c] == image.at(63, 40)[c]);
    CHECK(std::vector<int>{image.at(0, 0)[0], image.at(0, 0)[1], image.at(0, 0)[2]} !=
          std::vector<int>{image.at(0, 63)[0], image.at(0, 63)[1], image.at(0, 63)[2]});
    // The shape covers the area that its radius of 0.30 to 0.40 of the side implies.
    int covered = 0;
    for (int y = 0; y < 64; ++y) {
      for (int x = 0; x < 64; ++x) covered += brightest(x, y) > 130;
    }
    const double share = covered / 4096.0;
    CHECK(share > 0.12);
    CHECK(share < 0.52);
  }
}

TEST_CASE("the folder has four even classes that read back exactly") {
  const TempDir dir;
  std::int64_t last = 0;
  const bool whole = write_shapes(
      options_for(dir / "made/for/it/", 10),
      {.on_progress = [&](std::int64_t done, std::int64_t total) { last = total == 10 ? done : -1; }});
  CHECK(whole);
  CHECK(last == 10);
  const ImageFolder folder(dir / "made/for/it");
  CHECK(folder.class_names() == shape_names());
  CHECK(folder.class_counts() == std::vector<std::int64_t>{3, 3, 2, 2});
  CHECK(folder.warnings().empty());
  for (std::int64_t i = 0; i < 10; ++i) {
    const auto& entry = folder.entries()[static_cast<std::size_t>(i)];
    const std::int64_t index = std::stoll(fs::path(entry.path).stem().string());
    CHECK(entry.label == index % 4);
    CHECK(folder.load(i).pixels == draw_shape(8, 1, index).pixels);
  }
  CHECK(std::distance(fs::directory_iterator(dir / "made/for"), fs::directory_iterator()) ==
        1);  // no temporary folder is left
}

TEST_CASE("an output that holds something is left alone; an earlier set can be replaced") {
  const TempDir dir;
  const std::string out = dir / "set";
  fs::create_directory(out);
  write_shapes(options_for(out));  // an empty folder is fine
  CHECK_THROWS_WITH_AS(write_shapes(options_for(out)), doctest::Contains("not empty"), IoError);
  ShapesOptions again = options_for(out, 4, 8, 2);
  again.replace = true;
  write_shapes(again);
  CHECK(ImageFolder(out).size() == 4);
  write_file(out + "/circle/mine.png", "x");
  CHECK_THROWS_WITH_AS(write_shapes(again), doctest::Contains("left alone"), IoError);
  fs::remove(out + "/circle/mine.png");
  write_file(out + "/notes.txt", "x");
  CHECK_THROWS_AS(write_shapes(again), IoError);
  CHECK(read_file(out + "/notes.txt") == "x");
  CHECK(ImageFolder(out).size() == 4);
  CHECK(dir.entries() == 1);
  write_file(dir / "file", "x");
  CHECK_THROWS_WITH_AS(write_shapes(options_for(dir / "file")), doctest::Contains("no folder"), IoError);
  CHECK_THROWS_AS(write_shapes(options_for(dir / "file/below")), IoError);
}

TEST_CASE("an interrupted run leaves nothing behind") {
  const TempDir dir;
  int asked = 0;
  CHECK_FALSE(write_shapes(options_for(dir / "set"), {.should_stop = [&] { return ++asked == 3; }}));
  CHECK(asked == 3);
  CHECK(dir.entries() == 0);
  struct Cancelled {};
  const auto cancel = [](std::int64_t, std::int64_t) { throw Cancelled{}; };
  CHECK_THROWS_AS(write_shapes(options_for(dir / "set"), {.on_progress = cancel}), Cancelled);
  CHECK(dir.entries() == 0);
}

TEST_CASE("options outside their range are refused") {
  const TempDir dir;
  CHECK_THROWS_AS(write_shapes(options_for("")), ValueError);
  CHECK_THROWS_AS(write_shapes(options_for(dir / "a", 0)), ValueError);
  CHECK_THROWS_AS(write_shapes(options_for(dir / "a", 4, 3)), ValueError);
  CHECK(dir.entries() == 0);
}

TEST_SUITE_END();

}  // namespace
}  // namespace llsa::nn
