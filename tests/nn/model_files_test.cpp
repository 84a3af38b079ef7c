// Checkpoints in the forms and under the names that other programs use.
#include "nn/checkpoint/model_files.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/safetensors.h"
#include "kernels/copy.h"
#include "nn/checkpoint/diffusers.h"
#include "nn/checkpoint/run_folder.h"
#include "nn/dit.h"
#include "nn/json.h"
#include "tests/support/files.h"
#include "tests/support/tensors.h"
#include "tests/support/text.h"

namespace llsa::nn {
namespace {

using llsa::test::contains;
using llsa::test::failure_of;
namespace fs = std::filesystem;

using Tensors = std::vector<std::pair<std::string, Tensor>>;

/// A small model, written to a directory, and the places of its files.
struct Written {
  Context ctx{1};
  test::TempDir dir;
  Dit model;
  const std::string root = dir / "model", folder = root + "/denoiser",
                    weights = folder + "/diffusion_pytorch_model.safetensors";

  Written() : model(ctx, config(), 3) {
    fs::create_directory(root);
    write_diffusers_model(root, model, model.parameters().flat(), 2.0, {"a", "b"});
  }

  static DitConfig config() {
    DitConfig config;
    config.height = config.width = 8;
    config.head_dim = 8;
    config.layers = 2;
    config.classes = 2;
    config.attention = AttentionKind::full;
    return config;
  }

  Tensors tensors() {
    Tensors out;
    const SafetensorsFile file(weights);
    for (const auto& [name, tensor] : file.tensors()) out.emplace_back(name, kernels::clone(ctx, tensor));
    return out;
  }

  /// Whether a place holds this model.
  bool same(const std::string& path) {
    return test::same_bits(ctx, load_diffusers_model(ctx, path)->parameters().flat(),
                           model.parameters().flat());
  }

