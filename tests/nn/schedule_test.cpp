#include "nn/schedule.h"

#include <doctest/doctest.h>

#include "core/error.h"

namespace llsa::nn {

TEST_SUITE_BEGIN("nn/schedule");

TEST_CASE("constant") {
  const Schedule s{Schedule::Kind::constant, 0.5, 0, 100, 0.05};
  CHECK(s.at(0) == 0.5);
  CHECK(s.at(99) == 0.5);
}

TEST_CASE("warm-up rises linearly to the rate") {
  const Schedule s{Schedule::Kind::constant, 0.8, 4, 100, 0.05};
  CHECK(s.at(0) == doctest::Approx(0.2));
  CHECK(s.at(1) == doctest::Approx(0.4));
  CHECK(s.at(3) == doctest::Approx(0.8));
  CHECK(s.at(4) == doctest::Approx(0.8));
}

TEST_CASE("cosine goes from the rate after the warm-up to its fraction at the last step") {
  const Schedule s{Schedule::Kind::cosine, 2.0, 10, 111, 0.05};
  CHECK(s.at(9) == doctest::Approx(2.0));
  CHECK(s.at(10) == doctest::Approx(2.0));
  CHECK(s.at(60) == doctest::Approx(0.5 * (2.0 + 0.1)));
  CHECK(s.at(110) == doctest::Approx(0.1));
  for (std::int64_t n = 10; n < 110; ++n) CHECK(s.at(n + 1) < s.at(n));
  CHECK(s.at(500) == doctest::Approx(0.1));
}

TEST_CASE("degenerate lengths stay finite") {
  const Schedule one{Schedule::Kind::cosine, 1.0, 0, 1, 0.05};
  CHECK(one.at(0) == 1.0);
  const Schedule all_warm{Schedule::Kind::cosine, 1.0, 5, 5, 0.05};
  CHECK(all_warm.at(4) == 1.0);
}

TEST_CASE("names and errors") {
  CHECK(schedule_kind("cosine") == Schedule::Kind::cosine);
  CHECK(name_of(schedule_kind("constant")) == "constant");
  CHECK_THROWS_AS(schedule_kind("linear"), ValueError);
  CHECK_THROWS_AS((Schedule{Schedule::Kind::constant, 0.0, 0, 1, 0.05}.validate()), ValueError);
  CHECK_THROWS_AS((Schedule{Schedule::Kind::constant, 1.0, -1, 1, 0.05}.validate()), ValueError);
  CHECK_THROWS_AS((Schedule{Schedule::Kind::constant, 1.0, 0, 0, 0.05}.validate()), ValueError);
  CHECK_THROWS_AS((Schedule{Schedule::Kind::cosine, 1.0, 0, 1, 1.5}.validate()), ValueError);
}

TEST_SUITE_END();

}  // namespace llsa::nn
