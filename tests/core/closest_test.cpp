#include "core/closest.h"

#include <doctest/doctest.h>

using namespace llsa;

TEST_SUITE_BEGIN("core/closest");

TEST_CASE("edit distance") {
  CHECK(edit_distance("", "") == 0);
  CHECK(edit_distance("", "abc") == 3);
  CHECK(edit_distance("kitten", "sitting") == 3);
  CHECK(edit_distance("flaw", "lawn") == 2);
  CHECK(edit_distance("same", "same") == 0);
}

TEST_CASE("the closest word, if one is near") {
  CHECK(closest("stepz", {"seed", "steps", "batch"}) == "steps");
  CHECK(closest("x", {"y", "xy"}) == "y");
  CHECK(closest("temperature", {"steps", "lr"}).empty());
  CHECK(closest("a", {}).empty());
  CHECK(did_you_mean("stepz", {"seed", "steps"}) == "did you mean \"steps\"?");
  CHECK(did_you_mean("temperature", {"steps", "lr"}).empty());
}

TEST_SUITE_END();
