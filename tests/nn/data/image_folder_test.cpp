// Scanning rules of image folders, on trees made for the purpose.
#include "nn/data/image_folder.h"

#include <doctest/doctest.h>

#include <sys/stat.h>
#include <filesystem>

#include "core/error.h"
#include "tests/nn/data/image_bytes.h"
#include "tests/support/child_process.h"
#include "tests/support/files.h"
#include "tests/support/text.h"

namespace llsa::nn {
namespace {

namespace fs = std::filesystem;
using namespace llsa::test;

void put(const TempDir& dir, const std::string& path, const Bytes& bytes) {
  fs::create_directories(fs::path(dir / path).parent_path());
  write_file(dir / path, as_text(bytes));
}

std::vector<std::string> paths_of(const ImageFolder& folder) {
  std::vector<std::string> paths;
  for (const auto& entry : folder.entries()) paths.push_back(entry.path);
  return paths;
}

std::string reason_of(const ImageFolder& folder, const std::string& path) {
  for (const auto& skipped : folder.skipped()) {
    if (skipped.path == path) return skipped.reason;
  }
  return "(not skipped)";
}

std::string refusal(const std::string& path) {
  try {
    const ImageFolder folder(path);
  } catch (const IoError& error) {
    return error.what();
  }
  return {};
}

TEST_SUITE_BEGIN("nn/data/image_folder");

TEST_CASE("a flat folder has no classes; order is that of the names") {
  const TempDir dir;
  put(dir, "b.png", rgb_png(2, 2, 1));
  put(dir, "a.PPM", make_pnm(2, 2, test_pixels(2, 2)));
  put(dir, "C.Jpg", make_jpeg());
  put(dir, "notes.txt", {'x'});
  put(dir, ".hidden.png", {'x'});
  put(dir, ".git/x.png", {'x'});
  const ImageFolder folder(dir.path() + "//");
  CHECK(folder.root() == dir.path());
  CHECK(paths_of(folder) == std::vector<std::string>{"C.Jpg", "a.PPM", "b.png"});
  CHECK(folder.class_names().empty());
  CHECK(folder.class_counts() == std::vector<std::int64_t>{3});
  CHECK(folder.skipped().empty());
  CHECK(folder.other_files() == 1);
  CHECK(folder.warnings().empty());
  CHECK(folder.load(2).pixels == test_pixels(2, 2, 1));
  CHECK_THROWS_AS(folder.load(3), ValueError);
  CHECK_THROWS_AS(folder.load(-1), ValueError);
}

TEST_CASE("sub-folders are classes at any depth, stray and empty ones are warned of") {
  const TempDir dir;
  put(dir, "cat/1.png", rgb_png(2, 2));
  put(dir, "cat/deep/er/2.png", rgb_png(2, 2));
  put(dir, "ant-x/0.png", rgb_png(2, 2));
  put(dir, "ant/9.png", rgb_png(2, 2));
  put(dir, "stray.png", rgb_png(2, 2));
  put(dir, "zoo/readme.md", {'x'});
  put(dir, "broken/1.png", {'x'});
  const ImageFolder folder(dir.path());
  CHECK(folder.class_names() == std::vector<std::string>{"ant", "ant-x", "cat"});
  CHECK(folder.class_counts() == std::vector<std::int64_t>{1, 1, 2});
  CHECK(paths_of(folder) ==
        std::vector<std::string>{"ant-x/0.png", "ant/9.png", "cat/1.png", "cat/deep/er/2.png"});
  CHECK(folder.entries()[0].label == 1);
  CHECK(folder.entries()[1].label == 0);
  CHECK(folder.entries()[3].label == 2);
  CHECK(contains(reason_of(folder, "stray.png"), "no class"));
  CHECK(contains(reason_of(folder, "broken/1.png"), "not an image"));
  REQUIRE(folder.warnings().size() == 2);
  CHECK(contains(folder.warnings()[0], "2 files were left out"));
  CHECK(contains(folder.warnings()[1], "broken, zoo"));
}

TEST_CASE("bad files are left out with their reasons, the rest is used") {
  const TempDir dir;
  const Bytes rgb = test_pixels(6, 5);
  put(dir, "good.png", rgb_png(6, 5));
  put(dir, "zero.png", {});
  put(dir, "text.jpg", {'h', 'e', 'l', 'l', 'o'});
  put(dir, "cut.png", head(rgb_png(6, 5), 90));
  put(dir, "cut.jpg", head(make_jpeg(), make_jpeg().size() / 2));
  put(dir, "cut.bmp", head(make_bmp(6, 5, rgb), 100));
  put(dir, "cut.tga", head(make_tga(6, 5, rgb), 60));
  put(dir, "cut.ppm", head(make_pnm(6, 5, rgb), 60));
  put(dir, "large.png", rgb_png(20, 20));
  fs::create_symlink("nowhere.png", dir / "dangling.png");
  REQUIRE(mkfifo((dir / "pipe.png").c_str(), 0644) == 0);
  put(dir, "turned.jpg", make_jpeg(8));
  DecodeOptions options;
  options.max_pixels = 399;
  const ImageFolder folder(dir.path(), options);
  CHECK(paths_of(folder) == std::vector<std::string>{"good.png", "turned.jpg"});
  CHECK(folder.skipped().size() == 10);
  CHECK(reason_of(folder, "zero.png") == "the file is empty");
  CHECK(contains(reason_of(folder, "text.jpg"), "not an image"));
  for (const char* name : {"cut.png", "cut.jpg", "cut.bmp", "cut.tga", "cut.ppm"}) {
    CAPTURE(name);
    CHECK(contains(reason_of(folder, name), "ends early"));
  }
  CHECK(contains(reason_of(folder, "large.png"), "too large: 20 x 20 pixels"));
  CHECK(contains(reason_of(folder, "dangling.png"), "leads nowhere"));
  CHECK(contains(reason_of(folder, "pipe.png"), "not a regular file"));
  CHECK(folder.rotated_files() == 1);
  REQUIRE(folder.warnings().size() == 2);
  CHECK(contains(folder.warnings()[0], "10 files were left out: cut.bmp (ends early"));
  CHECK(contains(folder.warnings()[1], "EXIF"));
}

TEST_CASE("links: loops end, a folder counts once and under its real name") {
  const TempDir dir;
  put(dir, "b/real/1.png", rgb_png(2, 2));
  fs::create_directory_symlink("..", dir / "b/up");
  fs::create_directory_symlink("b/real", dir / "a");
  fs::create_directory_symlink(".", dir / "self");
  const TempDir elsewhere;
  put(elsewhere, "2.png", rgb_png(2, 2));
  fs::create_directory_symlink(elsewhere.path(), dir / "c");
  fs::create_symlink("real/1.png", dir / "b/linked.png");
  const ImageFolder folder(dir.path());
  CHECK(paths_of(folder) == std::vector<std::string>{"b/linked.png", "b/real/1.png", "c/2.png"});
  CHECK(folder.class_names() == std::vector<std::string>{"b", "c"});
}

TEST_CASE("missing, empty and hopeless folders are errors that say what was looked for") {
  const TempDir dir;
  CHECK(contains(refusal(dir / "absent"), "absent: No such file"));
  write_file(dir / "file.png", as_text(rgb_png(1, 1)));
  CHECK(contains(refusal(dir / "file.png"), "is not a folder"));
  fs::create_directory(dir / "empty");
  CHECK(contains(refusal(dir / "empty"), "looked for *.png, *.jpg"));
  put(dir, "bad/x/1.png", {'x', 'y', 'z'});
  put(dir, "bad/x/2.txt", {'x'});
  const std::string message = refusal(dir / "bad");
  CHECK(contains(message, "found 1 files with such a name and 1 others"));
  CHECK(contains(message, "x/1.png: not an image"));
}

TEST_CASE("what may not be read is left out with a warning, or an error if it is everything") {
  const TempDir dir;
  put(dir, "images/open/1.png", rgb_png(2, 2));
  put(dir, "images/open/2.png", rgb_png(2, 2));
  put(dir, "images/shut/3.png", rgb_png(2, 2));
  put(dir, "locked/4.png", rgb_png(2, 2));
  REQUIRE(chmod((dir / "images/open/2.png").c_str(), 0) == 0);
  REQUIRE(chmod((dir / "images/shut").c_str(), 0) == 0);
  REQUIRE(chmod((dir / "locked").c_str(), 0) == 0);
  const int code = run_as_ordinary_user([&] {
    const ImageFolder folder(dir / "images");
    if (paths_of(folder) != std::vector<std::string>{"open/1.png"}) return 1;
    if (!contains(reason_of(folder, "open/2.png"), "Permission denied")) return 2;
    if (!contains(reason_of(folder, "shut"), "Permission denied")) return 3;
    if (!contains(refusal(dir / "locked"), "Permission denied")) return 4;
    return 0;
  });
  chmod((dir / "images/shut").c_str(), 0755);
  chmod((dir / "locked").c_str(), 0755);
  CHECK(code == 0);
}

TEST_CASE("the fingerprint follows names and classes") {
  const TempDir dir;
  put(dir, "a/1.png", rgb_png(2, 2));
  put(dir, "b/2.png", rgb_png(2, 2));
  const std::uint64_t before = ImageFolder(dir.path()).fingerprint();
  CHECK(ImageFolder(dir.path()).fingerprint() == before);
  put(dir, "b/3.png", rgb_png(2, 2));
  CHECK(ImageFolder(dir.path()).fingerprint() != before);
  fs::remove(dir / "b/3.png");
  fs::rename(dir / "b", dir / "c");
  CHECK(ImageFolder(dir.path()).fingerprint() != before);
}

TEST_SUITE_END();

}  // namespace
}  // namespace llsa::nn
