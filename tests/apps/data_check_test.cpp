// `llsa data check` as a user meets it.
#include <doctest/doctest.h>

#include <filesystem>
#include <string>

#include "nn/data/image_io.h"
#include "tests/nn/data/image_bytes.h"
#include "tests/support/files.h"
#include "tests/support/program.h"
#include "tests/support/text.h"

namespace {

using namespace llsa::test;

void put(const TempDir& dir, const std::string& path, const Bytes& bytes) {
  std::filesystem::create_directories(std::filesystem::path(dir / path).parent_path());
  write_file(dir / path, as_text(bytes));
}

}  // namespace

TEST_SUITE_BEGIN("apps/data_check");

TEST_CASE("the report names what is taken and what is not; the contact sheet shows one row per class") {
  const TempDir dir;
  put(dir, "photos/cat/0.png", rgb_png(20, 10));
  put(dir, "photos/cat/1.jpe", make_jpeg(6));
  put(dir, "photos/dog/0.png", rgb_png(10, 10));
  put(dir, "photos/dog/cut.png", head(rgb_png(10, 10), 100));
  put(dir, "photos/@eaDir/0.png", rgb_png(2, 2));
  write_file(dir / "photos/dog/a.tif", std::string("II*\0....", 8));
  const Outcome report =
      llsa_program("data check " + (dir / "photos") + " --size 8 --contact-sheet " + (dir / "sheet.png"));
  CAPTURE(report.text);
  CHECK(report.code == 0);
  for (const char* line :
       {"3 usable images", "JPEG      1", "PNG       2", "sizes: 8 x 8 to 10 x 20",
        "classes: 2: cat (2), dog (1)", "turned by their EXIF orientation: 1", "dog/cut.png: ends early",
        "1 TIFF, the first is dog/a.tif", "left by other programs: 1", "@eaDir"})
    CHECK_MESSAGE(contains(report.text, line), line);
  // Two rows and two columns of 8 x 8 images, scaled by 8, with a margin of 2.
  const llsa::nn::Image sheet = llsa::nn::decode_image(dir / "sheet.png");
  CHECK(sheet.height == 2 * 64 + 3 * 2);
  CHECK(sheet.width == 2 * 64 + 3 * 2);

  const Outcome json = llsa_program("data check " + (dir / "photos") + " --json 2>/dev/null");
  CHECK(contains(json.text, R"("usable": 3)"));
  CHECK(contains(json.text, R"("classes": {"cat": 2, "dog": 1})"));
  CHECK(contains(json.text, R"("unread_formats": {"TIFF": 1})"));
}

TEST_CASE("the exit code is that of training: unclear classes are reported, then refused") {
  const TempDir dir;
  put(dir, "photos/0.png", rgb_png(2, 2));
  put(dir, "photos/rejected/1.png", rgb_png(2, 2, 1));
  const Outcome unclear = llsa_program("data check " + (dir / "photos"));
  CHECK(unclear.code == 1);
  CHECK(contains(unclear.text, "2 usable images"));
  CHECK(contains(unclear.text, "--classes none takes all 2"));
  CHECK(llsa_program("data check " + (dir / "photos") + " --classes folders").code == 0);
  CHECK(llsa_program("data check " + (dir / "absent")).code == 1);
  CHECK(llsa_program("data check " + (dir / "photos") + " --classes some").code == 2);
  const Outcome inside = llsa_program("data check " + (dir / "photos") + " --classes none --contact-sheet " +
                                      (dir / "photos/rejected/../sheet.png"));
  CHECK(inside.code == 2);
  CHECK(contains(inside.text, "would become a training image"));
  CHECK_FALSE(std::filesystem::exists(dir / "photos/sheet.png"));
}

TEST_CASE("training names its classes, and takes nothing from a run or from drawn images below its data") {
  const TempDir dir;
  for (const char* name : {"cat/0.png", "cat/1.png", "dog/0.png"})
    put(dir, std::string("photos/") + name, rgb_png(8, 8));
  const std::string photos = dir / "photos", run = photos + "/runs/a";
  const std::string train = "train --data " + photos + " --out " + run +
                            " --size 8 --dim 8 --heads 1 --depth 1 --batch 2 --threads 1 --sample-every 1 "
                            "--sample-count 2 --sample-steps 1";
  const Outcome first = llsa_program(train + " --steps 1");
  CHECK(first.code == 0);
  CHECK(contains(first.text, "classes: cat (2), dog (1)"));
  REQUIRE(std::filesystem::exists(run + "/samples/step_000000001.png"));
  put(dir, "photos/drawn/000000.png", rgb_png(8, 8));
  write_file(photos + "/drawn/labels.csv", "file,class,seed\n000000.png,cat,0\n");
  const Outcome resumed = llsa_program("train --resume --steps 2 --out " + run);
  CHECK_MESSAGE(resumed.code == 0, resumed.text);
  CHECK(contains(resumed.text, "drawn, runs/a were left out"));
  put(dir, "photos/cat/1.png", rgb_png(8, 8, 1));  // another image under the same name
  const Outcome changed = llsa_program("train --resume --steps 3 --out " + run);
  CHECK(changed.code == 1);
  CHECK_MESSAGE(contains(changed.text, photos + " are not those of the saved run"), changed.text);
}

TEST_SUITE_END();
