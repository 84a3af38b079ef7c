#include "apps/llsa/progress.h"

#include <doctest/doctest.h>

#include <limits>
#include <string>

using namespace llsa;

TEST_SUITE_BEGIN("apps/progress");

TEST_CASE("the progress line shows every field of a report") {
  nn::StepReport report;
  report.step = 40;
  report.steps = 300;
  report.loss = 0.43216;
  report.gradient_norm = 1.2345;
  report.learning_rate = 3e-4;
  report.tokens_per_second = 15'200;
  report.data_wait = 0.034;
  report.remaining_seconds = 754;
  report.memory.active = std::size_t{12} << 20;
  report.memory.peak = std::size_t{48} << 20;
  report.memory.cached = std::size_t{3} << 10;
  CHECK(apps::report_text(report) ==
        "step 40/300  loss 0.4322  |grad| 1.23  lr 3.00e-04  15.2k tok/s  ETA 12:34  data 3%  mem 12 MiB "
        "(peak 48 MiB, cached 3.0 KiB)");
  report.held_out_loss = 0.51237;
  CHECK(
      apps::report_text(report) ==
      "step 40/300  loss 0.4322  held-out 0.5124  |grad| 1.23  lr 3.00e-04  15.2k tok/s  ETA 12:34  data 3%  "
      "mem 12 MiB (peak 48 MiB, cached 3.0 KiB)");
}

TEST_CASE("times, counts and bytes as text") {
  CHECK(apps::clock_text(0) == "0:00");
  CHECK(apps::clock_text(65.4) == "1:05");
  CHECK(apps::clock_text(7384) == "2:03:04");
  for (const double unknown : {-1.0, 1e9, std::numeric_limits<double>::quiet_NaN()})
    CHECK(apps::clock_text(unknown) == "?");
  CHECK(apps::count_text(812) == "812");
  CHECK(apps::count_text(12'345) == "12.3k");
  CHECK(apps::count_text(4'560'000) == "4.56M");
  CHECK(apps::bytes_text(830) == "830 B");
  CHECK(apps::bytes_text(1536) == "1.5 KiB");
  CHECK(apps::bytes_text(830 * 1024) == "830 KiB");
  CHECK(apps::bytes_text(12.4 * 1024 * 1024) == "12 MiB");
  CHECK(apps::bytes_text(3.0 * 1024 * 1024 * 1024 * 1024) == "3.0 TiB");
}

TEST_SUITE_END();
