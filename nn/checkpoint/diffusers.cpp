#include "nn/checkpoint/diffusers.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <utility>

#include "core/atomic_file.h"
#include "core/closest.h"
#include "core/safetensors.h"
#include "core/text_file.h"
#include "kernels/copy.h"
#include "kernels/elementwise.h"
#include "kernels/make.h"
#include "nn/checkpoint/attention_layers.h"
#include "nn/checkpoint/run_folder.h"
#include "nn/diffusers_config.h"
#include "nn/json.h"
#include "nn/parameter_file.h"

namespace llsa::nn {
namespace {

namespace fs = std::filesystem;

using TensorMap = std::map<std::string, Tensor>;

// Before a model is made, compares the sizes that determine its memory with those of its weights: a damaged configuration
// must not request terabytes.
void check_sizes(const DiffusersModel& model, const TensorMap& tensors, const ModelFiles& files) {
  const DitConfig& config = model.config;
  const auto require = [&](const char* what, const auto& expected, const auto& found) {
    if (!(expected == found))
      throw IoError(cat(files.config, " describes a model with ", what, ' ', expected, ", in ", files.weights,
                        " it is ", found),
                    "do both files belong together?");
  };
  const std::string first = model.kind == ModelKind::pixelflow ? "patch_embed.proj.weight" : "proj_in.weight";
  const auto patches = tensors.find(first);
  if (patches == tensors.end()) {
    std::vector<std::string> names;
    for (const auto& item : tensors) names.push_back(item.first);
    throw IoError(cat(files.weights, " holds no weights of the model ", name_of(model.kind), ": expected ",
                      first, " and others, found ", listed(names)));
  }
  require("a patch embedding of the shape",
          Shape{config.channels(), config.in_channels, config.patch, config.patch}, patches->second.shape());
  std::set<std::string> blocks;
  std::int64_t classes = 0;
  for (const auto& [name, tensor] : tensors) {
    if (const std::string prefix = "transformer_blocks."; name.starts_with(prefix))
      blocks.insert(name.substr(0, name.find('.', prefix.size())));
    if (name.ends_with(kClassTable) && tensor.rank() == 2) classes = tensor.size(0) - 1;
  }
  require("a number of blocks of", static_cast<std::size_t>(config.layers), blocks.size());
  require("a number of classes of", static_cast<std::int64_t>(config.classes), classes);
}

// The weights from the tensors of a checkpoint. Layers that other kinds of attention lack may be missing there.
Tensor weights_from(const Parameters& store, TensorMap tensors, const ModelFiles& files) {
  add_missing_layers(store, tensors);
  return read_weights(store, tensors, files.weights);
}

/// The weights and, beside them, the configuration.
void write_denoiser(const std::string& weights, const ImageModel& model, const Tensor& flat) {
  const fs::path folder = fs::path(weights).parent_path();
  make_folder(folder.string());
  Context& ctx = model.context();
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const Parameter& parameter : model.parameters().all()) {
    tensors.emplace_back(
        parameter.name,
        to_host(ctx, kernels::cast(ctx, model.parameters().view(flat, parameter), DType::f32)));
  }
  write_safetensors(weights, tensors, {{"format", "pt"}});
  write_file_atomically((folder / "config.json").string(),
                        diffusers_config_json(model.last_stage(), model.kind()));
}

}  // namespace

std::string diffusers_weights_path(const std::string& directory, const std::string& average) {
  return (fs::path(directory) / (average.empty() ? std::string("denoiser") : kFurtherAverage + average) /
          "diffusion_pytorch_model.safetensors")
      .string();
}

DiffusersModel read_diffusers_model(const std::string& path) {
  const ModelFiles files = find_model_files(path);
  DiffusersConfig parsed = parse_diffusers_config(read_text_file(files.config), files.config);
  DiffusersModel model{parsed.kind, std::move(parsed.config), 1.0, {}, files.notes, path};
  model.notes.insert(model.notes.end(), parsed.notes.begin(), parsed.notes.end());
  if (model.kind == ModelKind::pixelflow) {
    if (!files.scheduler.empty())
      check_cascade_scheduler_config(read_text_file(files.scheduler), files.scheduler);
  } else if (!files.scheduler.empty()) {
    const SchedulerConfig scheduler =
        parse_scheduler_config(read_text_file(files.scheduler), files.scheduler);
    model.noise_scale = scheduler.noise_rescale;
    model.config.pred_x0 |= scheduler.pred_x0;
    model.notes.insert(model.notes.end(), scheduler.notes.begin(), scheduler.notes.end());
  } else {
    model.notes.emplace_back("there is no scheduler/scheduler_config.json: noise_rescale 1 is assumed");
  }
  if (const char* layer = attention_layer_of(model.config)) {
    const auto has = [&](const auto& entry) { return belongs_to_layer(entry.first, layer); };
    const TensorMap tensors = read_model_tensors(files);
    if (std::none_of(tensors.begin(), tensors.end(), has))
      model.notes.push_back(cat("the weights have no ", layer, ": it is taken as zero"));
  }
  model.class_names = read_class_names(files, model.config.classes);
  return model;
}

void write_diffusers_model(const std::string& directory, const ImageModel& model, const Tensor& flat,
                           double noise_scale, const std::vector<std::string>& class_names) {
  const fs::path root = directory;
  write_denoiser(diffusers_weights_path(directory), model, flat);
  make_folder((root / "scheduler").string());
  write_file_atomically((root / "model_index.json").string(), model_index_json(model.kind()));
  write_file_atomically((root / "scheduler" / "scheduler_config.json").string(),
                        model.kind() == ModelKind::pixelflow ? cascade_scheduler_config_json()
                                                             : scheduler_config_json(noise_scale));
  if (!class_names.empty()) {
    write_file_atomically((root / "classes.json").string(), JsonWriter().add("names", class_names).pretty());
  }
}

void write_diffusers_average(const std::string& directory, const ImageModel& model, const Tensor& flat,
                             const std::string& name) {
  write_denoiser(diffusers_weights_path(directory, name), model, flat);
}

Tensor read_diffusers_weights(const Parameters& store, const std::string& path, const std::string& average) {
  const ModelFiles files = find_model_files(path, average);
  return weights_from(store, read_model_tensors(files), files);
}

std::unique_ptr<ImageModel> load_diffusers_model(Context& ctx, const std::string& path, DType dtype,
                                                 const std::string& average) {
  return load_diffusers_model(ctx, read_diffusers_model(resolve_checkpoint(path)), dtype, average);
}

std::unique_ptr<ImageModel> load_diffusers_model(Context& ctx, const DiffusersModel& about, DType dtype,
                                                 const std::string& average) {
  const ModelFiles files = find_model_files(about.path, average);
  TensorMap tensors = read_model_tensors(files);
  check_sizes(about, tensors, files);
  auto model = make_model(ctx, about.kind, about.config, 0, dtype);
  model->parameters().load(weights_from(model->parameters(), std::move(tensors), files));
  model->set_noise_scale(about.noise_scale);
  return model;
}

}  // namespace llsa::nn
