#include "core/checksum.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <set>
#include <string>

#include "core/error.h"
#include "tests/support/files.h"

TEST_SUITE_BEGIN("core/checksum");

TEST_CASE("the checksum is xxHash64") {
  const auto sum = [](const std::string& text) { return llsa::checksum(text.data(), text.size()); };
  CHECK(sum("") == 0xef46db3751d8e999u);
  CHECK(sum("a") == 0xd24ec4f1a98c6e5bu);
  CHECK(sum("abc") == 0x44bc2cf5ad770999u);
  CHECK(sum("Nobody inspects the spammish repetition") == 0xfbcea83c8a378bf1u);
}

TEST_CASE("every flipped bit and every length gives another checksum") {
  const std::string text(77, 'x');
  std::set<std::uint64_t> sums;
  for (std::size_t length = 0; length <= text.size(); ++length)
    sums.insert(llsa::checksum(text.data(), length));
  for (std::size_t bit = 0; bit < 8 * text.size(); ++bit) {
    std::string flipped = text;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    sums.insert(llsa::checksum(flipped.data(), flipped.size()));
  }
  CHECK(sums.size() == 78 + 8 * 77);
}

TEST_CASE("the checksum of a file, empty or not; a file that is not there") {
  const llsa::test::TempDir dir;
  llsa::test::write_file(dir / "abc", "abc");
  llsa::test::write_file(dir / "empty", "");
  CHECK(llsa::file_checksum(dir / "abc") == "44bc2cf5ad770999");
  CHECK(llsa::file_checksum(dir / "empty") == "ef46db3751d8e999");
  CHECK_THROWS_WITH_AS(llsa::file_checksum(dir / "none"), doctest::Contains("none"), llsa::IoError);
}

TEST_SUITE_END();
