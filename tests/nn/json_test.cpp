#include "nn/json.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "core/error.h"
#include "tests/support/text.h"

namespace llsa::nn {

namespace {

using llsa::test::contains;
using llsa::test::failure_of;

}  // namespace

TEST_SUITE_BEGIN("nn/json");

TEST_CASE("values come back as they are, defaults where they are missing") {
  JsonObject json(
      R"({"b": true, "i": -3, "d": 2.5, "s": "x", "list": [1, 2], "one": 7, "none": null, "o": {"k": 1}})",
      "f");
  CHECK(json.boolean("b", false));
  CHECK(json.integer("i", 0, -10, 10) == -3);
  CHECK(json.number("d", 0, 0, 10) == 2.5);
  CHECK(json.number("i", 0, -10, 10) == -3.0);
  CHECK(json.string("s", "") == "x");
  CHECK(json.integers("list", {}, 0, 9) == std::vector<std::int64_t>{1, 2});
  CHECK(json.integers("one", {}, 0, 9) == std::vector<std::int64_t>{7});
  CHECK(json.absent_or_null("none"));
  CHECK(json.absent_or_null("missing"));
  CHECK_FALSE(json.absent_or_null("b"));
  JsonObject inner = json.object("o");
  CHECK(inner.integer("k", 0, 0, 9) == 1);
  inner.finish();
  CHECK(json.integer("absent", 42, 0, 99) == 42);
  json.finish();
}

TEST_CASE("what other readers let pass is an error that names key, expectation and value") {
  JsonObject json(R"({"negative": -1, "fraction": 2.7, "huge": 18446744073709551615, "flag": 1, "text": 3,
                      "word": "fast", "list": [1, "x"], "empty": [], "whole": 2.0, "o": 3})",
                  "config.json");
  CHECK(failure_of<ValueError>([&] { json.integer("negative", 0, 0, 10); }) ==
        "[config.json] key \"negative\": expected an integer from 0 to 10, got the integer -1");
  CHECK(contains(failure_of<ValueError>([&] { json.integer("fraction", 0, 0, 10); }), "got the number 2.7"));
  CHECK(contains(failure_of<ValueError>([&] { json.integer("whole", 0, 0, 10); }), "got the number 2.0"));
  CHECK(contains(failure_of<ValueError>([&] { json.integer("huge", 0, INT64_MIN, INT64_MAX); }),
                 "18446744073709551615"));
  CHECK(contains(failure_of<ValueError>([&] { json.integer("text", 0, 0, 2); }),
                 "from 0 to 2, got the integer 3"));
  CHECK(contains(failure_of<ValueError>([&] { json.boolean("flag", false); }),
                 "expected true or false, got the integer 1"));
  CHECK(contains(failure_of<ValueError>([&] { json.string("text", ""); }), "expected a string"));
  CHECK(contains(failure_of<ValueError>([&] { json.number("word", 0, 0, 1); }),
                 "expected a number from 0 to 1, got the string"));
  CHECK(contains(failure_of<ValueError>([&] {
                   json.choice("word", "a", {"slow", "quick"});
                 }),
                 "one of \"slow\", \"quick\""));
  CHECK(contains(failure_of<ValueError>([&] {
                   json.choice("word", "a", {"slow", "faster", "fist"});
                 }),
                 "got the string \"fast\" | did you mean \"fist\"?"));
  CHECK(contains(failure_of<ValueError>([&] { json.integers("list", {}, 0, 9); }), "[1,\"x\"]"));
  CHECK(contains(failure_of<ValueError>([&] { json.integers("empty", {}, 0, 9); }), "list of integers"));
  CHECK(contains(failure_of<ValueError>([&] { json.object("o"); }), "expected an object"));
}

TEST_CASE("malformed documents") {
  CHECK(contains(failure_of<ValueError>([] { JsonObject("{\"a\": 1,}", "f"); }),
                 "is not valid JSON: parse error at line 1"));
  CHECK(contains(failure_of<ValueError>([] { JsonObject("", "f"); }), "is not valid JSON"));
  CHECK(contains(failure_of<ValueError>([] { JsonObject("[1]", "f"); }), "expected a JSON object"));
  CHECK(contains(failure_of<ValueError>([] { JsonObject("{\"a\": NaN}", "f"); }), "is not valid JSON"));
  CHECK(contains(failure_of<ValueError>([] { JsonObject("{\"a\": 1e999}", "f"); }), "is not valid JSON"));
  CHECK(contains(failure_of<ValueError>([] { JsonObject("{\"a\": 1, \"b\": 2, \"a\": 3}", "f"); }),
                 "\"a\" is given twice"));
  CHECK(contains(failure_of<ValueError>([] { JsonObject("{\"a\": {\"c\": 1, \"c\": 2}}", "f"); }),
                 "\"c\" is given twice"));
  CHECK(JsonObject("{\"a\": {\"c\": 1}, \"b\": {\"c\": 2}}", "f").has("b"));
}

TEST_CASE("a document that would overflow the stack is refused") {
  const int levels = 100'000;
  const std::string opened(levels, '['), closed(levels, ']');
  for (const std::string& text : {opened, opened + closed, R"({"a": )" + opened + closed + "}"})
    CHECK(failure_of<ValueError>([&] { JsonObject(text, "f"); }) ==
          "[f] is nested deeper than 32 objects and lists");
  JsonObject deep("{\"a\": " + std::string(30, '[') + std::string(30, ']') + "}", "f");
  CHECK(contains(failure_of<ValueError>([&] { deep.integer("a", 0, 0, 1); }), "got the list [["));
}

TEST_CASE("unknown keys are named, with the nearest known one") {
  JsonObject json(R"({"patch_sise": 2})", "f");
  json.integer("patch_size", 1, 1, 9);
  CHECK(json.unread() == std::vector<std::string>{"patch_sise"});
  CHECK(failure_of<ValueError>([&] { json.finish(); }) ==
        "[f] unknown key \"patch_sise\" | did you mean \"patch_size\"?");
}

TEST_CASE("the writer's text reads back to the same bits") {
  JsonWriter writer;
  writer.add("b", true).add("i", INT64_MIN).add("third", 1.0 / 3.0).add("s", "a\"b\n").add_null("n");
  writer.add("l", std::vector<std::int64_t>{1, 2}).add("w", std::vector<std::string>{"x", "y"});
  writer.add("o", JsonWriter().add("k", 0.1))
      .add("nan", std::nan(""))
      .add("inf", -std::numeric_limits<double>::infinity());
  for (const std::string& text : {writer.line(), writer.pretty()}) {
    JsonObject json(text, "f");
    CHECK(json.boolean("b", false));
    CHECK(json.integer("i", 0, INT64_MIN, INT64_MAX) == INT64_MIN);
    CHECK(json.number("third", 0, 0, 1) == 1.0 / 3.0);
    CHECK(json.string("s", "") == "a\"b\n");
    CHECK(json.absent_or_null("n"));
    CHECK(json.integers("l", {}, 0, 9) == std::vector<std::int64_t>{1, 2});
    CHECK(json.object("o").number("k", 0, 0, 1) == 0.1);
    CHECK(json.string("nan", "") == "NaN");
    CHECK(json.string("inf", "") == "-Infinity");
  }
  CHECK(JsonWriter().add("a", 1).add("b", "x").line() == "{\"a\": 1, \"b\": \"x\"}");
  CHECK(JsonWriter().add("a", 1).pretty() == "{\n  \"a\": 1\n}\n");
  CHECK_NOTHROW(JsonWriter().add("file", "\xff\xfe").line());
}

TEST_SUITE_END();

}  // namespace llsa::nn
