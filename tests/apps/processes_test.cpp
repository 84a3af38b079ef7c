// Runs the program in several processes by mpirun, as a user does. Where there is no mpirun, or no MPI in this build, these
// cases are skipped; tests/nn/train_ranks_test.cpp has threads in place of processes.
#include <doctest/doctest.h>

#include <iostream>
#include <string>

#include "tests/support/files.h"
#include "tests/support/program.h"
#include "tests/support/text.h"

namespace {

using namespace llsa;
using llsa::test::contains;
using llsa::test::Outcome;

const std::string kProgram = "'" LLSA_PROGRAM "' ";
const std::string kEnvironment = "ASAN_OPTIONS=detect_leaks=0:$ASAN_OPTIONS ";  // MPI leaks

/// What a process says that is told of another one, but finds it nowhere.
Outcome lonely_process(const std::string& arguments) {
  return test::shell(kEnvironment + "OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=2 " + kProgram + arguments +
                     " 2>&1");
}

std::string mpirun() {
  std::string command = kEnvironment + "mpirun ";
  if (contains(test::shell("mpirun --version 2>&1").text, "Open MPI"))
    command += "--allow-run-as-root --oversubscribe --mca mpi_yield_when_idle 1 ";
  return command;
}

bool can_run() {
  static const bool can = test::shell("command -v mpirun >/dev/null 2>&1").code == 0 &&
                          !contains(lonely_process("train --data x --out x").text, "has no MPI");
  if (!can) std::cout << "skipped: no mpirun, or a build of llsa without MPI\n";
  return can;
}

Outcome in_processes(int ranks, const std::string& arguments) {
  return test::shell(mpirun() + "-n " + std::to_string(ranks) + " " + kProgram + arguments + " 2>&1");
}

int occurrences(const std::string& text, const std::string& word) {
  int count = 0;
  for (std::size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) ++count;
  return count;
}

struct Shapes {
  test::TempDir dir;
  std::string data = dir / "shapes";
  Shapes() { REQUIRE(test::llsa_program("data shapes --count 12 --size 8 --out " + data).code == 0); }
  std::string training(const std::string& out, const std::string& more) const {
    return test::tiny_training(data, dir / out, "--steps 3 --log-every 1 --sample-every 0 " + more);
  }
  std::string state(const std::string& out) const {
    return test::read_file(dir.path() + "/" + out +
                           "/checkpoints/step_000000003/training_state/state.safetensors");
  }
};

}  // namespace

TEST_SUITE_BEGIN("apps/processes");

TEST_CASE("one of several programs that do not know of each other refuses to train") {
  const Shapes shapes;
  const Outcome outcome = lonely_process(shapes.training("run", ""));
  CHECK(outcome.code == 1);
  CHECK(contains(outcome.text, "this is one of 2 processes"));
  CHECK_FALSE(contains(outcome.text, "step "));
  const Outcome sample = lonely_process("sample " + shapes.dir.path() + " --out x.png");
  CHECK(sample.code == 2);
  CHECK(contains(sample.text, "this command works in one process"));
  for (const std::string variables :
       {"PMI_RANK=0 PMI_SIZE=3 ", "PMIX_RANK=0 SLURM_STEP_NUM_TASKS=3 ", "PMI_RANK=0 PMI_SIZE=1 "}) {
    CAPTURE(variables);
    const Outcome outcome = test::shell(variables + kProgram + "info " + shapes.dir.path() + " 2>&1");
    const bool alone = contains(variables, "=1 ");
    CHECK(outcome.code == (alone ? 1 : 2));
    CHECK(contains(outcome.text, "error: rank 0 of 3 on ") == !alone);
    CHECK(contains(outcome.text, "this is one of 3") == !alone);
  }
}

TEST_CASE("two and three processes train the same bits as one") {
  if (!can_run()) return;
  const Shapes shapes;
  REQUIRE(test::llsa_program(shapes.training("one", "--accumulate 3")).code == 0);
  const std::string expected = shapes.state("one");
  REQUIRE(expected.size() > 1000);
  for (const int ranks : {2, 3}) {
    CAPTURE(ranks);
    const std::string name = "run" + std::to_string(ranks);
    const Outcome outcome = in_processes(ranks, shapes.training(name, ranks == 3 ? "" : "--accumulate 3"));
    CAPTURE(outcome.text);
    CHECK(outcome.code == 0);
    CHECK(occurrences(outcome.text, "done at step 3") == 1);
    CHECK(contains(outcome.text, ", " + std::to_string(ranks) + " processes: 12 images"));
    CHECK(contains(outcome.text, "  ranks "));
    CHECK(shapes.state(name) == expected);
  }
}

TEST_CASE("processes that fail alike give one message") {
  if (!can_run()) return;
  const Shapes shapes;
  const Outcome wrong = in_processes(3, "train --size 8 --no-such-flag");
  CHECK(wrong.code == 2);
  CHECK(occurrences(wrong.text, "error: ") == 1);
  const Outcome missing = in_processes(3, test::tiny_training(shapes.dir / "nothing", shapes.dir / "run"));
  CHECK(missing.code == 1);
  CHECK(contains(missing.text, "error: rank 0 of 3 on "));
  CHECK(occurrences(missing.text, "error: ") == 1);
  const Outcome few = in_processes(3, shapes.training("run", "--accumulate 2"));
  CHECK(few.code == 1);
  CHECK(contains(few.text, "expected at least one for each of 3 processes"));
  CHECK(occurrences(few.text, "error: ") == 1);
}

TEST_CASE("a process that fails alone, or has another command line, ends all") {
  if (!can_run()) return;
  const Shapes shapes;
  const auto both = [&](const std::string& first, const std::string& second) {
    return test::shell(mpirun() + "-n 1 " + kProgram + first + " : -n 1 " + kProgram + second + " 2>&1");
  };
  const Outcome alone = both(shapes.training("run", ""), test::tiny_training(shapes.dir / "nothing", "run"));
  CHECK(alone.code != 0);
  CHECK(contains(alone.text, "error: rank 1 of 2 on "));
  CHECK(contains(alone.text, "nothing"));
  const Outcome other = both(shapes.training("run", ""), shapes.training("run", "--lr 0.5"));
  CHECK(other.code != 0);
  CHECK(contains(other.text, "has another configuration than rank 0"));
  CHECK(contains(other.text, "\"lr\": 0.5"));
  CHECK(occurrences(other.text, "error: ") == 1);
}

TEST_SUITE_END();
