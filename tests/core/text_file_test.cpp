#include "core/text_file.h"

#include <doctest/doctest.h>

#include "core/error.h"
#include "tests/support/files.h"
#include "tests/support/text.h"

using namespace llsa;
using llsa::test::contains;
using llsa::test::failure_of;

TEST_SUITE_BEGIN("core/text_file");

TEST_CASE("a file is read whole, up to the longest that is expected") {
  const test::TempDir dir;
  const std::string path = dir / "text", text(100'000, 'x');
  test::write_file(path, text);
  CHECK(read_text_file(path) == text);
  CHECK(read_text_file(path, text.size()) == text);
  CHECK(contains(failure_of<IoError>([&] { read_text_file(path, text.size() - 1); }),
                 "expected at most 99999 bytes of text, it has more | is it the file that you mean?"));
}

TEST_CASE("a device that never ends, a folder and a missing file are refused") {
  const test::TempDir dir;
  CHECK(contains(failure_of<IoError>([] { read_text_file("/dev/zero"); }), "/dev/zero: expected at most"));
  CHECK(contains(failure_of<IoError>([&] { read_text_file(dir.path()); }), "directory"));
  CHECK(contains(failure_of<IoError>([&] { read_text_file(dir / "missing"); }), "cannot open"));
}

TEST_SUITE_END();
