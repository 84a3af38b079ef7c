// Whole or not at all: success, replacement, every failure, and no temporary left behind.
#include "core/atomic_file.h"

#include <doctest/doctest.h>

#include <cstring>
#include <filesystem>
#include <string>

#include "core/error.h"
#include "tests/support/child_process.h"
#include "tests/support/files.h"

using namespace llsa;
using namespace llsa::test;
namespace fs = std::filesystem;

TEST_SUITE_BEGIN("core/atomic_file");

TEST_CASE("a file is written, replaced, and dropped without commit") {
  TempDir dir;
  write_file_atomically(dir / "a", "one");
  CHECK(read_file(dir / "a") == "one");
  write_file_atomically(dir / "a", "");
  CHECK(read_file(dir / "a").empty());
  {
    AtomicFile file(dir / "a");
    file.write("unfinished");
    CHECK(dir.entries() == 2);
  }
  CHECK(read_file(dir / "a").empty());
  CHECK(dir.entries() == 1);
}

TEST_CASE("a link is followed, anything else that is no file refused") {
  TempDir dir;
  write_file_atomically(dir / "real", "old");
  fs::create_symlink("real", dir / "link");
  write_file_atomically(dir / "link", "new");
  CHECK(fs::is_symlink(dir / "link"));
  CHECK(read_file(dir / "real") == "new");
  CHECK_THROWS_AS(write_file_atomically(dir.path(), "x"), IoError);
  CHECK_THROWS_AS(write_file_atomically("/dev/null", "x"), IoError);
  CHECK_THROWS_AS(write_file_atomically(dir / "missing/file", "x"), IoError);
  CHECK(dir.entries() == 2);
}

TEST_CASE("a full disk leaves the old file and nothing else") {
  TempDir dir;
  write_file_atomically(dir / "a", "old");
  const int code = run_in_child([&] {
    limit_file_size(1000);
    try {
      write_file_atomically(dir / "a", std::string(5000, 'x'));
    } catch (const IoError& error) {
      return std::strstr(error.what(), "File too large") != nullptr ? 0 : 1;
    }
    return 2;
  });
  CHECK(code == 0);
  CHECK(read_file(dir / "a") == "old");
  CHECK(dir.entries() == 1);
}

TEST_CASE("a folder without permission is named with the reason") {
  TempDir dir;
  fs::permissions(dir.path(), fs::perms{0555});
  const int code = run_as_ordinary_user([&] {
    try {
      write_file_atomically(dir / "a", "x");
    } catch (const IoError& error) {
      return std::strstr(error.what(), "Permission denied") != nullptr && !error.hint().empty() ? 0 : 1;
    }
    return 2;
  });
  CHECK(code == 0);
  const int directory_code = run_as_ordinary_user([&] {
    try {
      AtomicDirectory made(dir / "d");
    } catch (const IoError&) {
      return 0;
    }
    return 2;
  });
  CHECK(directory_code == 0);
  fs::permissions(dir.path(), fs::perms{0755});
  CHECK(dir.entries() == 0);
}

TEST_CASE("a directory appears whole, is exchanged, and vanishes without commit") {
  TempDir dir;
  const auto make = [&](const std::string& content) {
    AtomicDirectory made((dir / "checkpoint") + "/");
    fs::create_directory(made.temporary() + "/sub");
    write_file(made.temporary() + "/sub/file", content);
    made.commit();
  };
  make("one");
  CHECK(read_file(dir / "checkpoint/sub/file") == "one");
  make("two");
  CHECK(read_file(dir / "checkpoint/sub/file") == "two");
  CHECK(dir.entries() == 1);
  {
    AtomicDirectory dropped(dir / "checkpoint");
    write_file(dropped.temporary() + "/file", "x");
  }
  CHECK(read_file(dir / "checkpoint/sub/file") == "two");
  CHECK(dir.entries() == 1);
  write_file(dir / "plain", "x");
  CHECK_THROWS_AS(AtomicDirectory(dir / "plain"), IoError);
  CHECK_THROWS_AS(AtomicDirectory(dir / "missing/d"), IoError);
}

TEST_CASE("what a killed writer leaves is recognised and removed") {
  TempDir dir;
  write_file(dir / "keep", "x");
  const int code = run_in_child([&] {
    AtomicFile file(dir / "a");
    file.write("half");
    AtomicDirectory made(dir / "d");
    write_file(made.temporary() + "/file", "x");
    _exit(0);  // as if killed: no destructor runs
    return 1;
  });
  CHECK(code == 0);
  CHECK(dir.entries() == 3);
  CHECK(remove_stale_temporaries(dir.path()) == 2);
  CHECK(dir.entries() == 1);
  CHECK(remove_stale_temporaries(dir / "absent") == 0);
  CHECK_THROWS_AS(remove_stale_temporaries(dir / "keep"), IoError);
}

TEST_CASE("only names of the pattern are temporaries") {
  CHECK(is_temporary_name(".model.json.tmp-12-3"));
  for (const char* name : {"model.json", ".hidden", "a.tmp-1-2", ".a.tmp-", ".a.tmp-1", ".a.tmp-1-",
                           ".a.tmp--1", ".a.tmp-1-x", ".tmp-1-2"}) {
    CHECK_FALSE(is_temporary_name(name));
  }
}

TEST_SUITE_END();
