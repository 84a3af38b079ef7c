// The program as a user meets it: exit codes, messages, files.
#include <doctest/doctest.h>

#include <filesystem>
#include <string>

#include "core/context.h"
#include "core/cuda/device.h"
#include "core/cuda/ranges.h"
#include "core/safetensors.h"
#include "tests/support/files.h"
#include "tests/support/inception_weights.h"
#include "tests/support/program.h"
#include "tests/support/text.h"

namespace {

using llsa::test::contains;
using llsa::test::llsa_program;
using llsa::test::Outcome;
using llsa::test::tiny_training;

namespace fs = std::filesystem;
using llsa::test::TempDir;

}  // namespace

TEST_SUITE_BEGIN("apps/program");

TEST_CASE("help and version go to standard output with code 0") {
  CHECK(llsa_program("--version").text.rfind("llsa ", 0) == 0);
  for (const std::string arguments :
       {"--help", "train --help", "sample --help", "eval --help", "info --help", "bench --help",
        "sweep --help", "data shapes --help", "data check --help"}) {
    CAPTURE(arguments);
    const Outcome outcome = llsa_program(arguments + " 2>/dev/null");
    CHECK(outcome.code == 0);
    CHECK(contains(outcome.text, "Usage"));
  }
}

TEST_CASE("a wrong command line exits with 2 and says what is wrong") {
  const struct {
    const char* arguments;
    const char* says;
  } cases[] = {
      {"", "subcommand"},
      {"paint", "paint"},
      {"train --out x --colour 3", "llsa train has no flag --colour\nhint: see llsa train --help"},
      {"train --out x --data y --step=3", "no flag --step\nhint: did you mean \"--steps\"?"},
      {"train --out x --data y --save_every 3", "did you mean \"--save-every\"?"},
      {"eval run --dta x", "did you mean \"--data\"?"},
      {"sample run --out g.png --clas x", "did you mean \"--class\"?"},
      {"sample run another --out g.png", "llsa sample does not expect 'another'"},
      {"smaple run", "did you mean \"sample\"?"},
      {"train --out x --data y --crop center", "got 'center'\nhint: did you mean \"centre\"?"},
      {"train --out x --data y --attention lsa", "got 'lsa'\nhint: did you mean \"llsa\"?"},
      {"data shape --out x", "llsa data has no command shape\nhint: did you mean \"shapes\"?"},
      {"train --out x --data y --lr 1 --lr fast", "got 'fast'"},
      {"train --out x --data y --lr fast", "--lr takes a number"},
      {"train --out x --data y --steps 1.5", "--steps takes an integer"},
      {"train --out x --data y --steps 0", "--steps"},
      {"train --out x --data y --size 16x", "--size"},
      {"train --out x --data y --size 99999999999x9", "--size"},
      {"train --out x --data y --dim 10 --heads 4", "not divisible"},
      {"train --out x --data y --topk 8,x", "--topk"},
      {"train --out x --data y --size 999999", "size"},
      {"train --out x --data y --size 16 --patch 3", "size"},
      {"train --out x --data y --dim 20 --heads 4", "attention_head_dim"},
      {"train --out x --data y --levels 9", "levels"},
      {"train --out x --data y --lr 0", "lr has to be above 0"},
      {"train --out x --data y --background purple", "purple"},
      {"train --out x --data y --attention sparse", "full, llsa, vsa, sla, auto"},
      {"train --out x", "--data"},
      {"train --data y", "--out"},
      {"train --out x --preset huge", "tiny, small, dit-s, dit-b, dit-l"},
      {"train --out x --preset tiny --config y", "--config"},
      {"train --out x --data y --noise-level-mean -0.8", "noise_level to logit_normal"},
      {"sample run --out x --guidance-interval 1,0", "0 <= a <= b <= 1"},
      {"sample run --out x --sampler rk4", "rk4"},
      {"eval run --data x --background purple", "purple"},
      {"eval run --data x --max-pixels 0", "--max-pixels"},
      {"sample", "model"},
      {"sample run", "--out"},
      {"sample run --out g.png --count 0", "--count"},
      {"bench everything", "everything"},
      {"bench ops --dtype f16", "f16"},
      {"bench ops --seconds soon", "--seconds"},
      {"bench step --graph maybe", "--graph takes true or false, got 'maybe'"},
      {"bench ops --graph --device cpu", "--graph is for llsa bench step, not for ops"},
      {"bench ops --plots figures", "--plots is for llsa bench paper, not for ops"},
      {"bench ops --by-kernel", "--by-kernel is for llsa bench step and attention, not for ops"},
      {"bench step --nvtx", "give --by-kernel, too"},
      {"train --out x --data y --nvtx", "give --profile N, too"},
      {"train --out x --data y --profile -1", "--profile"},
  };
  for (const auto& wrong : cases) {
    CAPTURE(wrong.arguments);
    const Outcome outcome = llsa_program(wrong.arguments);
    CAPTURE(outcome.text);
    CHECK(outcome.code == 2);
    CHECK(outcome.text.rfind("error: ", 0) == 0);
    CHECK(contains(outcome.text, wrong.says));
  }
}

