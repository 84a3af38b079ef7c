// How a run of the program ends and goes on: signals, closed descriptors, kills, --resume auto.
#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <string>

#include "tests/support/files.h"
#include "tests/support/program.h"
#include "tests/support/text.h"

namespace {

using llsa::test::contains;
using llsa::test::llsa_program;
using llsa::test::Outcome;
using llsa::test::TempDir;
using llsa::test::tiny_training;

namespace fs = std::filesystem;

}  // namespace

TEST_SUITE_BEGIN("apps/program_exit");

TEST_CASE("a signal, also twice, ends a run with its state saved and an exit code of its own") {
  const TempDir dir;
  const std::string data = dir / "data";
  REQUIRE(llsa_program("data shapes --count 8 --size 8 --out " + data).code == 0);
  const auto sent = [&](const std::string& signals) {
    const std::string run = dir / signals.substr(0, signals.find(' '));
    std::ostringstream command;
    command << "bash -c '\"" LLSA_PROGRAM "\" "
            << tiny_training(data, run, "--steps 100000000 --sample-every 0 --log-every 1") << " & pid=$!; "
            << "for i in $(seq 400); do grep -q loss " << run
            << "/log.jsonl 2>/dev/null && break; sleep 0.05; "
            << "done; for s in " << signals << "; do kill -$s $pid; done; wait $pid; echo code $?' 2>&1";
    const Outcome outcome = llsa::test::shell(command.str());
    CAPTURE(outcome.text);
    CHECK(contains(outcome.text, "stopped at step"));
    CHECK(contains(outcome.text, "--resume"));
    CHECK(contains(outcome.text, "code 3"));
    CHECK(contains(llsa_program("info " + run).text, "can be resumed"));
  };
  sent("INT INT");
  sent("TERM TERM TERM");
  sent("HUP USR1 USR2 XCPU");
}

TEST_CASE("a run goes on when nobody reads its output any more, and under nohup when the terminal hangs up") {
  const TempDir dir;
  const std::string data = dir / "data";
  REQUIRE(llsa_program("data shapes --count 8 --size 8 --out " + data).code == 0);
  const auto steps = [&](const std::string& run) {
    return tiny_training(data, dir / run, "--steps 30 --sample-every 0 --log-every 1 --save-every 1");
  };
  const Outcome piped = llsa::test::shell("bash -c '\"" LLSA_PROGRAM "\" " + steps("piped") +
                                          " 2>&1 | true; echo code ${PIPESTATUS[0]}'");
  CHECK(contains(piped.text, "code 0"));
  const Outcome hung_up = llsa::test::shell(
      "bash -c 'trap \"\" HUP; \"" LLSA_PROGRAM "\" " + steps("hung_up") +
      " 2>/dev/null & pid=$!; for i in $(seq 400); do grep -q loss " + (dir / "hung_up") +
      "/log.jsonl 2>/dev/null && break; sleep 0.01; done; kill -HUP $pid; wait $pid; echo code $?'");
  CHECK(contains(hung_up.text, "code 0"));
}

TEST_CASE("nothing that is printed lands in a file when the standard descriptors are closed") {
  const TempDir dir;
  const std::string data = dir / "data", run = dir / "run";
  REQUIRE(llsa_program("data shapes --count 8 --size 8 --out " + data).code == 0);
  const std::string steps =
      tiny_training(data, run, "--sample-every 0 --log-every 1 --save-every 1 --resume auto ");
  const std::string closed = " </dev/null <&- >&- 2>&-";
  CHECK(llsa::test::shell("'" LLSA_PROGRAM "' " + steps + "--steps 2" + closed).code == 0);
  CHECK(llsa::test::shell("'" LLSA_PROGRAM "' " + steps + "--steps 3" + closed).code == 0);
  std::istringstream log(llsa::test::read_file(run + "/log.jsonl"));
  int lines = 0;
  for (std::string line; std::getline(log, line); ++lines) CHECK(line.rfind("{\"step\": ", 0) == 0);
  CHECK(lines == 5);  // of three steps and two starts
  for (const auto& entry : fs::recursive_directory_iterator(run + "/checkpoints"))
    if (entry.is_regular_file())
      CHECK_FALSE(contains(llsa::test::read_file(entry.path().string()), "computing on"));
}

TEST_CASE("--resume auto begins a run and goes on with it, by one command line") {
  const TempDir dir;
  const std::string data = dir / "data", run = dir / "run";
  REQUIRE(llsa_program("data shapes --count 8 --size 8 --out " + data).code == 0);
  const std::string line = tiny_training(data, run, "--sample-every 0 --resume auto --steps ");
  const Outcome first = llsa_program(line + "2");
  CAPTURE(first.text);
  CHECK(first.code == 0);
  CHECK(contains(first.text, "a new run begins"));
  CHECK(contains(llsa_program(line + "3").text, "resumed at step 2"));
  CHECK(contains(llsa_program(tiny_training(data, run, "--sample-every 0 --resume auto --steps 4", 3)).text,
                 "--allow-changes"));
  const Outcome changed =
      llsa_program(tiny_training(data, run, "--sample-every 0 --allow-changes --resume auto --steps 4", 3));
  CHECK(contains(changed.text, "batch: stored 2, now 3"));
  CHECK(contains(changed.text, "done at step 4"));
  fs::remove_all(run + "/checkpoints");
  const Outcome lost = llsa_program(line + "5");
  CHECK(lost.code == 1);
  CHECK(contains(lost.text, "no whole checkpoint"));
  CHECK(llsa_program(tiny_training(data, run, "--resume maybe")).code == 2);
}

TEST_CASE("a killed run loses at most the steps since its last checkpoint") {
  const TempDir dir;
  const std::string data = dir / "data", run = dir / "run";
  REQUIRE(llsa_program("data shapes --count 8 --size 8 --out " + data).code == 0);
  const std::string more = "--steps 100000000 --sample-every 0 --save-every 1 --log-every 1";
  for (int round = 0; round < 3; ++round) {
    const std::string resume = round > 0 ? " --resume" : "";
    // Killed at some moment after two more checkpoints, most likely while the next one is being written.
    std::ostringstream command;
    command << "( \"" LLSA_PROGRAM "\" " << tiny_training(data, run, more) << resume
            << " 2>/dev/null & pid=$!; "
            << "before=$(ls " << run << "/checkpoints 2>/dev/null | tail -1); "
            << "for i in $(seq 400); do now=$(ls " << run << "/checkpoints 2>/dev/null | tail -1); "
            << "[[ -n $now && $now > $before ]] && break; sleep 0.05; done; kill -KILL $pid; wait $pid )";
    CHECK(std::system(("bash -c '" + command.str() + "' >/dev/null 2>&1").c_str()) != -1);
    const Outcome info = llsa_program("info " + run);
    CAPTURE(info.text);
    CHECK(info.code == 0);
    CHECK(contains(info.text, "can be resumed"));
  }
  const Outcome finished =
      llsa_program("train --resume --save-every 0 --log-every 1000 --steps 1 --out " + run);
  CAPTURE(finished.text);
  CHECK(finished.code == 0);
  for (const auto& entry : fs::directory_iterator(run + "/checkpoints")) {
    CHECK(entry.path().filename().string().rfind("step_", 0) == 0);  // nothing half-written is left
  }
}

TEST_SUITE_END();
