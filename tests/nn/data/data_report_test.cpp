// The report before a run: formats, sizes, copies, damage that the scan does not see, the choice for a contact sheet.
#include "nn/data/data_report.h"

#include <doctest/doctest.h>

#include <filesystem>

#include "core/error.h"
#include "tests/nn/data/image_bytes.h"
#include "tests/support/files.h"
#include "tests/support/text.h"

namespace llsa::nn {
namespace {

using namespace llsa::test;

void put(const TempDir& dir, const std::string& path, const Bytes& bytes) {
  std::filesystem::create_directories(std::filesystem::path(dir / path).parent_path());
  write_file(dir / path, as_text(bytes));
}

TEST_SUITE_BEGIN("nn/data/data_report");

TEST_CASE("formats, sizes, copies within and across classes, damage inside the pixels") {
  const TempDir dir;
  put(dir, "cat/0.png", rgb_png(6, 4));
  put(dir, "cat/1.png", rgb_png(6, 4, 1));
  put(dir, "cat/same as 0.png", rgb_png(6, 4));
  put(dir, "dog/0.jpg", make_jpeg());
  put(dir, "dog/a cat.png", rgb_png(6, 4, 1));
  put(dir, "dog/turned.jpg", make_jpeg(6));
  put(dir, "dog/long.ppm", make_pnm(40, 3, test_pixels(40, 3)));
  Bytes damaged = rgb_png(6, 4, 2);
  damaged[60] ^= 1;  // the header is whole
  put(dir, "dog/damaged.png", damaged);
  // Two files whose hashes are equal: they differ in the middle.
  Bytes large = make_pnm(100, 100, test_pixels(100, 100));
  put(dir, "cat/large.ppm", large);
  large[15'000] ^= 1;
  put(dir, "cat/other.ppm", large);

  ThreadPool pool(2);
  const ImageFolder folder(dir.path());
  REQUIRE(folder.size() == 10);
  std::int64_t reported = 0;
  Callbacks callbacks;
  callbacks.on_progress = [&](std::int64_t done, std::int64_t total) { reported = done * 100 + total; };
  const DataReport report = report_on(pool, folder, 5, 4, callbacks);
  CHECK(reported == 1010);
  CHECK(report.formats == std::map<std::string, std::int64_t>{{"JPEG", 2}, {"PNG", 4}, {"PNM", 3}});
  CHECK(report.usable.size() == 9);
  REQUIRE(report.damaged.size() == 1);
  CHECK(report.damaged[0].path == "dog/damaged.png");
  CHECK(contains(report.damaged[0].reason, "wrong checksum"));
  CHECK(report.smallest[0] == 4);
  CHECK(report.smallest[1] == 6);
  CHECK(report.largest[0] == 100);
  CHECK(report.median_side == 4);
  CHECK(report.enlarged == 5);  // four are 4 pixels high, one 3
  std::vector<std::string> copies;
  for (const auto& group : report.copies) {
    std::string text;
    for (const std::int64_t i : group) text += folder.entries()[static_cast<std::size_t>(i)].path + "; ";
    copies.push_back(text);
  }
  CHECK(copies == std::vector<std::string>{"cat/0.png; cat/same as 0.png; ", "cat/1.png; dog/a cat.png; "});
  CHECK(report.copies_across_classes == 1);
}

TEST_CASE("a file that disappears after it was decoded is named as gone") {
  const TempDir dir;
  for (const char* name : {"a.png", "b.png", "c.png", "d.png"}) put(dir, name, rgb_png(2, 2));
  put(dir, "e.png", rgb_png(3, 3));
  ThreadPool pool(1);
  const ImageFolder folder(dir.path());
  Callbacks callbacks;
  callbacks.on_progress = [&](std::int64_t, std::int64_t) {
    std::filesystem::remove(dir / "a.png");
    std::filesystem::remove(dir / "c.png");
  };
  const DataReport report = report_on(pool, folder, 2, 2, callbacks);
  CHECK(report.usable == std::vector<std::int64_t>{1, 3, 4});
  CHECK(report.formats.at("PNG") == 3);
  CHECK(report.copies == std::vector<std::vector<std::int64_t>>{{1, 3}});
  REQUIRE(report.damaged.size() == 2);
  CHECK(report.damaged[0].path == "a.png");
  CHECK(contains(report.damaged[0].reason, "gone since it was decoded: "));
  CHECK(report.damaged[1].path == "c.png");
}

TEST_CASE("images are chosen from all classes alike, and stand together by class") {
  const TempDir dir;
  for (int i = 0; i < 12; ++i) put(dir, cat("many/", i, ".png"), rgb_png(2, 2, i));
  for (int i = 0; i < 2; ++i) put(dir, cat("few/", i, ".png"), rgb_png(2, 2, i));
  const ImageFolder folder(dir.path());
  std::vector<std::int64_t> usable;
  for (std::int64_t i = 1; i < folder.size(); ++i) usable.push_back(i);  // few/0.png is not
  const auto chosen = choose_images(folder, usable, 6);
  REQUIRE(chosen.size() == 6);
  CHECK(chosen[0] == 1);
  for (std::size_t i = 1; i < 6; ++i) CHECK(chosen[i] >= 2);
  CHECK(choose_images(folder, usable, 6) == chosen);
  CHECK(choose_images(folder, usable, 100).size() == 13);
  CHECK(choose_images(folder, {}, 5).empty());
}

TEST_SUITE_END();

}  // namespace
}  // namespace llsa::nn
