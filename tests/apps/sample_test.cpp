// Many images: the folder that `llsa sample --each` fills, and its treatment of images of an earlier call.
#include <doctest/doctest.h>

#include <filesystem>
#include <string>

#include "apps/llsa/sample_folder.h"
#include "core/context.h"
#include "core/error.h"
#include "tests/support/files.h"
#include "tests/support/program.h"
#include "tests/support/text.h"

namespace {

using namespace llsa;
using apps::Earlier;
using apps::SampleFolder;
using llsa::test::contains;
using llsa::test::failure_of;
using llsa::test::llsa_program;
using llsa::test::Outcome;
using llsa::test::read_file;
using llsa::test::TempDir;
namespace fs = std::filesystem;

Tensor images(Context& ctx, std::int64_t n) { return ctx.zeros({n, 3, 2, 2}, DType::f32); }

void draw(Context& ctx, const std::string& path, const apps::SampleLabels& labels, Earlier earlier,
          std::int64_t n) {
  SampleFolder(path, labels, earlier).add(images(ctx, n));
}

}  // namespace

TEST_SUITE_BEGIN("apps/sample");

TEST_CASE("the table names file, class and seed, and quotes names as spreadsheets do") {
  Context ctx(1);
  const TempDir dir;
  const std::string path = dir / "drawn";
  SampleFolder folder(path, {{"ring", "a, \"b\"", "two\nlines"}, 7}, Earlier::refuse);
  folder.add(images(ctx, 2));
  CHECK(folder.done() == 2);
  CHECK(read_file(path + "/labels.csv") ==
        "file,class,seed\n000000.png,ring,7\n000001.png,\"a, \"\"b\"\"\",7\n");  // written as it goes
  folder.add(images(ctx, 2));
  CHECK(contains(read_file(path + "/labels.csv"), "000002.png,\"two\nlines\",7\n000003.png,ring,7\n"));
  CHECK(fs::exists(path + "/000003.png"));
  SampleFolder(dir / "plain", {{}, 1}, Earlier::refuse).add(images(ctx, 1));
  CHECK(read_file(dir / "plain/labels.csv") == "file,class,seed\n000000.png,,1\n");
}

TEST_CASE("images of an earlier call are named, never mixed with new ones") {
  Context ctx(1);
  const TempDir dir;
  const std::string path = dir / "drawn";
  const apps::SampleLabels labels{{"a", "b"}, 0};
  draw(ctx, path, labels, Earlier::refuse, 3);
  const std::string table = read_file(path + "/labels.csv");
  CHECK(
      contains(failure_of<IoError>([&] { draw(ctx, path, labels, Earlier::refuse, 1); }),
               "holds 3 images already: 000000.png, 000001.png, 000002.png | give another folder, go on with "
               "--resume, or remove them with --replace"));
  CHECK(read_file(path + "/labels.csv") == table);

  draw(ctx, path, {{"c"}, 1}, Earlier::replace, 1);
  CHECK(read_file(path + "/labels.csv") == "file,class,seed\n000000.png,c,1\n");
  CHECK_FALSE(fs::exists(path + "/000001.png"));

  test::write_file(path + "/cat.JPG", "mine");
  for (const Earlier earlier : {Earlier::replace, Earlier::resume})
    CHECK(contains(failure_of<IoError>([&] {
                     draw(ctx, path, {{"c"}, 1}, earlier, 1);
                   }),
                   "holds images that llsa sample has not drawn: cat.JPG | move them away"));
  fs::remove(path + "/cat.JPG");
  fs::remove(path + "/labels.csv");  // without it nobody knows who drew 000000.png
  CHECK(contains(failure_of<IoError>([&] {
                   draw(ctx, path, {{"c"}, 1}, Earlier::replace, 1);
                 }),
                 "has not drawn: 000000.png"));
  CHECK(fs::exists(path + "/000000.png"));
}

TEST_CASE("an interrupted call goes on where its table is whole") {
  Context ctx(1);
  const TempDir dir;
  const std::string path = dir / "drawn", table = path + "/labels.csv";
  const apps::SampleLabels labels{{"a", "b, c"}, 5};
  const auto resumed_at = [&] { return SampleFolder(path, labels, Earlier::resume).done(); };
  CHECK(resumed_at() == 0);  // nothing to go on with yet
  draw(ctx, path, labels, Earlier::resume, 3);
  CHECK(resumed_at() == 3);
  test::write_file(path + "/.000003.png.tmp-999999999-0", "half");  // of a killed process
  draw(ctx, path, labels, Earlier::resume, 2);
  CHECK(resumed_at() == 5);
  CHECK_FALSE(fs::exists(path + "/.000003.png.tmp-999999999-0"));
  const std::string whole = read_file(table);
  for (std::size_t length = 0; length <= whole.size(); ++length) {  // killed anywhere in the table
    test::write_file(table, whole.substr(0, length));
    std::int64_t rows = 0;
    for (std::size_t i = 16; i < length; ++i) rows += whole[i] == '\n';
    CHECK(resumed_at() == rows);
    CHECK((length < 16 ? read_file(table).size() == 16 : whole.rfind(read_file(table), 0) == 0));
  }
  fs::remove(path + "/000003.png");
  CHECK(resumed_at() == 3);
  CHECK(contains(failure_of<ValueError>([&] {
                   SampleFolder(path, {{"a"}, 5}, Earlier::resume);
                 }),
                 "expected the row \"000001.png,a,5\", got \"000001.png,\"b, c\",5\""));
  CHECK(contains(failure_of<ValueError>([&] {
                   SampleFolder(path, {{"a", "b, c"}, 6}, Earlier::resume);
                 }),
                 "other classes or another seed"));
  test::write_file(table, "path,label\n");
  CHECK(contains(failure_of<ValueError>(resumed_at), "does not begin with"));
}