  std::string refusal(const std::string& path) {
    return failure_of<Error>([&] { load_diffusers_model(ctx, path); });
  }
};

std::string notes_of(const std::string& path) {
  std::string text;
  for (const std::string& note : read_diffusers_model(path).notes) text += note + "\n";
  return text;
}

TEST_SUITE_BEGIN("nn/model_files");

TEST_CASE("a folder denoiser alone, and a file of weights, are a checkpoint") {
  Written made;
  for (const std::string& path : {made.folder, made.folder + "/", made.weights}) {
    CAPTURE(path);
    CHECK(resolve_checkpoint(path) == path);
    CHECK(made.same(path));
    CHECK(read_diffusers_model(path).noise_scale == 2.0);  // from the directory that it lies in
    CHECK(read_diffusers_model(path).class_names.size() == 2);
    CHECK(notes_of(path).empty());
  }
  const std::string moved = made.dir / "moved";
  fs::rename(made.folder, moved);
  CHECK(made.same(moved));
  CHECK(contains(notes_of(moved), "noise_rescale 1 is assumed"));
  CHECK(read_diffusers_model(moved).class_names.empty());

  fs::remove(moved + "/config.json");
  CHECK_FALSE(is_diffusers_model(moved));
  CHECK(contains(made.refusal(moved + "/diffusion_pytorch_model.safetensors"),
                 "has no config.json beside it, which would say what model it is"));
}

TEST_CASE("the averaged weights are taken where raw ones lie beside them, and it is said") {
  Written made;
  const std::string average = made.root + "/denoiser_ema";
  fs::copy(made.folder, average);
  Tensors raw = made.tensors();
  for (auto& item : raw) kernels::fill(made.ctx, item.second, 0.5);
  write_safetensors(made.weights, raw);
  CHECK(made.same(made.root));
  CHECK(notes_of(made.root) ==
        "the averaged weights in denoiser_ema are taken, not the raw ones beside them\n");
  CHECK(made.same(average));
  CHECK(notes_of(average).empty());
  CHECK_FALSE(made.same(made.folder));
  CHECK(contains(notes_of(made.folder), "these are raw weights; the averaged ones are in denoiser_ema"));
  fs::remove_all(made.folder);
  CHECK(made.same(made.root));
  CHECK(notes_of(made.root).empty());
}

TEST_CASE("a variant is taken where it is the only file of weights, never silently chosen among several") {
  Written made;
  const std::string half = made.folder + "/diffusion_pytorch_model.fp16.safetensors";
  fs::copy(made.weights, half);
  CHECK(made.same(made.root));
  CHECK(contains(notes_of(made.root),
                 "are those of diffusion_pytorch_model.safetensors; beside it is "
                 "diffusion_pytorch_model.fp16.safetensors"));
  fs::remove(made.weights);
  CHECK(made.same(made.root));
  CHECK(contains(notes_of(made.root), "the weights are those of diffusion_pytorch_model.fp16.safetensors"));
  fs::copy(half, made.folder + "/raw.safetensors");
  CHECK(contains(made.refusal(made.root),
                 "holds several files of weights: diffusion_pytorch_model.fp16.safetensors, "
                 "raw.safetensors | give the path of the one that you mean"));
  CHECK(made.same(half));
}

TEST_CASE("files of other formats are refused with the reason") {
  Written made;
  fs::rename(made.weights, made.folder + "/diffusion_pytorch_model.bin");
  CHECK(contains(made.refusal(made.root),
                 "found diffusion_pytorch_model.bin | only safetensors files are read"));
  fs::rename(made.folder + "/diffusion_pytorch_model.bin", made.folder + "/w-00001-of-00002.safetensors");
  CHECK(contains(made.refusal(made.root), "parts are read through their index"));
  CHECK(contains(failure_of<IoError>([&] { find_model_files(made.dir.path()); }),
                 "is no checkpoint: expected"));
}

TEST_CASE("weights in parts are read through their index") {
  Written made;
  const std::string index = made.weights + ".index.json";
  const Tensors all = made.tensors();
  const auto middle = all.begin() + static_cast<std::ptrdiff_t>(all.size() / 2);
  write_safetensors(made.folder + "/part-00001-of-00002.safetensors", {all.begin(), middle});
  write_safetensors(made.folder + "/part-00002-of-00002.safetensors", {middle, all.end()});
  fs::remove(made.weights);
  const auto write_index = [&](const std::function<std::string(std::size_t)>& file_of) {
    JsonWriter map;
    for (std::size_t i = 0; i < all.size(); ++i)
      if (const std::string file = file_of(i); !file.empty()) map.add(all[i].first, file);
    test::write_file(
        index, JsonWriter().add("metadata", JsonWriter().add("total_size", 1)).add("weight_map", map).line());
  };
  const auto right = [&](std::size_t i) -> std::string {
    return i < all.size() / 2 ? "part-00001-of-00002.safetensors" : "part-00002-of-00002.safetensors";
  };
  write_index(right);
  CHECK(made.same(made.root));
  CHECK(made.same(index));
  CHECK(notes_of(made.root).empty());
  write_index([&](std::size_t i) { return i + 1 == all.size() ? right(0) : right(i); });
  CHECK(contains(made.refusal(made.root), "has no tensor \"" + all.back().first));
  write_index([&](std::size_t i) { return i == 0 ? "" : right(i); });
  CHECK(contains(made.refusal(made.root),
                 "holds \"" + all[0].first + "\", which " + index + " does not place there"));
  write_index([&](std::size_t i) { return "../denoiser/" + right(i); });
  CHECK(contains(made.refusal(made.root), "expected the name of a .safetensors file beside it"));
  write_index([&](std::size_t) { return "part-00003-of-00003.safetensors"; });
  CHECK(contains(made.refusal(made.root), "part-00003-of-00003.safetensors: cannot open"));
  test::write_file(index, "{}");
  CHECK(contains(made.refusal(made.root), "names no tensors"));
}

TEST_CASE("what other programs put before all names is taken away") {
  Written made;
  const Tensors all = made.tensors();
  for (const std::string prefix :
       {"module.", "model.", "_orig_mod.", "module._orig_mod.", "model.denoiser."}) {
    CAPTURE(prefix);
    Tensors renamed;
    for (const auto& [name, tensor] : all) renamed.emplace_back(prefix + name, tensor);
    renamed.emplace_back(prefix + "repa_layer.weight", all[0].second);
    write_safetensors(made.weights, renamed);
    CHECK(made.same(made.root));
  }
  Tensors blocks;  // each block compiled by itself
  for (const auto& [name, tensor] : all) {
    const std::size_t at = name.find(".norm1.");
    blocks.emplace_back(at == std::string::npos ? name : name.substr(0, at) + "._orig_mod" + name.substr(at),
                        tensor);
  }
  write_safetensors(made.weights, blocks);
  CHECK(made.same(made.root));

  Tensors both;  // a raw and an averaged model in one file
  for (const auto& [name, tensor] : all) {
    both.emplace_back("model." + name, tensor);
    both.emplace_back("ema." + name, tensor);
  }
  write_safetensors(made.weights, both);
  CHECK(contains(made.refusal(made.root),
                 "holds no weights of the model dit: expected proj_in.weight and others, found ema."));
  blocks.emplace_back("_orig_mod." + all[0].first, all[0].second);
  write_safetensors(made.weights, blocks);
  CHECK(contains(made.refusal(made.root), "twice"));
}

TEST_CASE("weights in half precision are widened") {
  Written made;
  std::string header, data;
  for (const auto& [name, tensor] : made.tensors()) {
    const std::size_t begin = data.size();
    for (std::int64_t i = 0; i < tensor.numel(); ++i) data.append("\x01\x38", 2);  // 0.5 + 2^-11
    std::string shape;
    for (const std::int64_t extent : tensor.shape().extents())
      shape += (shape.empty() ? "" : ",") + std::to_string(extent);
    header += cat(header.empty() ? "{" : ",", '"', name, R"(":{"dtype":"F16","shape":[)", shape,
                  R"(],"data_offsets":[)", begin, ',', data.size(), "]}");
  }
  header += "}";
  const std::uint64_t length = header.size();
  test::write_file(made.weights,
                   std::string(reinterpret_cast<const char*>(&length), sizeof length) + header + data);
  const auto model = load_diffusers_model(made.ctx, made.root);
  int others = 0;
  for (const Parameter& parameter : model->parameters().all())
    for (const float value :
         kernels::to_vector<float>(made.ctx, model->parameters().view(model->parameters().flat(), parameter)))
      others += value != 0.5f + 0x1p-11f;
  CHECK(others == 0);
}

TEST_CASE("sizes that do not fit the weights are refused before a model is made of them") {
  Written made;
  const std::string config = made.folder + "/config.json", text = test::read_file(config);
  const auto with = [&](const std::string& key, const std::string& was, const std::string& now) {
    std::string changed = text;
    const std::string from = '"' + key + "\": " + was;
    REQUIRE(contains(changed, from));
    changed.replace(changed.find(from), from.size(), '"' + key + "\": " + now);
    test::write_file(config, changed);
    return made.refusal(made.root);
  };
  CHECK(contains(with("num_layers", "2", "4096"),
                 "a number of blocks of 4096, in " + made.weights + " it is 2"));
  CHECK(contains(with("num_attention_heads", "2", "4096"), "of the shape [32768,3,1,1]"));
  CHECK(contains(with("patch_size", "1", "2"), "of the shape [16,3,2,2]"));
  fs::remove(made.root + "/classes.json");
  CHECK(contains(with("num_embeds_ada_norm", "2", "16777216"), "a number of classes of 16777216"));
  CHECK(contains(with("num_embeds_ada_norm", "2", "null"), "a number of classes of 0"));
}

TEST_SUITE_END();

}  // namespace
}  // namespace llsa::nn