TEST_CASE("what fails exits with 1, an error and, where there is one, a hint") {
  const TempDir dir;
  fs::create_directory(dir / "empty");
  REQUIRE(llsa_program("data shapes --count 4 --size 8 --out " + (dir / "shapes")).code == 0);
  llsa::test::write_file(dir / "bad.json", R"({"stepz": 1})");
  const std::pair<std::string, std::string> cases[] = {
      {"train --out x --data " + (dir / "missing"), "missing"},
      {"train --out x --data " + (dir / "empty"), "empty"},
      {"train --out x --data " + (dir / "empty") + " --config " + (dir / "nothing.json"), "nothing.json"},
      {"train --out x --data " + (dir / "empty") + " --config " + (dir / "bad.json"), "stepz"},
      {"sample " + (dir / "empty") + " --out " + (dir / "g.png"), "neither a checkpoint"},
      {"sample " + (dir / "missing") + " --out " + (dir / "g.png"), "does not exist"},
      {"sample " + (dir / "empty") + " --out " + (dir / "nowhere/g.png"), "there is no folder"},
      {"sample " + (dir / "empty") + " --out " + (dir / "shapes"), "is a folder"},
      {"bench ops --json " + (dir / "nowhere/b.json"), "there is no folder"},
      {"info " + (dir / "missing"), "does not exist"},
      {"train --out " + (dir / "r") + " --data " + (dir / "empty") + " --resume", "no checkpoint to resume"},
      {"train --out " + (dir / "r") + " --resume", "no checkpoint to resume"},
      {"data shapes --count 4 --size 2 --out " + (dir / "s"), "size"},
      {"train --batch 1000000 --size 4096 --threads 1 --data " + (dir / "shapes") + " --out " + (dir / "r"),
       "MiB"},
  };
  for (const auto& failing : cases) {
    CAPTURE(failing.first);
    const Outcome outcome = llsa_program(failing.first);
    CAPTURE(outcome.text);
    CHECK(outcome.code == 1);
    CHECK(outcome.text.rfind("error: ", 0) == 0);
    CHECK(contains(outcome.text, failing.second));
  }
}

