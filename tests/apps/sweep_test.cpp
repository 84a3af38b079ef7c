// Sweeps: the file, and a few tiny runs through the program.
#include "apps/llsa/sweep_file.h"

#include <doctest/doctest.h>

#include <filesystem>

#include "core/error.h"
#include "core/text_file.h"
#include "nn/data/shapes.h"
#include "nn/json.h"
#include "tests/support/files.h"
#include "tests/support/program.h"
#include "tests/support/text.h"

namespace llsa::apps {
namespace {

using namespace llsa::test;
namespace fs = std::filesystem;

TEST_SUITE_BEGIN("apps/sweep");

std::string refused(const std::string& text) {
  return failure_of<ValueError>([&] { parse_sweep(text, "s.json"); });
}

TEST_CASE("a file becomes training options, variant by variant, in an order that can run") {
  const Sweep sweep = parse_sweep(R"({
    "base": {"data": "pictures", "steps": 30, "llsa_block": 4},
    "variants": {
      "large": {"from": "small", "sample_size": 32},
      "full": {"llsa_attention": "full", "steps": 40},
      "small": {}
    },
    "seeds": [3, 5],
    "plots": {"speed": {"x": "steps", "y": "step_ms", "series": "llsa_attention"}}
  })",
                                  "s.json");
  REQUIRE(sweep.variants.size() == 3);
  CHECK(sweep.variants[0].name == "full");
  CHECK(sweep.variants[0].options.steps == 40);
  CHECK(sweep.variants[0].options.model.attention == nn::AttentionKind::full);
  CHECK(sweep.variants[0].options.model.llsa.block == 4);
  CHECK(sweep.variants[1].name == "small");
  CHECK(sweep.variants[1].options.steps == 30);
  CHECK(sweep.variants[2].from == "small");
  CHECK(sweep.variants[2].options.model.height == 32);
  CHECK(sweep.seeds == std::vector<std::int64_t>{3, 5});
  REQUIRE(sweep.plots.size() == 1);
  CHECK(sweep.plots[0].series == "llsa_attention");
}

TEST_CASE("mistakes in a file are named with their place") {
  const std::string base = R"("base": {"data": "x"})";
  CHECK(contains(refused("{" + base + "}"), "\"variants\": expected at least one"));
  CHECK(contains(refused("{" + base + R"(, "variants": {"a": {"stepz": 3}}})"),
                 "[s.json: a] unknown key \"stepz\""));
  CHECK(contains(refused("{" + base + R"(, "variants": {"a": {}, "a": {}}})"), "\"a\" is given twice"));
  CHECK(contains(refused("{" + base + R"(, "variants": {"a/b": {}}})"), "becomes the name of a file"));
  CHECK(contains(refused("{" + base + R"(, "variants": {"..": {}}})"), "becomes the name of a file"));
  CHECK(contains(refused("{" + base + R"(, "variants": {"a": {"seed": 1}}})"), "use \"seeds\""));
  CHECK(contains(refused("{" + base + R"(, "variants": {"a": {"init_from": "r"}}})"), "use \"from\""));
  CHECK(
      contains(refused("{" + base + R"(, "variants": {"a": {"from": "b"}}})"), "there is no variant \"b\""));
  CHECK(contains(refused("{" + base + R"(, "variants": {"small": {}, "a": {"from": "smal"}}})"),
                 "did you mean \"small\"?"));
  CHECK(contains(refused("{" + base + R"(, "variants": {"a": {"from": "b"}, "b": {"from": "a"}}})"),
                 "in a circle"));
  CHECK(contains(refused(R"({"variants": {"a": {}}})"), "\"data\": expected a folder"));
  CHECK(contains(refused("{" + base + R"(, "variants": {"a": {}}, "seeds": [1, 1]})"), "different numbers"));
  CHECK(contains(refused("{" + base + R"(, "variants": {"a": {}}, "arms": {}})"), "unknown key \"arms\""));
  CHECK(contains(refused("{" + base + R"(, "variants": {"a": {}}, "plots": {"p": {"x": "speed"}}})"),
                 "key \"x\""));
  CHECK(contains(refused("{" + base + R"(, "variants": {"a": {}}, "plots": {"p": {"series": "kind"}}})"),
                 "expected a key of the configuration"));
}

