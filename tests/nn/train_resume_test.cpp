// Resuming: in folders with and without a run, and with settings and images that have changed.
#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "core/error.h"
#include "nn/train_folder.h"
#include "tests/nn/train_runs.h"
#include "tests/support/text.h"

namespace {

using namespace llsa;
using namespace llsa::nn;
using llsa::test::contains;
namespace fs = std::filesystem;

struct Told {
  std::string messages;
  TrainCallbacks callbacks;

  explicit Told(bool allow_changes = false) {
    callbacks.on_message = [this](const std::string& text) { messages += text + "\n"; };
    if (allow_changes) callbacks.allow_changes = [](const std::vector<std::string>&) { return true; };
  }
};

TrainOptions short_options(std::int64_t steps) {
  TrainOptions options = tiny_options();
  options.schedule = "constant";
  options.steps = steps;
  return options;
}

std::string failure_to_find_run(const std::string& folder) {
  try {
    return RunFolder(folder).holds_run() ? "a run" : "no run";
  } catch (const IoError& error) {
    return error.what();
  }
}

}  // namespace

TEST_SUITE_BEGIN("nn/train_resume");

TEST_CASE("a folder that holds a run is not overwritten, a folder without one is not resumed") {
  const test::TempDir dir;
  const TrainOptions options = short_options(2);
  std::string hint;
  run(options, dir / "run");
  CHECK(contains(failure_of<ValueError>(options, dir / "run", false, &hint), "step 2"));
  CHECK(contains(hint, "--resume"));
  CHECK(contains(failure_of<IoError>(options, dir / "nothing", true), "no checkpoint"));
  CHECK_FALSE(fs::exists(dir / "nothing"));
}

TEST_CASE("what is left of a run is neither begun anew nor passed over") {
  const test::TempDir dir;
  const std::string folder = dir / "run";
  CHECK(failure_to_find_run(folder) == "no run");
  // A run that ends before its first checkpoint has nothing to lose.
  TrainCallbacks failing;
  failing.should_stop = []() -> bool { throw Error("host"); };
  CHECK_THROWS_WITH(run(short_options(2), folder, false, failing), "host");
  CHECK(fs::exists(folder + "/config.json"));
  CHECK(failure_to_find_run(folder) == "no run");

  const std::string first = run(short_options(2), folder).checkpoint;
  CHECK(failure_to_find_run(folder) == "a run");
  const std::string second = run(short_options(4), folder, true).checkpoint;
  fs::remove_all(second + "/training_state");
  fs::remove_all(second + "/denoiser");
  std::string hint;
  CHECK(contains(failure_of<IoError>(short_options(6), folder, true, &hint), second + " is damaged"));
  CHECK(contains(hint, "go on from step 2"));
  fs::remove_all(first);
  CHECK(contains(failure_to_find_run(folder), "no whole checkpoint, but " + second));
  CHECK(contains(failure_of<IoError>(short_options(6), folder), "no whole checkpoint"));
  fs::remove_all(second);
  CHECK(contains(failure_to_find_run(folder), "no whole checkpoint, but " + folder + "/config.json"));
}

TEST_CASE("the images decide, not how their folder is spelt") {
  const test::TempDir dir;
  fs::copy(shapes_folder(), dir / "images", fs::copy_options::recursive);
  const std::string whole = state_bytes(run(short_options(5), dir / "whole").checkpoint);
  run(short_options(3), dir / "run");
  TrainOptions options = short_options(5);
  options.data = dir / "./images/";
  options.init_from = dir / "nowhere";  // decides about the first step alone
  Told told;
  CHECK(state_bytes(run(options, dir / "run", true, told.callbacks).checkpoint) == whole);
  CHECK_FALSE(contains(told.messages, "changed"));
  CHECK_FALSE(contains(test::read_file(dir / "run/log.jsonl"), "notes"));
}

TEST_CASE("a changed learning rate is taken, told and noted in the log") {
  const test::TempDir dir;
  run(short_options(3), dir / "run");
  TrainOptions options = short_options(5);
  options.lr = 1e-3;
  options.clip = 0.5;
  Told told;
  CHECK(run(options, dir / "run", true, told.callbacks).step == 5);
  CHECK(contains(told.messages, "may differ"));
  CHECK(contains(told.messages, "lr: stored 0.002, now 0.001"));
  const std::string log = test::read_file(dir / "run/log.jsonl");
  CAPTURE(log);
  CHECK(contains(
      log, "{\"step\": 3, \"notes\": [\"lr: stored 0.002, now 0.001\", \"clip: stored 1.0, now 0.5\"]}\n"));
  CHECK(contains(log, "\"learning_rate\": 0.001"));
}

