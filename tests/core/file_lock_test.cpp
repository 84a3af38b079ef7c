#include "core/file_lock.h"

#include <doctest/doctest.h>

#include <optional>

#include "core/error.h"
#include "tests/support/files.h"

using namespace llsa;

TEST_SUITE_BEGIN("core/file_lock");

TEST_CASE("one has the lock until it gives it back") {
  const test::TempDir dir;
  const std::string path = dir / "lock";
  std::optional<FileLock> first(std::in_place, path);
  CHECK(first->held());
  CHECK_FALSE(FileLock(path).held());
  CHECK(FileLock(dir / "other").held());
  CHECK(FileLock::is_taken(path));
  first.reset();
  CHECK_FALSE(FileLock::is_taken(path));
  CHECK(FileLock(path).held());
}

TEST_CASE("a lock that cannot be opened") {
  const test::TempDir dir;
  CHECK_THROWS_WITH_AS(FileLock(dir / "missing/lock"), doctest::Contains("cannot open"), IoError);
  CHECK_FALSE(FileLock::is_taken(dir / "missing"));
  CHECK_FALSE(std::filesystem::exists(dir / "missing"));
}

TEST_SUITE_END();
