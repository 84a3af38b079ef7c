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
  CHECK(closest("--clas", {"--clip", "--classes"}) == "--classes");
  CHECK(closest("evalu", {"eval_every", "evaluation"}) == "evaluation");
  CHECK(closest("temperature", {"steps", "lr"}).empty());
  CHECK(closest("a", {}).empty());
  CHECK(did_you_mean("stepz", {"seed", "steps"}) == "did you mean \"steps\"?");
  CHECK(did_you_mean("temperature", {"steps", "lr"}).empty());
}

TEST_CASE("a list says how many of its words are not shown") {
  CHECK(listed({}).empty());
  CHECK(listed({"a", "b"}) == "a, b");
  CHECK(listed(std::vector<std::string>(10, "x")) == "x, x, x, x, x, x, x, x, x, x");
  CHECK(listed({"a", "b", "c"}, 2) == "a, b and 1 more");
  CHECK(listed(std::vector<std::string>(12, "x")) == "x, x, x, x, x, x, x, x, x, x and 2 more");
}

TEST_SUITE_END();
