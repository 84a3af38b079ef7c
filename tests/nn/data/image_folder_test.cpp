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
  return failure_of<IoError>([&] { const ImageFolder folder(path); });
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

TEST_CASE("sub-folders are classes at any depth, empty ones are warned of") {
  const TempDir dir;
  put(dir, "cat/1.png", rgb_png(2, 2));
  put(dir, "cat/deep/er/2.png", rgb_png(2, 2));
  put(dir, "ant-x/0.png", rgb_png(2, 2));
  put(dir, "ant/9.png", rgb_png(2, 2));
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
  CHECK(contains(reason_of(folder, "broken/1.png"), "not an image"));
  REQUIRE(folder.warnings().size() == 2);
  CHECK(contains(folder.warnings()[0], "1 file was left out"));
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
  REQUIRE(folder.warnings().size() == 1);
  CHECK(contains(folder.warnings()[0], "10 files were left out: cut.bmp (ends early"));
  options.exif = false;
  CHECK(contains(ImageFolder(dir.path(), options).warnings().back(), "1 image has an EXIF orientation"));
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
  CHECK(contains(refusal(dir / "empty"), "looked for PNG, JPEG"));
  put(dir, "bad/x/1.png", {'x', 'y', 'z'});
  put(dir, "bad/x/2.txt", {'x'});
  const std::string message = refusal(dir / "bad");
  CHECK(contains(message, "found 1 that cannot be used (x/1.png: not an image"));
  CHECK(contains(message, "1 other files"));
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

// Earlier, one image in a sub-folder turned all others into images without a class, which were left out.
TEST_CASE("images beside folders with images are an error with both counts and the ways out") {
  const TempDir dir;
  for (const char* name : {"0.png", "1.png", "2.png", "rejected/3.png"}) put(dir, name, rgb_png(2, 2));
  const std::string message = failure_of<ValueError>([&] { const ImageFolder folder(dir.path()); });
  CHECK(contains(message, "holds 3 images beside 1 folder with 1 image (rejected)"));
  CHECK(contains(message, "--classes none takes all 4"));
  CHECK(contains(message, "--classes folders takes the folders as classes and leaves the 3"));

  const ImageFolder all(dir.path(), {}, Classes::none);
  CHECK(all.size() == 4);
  CHECK(all.class_names().empty());
  const ImageFolder classes(dir.path(), {}, Classes::folders);
  CHECK(paths_of(classes) == std::vector<std::string>{"rejected/3.png"});
  CHECK(contains(reason_of(classes, "1.png"), "no class"));
  REQUIRE(classes.warnings().size() == 2);
  CHECK(contains(classes.warnings()[0], "3 files were left out: 0.png"));
  CHECK(contains(classes.warnings()[1], "all images are of one class, rejected"));

  fs::remove_all(dir / "rejected");
  CHECK(ImageFolder(dir.path()).size() == 3);
  CHECK(contains(failure_of<ValueError>([&] { ImageFolder(dir.path(), {}, Classes::folders); }),
                 "expected sub-folders with images"));
}

TEST_CASE("folders that are the parts of a data set are no classes") {
  const TempDir dir;
  put(dir, "train/cat/0.png", rgb_png(2, 2));
  put(dir, "train/dog/1.png", rgb_png(2, 2));
  put(dir, "val/cat/2.png", rgb_png(2, 2));
  const std::string message = failure_of<ValueError>([&] { const ImageFolder folder(dir.path()); });
  CHECK(contains(message, "train with 2 images, val with 1 image"));
  CHECK(contains(message, "take " + dir.path() + "/train as the training images (and " + dir.path() +
                              "/val as --held-out)"));
  CHECK(ImageFolder(dir.path(), {}, Classes::none).size() == 3);
  CHECK(ImageFolder(dir.path(), {}, Classes::folders).class_names().size() == 2);
  CHECK(ImageFolder(dir / "train").class_names() == std::vector<std::string>{"cat", "dog"});
  put(dir, "boat/4.png", rgb_png(2, 2));  // now "train" is a class like others
  CHECK(ImageFolder(dir.path()).class_names() == std::vector<std::string>{"boat", "train", "val"});
}

TEST_CASE("what systems leave in folders is no data, at any depth and in any case of letters") {
  const TempDir dir;
  for (const char* name : {"0.png", "1.png"}) put(dir, name, rgb_png(2, 2));
  for (const char* litter : {"@eaDir/0.png/SYNOPHOTO_THUMB_M.png", "$RECYCLE.BIN/$R1.png", "__MACOSX/._0.png",
                             "__MACOSX/0.png", "System Volume Information/a.png", "lost+found/#12.png",
                             ".Trash-1000/files/a.png", "#recycle/a.png", ".thumbnails/a.png", "Thumbs.db",
                             "desktop.ini", "._0.png", ".DS_Store", "Network Trash Folder/a.png"})
    put(dir, litter, rgb_png(2, 2));
  const ImageFolder folder(dir.path());
  CHECK(paths_of(folder) == std::vector<std::string>{"0.png", "1.png"});
  CHECK(folder.warnings().empty());
  CHECK(folder.litter() == std::vector<std::string>{"#recycle", "$RECYCLE.BIN", "@eaDir",
                                                    "Network Trash Folder", "System Volume Information",
                                                    "Thumbs.db", "__MACOSX", "desktop.ini", "lost+found"});
  put(dir, "classes/cat/@EADIR/a.png", rgb_png(2, 2));
  put(dir, "classes/cat/a.png", rgb_png(2, 2));
  CHECK(ImageFolder(dir / "classes").size() == 1);
}

TEST_CASE("folders of runs and of drawn images are no training data; one may be given by itself") {
  const TempDir dir;
  put(dir, "0.png", rgb_png(2, 2));
  put(dir, "runs/a/config.json", {'{', '}'});
  put(dir, "runs/a/checkpoints/step_000000001/x.json", {'{', '}'});
  put(dir, "runs/a/samples/step_000000001.png", rgb_png(2, 2));
  put(dir, "sweep/table.json", {'{', '}'});
  put(dir, "sweep/table.md", {'|'});
  put(dir, "sweep/plots/grids.png", rgb_png(2, 2));
  put(dir, "drawn/000000.png", rgb_png(2, 2));
  write_file(dir / "drawn/labels.csv", "file,class,seed\n000000.png,cat,0\n");
  const ImageFolder folder(dir.path());
  CHECK(paths_of(folder) == std::vector<std::string>{"0.png"});
  CHECK(folder.not_data() == std::vector<std::string>{"drawn", "runs/a", "sweep"});
  REQUIRE(folder.warnings().size() == 1);
  CHECK(contains(folder.warnings()[0], "drawn, runs/a, sweep were left out"));

  const ImageFolder drawn(dir / "drawn");  // as llsa eval --images reads it
  CHECK(drawn.size() == 1);
  CHECK(contains(drawn.warnings()[0], "a model has drawn"));
  write_file(dir / "drawn/labels.csv", "file,label\n000000.png,cat\n");  // somebody else's
  CHECK(contains(failure_of<ValueError>([&] { const ImageFolder f(dir.path()); }),
                 "1 folder with 1 image (drawn)"));
  put(dir, "both/0.png", rgb_png(2, 2));  // --data both --out both
  fs::copy(dir / "runs/a", dir / "both", fs::copy_options::recursive);
  CHECK(paths_of(ImageFolder(dir / "both")) == std::vector<std::string>{"0.png"});
}

TEST_CASE("files are taken by their content; formats that are not read are counted and named") {
  const TempDir dir;
  put(dir, "a.jfif", make_jpeg());
  put(dir, "b.jpe", make_jpeg());
  put(dir, "c.apng", rgb_png(2, 2));
  put(dir, "d", rgb_png(2, 2));
  put(dir, "e.jpg", rgb_png(2, 2));
  const auto write = [&](const char* name, std::string bytes) {
    bytes.resize(600, 'x');
    write_file(dir / name, bytes);
  };
  using namespace std::literals;
  write("1.avif", "\0\0\0\x1c\x66typavif"s);
  write("2.heic", "\0\0\0\x1c\x66typheic"s);
  write("3.jpg", "\0\0\0\x1c\x66typmif1"s);
  write("4.tif", "II*\0"s);
  write("5", "MM\0*"s);
  write("6.jxl", "\xff\x0a"s);
  write("7.svg", "<?xml version=\"1.0\"?>\n<svg");
  write("8.psd", "8BPS");
  write("9.jp2", "\0\0\0\x0cjP  \r\n\x87\n"s);
  write("images.zip", "PK\3\4");
  write("BMW is a car.txt", "BM is no bitmap");
  write("P6 too.txt", "P6. No image.");
  write("page.html", "<html>");
  const ImageFolder folder(dir.path());
  CHECK(paths_of(folder) == std::vector<std::string>{"a.jfif", "b.jpe", "c.apng", "d", "e.jpg"});
  CHECK(folder.skipped().empty());
  CHECK(folder.other_files() == 3);
  std::string found;
  for (const UnreadFormat& format : folder.unread_formats())
    found += cat(format.format, " ", format.count, " ", format.first, "; ");
  CHECK(found ==
        "AVIF 1 1.avif; HEIC 2 2.heic; JPEG 2000 1 9.jp2; JPEG XL 1 6.jxl; PSD 1 8.psd; SVG 1 7.svg; "
        "TIFF 2 4.tif; ZIP archive 1 images.zip; ");
  CHECK(folder.warnings().size() == 8);
  CHECK(contains(folder.warnings()[1],
                 "2 HEIC files were left out (2.heic, ...), the format is not read: convert"));
  for (const char* name : {"a.jfif", "b.jpe", "c.apng", "d", "e.jpg"}) fs::remove(dir / name);
  CHECK(contains(refusal(dir.path()), "1 ZIP archive (images.zip)"));
}

TEST_CASE("classes are listed with their counts, few or many") {
  const TempDir dir;
  put(dir, "cat/0.png", rgb_png(2, 2));
  put(dir, "cat/1.png", rgb_png(2, 2));
  put(dir, "dog/0.png", rgb_png(2, 2));
  CHECK(ImageFolder(dir.path()).class_summary() == "cat (2), dog (1)");
  for (int i = 0; i < 30; ++i) put(dir, cat("many/", 100 + i, "/0.png"), rgb_png(2, 2));
  put(dir, "many/129/1.png", rgb_png(2, 2));
  const std::string text = ImageFolder(dir / "many").class_summary();
  CHECK(text.starts_with("100 (1), 101 (1), "));
  CHECK(text.ends_with("119 (1), and 10 more; the smallest has 1, the largest 2"));
}

TEST_CASE("the fingerprint follows names, classes and contents") {
  const TempDir dir;
  put(dir, "a/1.png", rgb_png(2, 2));
  put(dir, "b/2.png", rgb_png(2, 2));
  const std::uint64_t before = ImageFolder(dir.path()).fingerprint();
  CHECK(ImageFolder(dir.path()).fingerprint() == before);
  put(dir, "b/3.png", rgb_png(2, 2));
  CHECK(ImageFolder(dir.path()).fingerprint() != before);
  fs::remove(dir / "b/3.png");
  put(dir, "b/2.png", rgb_png(2, 2, 1));  // other pixels, of the same size
  CHECK(ImageFolder(dir.path()).fingerprint() != before);
  CHECK(ImageFolder(dir.path()).matches(ImageFolder(dir.path()).fingerprint()));
  CHECK_FALSE(ImageFolder(dir.path()).matches(before));
  put(dir, "b/2.png", rgb_png(2, 2));
  CHECK(ImageFolder(dir.path()).fingerprint() == before);
  fs::rename(dir / "b", dir / "c");
  CHECK(ImageFolder(dir.path()).fingerprint() != before);
}

TEST_CASE("a change at either end of a large file is seen, and its size") {
  Bytes bytes(100'000, 7);
  const auto hash = [](const Bytes& file) {
    ByteSource source(file.data(), file.size(), "a");
    return content_hash(source);
  };
  const std::uint64_t before = hash(bytes);
  CHECK(hash(bytes) == before);
  CHECK(hash(head(bytes, 99'999)) != before);
  for (const std::size_t at : {std::size_t{0}, std::size_t{8191}, std::size_t{91'808}, std::size_t{99'999}}) {
    bytes[at] = 8;
    CHECK(hash(bytes) != before);
    bytes[at] = 7;
  }
  for (const std::size_t size : {std::size_t{1}, std::size_t{8192}, std::size_t{8193}, std::size_t{16'384}}) {
    const Bytes whole = head(bytes, size);
    for (std::size_t at = 0; at < size; at += 511) {
      Bytes changed = whole;
      changed[at] = 8;
      CHECK(hash(changed) != hash(whole));
    }
  }
}

TEST_SUITE_END();

}  // namespace
}  // namespace llsa::nn
