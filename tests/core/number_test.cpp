#include "core/number.h"

#include <doctest/doctest.h>

#include <cstdint>

using namespace llsa;

TEST_SUITE_BEGIN("core/number");

TEST_CASE("a number is the whole text") {
  CHECK(as_number<int>("-7") == -7);
  CHECK(as_number<double>("2.5e-3") == 2.5e-3);
  for (const char* text : {"", " 7", "7 ", "+7", "7x", "7,5", "seven"}) {
    CAPTURE(text);
    CHECK_FALSE(as_number<int>(text));
    CHECK_FALSE(as_number<double>(text));
  }
}

TEST_CASE("a number that the type cannot hold is none") {
  CHECK(as_number<std::int32_t>("2147483647") == INT32_MAX);
  CHECK_FALSE(as_number<std::int32_t>("2147483648"));
  CHECK_FALSE(as_number<std::uint64_t>("-1"));
  CHECK_FALSE(as_number<int>("2.5"));
  CHECK_FALSE(as_number<double>("1e999"));
}

TEST_SUITE_END();