TEST_CASE("benchmarks check, measure or say what they leave out, and write figures") {
  const TempDir dir;
  const std::string json = dir / "figures.json";
  const struct {
    const char* arguments;
    const char* says;
    const char* figure;
  } cases[] = {
      {"attention --max-tokens 128", "LLSA L=1", "\"llsa_128\""},
      {"attention --max-tokens 128 --dtype bf16 --seconds 0.001", "left out, the time was up: 128 tokens",
       "\"128 tokens\""},
      {"step --seconds 0.001", "left out: demo step: the time was up", "\"correctness\""},
      {"step --seconds 0.001 --graph false --tune", "tune: the cpu has one algorithm for every product",
       "\"tune\": true"},
      {"paper --seconds 0.001 --max-tokens 2048", "left out: Fig. 3, 2048 tokens: the time was up",
       "\"growth_full\""},
      {"ops --seconds 0.001", "left out: add: the time was up", "\"matmul_gflops\""},
      {"attention --by-kernel --max-tokens 128", "| llsa_attention_backward |",
       "\"llsa_attention_backward\""},
      {"weights --seconds 0.001", "left out: mlp up: the time was up", "\"left_out\""},
  };
  for (const auto& bench : cases) {
    CAPTURE(bench.arguments);
    const Outcome outcome =
        llsa_program("bench " + std::string(bench.arguments) + " --device cpu --threads 1 --json " + json);
    CAPTURE(outcome.text);
    CHECK(outcome.code == 0);
    CHECK(contains(outcome.text, bench.says));
    CHECK(contains(llsa::test::read_file(json), bench.figure));
    fs::remove(json);
  }
  const Outcome ranges = llsa_program("bench step --by-kernel --nvtx --seconds 0.001 --device cpu");
  CHECK(ranges.code == (llsa::cuda::has_ranges() ? 0 : 1));
  CHECK(contains(ranges.text, "this build has no NVTX") == !llsa::cuda::has_ranges());
  const Outcome no_graph = llsa_program("bench step --graph --device cpu --json " + json);
  CHECK(no_graph.code == 1);
  CHECK(contains(no_graph.text, "a step can be replayed from graphs on a CUDA device only, and this is cpu"));
  CHECK(
      contains(no_graph.text, "hint: leave graphs off (--graph false), or choose another device (--device)"));
  CHECK(!fs::exists(json));
  if (llsa::cuda::device_count() == 0) {
    const Outcome refused = llsa_program("bench attention --device cuda --json " + json);
    CHECK(refused.code == 1);
    CHECK(contains(refused.text, "use the device cpu"));
    CHECK(!fs::exists(json));
  }
}

