#include "nn/train_options.h"

#include <doctest/doctest.h>

#include <cmath>

#include "apps/llsa/demo_recipe.h"
#include "core/error.h"
#include "core/text_file.h"
#include "tests/support/text.h"

namespace {

using namespace llsa;
using namespace llsa::nn;
using llsa::test::contains;

std::string message_of(const std::string& json) {
  try {
    TrainOptions::parse(json, "run.json");
  } catch (const ValueError& error) {
    return error.what();
  }
  return "";
}

const Setting& setting(const std::string& flag) {
  for (const Setting& row : train_settings()) {
    if (flag == row.flag) return row;
  }
  throw Error("no such flag");
}

}  // namespace

TEST_SUITE_BEGIN("nn/train_options");

TEST_CASE("a configuration reads back as it was written") {
  TrainOptions options;
  options.data = "some/folder";
  options.lr = 0.1234567890123456789;
  options.flip = true;
  options.seed = 9007199254740991;
  options.model.layers = 3;
  options.model.height = options.model.width = 64;
  options.model.llsa.topk = {8, 4};
  const TrainOptions again = TrainOptions::parse(options.json(), "run.json");
  CHECK(again.json() == options.json());
  CHECK(again.model_classes == -1);  // still from the folder
  CHECK(again.lr == options.lr);
  CHECK(again.model == options.model);
  CHECK(changes_on_resume(options, again).empty());
}

TEST_CASE("every key is checked") {
  CHECK(message_of("{}") == "");
  CHECK(contains(message_of(R"({"stepz": 3})"), "stepz"));
  CHECK(contains(message_of(R"({"steps": 3, "steps": 4})"), "steps"));
  CHECK(contains(message_of(R"({"steps": "many"})"), "steps"));
  CHECK(contains(message_of(R"({"steps": 2.5})"), "steps"));
  CHECK(contains(message_of(R"({"steps": -1})"), "steps"));
  CHECK(contains(message_of(R"({"steps": 0})"), "steps"));
  CHECK(contains(message_of(R"({"lr": true})"), "lr"));
  CHECK(contains(message_of(R"({"lr": -0.5})"), "lr"));
  CHECK(contains(message_of(R"({"flip": 1})"), "flip"));
  CHECK(contains(message_of(R"({"schedule": "linear"})"), "schedule"));
  CHECK(contains(message_of(R"({"background": "blue-ish"})"), "blue-ish"));
  CHECK(contains(message_of(R"({"beta2": 1})"), "beta"));
  CHECK(contains(message_of(R"({"num_layers": 0})"), "num_layers"));
  CHECK(contains(message_of("[1]"), "run.json"));
  CHECK(contains(message_of("{\"steps\": 3"), "run.json"));
}

TEST_CASE("flags set every kind of setting and name what is wrong") {
  TrainOptions options;
  set_from_text(options, setting("lr"), "2e-3");
  set_from_text(options, setting("steps"), "77");
  set_from_text(options, setting("flip"), "");
  set_from_text(options, setting("crop"), "random");
  CHECK(options.lr == 2e-3);
  CHECK(options.steps == 77);
  CHECK(options.flip);
  CHECK(options.crop == "random");
  for (const auto& wrong :
       {std::pair("lr", "fast"), std::pair("lr", "nan"), std::pair("steps", "1.5"), std::pair("steps", "0"),
        std::pair("steps", "99999999999999999999"), std::pair("device", "tpu"), std::pair("flip", "maybe"),
        std::pair("crop", "left"), std::pair("batch", "")}) {
    CAPTURE(wrong.first);
    CAPTURE(wrong.second);
    CHECK_THROWS_WITH_AS(set_from_text(options, setting(wrong.first), wrong.second),
                         doctest::Contains(wrong.first), ValueError);
  }
}

TEST_CASE("values that training cannot take are refused before anything is done") {
  for (const char* wrong :
       {R"({"lr": 0})", R"({"eps": 0})", R"({"in_channels": 1})", R"({"beta1": 1})",
        R"({"device": "cuda:x"})", R"({"guidance_interval": "1,0"})", R"({"noise_level_mean": -0.8})",
        R"({"noise_level_deviation": 0.8})", R"({"ema_also": "0.9,1.5"})", R"({"ema_also": "0.9,0.90"})",
        R"({"ema_also": "0.9;0.5"})"}) {
    CAPTURE(wrong);
    CHECK_THROWS_WITH_AS(TrainOptions::parse(wrong, "test"), doctest::Contains("got"), ValueError);
  }
  CHECK_THROWS_WITH_AS(TrainOptions::parse(R"({"llsa_levels": -1})", "test"),
                       doctest::Contains("or \"auto\""), ValueError);
  for (double TrainOptions::*number : {&TrainOptions::lr, &TrainOptions::eps, &TrainOptions::beta1}) {
    TrainOptions options;
    options.*number = std::nan("");
    CHECK_THROWS_AS(options.validate(), ValueError);
  }
  CHECK(TrainOptions::parse(R"({"ema_power": 0, "device": "cuda:1"})", "test").device == "cuda:1");
}

TEST_CASE("a resumed run is told what differs, and what becomes of it") {
  const auto changes = [](auto change) {
    TrainOptions stored, now;
    change(stored, now);
    std::vector<std::pair<OnResume, std::string>> out;
    for (const SettingChange& found : changes_on_resume(stored, now))
      out.emplace_back(found.on_resume, found.text);
    return out;
  };
  using Changes = std::vector<std::pair<OnResume, std::string>>;
  CHECK(changes([](TrainOptions& stored, TrainOptions& now) {
          now.steps = 2 * stored.steps;
          now.threads = 3;
          now.log_every = 1;
          now.keep = 9;
          now.graph = now.recompute = true;
          now.data = "elsewhere";
          now.init_from = "elsewhere";
        }).empty());
  CHECK(changes([](TrainOptions&, TrainOptions& now) { now.lr = 0.5; }) ==
        Changes{{OnResume::note, "lr: stored 0.0001, now 0.5"}});
  CHECK(changes([](TrainOptions&, TrainOptions& now) { now.batch = 4; }) ==
        Changes{{OnResume::ask, "batch: stored 8, now 4"}});
  CHECK(changes([](TrainOptions&, TrainOptions& now) { now.model.layers = 5; }) ==
        Changes{{OnResume::refuse, "num_layers: stored 4, now 5"}});
  CHECK(changes([](TrainOptions&, TrainOptions& now) { now.kind = "pixelflow"; }) ==
        Changes{{OnResume::refuse, "model: stored \"dit\", now \"pixelflow\""}});
  CHECK(changes([](TrainOptions& stored, TrainOptions& now) {
          stored.schedule = now.schedule = "cosine";
          now.steps = 1;
        }) == Changes{{OnResume::note, "steps: stored 10000, now 1"}});
}

TEST_CASE("the demo's file is the recipe that the benchmark times") {
  const std::string path = LLSA_SOURCE_DIR "/examples/demo.json";
  CHECK(TrainOptions::parse(read_text_file(path), path).json() == apps::demo_recipe().json());
}

TEST_SUITE_END();
