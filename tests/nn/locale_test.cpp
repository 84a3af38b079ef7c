// What the library writes and reads does not depend on the locale of the program that it is a part of.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdio>
#include <iostream>
#include <sstream>
#include <string>

#include "autograd/gradcheck.h"
#include "autograd/saved_report.h"
#include "core/error.h"
#include "core/machine.h"
#include "core/safetensors.h"
#include "kernels/make.h"
#include "nn/data/file_format.h"
#include "nn/json.h"
#include "nn/train_log.h"
#include "nn/train_options.h"
#include "tests/support/files.h"
#include "tests/support/locales.h"

using namespace llsa;

namespace {

std::string written(const Tensor& x) {
  std::ostringstream out;
  out << x;
  return out.str();
}

/// All that numbers pass through on their way into texts and files, and back.
void check_numbers() {
  CHECK(cat(1234567, " ", 1.5, " ", std::uint64_t{1} << 40) == "1234567 1.5 1099511627776");
  CHECK(Shape{1234, 5678}.str() == "[1234,5678]");
  CHECK(available_memory() > 1'000'000);

  Context ctx(1);
  CHECK(written(full(ctx, {1}, 1234.5)) == "f32 [1] on cpu: [1234]");
  CHECK(written(full(ctx, {1}, 1234567, DType::i32)) == "i32 [1] on cpu: [1234567]");
  CHECK(written(zeros(ctx, {1, 1000}, DType::u8)) == "u8 [1,1000] on cpu: [[0, 0, 0, ..., 0, 0, 0]]");
  GradcheckResult gradients;
  gradients.analytic = 1234.5;
  gradients.checked = 12345;
  CHECK(gradients.str().find("analytic 1234.5, numeric 0; 12345 entries") != std::string::npos);
  CHECK(format_saved_report({{"op", 1234567, 1, 3 << 19}}).find(" 1234567        1       1.500\n") !=
        std::string::npos);

  const test::TempDir dir;
  const Tensor tensor = arange(ctx, 0, 1234);
  write_safetensors(dir / "t.safetensors", {{"t", tensor}}, {{"k", "v"}});
  CHECK(SafetensorsFile(dir / "t.safetensors").at("t").shape() == Shape{1234});

  const std::string line = nn::JsonWriter().add("a", 1234.5).add("b", std::int64_t{1234567}).line();
  CHECK(line == R"({"a": 1234.5, "b": 1234567})");
  nn::JsonObject json(line, "test");
  CHECK(json.number("a", 0, 0, 1e9) == 1234.5);
  CHECK(json.integer("b", 0, 0, 1 << 30) == 1234567);
  nn::JsonObject small(line, "test");
  try {
    small.number("a", 0, 0, 1000.5);
    FAIL("1234.5 was taken for a number up to 1000.5");
  } catch (const ValueError& error) {
    CHECK(std::string(error.what()).find("from 0 to 1000.5") != std::string::npos);
  }

  nn::TrainOptions options;
  options.lr = 0.00025;
  options.steps = 1234567;
  options.max_pixels = 12'345'678;
  const nn::TrainOptions again = nn::TrainOptions::parse(options.json(), "test");
  CHECK(again.lr == 0.00025);
  CHECK(again.steps == 1234567);
  CHECK(again.json() == options.json());
  for (const nn::Setting& setting : nn::train_settings()) {
    if (std::string(setting.flag) == "lr") nn::set_from_text(options, setting, "0.5");
    if (std::string(setting.flag) == "steps") nn::set_from_text(options, setting, "7654321");
  }
  CHECK(options.lr == 0.5);
  CHECK(options.steps == 7654321);

  nn::StepReport report;
  report.step = 1234567;
  report.loss = 0.125;
  nn::TrainLog(dir / "log.jsonl", 0, [](const std::string&) {}).write(report);
  CHECK(test::read_file(dir / "log.jsonl").find(R"("step": 1234567, "loss": 0.125,)") != std::string::npos);
  CHECK(nn::has_image_extension("A.GIF"));
}

}  // namespace

TEST_SUITE_BEGIN("nn/locale");

TEST_CASE("numbers under a C++ locale that groups digits and has a decimal comma") {
  const test::CommaCppLocale locale;
  std::ostringstream out;
  out << 1234567 << ' ' << 1.5;
  REQUIRE(out.str() == "1.234.567 1,5");  // such is the locale
  check_numbers();
}

TEST_CASE("numbers under a C locale that has a decimal comma") {
  const test::CommaCLocale locale;
  if (!locale.in_force()) {
    std::cout << "skipped: this C library does not read the locale file of the test\n";
    return;
  }
  char text[32];
  std::snprintf(text, sizeof text, "%.1f", 1.5);
  REQUIRE(std::string(text) == "1,5");  // such is the locale
  check_numbers();
}

TEST_SUITE_END();
