// tuning.json of a run: what is read, what is refused. Files with choices of a device: tests/kernels/cuda.
#include "nn/checkpoint/tuning_file.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <string>

#include "core/error.h"
#include "tests/support/files.h"

using namespace llsa;
using llsa::nn::TuningFile;

TEST_SUITE_BEGIN("nn/tuning_file");

namespace {

const std::string kAlgorithm(128, 'a');

/// A sound file of a machine that is none; its check was computed apart from the code.
std::string sound() {
  return R"({"machine": "another machine", "products": {"f32 [2,3] times [3,4], plain": ")" + kAlgorithm +
         R"("}, "check": "0add5efbc39c18aa"})";
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

}  // namespace

TEST_CASE("another machine's choices are left out with a sentence that names both") {
  const test::TempDir dir;
  Context ctx(1);
  test::write_file(dir / "tuning.json", sound());
  TuningFile file(dir / "tuning.json");
  const std::string note = file.restore(ctx);
  for (const std::string& part : {dir / "tuning.json", std::string("another machine"), std::string("cpu")}) {
    CAPTURE(part);
    CHECK(note.find(part) != std::string::npos);
  }
  file.save(ctx);  // of a context without choices: the file stays
  CHECK(test::read_file(dir / "tuning.json") == sound());
}

TEST_CASE("no file is no error, and none is written without choices") {
  const test::TempDir dir;
  Context ctx(1);
  TuningFile file(dir / "tuning.json");
  CHECK(file.restore(ctx).empty());
  file.save(ctx);
  file.remove();
  CHECK(dir.entries() == 0);
  test::write_file(dir / "tuning.json", sound());
  file.remove();
  CHECK(dir.entries() == 0);
}

TEST_CASE("a damaged file is an error that names it and says what to do") {
  const test::TempDir dir;
  Context ctx(1);
  const std::string cases[] = {
      "",
      sound().substr(0, sound().size() / 2),
      "[]",
      replaced(sound(), "another", "an other"),
      replaced(sound(), "aaaa", "aaab"),
      replaced(sound(), "[2,3]", "[3,3]"),
      replaced(sound(), "products", "produce"),
      replaced(sound(), R"("another machine")", "7"),
      replaced(sound(), '"' + kAlgorithm + '"', "null"),
      replaced(sound(), R"("check": ")", R"("check": "0)"),
      replaced(sound(), R"("machine")", R"("colour": 1, "machine")"),
      R"({"machine": "another machine", "products": {}})",
  };
  for (const std::string& text : cases) {
    CAPTURE(text);
    test::write_file(dir / "tuning.json", text);
    try {
      TuningFile(dir / "tuning.json").restore(ctx);
      FAIL("taken as sound");
    } catch (const ValueError& error) {
      CHECK(std::string(error.what()).find(dir / "tuning.json") != std::string::npos);
      CHECK(error.hint().find("remove it") != std::string::npos);
    }
  }
  std::filesystem::remove(dir / "tuning.json");
  std::filesystem::create_directory(dir / "tuning.json");
  CHECK_THROWS_AS(TuningFile(dir / "tuning.json").restore(ctx), IoError);
}

TEST_SUITE_END();
