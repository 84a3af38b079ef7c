// Runs that an earlier version of the program has written: every later version has to resume them.
//
// tests/golden/earlier_runs holds twelve images, a run of 6 steps in f32, one in bf16, and what the version that wrote them
// reached after 12 steps. Commit f2938c0 made them:
//
//   llsa data shapes --out data --count 12 --size 8
//   llsa train --data data --out f32 --size 8 --dim 8 --heads 1 --depth 1 --attention llsa --block 4 --topk 2
//       --batch 3 --lr 2e-3 --warmup 3 --flip true --sample-every 0 --save-every 0 --threads 1 --steps 6 --dtype f32
//   llsa train --data data --out COPY --resume --steps 12
//
// after_12/f32 holds state.safetensors (raw weights and moments) and average.safetensors (averaged weights) of the copy. A
// build with the compiler, the flags, the oneDNN and the processor of written_by.txt has to reach the same bits, any other build
// the same numbers up to rounding.
#include <dnnl.h>
#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>

#include "core/context.h"
#include "core/cpu_check.h"
#include "core/safetensors.h"
#include "nn/checkpoint/diffusers.h"
#include "nn/checkpoint/run_folder.h"
#include "nn/train.h"
#include "nn/train_folder.h"
#include "nn/train_options.h"
#include "tests/support/files.h"
#include "tests/support/kernels.h"

namespace {

using namespace llsa;
namespace fs = std::filesystem;

const std::string kFolder = LLSA_SOURCE_DIR "/tests/golden/earlier_runs";

std::string processor() {
  std::ifstream file("/proc/cpuinfo");
  std::string family, model;
  for (std::string line; std::getline(file, line) && (family.empty() || model.empty());) {
    if (line.rfind("cpu family", 0) == 0) family = line.substr(line.find(':') + 2);
    if (line.rfind("model\t", 0) == 0) model = line.substr(line.find(':') + 2);
  }
  return "family " + family + ", model " + model;
}

// All that decides about the last bits of a run.
std::string this_build() {
  const dnnl_version_t* const version = dnnl_version();
  return cat("compiler: ", __VERSION__, "\nflags: ", LLSA_BUILD_FLAGS, "\nprocessor: ", processor(),
             "\ncompiled for: ", compiled_cpu_features(), "\noneDNN: ", version->major, ".", version->minor,
             ".", version->patch, ", instruction set ", static_cast<int>(dnnl_get_effective_cpu_isa()), "\n");
}

// Copies the run into a folder of its own and resumes it there. Returns the last checkpoint.
std::string resume_copy(const std::string& dtype, const test::TempDir& dir) {
  const std::string run = dir / dtype;
  fs::copy(kFolder + "/" + dtype, run, fs::copy_options::recursive);
  const std::string checkpoint = nn::checkpoint_to_resume(nn::RunFolder(run)).path;
  // The path of the images is a part of the configuration. Here they lie where the source tree is.
  const std::string config = checkpoint + "/training_state/config.json";
  nn::TrainOptions options = nn::read_training_options(checkpoint);
  CHECK(options.exif == "ignore");  // that version did so, and had no such setting
  options.data = kFolder + "/data";
  test::write_file(config, options.json());
  options.steps = 12;
  options.threads = 2;
  return nn::train(options, run, /*resume=*/true, {}).checkpoint;
}

// |found - expected| relative to |expected - before|, over all tensors whose name begins with `prefix`.
double deviation(const SafetensorsFile& found, const SafetensorsFile& expected, const SafetensorsFile& before,
                 const std::string& prefix, bool same_bits) {
  Context ctx(1);
  double difference = 0, movement = 0;
  for (const auto& [key, tensor] : expected.tensors()) {
    const std::string& name = key;
    if (name.rfind(prefix, 0) != 0) continue;
    CAPTURE(name);
    const test::Values x = test::values_of(ctx, found.at(name)), y = test::values_of(ctx, tensor),
                       start = test::values_of(ctx, before.at(name));
    REQUIRE(x.size() == y.size());
    if (same_bits) CHECK(x == y);
    for (std::size_t i = 0; i < x.size(); ++i) {
      difference += (x[i] - y[i]) * (x[i] - y[i]);
      movement += (y[i] - start[i]) * (y[i] - start[i]);
    }
  }
  REQUIRE(movement > 0);
  return std::sqrt(difference / movement);
}

}  // namespace

TEST_SUITE_BEGIN("nn/earlier_runs");

TEST_CASE("runs of an earlier version are resumed, with the same bits by the same build") {
  const test::TempDir dir;
  const bool same_bits = test::read_file(kFolder + "/written_by.txt") == this_build();
  std::cout << "runs of an earlier version: compared " << (same_bits ? "bit for bit\n" : "up to rounding\n");
  INFO("this build, as in written_by.txt:\n", this_build());
  for (const std::string dtype : {"f32", "bf16"}) {
    CAPTURE(dtype);
    const std::string checkpoint = resume_copy(dtype, dir), expected = kFolder + "/after_12/" + dtype,
                      start = kFolder + "/" + dtype + "/checkpoints/step_000000006";
    const double tolerance = dtype == "f32" ? 1e-3 : 5e-2;
    const SafetensorsFile state(checkpoint + "/training_state/state.safetensors"),
        expected_state(expected + "/state.safetensors"),
        start_state(start + "/training_state/state.safetensors");
    for (const std::string prefix : {"weights.", "adam_m.", "adam_v."}) {
      CAPTURE(prefix);
      CHECK(deviation(state, expected_state, start_state, prefix, same_bits) <= tolerance);
    }
    CHECK(deviation(SafetensorsFile(nn::diffusers_weights_path(checkpoint)),
                    SafetensorsFile(expected + "/average.safetensors"),
                    SafetensorsFile(nn::diffusers_weights_path(start)), "", same_bits) <= tolerance);
  }
}

TEST_SUITE_END();
