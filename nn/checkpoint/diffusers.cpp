#include "nn/checkpoint/diffusers.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <utility>

#include "autograd/var.h"
#include "core/atomic_file.h"
#include "core/safetensors.h"
#include "core/text_file.h"
#include "kernels/copy.h"
#include "kernels/elementwise.h"
#include "kernels/make.h"
#include "nn/checkpoint/checksums.h"
#include "nn/checkpoint/run_folder.h"
#include "nn/diffusers_config.h"
#include "nn/dit.h"
#include "nn/json.h"
#include "nn/parameter_file.h"

namespace llsa::nn {
namespace {

namespace fs = std::filesystem;

using TensorMap = std::map<std::string, Tensor>;

constexpr const char* kPosEmbed = "pos_embed";
constexpr const char* kAveragePrefix = "denoiser_ema_";

// In a checkpoint.
constexpr const char* kConfig = "denoiser/config.json";
constexpr const char* kScheduler = "scheduler/scheduler_config.json";
constexpr const char* kClasses = "classes.json";
std::string weights_of(const std::string& average) {
  return (average.empty() ? std::string("denoiser") : kAveragePrefix + average) +
         "/diffusion_pytorch_model.safetensors";
}

// The tensors of a file of weights, but for the heads of teacher networks that other trainers may leave in it.
// Those are no part of the model.
TensorMap model_tensors(const std::string& path) {
  TensorMap tensors = SafetensorsFile(path).tensors();
  std::erase_if(tensors, [](const auto& entry) { return entry.first.rfind("repa_layer.", 0) == 0; });
  return tensors;
}

/// The layers that one kind of attention has and the others have not. They start at zero.
constexpr std::array<const char*, 2> kAttentionLayers = {"to_gate_compress", "proj_l"};

bool belongs_to(const std::string& name, const char* layer) {
  return name.find(cat(".attn1.", layer, ".")) != std::string::npos;
}

/// The one that a model has, or null.
const char* attention_layer_of(const DitConfig& config) {
  if (config.attention == AttentionKind::vsa && config.vsa_gate) return kAttentionLayers[0];
  return config.attention == AttentionKind::sla ? kAttentionLayers[1] : nullptr;
}

/// Zeros for the layers of attention that the tensors of a file lack altogether. Returns their names.
std::vector<std::string> add_missing_layers(const Parameters& store, TensorMap& tensors) {
  std::vector<std::string> added;
  for (const char* layer : kAttentionLayers) {
    const auto has = [layer](const auto& entry) { return belongs_to(entry.first, layer); };
    if (std::any_of(tensors.begin(), tensors.end(), has)) continue;
    const std::size_t before = tensors.size();
    for (const Parameter& parameter : store.all())
      if (belongs_to(parameter.name, layer))
        tensors[parameter.name] =
            to_host(store.context(), store.context().zeros(parameter.shape, DType::f32));
    if (tensors.size() > before) added.emplace_back(layer);
  }
  return added;
}

void make_folder(const fs::path& path) {
  std::error_code error;
  fs::create_directory(path, error);
  if (error) throw IoError(cat("cannot create ", path.string(), ": ", error.message()));
}

/// The weights and, beside them, the configuration.
void write_denoiser(const std::string& weights, const ImageModel& model, const Tensor& flat) {
  const fs::path folder = fs::path(weights).parent_path();
  make_folder(folder);
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

bool is_diffusers_model(const std::string& directory) {
  std::error_code ignored;
  return fs::is_regular_file(fs::path(directory) / kConfig, ignored);
}

std::string diffusers_weights_path(const std::string& directory, const std::string& average) {
  return (fs::path(directory) / weights_of(average)).string();
}

std::vector<std::string> diffusers_averages(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string(), prefix = kAveragePrefix;
    if (name.starts_with(prefix)) names.push_back(name.substr(prefix.size()));
  }
  std::sort(names.begin(), names.end());
  return names;
}

DiffusersModel read_diffusers_model(const std::string& directory) {
  const std::string config = checked_file(directory, kConfig);
  DiffusersConfig parsed = parse_diffusers_config(read_text_file(config), config);
  DiffusersModel model{parsed.kind, std::move(parsed.config), 1.0, {}, std::move(parsed.notes)};
  const std::string scheduler = checked_file(directory, kScheduler);
  if (model.kind == ModelKind::pixelflow) {
    if (path_exists(scheduler)) check_cascade_scheduler_config(read_text_file(scheduler), scheduler);
  } else if (path_exists(scheduler)) {
    const SchedulerConfig says = parse_scheduler_config(read_text_file(scheduler), scheduler);
    model.noise_scale = says.noise_rescale;
    model.config.pred_x0 |= says.pred_x0;
  } else {
    model.notes.emplace_back("there is no scheduler/scheduler_config.json: noise_rescale 1 is assumed");
  }
  const std::string weights = diffusers_weights_path(directory);
  if (const char* layer = attention_layer_of(model.config); layer && path_exists(weights)) {
    const auto has = [&](const auto& entry) { return belongs_to(entry.first, layer); };
    const TensorMap tensors = model_tensors(weights);
    if (std::none_of(tensors.begin(), tensors.end(), has))
      model.notes.push_back(cat("the weights have no ", layer, ": it is taken as zero"));
  }
  const std::string classes = checked_file(directory, kClasses);
  if (path_exists(classes)) {
    JsonObject json(read_text_file(classes), classes);
    model.class_names = json.strings("names", {});
    json.finish();
    if (static_cast<int>(model.class_names.size()) != model.config.classes) {
      throw ValueError(cat(classes, " names ", model.class_names.size(), " classes, the model has ",
                           model.config.classes));
    }
  }
  return model;
}

void write_diffusers_model(const std::string& directory, const ImageModel& model, const Tensor& flat,
                           double noise_scale, const std::vector<std::string>& class_names) {
  const fs::path root = directory;
  write_denoiser(diffusers_weights_path(directory), model, flat);
  make_folder(root / "scheduler");
  write_file_atomically((root / "model_index.json").string(), model_index_json(model.kind()));
  write_file_atomically((root / kScheduler).string(), model.kind() == ModelKind::pixelflow
                                                          ? cascade_scheduler_config_json()
                                                          : scheduler_config_json(noise_scale));
  if (!class_names.empty()) {
    write_file_atomically((root / kClasses).string(), JsonWriter().add("names", class_names).pretty());
  }
}

void write_diffusers_average(const std::string& directory, const ImageModel& model, const Tensor& flat,
                             const std::string& name) {
  write_denoiser(diffusers_weights_path(directory, name), model, flat);
}

Tensor read_diffusers_weights(const Parameters& store, const std::string& directory,
                              const std::string& average) {
  const std::string path = checked_file(directory, weights_of(average));
  if (!average.empty() && !path_exists(path)) {
    std::string names;
    for (const std::string& name : diffusers_averages(directory)) names += (names.empty() ? "" : ", ") + name;
    throw IoError(cat(directory, " has no average ", average, " beside its first one"),
                  names.empty() ? "leave --ema out: there is one average only"
                                : cat("there are ", names, "; without --ema it is the first one"));
  }
  TensorMap tensors = model_tensors(path);
  add_missing_layers(store, tensors);
  return read_weights(store, tensors, path);
}

std::unique_ptr<ImageModel> load_diffusers_model(Context& ctx, const std::string& path, DType dtype,
                                                 const std::string& average) {
  const std::string directory = resolve_checkpoint(path);
  const DiffusersModel about = read_diffusers_model(directory);
  auto model = make_model(ctx, about.kind, about.config, 0, dtype);
  model->parameters().load(read_diffusers_weights(model->parameters(), directory, average));
  model->set_noise_scale(about.noise_scale);
  return model;
}

std::vector<std::string> init_from_diffusers_model(ImageModel& model, const std::string& directory) {
  const std::string config = checked_file(directory, kConfig);
  if (const ModelKind kind = diffusers_model_kind(read_text_file(config), config); kind != model.kind())
    throw ValueError(
        cat(directory, " holds weights of the model ", name_of(kind), ", expected ", name_of(model.kind())),
        cat("start from a checkpoint of the model ", name_of(model.kind())));
  Parameters& store = model.parameters();
  Context& ctx = store.context();
  const std::string path = checked_file(directory, weights_of(""));
  TensorMap tensors = model_tensors(path);
  std::vector<std::string> notes;

  // Layers of attention that only one side has.
  for (const std::string& layer : add_missing_layers(store, tensors))
    notes.push_back(cat("the checkpoint has no ", layer, ": it starts at zero"));
  for (const char* layer : kAttentionLayers)
    if (std::erase_if(tensors, [&](const auto& entry) {
          return belongs_to(entry.first, layer) && !store.contains(entry.first);
        }) > 0)
      notes.push_back(cat("the checkpoint's ", layer, " is not used: this model's attention has none"));

  if (const bool image = JsonObject(read_text_file(config), config).boolean("pred_x0", false);
      image != model.last_stage().pred_x0)
    notes.push_back(cat("the checkpoint predicts the ", image ? "image" : "flow", ", this model the ",
                        image ? "flow" : "image", ": its output has to be learned anew"));

  // The position embedding may be missing, too, or of another shape.
  const auto source = tensors.find(kPosEmbed);
  if (!store.contains(kPosEmbed)) {
    if (tensors.erase(kPosEmbed) > 0)
      notes.emplace_back("the position embedding of the checkpoint is not used: this model has none");
  } else if (const Parameter& target = store.find(kPosEmbed); source == tensors.end()) {
    tensors[kPosEmbed] = to_host(ctx, store.view(store.flat(), target));
    notes.emplace_back("the checkpoint has no position embedding: it starts anew");
  } else if (const Shape shape = source->second.shape(); shape != target.shape) {
    if (shape.rank() != 3 || shape[2] != target.shape[2]) {
      throw IoError(
          cat(path, ": pos_embed has shape ", shape, ", expected [rows,columns,", target.shape[2], "]"));
    }
    const NoGrad no_grad;
    const Var grid(ctx, kernels::cast(ctx, from_host(ctx, source->second), store.flat().dtype()));
    source->second = to_host(ctx, resize_position_embedding(grid, target.shape[0], target.shape[1]).value());
    notes.push_back(cat("the position embedding was resized from ", shape, " to ", target.shape));
  }
  store.load(read_weights(store, tensors, path));
  return notes;
}

}  // namespace llsa::nn