TEST_CASE("data, train, resume, sample, eval and info, one after the other") {
  const TempDir dir;
  const std::string data = dir / "data", run = dir / "run";
  CHECK(llsa_program("data shapes --count 16 --size 8 --out " + data).code == 0);
  CHECK(llsa_program("data shapes --count 16 --size 8 --out " + data).code == 1);  // not over an earlier set
  CHECK(llsa_program("data shapes --count 16 --size 8 --replace --out " + data).code == 0);

  const Outcome trained = llsa_program(tiny_training(data, run, "--steps 2 --noise-scale 3"));
  CAPTURE(trained.text);
  CHECK(trained.code == 0);
  CHECK(contains(trained.text, "done at step 2"));
  CHECK(contains(trained.text, "\nstep 2/2  loss "));
  CHECK(trained.text.find_first_of("\r\033") == std::string::npos);
  CHECK(fs::exists(run + "/config.json"));
  CHECK(fs::exists(run + "/samples/step_000000002.png"));
  CHECK(contains(llsa_program(tiny_training(data, run)).text, "--resume"));
  if (llsa::cuda::device_count() == 0) {
    const Outcome refused = llsa_program(tiny_training(data, run, "--device cuda --steps 3 --resume"));
    CAPTURE(refused.text);
    CHECK(refused.code == 1);
    CHECK(contains(refused.text, llsa::cuda::compiled() ? "error: [device] cuda:0 was asked for, "
                                                        : "error: [device] this build has no CUDA\n"));
    CHECK(contains(refused.text, "\nhint: "));
    CHECK(contains(refused.text, "use the device cpu"));
    CHECK(llsa_program("sample " + run + " --device cuda --out " + (dir / "no.png")).code == 1);
    CHECK(!fs::exists(dir / "no.png"));
  }
  CHECK(contains(llsa_program("sample " + run + " --device gpu --out " + (dir / "no.png")).text, "cuda:N"));
  const Outcome no_device = llsa_program(tiny_training(data, dir / "none", "--device gpu"));
  CHECK(no_device.code == 2);
  CHECK(contains(no_device.text, "--device: [device] expected auto, cpu, cuda or cuda:N, got 'gpu'"));
  const Outcome resumed = llsa_program("train --resume --quiet --steps 3 --out " + run);
  CHECK(contains(resumed.text, "done at step 3"));
  CHECK_FALSE(contains(resumed.text, "tok/s"));

  CHECK(llsa_program("sample " + run + " --count 4 --steps 2 --out " + (dir / "grid.png") + " --each " +
                     (dir / "each"))
            .code == 0);
  CHECK(fs::exists(dir / "grid.png"));
  CHECK(std::distance(fs::directory_iterator(dir / "each"), fs::directory_iterator()) ==
        4 + 2);  // and labels.csv, sample.json
  CHECK(
      llsa_program("sample " + run + " --count 2 --steps 2 --class ring --out " + (dir / "rings.png")).code ==
      0);
  CHECK(llsa_program("sample " + run + " --count 2 --steps 2 --size 12x8 --out " + (dir / "wide.png")).code ==
        0);
  const auto drawn = [&](const std::string& more) {
    CHECK(llsa_program("sample " + run + " --count 2 --steps 2 --out " + (dir / "same.png") + more).code ==
          0);
    return llsa::test::read_file(dir / "same.png");
  };
  CHECK(drawn(" --size 8") == drawn(""));
  CHECK(llsa_program("info " + run + " >/dev/full").code == 1);
  const Outcome unknown = llsa_program("sample " + run + " --class blob --out " + (dir / "blobs.png"));
  CHECK(unknown.code == 2);
  CHECK(contains(unknown.text, "circle, ring, square, triangle"));

  const Outcome scored = llsa_program("eval " + run + " --data " + data + " --count 4 --steps 2 --json");
  CHECK(scored.code == 0);
  for (const char* key : {"\"score\"", "\"real\"", "\"untrained\""}) CHECK(contains(scored.text, key));
  const Outcome info = llsa_program("info " + run);
  CHECK(info.code == 0);
  CHECK(contains(info.text, "circle, ring, square, triangle"));
  CHECK(contains(info.text, "can be resumed"));
}

TEST_CASE("the config.json of a published model is a configuration to train by") {
  const TempDir dir;
  const std::string data = dir / "data", run = dir / "run";
  REQUIRE(llsa_program("data shapes --count 8 --size 8 --out " + data).code == 0);
  llsa::test::write_file(dir / "config.json", R"({"_class_name": "RopeDiTTransformer2DModel", "odd": 1,
      "attention_head_dim": 8, "attn_type": "sparse_l1", "axes_dims_rope": [4, 4], "in_channels": 3,
      "num_attention_heads": 2, "num_layers": 1, "num_embeds_ada_norm": null, "qk_norm": "rms_norm",
      "sample_size": 8, "sparse_block_size": 4, "sparse_topk": 2, "token_permutation": true})");
  const std::string train = "train --config " + (dir / "config.json") + " --data " + data +
                            " --batch 2 --steps 1 --sample-every 0 --threads 1 --out ";
  const Outcome trained = llsa_program(train + run);
  CAPTURE(trained.text);
  CHECK(trained.code == 0);
  CHECK(contains(trained.text, "config.json: the key \"odd\" is not known here and ignored"));
  CHECK(contains(trained.text, "8 images, 64 tokens each"));  // null: no classes
  CHECK(contains(trained.text, "llsa attention"));
  CHECK(contains(llsa::test::read_file(run + "/config.json"), "\"llsa_levels\": 1"));
  CHECK(contains(llsa_program(train + (dir / "other") + " --attention full").text, "full attention"));
}

