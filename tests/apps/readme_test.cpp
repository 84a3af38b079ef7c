// The tables of the README against the tables of the code.
#include <doctest/doctest.h>

#include <string>

#include "autograd/table/op_table.h"
#include "nn/dit_config.h"
#include "nn/json.h"
#include "nn/train_options.h"
#include "tests/support/files.h"

namespace {

const std::string& readme() {
  static const std::string text = llsa::test::read_file(LLSA_SOURCE_DIR "/README.md");
  return text;
}

bool has(const std::string& code) { return readme().find("`" + code + "`") != std::string::npos; }

}  // namespace

TEST_SUITE_BEGIN("apps/readme");

TEST_CASE("every op of the op table is listed") {
  for (const llsa::OpRow& row : llsa::op_table()) {
    CAPTURE(std::string(row.op()));
    CHECK(has(std::string(row.op())));
  }
}

TEST_CASE("every setting and every key of the model is explained") {
  for (const llsa::nn::Setting& setting : llsa::nn::train_settings()) {
    CAPTURE(setting.key);
    CHECK(has(setting.key));
    CHECK(has(std::string("--") + setting.flag));
  }
  const llsa::nn::JsonObject model(llsa::nn::DitConfig().json(), "defaults");
  for (const auto& entry : model.entries()) {
    CAPTURE(entry.first);
    CHECK(has(entry.first));
  }
}

TEST_SUITE_END();
