// The list of images in a checkpoint, and what changed since.
#include "nn/data/image_list.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

namespace llsa::nn {
namespace {

using Entries = std::vector<ImageEntry>;

TEST_SUITE_BEGIN("nn/data/image_list");

TEST_CASE("a list is read as it was written, whatever the paths are") {
  const Entries entries = {
      {"a b/\n 1.png", 0, 0}, {"caf\xe9.png", 7, ~std::uint64_t{0}}, {"z", 2147483647, 12}};
  const std::string text = image_list(entries);
  CHECK(text.substr(text.find('\0') + 1, 22) == "18446744073709551615 7");
  const auto read = parse_image_list(text);
  REQUIRE(read);
  REQUIRE(read->size() == 3);
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK((*read)[i].path == entries[i].path);
    CHECK((*read)[i].label == entries[i].label);
    CHECK((*read)[i].content == entries[i].content);
  }
  CHECK(parse_image_list("")->empty());
}

TEST_CASE("what is no list is read as none") {
  using namespace std::literals;
  for (const std::string& text :
       {"1 0 a.png"s, "1 0 a.png\0b"s, "1 a.png\0"s, "a.png\0"s, "\0"s, "x 0 a.png\0"s, "1 -  a.png\0"s,
        "18446744073709551616 0 a.png\0"s, "1 2147483648 a.png\0"s})
    CHECK_MESSAGE(!parse_image_list(text), text);
}

TEST_CASE("changes are counted by path, and the first few are named") {
  const Entries before = {{"a", 0, 1}, {"b", 0, 2}, {"c", 1, 3}, {"d", 1, 4}};
  CHECK(image_changes(before, before) == "0 images added, 0 removed, 0 changed");
  CHECK(image_changes(before, {{"a", 0, 9}, {"b", 1, 2}, {"bb", 0, 2}, {"d", 1, 4}}) ==
        "1 image added (bb), 1 removed (c), 2 changed (a, b)");
  CHECK(image_changes({}, before) == "4 images added (a, b, c and 1 more), 0 removed, 0 changed");
  CHECK(image_changes(before, {}) == "0 images added, 4 removed (a, b, c and 1 more), 0 changed");
}

TEST_SUITE_END();

}  // namespace
}  // namespace llsa::nn
