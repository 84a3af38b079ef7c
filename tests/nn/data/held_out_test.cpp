// Which images are held out: shares that stay as they are, folders with the same classes, refusals.
#include "nn/data/held_out.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "core/error.h"
#include "nn/data/shapes.h"
#include "tests/support/files.h"
#include "tests/support/text.h"

namespace {

using namespace llsa;
using namespace llsa::nn;
using llsa::test::contains;
using llsa::test::failure_of;
namespace fs = std::filesystem;

void make_shapes(const std::string& folder, std::int64_t count) {
  ShapesOptions options;
  options.out = folder;
  options.count = count;
  options.size = 4;
  options.replace = true;
  write_shapes(options);
}

HeldOutSplit split(const std::string& folder, const std::string& held_out, bool classes = true) {
  return hold_out(std::make_shared<const ImageFolder>(folder), held_out, {}, classes);
}

std::set<std::string> paths_of(const ImageFolder& folder) {
  std::set<std::string> paths;
  for (const ImageEntry& entry : folder.entries()) paths.insert(entry.path);
  return paths;
}

bool includes(const std::set<std::string>& all, const std::set<std::string>& some) {
  return std::includes(all.begin(), all.end(), some.begin(), some.end());
}

}  // namespace

TEST_SUITE_BEGIN("nn/data/held_out");

TEST_CASE("shares of a text") {
  CHECK(held_out_share("5%") == 0.05);
  CHECK(held_out_share("0.5%") == 0.005);
  CHECK(held_out_share("50%") == 0.5);
  for (const char* folder : {"", "5", "0.05", "some/folder", "50%/"}) CHECK_FALSE(held_out_share(folder));
  for (const char* wrong : {"%", "0%", "-1%", "50.1%", "nan%", "inf%", "5 %", "five%", "5%%"}) {
    CAPTURE(wrong);
    CHECK_THROWS_WITH_AS(held_out_share(wrong), doctest::Contains(wrong), ValueError);
  }
}

TEST_CASE("a share is disjoint from the rest, of about its size, and has the labels of the whole folder") {
  const test::TempDir dir;
  make_shapes(dir / "shapes", 400);
  const ImageFolder all(dir / "shapes");
  const HeldOutSplit parts = split(dir / "shapes", "20%");
  CHECK(parts.training->size() + parts.held_out->size() == 400);
  CHECK(parts.held_out->size() > 50);  // 80 are expected, with a deviation of 8
  CHECK(parts.held_out->size() < 110);
  std::set<std::string> together = paths_of(*parts.training);
  together.merge(paths_of(*parts.held_out));
  CHECK(together == paths_of(all));
  for (const auto& part : {parts.training, parts.held_out}) {
    CHECK(part->class_names() == all.class_names());
    for (const ImageEntry& entry : part->entries())
      CHECK(entry.path.rfind(all.class_names()[static_cast<std::size_t>(entry.label)] + "/", 0) == 0);
    CHECK(part->fingerprint() != all.fingerprint());
    CHECK_NOTHROW(part->load(part->size() - 1));
  }
  CHECK(includes(paths_of(*split(dir / "shapes", "40%").held_out), paths_of(*parts.held_out)));
}

TEST_CASE("shares are as large as they say, however the hashes of the contents lie") {
  constexpr int kImages = 20'000;
  for (const int shift : {0, 20, 49}) {
    for (const double share : {0.01, 0.05, 0.4}) {
      CAPTURE(shift);
      CAPTURE(share);
      int count = 0;
      for (int i = 0; i < kImages; ++i)
        count += static_cast<double>(image_hash({"a", 0, static_cast<std::uint64_t>(i) << shift})) * 0x1p-64 <
                 share;
      const double deviation = std::sqrt(kImages * share * (1 - share));
      CHECK(std::abs(count - kImages * share) < 4 * deviation);
    }
  }
}

TEST_CASE("images that are added change nothing for those that are there") {
  const test::TempDir dir;
  make_shapes(dir / "shapes", 100);
  const HeldOutSplit before = split(dir / "shapes", "25%");
  make_shapes(dir / "shapes", 200);  // image i of the set does not depend on the others
  const HeldOutSplit after = split(dir / "shapes", "25%");
  CHECK(includes(paths_of(*after.held_out), paths_of(*before.held_out)));
  CHECK(includes(paths_of(*after.training), paths_of(*before.training)));
  CHECK(after.held_out->size() > before.held_out->size());
}

// Earlier, a hash of the path chose the held-out images, so a copy of a training image could be held out.
TEST_CASE("an image stays on its side under other names, and its copies are there, too") {
  const test::TempDir dir;
  make_shapes(dir / "shapes", 60);
  const auto contents_of = [](const ImageFolder& folder) {
    std::set<std::uint64_t> contents;
    for (const ImageEntry& entry : folder.entries()) contents.insert(entry.content);
    return contents;
  };
  const HeldOutSplit before = split(dir / "shapes", "25%");
  fs::rename(dir / "shapes/ring", dir / "shapes/a ring");
  fs::copy(dir / "shapes/square", dir / "shapes/a copy");
  const HeldOutSplit after = split(dir / "shapes", "25%");
  CHECK(after.training->size() + after.held_out->size() == 75);
  CHECK(contents_of(*after.training) == contents_of(*before.training));
  CHECK(contents_of(*after.held_out) == contents_of(*before.held_out));
}