TEST_CASE("an interrupted call goes on only with the settings that it had") {
  Context ctx(1);
  const TempDir dir;
  const std::string path = dir / "drawn";
  const apps::SampleLabels labels{{"a"}, 5};
  const auto settings = [](const std::string& checkpoint, const std::string& weights, double guidance) {
    return nn::JsonWriter().add("weights", weights).add("checkpoint", checkpoint).add("guidance", guidance);
  };
  const auto refusal = [&](const nn::JsonWriter& now) {
    return failure_of<ValueError>([&] { SampleFolder(path, labels, Earlier::resume, now); });
  };
  SampleFolder(path, labels, Earlier::resume, settings("/a", "1", 1.5)).add(images(ctx, 2));
  const std::string table = read_file(path + "/labels.csv"), stored = read_file(path + "/sample.json");
  CHECK(SampleFolder(path, labels, Earlier::resume, settings("/a", "1", 1.5)).done() == 2);
  CHECK(SampleFolder(path, labels, Earlier::resume, settings("/moved", "1", 1.5)).done() == 2);
  CHECK(refusal(settings("/b", "2", 2)) ==
        "the images in " + path +
            " were drawn otherwise: weights \"1\", now \"2\"; checkpoint \"/a\", now \"/b\"; guidance 1.5, "
            "now 2.0 | "
            "draw as in the earlier call, give another folder, or remove its images with --replace");
  CHECK(contains(refusal(settings("/a", "2", 1.5)), "otherwise: weights \"1\", now \"2\" |"));
  CHECK(read_file(path + "/labels.csv") == table);
  CHECK(read_file(path + "/sample.json") == stored);

  // Calls of earlier versions have left no settings, so nothing is known of them.
  fs::remove(path + "/sample.json");
  CHECK(SampleFolder(path, labels, Earlier::resume, settings("/a", "1", 3)).done() == 2);
  CHECK_FALSE(fs::exists(path + "/sample.json"));
  CHECK(SampleFolder(path, labels, Earlier::replace, settings("/a", "1", 3)).done() == 0);
  CHECK(contains(refusal(settings("/a", "1", 4)), "guidance 3.0, now 4.0"));
}

TEST_CASE("images are drawn batch by batch, the same with and without an interruption, and as in one batch") {
  const TempDir dir;
  const std::string data = dir / "data", run = dir / "run";
  for (const char* name : {"10", "2", "3"}) {
    fs::create_directories(dir / ("data/" + std::string(name)));
    REQUIRE(llsa_program("data shapes --count 4 --size 8 --out " + (dir / "shapes") + " --replace").code ==
            0);
    fs::copy(dir / "shapes/ring", dir / ("data/" + std::string(name)), fs::copy_options::recursive);
  }
  REQUIRE(
      llsa_program(
          "train --data " + data + " --out " + run +
          " --size 8 --dim 16 --heads 2 --depth 1 --steps 1 --sample-every 0 --threads 1 --init published")
          .code == 0);
  const auto sample = [&](const std::string& more) {
    return llsa_program("sample " + run + " --steps 2 " + more);
  };
  const std::string whole = dir / "whole", parts = dir / "parts";
  CHECK(sample("--count 7 --each " + whole + " --out " + (dir / "grid.png")).code == 0);
  CHECK(read_file(whole + "/labels.csv") ==
        "file,class,seed\n000000.png,10,0\n000001.png,2,0\n000002.png,3,0\n000003.png,10,0\n000004.png,2,0\n"
        "000005.png,3,0\n000006.png,10,0\n");
  const Outcome again = sample("--count 7 --each " + whole);
  CHECK(again.code == 1);
  CHECK(contains(again.text, "holds 7 images already"));
  CHECK(sample("--count 3 --batch 2 --each " + parts).code == 0);
  CHECK(sample("--count 7 --batch 3 --each " + parts + " --resume").code == 0);
  CHECK(read_file(parts + "/labels.csv") == read_file(whole + "/labels.csv"));
  for (const char* other :
       {"--guidance 4", "--steps 3", "--sampler heun", "--seed 1", "--size 16", "--dtype bf16"}) {
    const Outcome mixed = sample("--count 8 --resume --each " + parts + " " + other);
    CHECK_MESSAGE(mixed.code == 1, other);
    CHECK_MESSAGE(contains(mixed.text, "were drawn otherwise: "), mixed.text);
  }
  for (int i = 0; i < 7; ++i) {
    const std::string name = "/00000" + std::to_string(i) + ".png";
    CHECK(read_file(parts + name) == read_file(whole + name));
  }
  CHECK(sample("--count 1 --class 2 --each " + parts + " --replace").code ==
        0);  // by name: "2" is at position 1
  CHECK(read_file(parts + "/labels.csv") == "file,class,seed\n000000.png,2,0\n");
  CHECK(sample("--count 1 --class '#2' --each " + parts + " --replace").code == 0);
  CHECK(read_file(parts + "/labels.csv") == "file,class,seed\n000000.png,3,0\n");
  CHECK(sample("--count 1 --resume --out " + (dir / "g.png")).code == 2);
  CHECK(sample("--count 1 --resume --replace --each " + parts).code == 2);
  CHECK(contains(sample("--count 1 --resume --each " + parts + " --out " + (dir / "g.png")).text,
                 "expected no --out"));
  CHECK(contains(sample("--count 100000 --size 1024 --out " + (dir / "g.png")).text,
                 "is too large"));  // before any work
}

TEST_SUITE_END();
