// llsa runs and what it reads of a run's folder, on folders written by hand.
#include <doctest/doctest.h>

#include <filesystem>

#include "apps/llsa/run_summary.h"
#include "core/file_lock.h"
#include "nn/checkpoint/run_folder.h"
#include "nn/json.h"
#include "nn/train_options.h"
#include "tests/support/files.h"
#include "tests/support/program.h"
#include "tests/support/text.h"

namespace llsa::apps {
namespace {

using namespace llsa::test;
namespace fs = std::filesystem;

TEST_SUITE_BEGIN("apps/runs");

const std::string kLog =
    "{\"step\": 10, \"loss\": 0.75, \"gradient_norm\": 2.5}\n"
    "{\"step\": 10, \"held_out_loss\": 0.5, \"score\": 3}\n"
    "{\"step\": 20, \"loss\": \"NaN\", \"gradient_norm\": 1}\n";

/// A run of 20 steps with a checkpoint at `saved`; none at 0.
std::string write_run(const std::string& folder, std::int64_t saved, const std::string& log = kLog) {
  fs::create_directories(folder + "/checkpoints");
  nn::TrainOptions options;
  options.steps = 20;
  write_file(folder + "/config.json", options.json());
  write_file(folder + "/log.jsonl", log);
  if (saved > 0) {
    const std::string state = nn::RunFolder(folder).checkpoint_path(saved) + "/training_state";
    fs::create_directories(state);
    write_file(state + "/state.json",
               R"({"loader_seed": "0", "loader_fingerprint": "0", "step": )" + std::to_string(saved) + "}");
  }
  return folder;
}

TEST_CASE("a log becomes points by key; what is no number, damaged or half-written is left out") {
  const TempDir dir;
  write_file(dir / "log.jsonl", kLog + "{\"step\": 30, \"lo\n{\"loss\": 3}\n{\"step\": 40, \"loss\": 0.2");
  const RunLog log = read_run_log(dir / "log.jsonl");
  CHECK(log.step == 20);
  CHECK(log.damaged_lines == 2);
  REQUIRE(log.points("loss").size() == 1);
  CHECK(log.points("loss")[0].x == 10);
  CHECK(log.points("loss")[0].y == 0.75);
  CHECK(log.points("gradient_norm").size() == 2);
  CHECK(log.last("gradient_norm") == 1);
  CHECK(log.last("score") == 3);
  CHECK_FALSE(log.last("step"));
  CHECK(log.points("nothing").empty());
}

TEST_CASE("runs are running, finished, stopped or damaged") {
  const TempDir dir;
  CHECK(summary_of(write_run(dir / "finished", 20)).state == RunState::finished);
  const RunSummary stopped = summary_of(write_run(dir / "stopped", 10));
  CHECK(stopped.state == RunState::stopped);
  CHECK(stopped.step == 20);
  CHECK(stopped.steps == 20);
  CHECK(stopped.age < 60);
  CHECK(summary_of(write_run(dir / "early", 0, "")).state == RunState::stopped);
  {
    const FileLock lock(dir / "stopped/.lock");
    CHECK(summary_of(dir / "stopped").state == RunState::running);
  }
  CHECK(summary_of(dir / "stopped").state == RunState::stopped);

  const RunSummary cut = summary_of(write_run(dir / "cut", 20, kLog + "{\"st\n"));
  CHECK(cut.state == RunState::damaged);
  CHECK(contains(cut.damage, "1 damaged line"));
  write_run(dir / "settings", 20);
  write_file(dir / "settings/config.json", "{\"stepz\": 1}");
  CHECK(contains(summary_of(dir / "settings").damage, "stepz"));
  CHECK(contains(llsa_program("runs " + (dir / "settings")).text, " 20/? "));
  write_run(dir / "state", 20);
  write_file(nn::RunFolder(dir / "state").checkpoint_path(20) + "/training_state/state.json", "{");
  CHECK(summary_of(dir / "state").state == RunState::damaged);
}

TEST_CASE("the runs below a folder stand in a table, or in one JSON object") {
  const TempDir dir;
  write_run(dir / "sweep/über/seed-0", 20);
  write_run(dir / "sweep/full/seed-0", 10, "");
  write_run(dir / "bad\nname", 20, "x\n");
  write_run(dir / "sweep/full/seed-0/checkpoints/no-run", 20);
  fs::create_directory(dir / "images");
  const Outcome table = llsa_program("runs " + dir.path());
  CAPTURE(table.text);
  CHECK(table.code == 0);
  CHECK(table.text.starts_with("run                state      step    loss  held-out  age\n"));
  CHECK(contains(table.text, "\nsweep/über/seed-0  finished  20/20  0.7500    0.5000  0 s\n"));
  CHECK(contains(table.text, "\nsweep/full/seed-0  stopped   10/20       -         -  0 s\n"));
  CHECK(contains(table.text, "\nbad?name           damaged "));
  CHECK(contains(table.text, "\ndamaged: "));
  CHECK_FALSE(contains(table.text, "no-run"));

  const Outcome json = llsa_program("runs --json " + dir.path());
  nn::JsonObject all(json.text, "runs");
  CHECK(all.entries().size() == 3);
  nn::JsonObject run = all.object(dir / "sweep/über/seed-0");
  CHECK(run.string("state", "") == "finished");
  CHECK(run.number("held_out_loss", 0, 0, 1) == 0.5);
  CHECK(run.number("score", 0, 0, 10) == 3);

  CHECK(contains(llsa_program("runs " + (dir / "sweep/über/seed-0")).text, "finished"));
  CHECK(llsa_program("runs " + (dir / "images")).text == "no runs below " + (dir / "images") + "\n");
  CHECK(llsa_program("runs --json " + (dir / "images")).text == "{}\n");
  CHECK(llsa_program("runs " + (dir / "nowhere")).code == 1);
}

TEST_CASE("ages as text") {
  CHECK(age_text(59.9) == "59 s");
  CHECK(age_text(60) == "1 min");
  CHECK(age_text(3600) == "1 h");
  CHECK(age_text(47.9 * 3600) == "47 h");
  CHECK(age_text(48 * 3600) == "2 d");
}

TEST_SUITE_END();

}  // namespace
}  // namespace llsa::apps