TEST_CASE("train, resume, sample, eval and info of a PixelFlow") {
  const TempDir dir;
  const std::string data = dir / "data", run = dir / "run";
  REQUIRE(llsa_program("data shapes --count 16 --size 8 --out " + data).code == 0);
  const std::string flags = "--model pixelflow --attention llsa --held-out 25% --eval-every 2 ";
  const Outcome trained = llsa_program(tiny_training(data, run, flags + "--steps 2", 4));
  CAPTURE(trained.text);
  CHECK(trained.code == 0);
  CHECK(contains(trained.text, "1, 4, 16, 64 tokens in 4 stages, 85 per step, llsa attention"));
  CHECK(fs::exists(run + "/samples/step_000000002.png"));
  CHECK(contains(llsa_program("train --resume --steps 3 --out " + run).text, "done at step 3"));

  CHECK(llsa_program("sample " + run + " --count 2 --steps 2 --guidance 2.4 --class ring --out " +
                     (dir / "rings.png"))
            .code == 0);
  CHECK(fs::exists(dir / "rings.png"));
  CHECK(contains(llsa_program("sample " + run + " --count 2 --size 16 --out " + (dir / "no.png")).text,
                 "expected the size that the model is made for, 8 x 8, got 16 x 16"));
  const Outcome scored = llsa_program("eval " + run + " --data " + data + " --count 4 --steps 2 --json");
  CAPTURE(scored.text);
  CHECK(scored.code == 0);
  for (const char* key : {"\"score\"", "\"real\"", "\"untrained\""}) CHECK(contains(scored.text, key));
  llsa::Context ctx;
  llsa::write_safetensors(dir / "inception", llsa::test::inception_tensors(ctx));
  const Outcome features = llsa_program("eval " + run + " --data " + data + " --count 4 --steps 2 --json " +
                                        "--inception " + (dir / "inception"));
  CAPTURE(features.text);
  CHECK(features.code == 0);
  CHECK(contains(features.text, "\"count\": 4"));
  const Outcome info = llsa_program("info " + run);
  CAPTURE(info.text);
  CHECK(info.code == 0);
  CHECK(contains(info.text, "PixelFlow, "));
  CHECK(contains(info.text,
                 "stages       1 x 1: 1 tokens, 2 x 2: 4 tokens, 4 x 4: 16 tokens, 8 x 8: 64 tokens"));
  CHECK(contains(info.text, "attention    in the last stage llsa: block 4"));
  CHECK(!contains(info.text, "noise scale"));
  CHECK(contains(info.text, "can be resumed"));

  const struct {
    const char* given;
    int batch;
    const char* says;
  } cases[] = {
      {"unet", 4, "--model takes one of dit, pixelflow, got 'unet'"},
      {"pixelflow", 6, "hint: the nearest are 4 and 8"},
      {"pixelflow --pos-embed", 4, "llsa_pos_embed"},
      {"pixelflow --reorder false", 4, "token_permutation"},
      {"pixelflow --noise-scale 2", 4, "noise_scale has no meaning for the model pixelflow"},
      {"pixelflow --patch 2", 4, "the smallest size is 16"},
  };
  for (const auto& wrong : cases) {
    CAPTURE(wrong.given);
    const Outcome outcome =
        llsa_program(tiny_training(data, dir / "wrong", "--model " + std::string(wrong.given), wrong.batch));
    CAPTURE(outcome.text);
    CHECK(outcome.code == 2);
    CHECK(contains(outcome.text, wrong.says));
  }
}

