#include "apps/llsa/progress.h"

#include <doctest/doctest.h>

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <limits>
#include <string>
#include <vector>

#include "tests/support/captured_output.h"
#include "tests/support/text.h"

using namespace llsa;
using test::contains;

TEST_SUITE_BEGIN("apps/progress");

nn::StepReport some_report() {
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
  return report;
}

TEST_CASE("the progress line shows every field of a report") {
  nn::StepReport report = some_report();
  CHECK(apps::report_text(report) ==
        "step 40/300  loss 0.4322  15.2k tok/s  ETA 12:34  |grad| 1.23  lr 3.00e-04  data 3%  mem 12 MiB "
        "(peak 48 MiB, cached 3.0 KiB)");
  report.held_out_loss = 0.51237;
  CHECK(
      apps::report_text(report) ==
      "step 40/300  loss 0.4322  held-out 0.5124  15.2k tok/s  ETA 12:34  |grad| 1.23  lr 3.00e-04  data 3%  "
      "mem 12 MiB (peak 48 MiB, cached 3.0 KiB)");
}

TEST_CASE("the live line has a bar, fits the terminal, and colours the bar alone") {
  const nn::StepReport report = some_report();
  const std::string line = "==..................  13%  step 40/300  loss 0.4322  15.2k tok/s  ETA 12:34";
  CHECK(apps::live_text(report, line.size(), false) == line);
  CHECK(apps::live_text(report, line.size(), true) ==
        "\033[36m" + line.substr(0, 20) + "\033[0m" + line.substr(20));
  CHECK(apps::live_text(report, 24, true) == "step 40/300  loss 0.4322");
  nn::StepReport last = report;
  last.step = last.steps;
  CHECK(apps::live_text(last, 80, false).starts_with("==================== 100%  step 300/300"));
}

TEST_CASE("on a terminal a line is overwritten; elsewhere there are plain lines; quiet leaves messages") {
  const auto printed = [](const apps::ProgressStyle& style) {
    test::CapturedOutput errors(stderr);
    {
      apps::Progress progress(style);
      for (int step : {40, 80}) {
        nn::StepReport report = some_report();
        report.step = step;
        report.loss = step / 40.0;  // 1, 2: a mean of 1.5
        progress.report(report);
      }
      progress.message("saved");
      nn::StepReport last = some_report();
      last.step = last.steps;
      last.loss = 3;
      progress.report(last);
    }
    return errors.text();
  };
  const std::string live = printed({.live = true});
  CHECK(contains(live, "\r==.................."));
  CHECK(contains(live, "step 80/300  loss 1.5000"));
  CHECK(contains(live, "\r\033[Ksaved\n\r"));
  CHECK_FALSE(contains(live, "\033[36m"));
  CHECK(live.back() == '\n');
  CHECK(contains(printed({.live = true, .colour = true}), "\033[36m"));
  const std::string plain = printed({});
  CHECK(plain.starts_with("step 40/300  loss 1.0000"));
  CHECK_FALSE(contains(plain, "step 80"));  // within ten seconds
  CHECK(contains(plain, "\nsaved\nstep 300/300  loss 2.0000"));
  CHECK(plain.find_first_of("\r\033") == std::string::npos);
  CHECK(printed({.quiet = true, .live = true}) == "saved\n");
}

TEST_CASE(
    "a terminal has the live line, in colour unless NO_COLOR is set; a file and a dumb terminal do not") {
  struct Variable {  // of the environment, unset here, as it was afterwards
    const char* name;
    std::string value = std::getenv(name) ? std::getenv(name) : "";
    explicit Variable(const char* of) : name(of) { unsetenv(name); }
    ~Variable() { value.empty() ? unsetenv(name) : setenv(name, value.c_str(), 1); }
  };
  const Variable term("TERM"), no_color("NO_COLOR");
  const int master = posix_openpt(O_RDWR | O_NOCTTY);
  REQUIRE(master >= 0);
  REQUIRE(grantpt(master) == 0);
  REQUIRE(unlockpt(master) == 0);
  const int terminal = open(ptsname(master), O_RDWR | O_NOCTTY);
  REQUIRE(terminal >= 0);
  std::vector<apps::ProgressStyle> styles;
  {
    test::CapturedOutput file(stderr);
    styles.push_back(apps::ProgressStyle::of_terminal(false));
    dup2(terminal, STDERR_FILENO);
    setenv("TERM", "dumb", 1);
    styles.push_back(apps::ProgressStyle::of_terminal(false));
    setenv("TERM", "xterm", 1);
    styles.push_back(apps::ProgressStyle::of_terminal(true));
    setenv("NO_COLOR", "1", 1);
    styles.push_back(apps::ProgressStyle::of_terminal(false));
  }
  close(terminal);
  close(master);
  CHECK_FALSE(styles[0].live);
  CHECK_FALSE(styles[1].live);
  CHECK(styles[2].live);
  CHECK(styles[2].colour);
  CHECK(styles[2].quiet);
  CHECK(styles[3].live);
  CHECK_FALSE(styles[3].colour);
  CHECK_FALSE(styles[3].quiet);
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