TEST_CASE("nothing held out: the training images are the folder itself") {
  const test::TempDir dir;
  make_shapes(dir / "shapes", 8);
  const auto images = std::make_shared<const ImageFolder>(dir / "shapes");
  const HeldOutSplit whole = hold_out(images, "", {}, true);
  CHECK(whole.training == images);
  CHECK_FALSE(whole.held_out);
}

TEST_CASE("a folder takes its labels from the classes of the training images") {
  const test::TempDir dir;
  make_shapes(dir / "shapes", 8);
  fs::create_directory(dir / "others");
  for (const char* name : {"square", "circle"})
    fs::copy((dir / "shapes/") + name, (dir / "others/") + name, fs::copy_options::recursive);
  const ImageFolder training(dir / "shapes");
  HeldOutSplit parts = split(dir / "shapes", dir / "others");
  CHECK(parts.training->fingerprint() == training.fingerprint());
  CHECK(parts.held_out->size() == 4);
  CHECK(parts.held_out->class_names() == training.class_names());
  CHECK(parts.held_out->entries().front().path.rfind("circle/", 0) == 0);
  CHECK(parts.held_out->entries().front().label == 0);
  CHECK(parts.held_out->entries().back().path.rfind("square/", 0) == 0);
  CHECK(parts.held_out->entries().back().label == 2);

  fs::rename(dir / "others/square", dir / "others/hexagon");
  const std::string unknown = failure_of<ValueError>([&] { split(dir / "shapes", dir / "others"); });
  CHECK(contains(unknown, "'hexagon'"));
  CHECK(contains(unknown, "rename"));
  CHECK(split(dir / "shapes", dir / "others", false).held_out->size() == 4);  // labels are not used

  fs::copy(dir / "shapes/ring", dir / "flat");
  CHECK(contains(failure_of<ValueError>([&] { split(dir / "shapes", dir / "flat"); }), "has none"));
  CHECK(split(dir / "flat", dir / "shapes", false).held_out->size() == 8);
}

TEST_CASE("too few images on one side are refused") {
  const test::TempDir dir;
  make_shapes(dir / "shapes", 8);
  const std::string none = failure_of<ValueError>([&] { split(dir / "shapes", "0.0001%"); });
  CHECK(contains(none, "came to 0 held out and 8 left to train on"));
  fs::create_directory(dir / "one");
  for (int i = 0;; ++i) {  // until one image alone falls into the half
    const std::string name = (dir / "one/") + std::to_string(i) + ".png";
    write_png(name, draw_shape(4, 1, i));
    const std::string message = failure_of<ValueError>([&] { split(dir / "one", "50%"); });
    fs::remove(name);
    if (contains(message, "1 held out and 0 left")) break;
    REQUIRE(contains(message, "0 held out and 1 left"));
    REQUIRE(i < 100);
  }
}

TEST_CASE("a folder that is not there names both forms") {
  const test::TempDir dir;
  make_shapes(dir / "shapes", 4);
  const std::string message = failure_of<IoError>([&] { split(dir / "shapes", dir / "0.05"); });
  CHECK(contains(message, "0.05"));
  CHECK(contains(message, "such as 5%"));
}

TEST_CASE("images that are on both sides are refused, whatever their names are") {
  const test::TempDir dir;
  make_shapes(dir / "shapes", 8);
  const auto refused = [&](const std::string& held_out) {
    const std::string message = failure_of<ValueError>([&] { split(dir / "shapes", held_out, false); });
    return contains(message, "is also a training image") && contains(message, "apart");
  };
  CHECK(refused(dir / "shapes"));
  CHECK(refused(dir / "shapes/ring"));
  fs::create_directory(dir / "linked");
  fs::create_symlink(fs::directory_iterator(dir / "shapes/ring")->path(), dir / "linked/a.png");
  CHECK(refused(dir / "linked"));
}

TEST_CASE("copies of training images among the held-out ones are counted and named") {
  const test::TempDir dir;
  make_shapes(dir / "shapes", 8);
  const HeldOutSplit share = split(dir / "shapes", "50%");
  CHECK(copies_text(*share.training, *share.held_out).empty());
  fs::create_directory(dir / "others");
  fs::copy_file(fs::directory_iterator(dir / "shapes/ring")->path(), dir / "others/a.png");
  write_png(dir / "others/b.png", draw_shape(4, 2, 1));
  const HeldOutSplit parts = split(dir / "shapes", dir / "others", false);
  const std::string text = copies_text(*parts.training, *parts.held_out);
  CHECK(contains(text, "1 of 2 held-out images are training images, too"));
  CHECK(contains(text, "others/a.png is a copy of "));
}

TEST_SUITE_END();
