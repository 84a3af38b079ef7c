#include <doctest/doctest.h>

#include <filesystem>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/safetensors.h"
#include "kernels/copy.h"
#include "nn/checkpoint/diffusers.h"
#include "nn/checkpoint/run_folder.h"
#include "nn/dit.h"
#include "tests/support/files.h"
#include "tests/support/tensors.h"
#include "tests/support/text.h"

namespace {

using namespace llsa;
using namespace llsa::nn;
using llsa::test::contains;
namespace fs = std::filesystem;
using Tensors = std::vector<std::pair<std::string, Tensor>>;

DitConfig small_config() {
  DitConfig config;
  config.height = config.width = 8;
  config.heads = 2;
  config.head_dim = 8;
  config.layers = 1;
  config.classes = 3;
  config.attention = AttentionKind::full;
  return config;
}

// Copies of all tensors of a file, to be changed and written again.
Tensors tensors_of(Context& ctx, const std::string& path) {
  Tensors out;
  const SafetensorsFile file(path);
  for (const auto& [name, tensor] : file.tensors()) out.emplace_back(name, kernels::clone(ctx, tensor));
  return out;
}

std::string load_failure(Context& ctx, const std::string& directory) {
  try {
    load_diffusers_model(ctx, directory);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_SUITE_BEGIN("nn/checkpoint");

TEST_CASE("a published model reads back bit for bit") {
  const test::TempDir dir;
  Context ctx(1);
  const Dit model(ctx, small_config(), 3);
  fs::create_directory(dir / "model");
  write_diffusers_model(dir / "model", model, model.parameters().flat(), 2.0, {"a", "b", "c"});
  const DiffusersModel published = read_diffusers_model(dir / "model");
  CHECK(published.noise_scale == 2.0);
  CHECK(published.class_names == std::vector<std::string>{"a", "b", "c"});
  CHECK(published.notes.empty());
  const auto again = load_diffusers_model(ctx, dir / "model");
  CHECK(kernels::to_vector<float>(ctx, again->parameters().flat()) ==
        kernels::to_vector<float>(ctx, model.parameters().flat()));
  CHECK(SafetensorsFile(diffusers_weights_path(dir / "model")).metadata().at("format") == "pt");
}

TEST_CASE("a run folder is loaded as its latest checkpoint") {
  const test::TempDir dir;
  Context ctx(1);
  const Dit first(ctx, small_config(), 3), second(ctx, small_config(), 4);
  RunFolder files(dir / "run");
  files.prepare();
  for (const auto& [step, model] : {std::pair{1, &first}, std::pair{2, &second}})
    files.save(step, [&, model = model](const std::string& folder) {
      write_diffusers_model(folder, *model, model->parameters().flat(), 1.0, {"a", "b", "c"});
    });
  const auto latest = load_diffusers_model(ctx, dir / "run");
  CHECK(test::same_bits(ctx, latest->parameters().flat(), second.parameters().flat()));
  CHECK(contains(load_failure(ctx, dir / "nowhere"), "does not exist"));
}

TEST_CASE("damaged checkpoints are refused by name") {
  const test::TempDir dir;
  Context ctx(1);
  const Dit model(ctx, small_config(), 3);
  const std::string folder = dir / "model", weights = diffusers_weights_path(folder);
  fs::create_directory(folder);
  write_diffusers_model(folder, model, model.parameters().flat(), 1.0, {});
  const Tensors good = tensors_of(ctx, weights);
  CHECK(load_failure(ctx, folder) == "");

  SUBCASE("a tensor is missing") {
    Tensors some = good;
    some.erase(some.begin());
    write_safetensors(weights, some);
    CHECK(contains(load_failure(ctx, folder), "missing " + good.front().first));
  }
  SUBCASE("a tensor too many") {
    Tensors more = good;
    more.emplace_back("another.weight", ctx.zeros({2}, DType::f32));
    write_safetensors(weights, more);
    CHECK(contains(load_failure(ctx, folder), "unknown another.weight"));
  }
  SUBCASE("heads of teacher networks are passed over") {
    Tensors more = good;
    more.emplace_back("repa_layer.weight", ctx.zeros({2}, DType::f32));
    write_safetensors(weights, more);
    CHECK(load_failure(ctx, folder) == "");
  }
  SUBCASE("a wrong shape") {
    Tensors other = good;
    other.front().second = ctx.zeros({7}, DType::f32);
    write_safetensors(weights, other);
    CHECK(contains(load_failure(ctx, folder), "wrong shape " + good.front().first));
  }
  SUBCASE("a value that is not finite") {
    kernels::fill(ctx, good.back().second, std::numeric_limits<double>::quiet_NaN());
    write_safetensors(weights, good);
    CHECK(contains(load_failure(ctx, folder), good.back().first));
    CHECK(contains(load_failure(ctx, folder), "not finite"));
  }
  SUBCASE("a file that ends early") {
    const std::string bytes = test::read_file(weights);
    test::write_file(weights, bytes.substr(0, bytes.size() / 2));
    CHECK(contains(load_failure(ctx, folder), weights));
  }
  SUBCASE("no weights") {
    fs::remove(weights);
    CHECK(contains(load_failure(ctx, folder), weights));
  }
  SUBCASE("a configuration that is no JSON") {
    test::write_file(folder + "/denoiser/config.json", "{");
    CHECK(contains(load_failure(ctx, folder), "config.json"));
  }
}

TEST_CASE("run folders find the latest whole checkpoint") {
  const test::TempDir dir;
  RunFolder files(dir / "run");
  CHECK_FALSE(files.latest());
  CHECK_THROWS_AS(resolve_checkpoint(dir / "run"), IoError);
  files.prepare();
  CHECK_THROWS_WITH_AS(resolve_checkpoint(dir / "run"), doctest::Contains("neither a checkpoint"), IoError);
  const auto fill = [](const std::string& folder) {
    fs::create_directory(folder + "/denoiser");
    test::write_file(folder + "/denoiser/config.json", "{}");
  };
  for (const std::int64_t step : {5, 10, 200}) files.save(step, fill);
  CHECK_THROWS_AS(files.save(300, [](const std::string&) { throw IoError("disk full"); }), IoError);
  fs::create_directory(dir / "run/checkpoints/step_000000400");  // empty: nothing that this program leaves
  REQUIRE(files.checkpoints().size() == 3);
  CHECK(files.latest()->step == 200);
  CHECK(resolve_checkpoint(dir / "run") == files.latest()->path);
  CHECK(resolve_checkpoint(files.latest()->path) == files.latest()->path);
  files.prune(1);
  CHECK(files.checkpoints().size() == 1);
  CHECK(files.latest()->step == 200);
}

TEST_SUITE_END();