TEST_CASE("a change of what is learnt from takes permission, another model is refused") {
  const test::TempDir dir;
  run(short_options(3), dir / "run");
  TrainOptions options = short_options(5);
  options.batch = 4;
  options.seed = 7;
  std::string hint;
  const std::string message = failure_of<ValueError>(options, dir / "run", true, &hint);
  CHECK(contains(message, "batch: stored 3, now 4"));
  CHECK(contains(message, "seed: stored 0, now 7"));
  CHECK(contains(hint, "--allow-changes"));
  Told told(true);
  CHECK(run(options, dir / "run", true, told.callbacks).step == 5);
  CHECK(contains(test::read_file(dir / "run/log.jsonl"), "batch: stored 3, now 4"));
  options.steps = 6;
  CHECK(run(options, dir / "run", true).step == 6);  // which is now the run's own
  options.model.llsa.topk = {3};
  CHECK_THROWS_WITH_AS(run(options, dir / "run", true, told.callbacks), doctest::Contains("llsa_topk"),
                       ValueError);
}

TEST_CASE("a picture more or less takes permission, and begins an epoch") {
  const test::TempDir dir;
  fs::copy(shapes_folder(), dir / "images", fs::copy_options::recursive);
  TrainOptions options = short_options(3);
  options.data = dir / "images";
  run(options, dir / "run");
  fs::remove(fs::directory_iterator(dir / "images/circle")->path());
  options.steps = 4;
  CHECK(contains(failure_of<ValueError>(options, dir / "run", true), "the images in " + options.data));
  Told told(true);
  const TrainResult changed = run(options, dir / "run", true, told.callbacks);
  CHECK(changed.step == 4);
  CHECK(contains(test::read_file(changed.checkpoint + "/training_state/state.json"), "\"loader_epoch\": 1,"));
  CHECK(contains(told.messages, "the images in " + options.data));
}

TEST_CASE("images that were added, removed and changed are counted and named") {
  const test::TempDir dir;
  const std::string images = dir / "images";
  fs::copy(shapes_folder(), images, fs::copy_options::recursive);
  TrainOptions options = short_options(3);
  options.data = images;
  const std::string first = run(options, dir / "run").checkpoint;
  fs::copy(dir / "run", dir / "unlisted", fs::copy_options::recursive);

  std::vector<std::string> names;
  const ImageFolder folder(images);
  for (const ImageEntry& entry : folder.entries()) names.push_back(entry.path);
  REQUIRE(names.size() == 12);
  fs::copy(images + "/" + names[0], images + "/" + names[0] + ".new.png");
  fs::copy(images + "/" + names[1], images + "/" + names[1] + ".new.png");
  fs::remove(images + "/" + names[2]);
  fs::remove(images + "/" + names[11]);
  fs::copy_file(images + "/" + names[3], images + "/" + names[4], fs::copy_options::overwrite_existing);
  const std::string text = cat("the images in ", images, " are not those of the saved run: 2 images added (",
                               names[0], ".new.png, ", names[1], ".new.png), 2 removed (", names[2], ", ",
                               names[11], "), 1 changed (", names[4], ")");
  options.steps = 4;
  CHECK(contains(failure_of<ValueError>(options, dir / "run", true), text));
  Told told(true);
  run(options, dir / "run", true, told.callbacks);
  CHECK(contains(told.messages, text));
  CHECK(contains(test::read_file(dir / "run/log.jsonl"), text));
  options.steps = 5;
  CHECK(run(options, dir / "run", true).step == 5);  // the new checkpoint lists the new images

  // Checkpoints of earlier versions have no list.
  const std::string checkpoint = RunFolder(dir / "unlisted").latest()->path;
  REQUIRE(fs::remove(checkpoint + "/training_state/images.list"));
  CHECK(contains(failure_of<ValueError>(options, dir / "unlisted", true),
                 "are not those of the saved run (added,"));
  Told again(true);
  CHECK(run(options, dir / "unlisted", true, again.callbacks).step == 5);
  CHECK(contains(again.messages, "are not those of the saved run (added,"));
}

TEST_CASE("a grid that a kill prevented is drawn on resume") {
  const test::TempDir dir;
  TrainOptions options = short_options(4);
  options.sample_every = 2;
  run(options, dir / "run");
  const std::string grid = RunFolder(dir / "run").sample_path(4), bytes = test::read_file(grid);
  fs::remove(grid);
  run(options, dir / "run", true);
  CHECK(test::read_file(grid) == bytes);
}

TEST_SUITE_END();