TEST_CASE("the files of the paper's comparisons are right, and the small one has equal keys per query") {
  int files = 0;
  for (const auto& entry : fs::directory_iterator(LLSA_SOURCE_DIR "/examples/paper")) {
    if (entry.path().extension() != ".json") continue;
    CAPTURE(entry.path().string());
    CHECK_FALSE(parse_sweep(read_text_file(entry.path().string()), entry.path().string()).variants.empty());
    ++files;
  }
  CHECK(files >= 6);
  const std::string recipes = LLSA_SOURCE_DIR "/examples/recipes.json";
  const Sweep compared = parse_sweep(read_text_file(recipes), recipes);
  for (const SweepVariant& variant : compared.variants) {
    CAPTURE(variant.name);
    CHECK(variant.options.steps * variant.options.batch * variant.options.model.tokens() == 400 * 8 * 256);
  }
  const Outcome tiny = llsa_program("sweep '" LLSA_SOURCE_DIR "/examples/paper/tiny.json' --check");
  CHECK(tiny.code == 0);
  for (const char* variant : {"llsa", "top-k", "no-reweight", "vsa", "sla", "raster", "own-block"}) {
    CAPTURE(variant);
    const std::size_t at = tiny.text.find(std::string("\n") + variant + " ");
    REQUIRE(at != std::string::npos);
    CHECK(contains(tiny.text.substr(at + 1, tiny.text.find('\n', at + 1) - at - 1), " 128 "));
  }
}

TEST_CASE("runs, a failure among them; what is finished stays, what was interrupted goes on") {
  const TempDir dir;
  nn::ShapesOptions shapes;
  shapes.out = dir / "shapes";
  shapes.count = 16;
  shapes.size = 8;
  nn::write_shapes(shapes);
  const auto write = [&](const std::string& steps) {
    write_file(dir / "s.json", R"({
      "base": {"data": ")" + shapes.out +
                                   R"(", "held_out": "30%", "eval_every": 2, "eval_samples": 2, "steps": )" +
                                   steps + R"(,
               "sample_size": 8, "num_attention_heads": 1, "attention_head_dim": 8, "num_layers": 1, "batch": 2,
               "llsa_block": 4, "llsa_topk": 2, "threads": 1, "sample_every": 2, "sample_count": 1, "sample_steps": 1},
      "variants": {
        "larger": {"from": "llsa", "sample_size": 16},
        "llsa": {"llsa_attention": "llsa", "llsa_levels": 1},
        "broken": {"data": ")" + (dir / "nowhere") +
                                   R"("},
        "after": {"from": "broken"}
      },
      "seeds": [0, 1],
      "plots": {"size": {"x": "num_layers", "y": "held_out_loss", "series": "llsa_attention"}}
    })");
  };
  write("2");
  const std::string command = "sweep '" + (dir / "s.json") + "' --out '" + (dir / "out") + "'";
  const Outcome checked = llsa_program(command + " --check");
  CHECK(checked.code == 0);
  CHECK(contains(checked.text, "4 variants, 2 seeds: 8 runs"));
  CHECK_FALSE(fs::exists(dir / "out"));
  CHECK(llsa_program("sweep '" + (dir / "s.json") + "'").code == 2);

  const Outcome first = llsa_program(command + " --jobs 2");
  CAPTURE(first.text);
  CHECK(first.code == 1);
  const std::string table = read_text_file(dir / "out/table.md");
  CHECK(contains(
      table, "| variant | held-out loss | best held-out loss | score / real | training loss | tokens/s |"));
  CHECK(contains(table, "| larger | "));
  CHECK(contains(table, "* broken, seed 1: failed: "));
  CHECK(contains(table, "* after, seed 0: failed: the variant that it starts from, broken, failed"));
  CHECK(contains(read_text_file(dir / "out/plots/grids.gp"), "llsa/seed-0/samples/step_000000002.png"));
  CHECK(contains(table, "plots/grids.png") == fs::exists(dir / "out/plots/grids.png"));
  nn::JsonObject json(read_text_file(dir / "out/table.json"), "table.json");
  nn::JsonObject rows = json.object("larger"), row = rows.object("seed 1");
  CHECK(row.string("state", "") == "finished");
  CHECK(row.number("held_out_loss", 0, 0, 10) > 0);
  CHECK(row.number("tokens_per_second", 0, 0, 1e12) > 0);
  CHECK(fs::exists(dir / "out/plots/size.dat"));
  CHECK(fs::exists(dir / "out/plots/size.gp"));
  CHECK(contains(first.text, "note: plot size: broken has no held_out_loss"));

  // Another number of steps: every run goes on from its checkpoint, and finished runs are not begun anew.
  const auto checkpoints = [&] {
    return fs::last_write_time(dir / "out/llsa/seed-0/checkpoints/step_000000002");
  };
  const auto before = checkpoints();
  CHECK(contains(llsa_program(command).text, "resumed at step 2"));
  CHECK(checkpoints() == before);
  write("4");
  CHECK(contains(llsa_program(command).text, "[larger, seed 1] resumed at step 2"));
  CHECK(fs::exists(dir / "out/larger/seed-1/checkpoints/step_000000004"));
  const Outcome elsewhere = llsa_program("sweep '" + (dir / "s.json") + "' --out '" + (dir / "elsewhere") +
                                         "' --data " + (dir / "none"));
  CHECK(elsewhere.code == 1);
  CHECK(contains(elsewhere.text, "llsa, seed 0: failed: "));
  CHECK(contains(elsewhere.text, dir / "none"));
}

TEST_SUITE_END();

}  // namespace
}  // namespace llsa::apps