TEST_CASE("recipes: a network that predicts the image, several averages, Heun, guidance in an interval") {
  const TempDir dir;
  const std::string data = dir / "data", run = dir / "run";
  REQUIRE(llsa_program("data shapes --count 16 --size 8 --out " + data).code == 0);
  const Outcome trained =
      llsa_program(tiny_training(data, run,
                                 "--steps 4 --lr 0.01 --pred-x0 --noise-level logit_normal "
                                 "--noise-level-mean -0.8 --noise-level-deviation 0.8 "
                                 "--ema-also 0,0.5 --sampler heun --guidance-interval 0.1,1"));
  CAPTURE(trained.text);
  CHECK(trained.code == 0);
  CHECK(contains(trained.text, "64 tokens each, 128 per step"));
  const Outcome info = llsa_program("info " + run);
  CHECK(contains(info.text, "predicts     the image (pred_x0)"));
  CHECK(contains(info.text, "average      0.5 beside the first one (--ema 0.5)"));
  const auto drawn = [&](const std::string& more) {
    const Outcome outcome = llsa_program("sample " + run + " --count 2 --steps 4 --guidance 3 --out " +
                                         (dir / "grid.png") + " " + more);
    CAPTURE(outcome.text);
    CHECK(outcome.code == 0);
    return llsa::test::read_file(dir / "grid.png");
  };
  const std::string plain = drawn("");
  CHECK(drawn("--sampler euler --guidance-interval 0,1") == plain);
  CHECK(drawn("--sampler heun") != plain);
  CHECK(drawn("--ema 0") != plain);
  const Outcome unknown = llsa_program("sample " + run + " --out " + (dir / "no.png") + " --ema 0.9");
  CHECK(unknown.code == 1);
  CHECK(contains(unknown.text, "there are 0, 0.5"));
  CHECK(llsa_program("eval " + run + " --data " + data +
                     " --count 4 --steps 2 --ema 0.5 --sampler heun --guidance-interval 0.1,1")
            .code == 0);
}

TEST_CASE("a preset is printed with the flags on top, and what is printed is a configuration") {
  const TempDir dir;
  const std::string flags = "--preset tiny --steps 7 --depth 2 --print-config 2>/dev/null";
  const Outcome printed = llsa_program("train " + flags);
  CHECK(printed.code == 0);
  for (const char* line : {"\"steps\": 7", "\"num_layers\": 2", "\"lr\": 0.004"})
    CHECK(contains(printed.text, line));
  llsa::test::write_file(dir / "run.json", printed.text);
  CHECK(llsa_program("train --config " + (dir / "run.json") + " --print-config 2>/dev/null").text ==
        printed.text);
}

TEST_CASE("a flag of yes or no means yes when it is given alone, and of two the last one holds") {
  const TempDir dir;
  const std::string data = dir / "data";
  REQUIRE(llsa_program("data shapes --count 4 --size 8 --out " + data).code == 0);
  REQUIRE(llsa_program(tiny_training(data, dir / "model", "--steps 1 --sample-every 0 --pos-embed")).code ==
          0);
  CHECK(contains(llsa::test::read_file(dir / "model/config.json"), "\"llsa_pos_embed\": true"));
  const std::pair<std::string, std::string> cases[] = {{"", "false"},
                                                       {"--tune", "true"},
                                                       {"--tune true", "true"},
                                                       {"--tune=false", "false"},
                                                       {"--tune --tune=false", "false"}};
  for (const auto& given : cases) {
    CAPTURE(given.first);
    const std::string run = dir / ("run" + given.first);
    const Outcome outcome = llsa_program(
        tiny_training(data, "'" + run + "'", "--device cpu --steps 1 --sample-every 0 " + given.first));
    CAPTURE(outcome.text);
    CHECK(outcome.code == 0);
    CHECK(contains(llsa::test::read_file(run + "/config.json"), "\"tune\": " + given.second));
    CHECK(contains(outcome.text, "nothing to choose") == (given.second == "true"));
  }
  CHECK(contains(llsa_program("train --help").text, "--tune BOOL=false"));
}

TEST_SUITE_END();
