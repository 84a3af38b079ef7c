#include "nn/class_names.h"

#include <doctest/doctest.h>

#include "core/error.h"
#include "tests/support/text.h"

namespace llsa::nn {
namespace {

using llsa::test::contains;
using llsa::test::failure_of;

// As the scan of a folder sorts them.
const std::vector<std::string> kTwelve = {"0", "1", "10", "11", "2", "3", "4", "5", "6", "7", "8", "9"};

std::string refusal(const std::vector<std::string>& names, int classes, const std::string& wanted) {
  return failure_of<ValueError>([&] { find_class(names, classes, wanted); });
}

TEST_SUITE_BEGIN("nn/class_names");

TEST_CASE("a class named by a number is found by its name, not at that position") {
  for (std::size_t i = 0; i < kTwelve.size(); ++i)
    CHECK(find_class(kTwelve, 12, kTwelve[i]) == static_cast<std::int32_t>(i));
  CHECK(find_class(kTwelve, 12, "#2") == 2);
  CHECK(find_class({"#1", "a"}, 2, "#1") == 0);
}

TEST_CASE("a number is a position where no class is named by a number") {
  CHECK(find_class({"ring", "square"}, 2, "1") == 1);
  CHECK(find_class({}, 1000, "999") == 999);
  CHECK(find_class({}, 1000, "#0") == 0);
  // Here a 0 would be the class "1".
  CHECK(contains(refusal({"1", "2", "3"}, 3, "0"), "there is no class '0': expected one of 1, 2, 3"));
  CHECK(find_class({"1", "2", "3"}, 3, "#0") == 0);
}

TEST_CASE("what is no class is refused with the classes, and the closest of them") {
  for (const char* wanted : {"#2", "2", "-1", "#", "", "1x", "#-1", "99999999999"}) {
    CAPTURE(wanted);
    CHECK(contains(refusal({"ring", "square"}, 2, wanted),
                   "expected one of ring, square, or a position from #0 to #1"));
  }
  CHECK(contains(refusal({"ring", "square"}, 2, "sqare"), "did you mean \"square\"?"));
  CHECK(contains(refusal({}, 5, "ring"), "expected a position from #0 to #4"));
  CHECK(contains(refusal(std::vector<std::string>(30, "x"), 30, "ring"), "x and 20 more"));
}

TEST_SUITE_END();

}  // namespace
}  // namespace llsa::nn
