#include "nn/checkpoint/diffusers.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <utility>

#include "autograd/var.h"
#include "core/atomic_file.h"
#include "core/safetensors.h"
#include "core/text_file.h"
#include "kernels/copy.h"
#include "kernels/elementwise.h"
#include "nn/diffusers_config.h"
#include "nn/host.h"
#include "nn/json.h"

namespace llsa::nn {
namespace {

namespace fs = std::filesystem;

using TensorMap = std::map<std::string, Tensor>;

constexpr const char* kPosEmbed = "pos_embed";

fs::path config_path(const std::string& directory) {
  return fs::path(directory) / "denoiser" / "config.json";
}
fs::path scheduler_path(const std::string& directory) {
  return fs::path(directory) / "scheduler" / "scheduler_config.json";
}
fs::path classes_path(const std::string& directory) { return fs::path(directory) / "classes.json"; }

// Heads of teacher networks, which other training programs leave in a file. They are no part of the model.
bool is_ignored(const std::string& name) { return name.rfind("repa_layer.", 0) == 0; }

std::string listed(const std::vector<std::string>& names) {
  constexpr std::size_t kShown = 5;
  std::string out;
  for (std::size_t i = 0; i < std::min(names.size(), kShown); ++i) out += (i ? ", " : "") + names[i];
  if (names.size() > kShown) out += cat(" and ", names.size() - kShown, " more");
  return out;
}

void check_names(const Parameters& store, const TensorMap& tensors, const std::string& path,
                 const std::string& prefix) {
  std::vector<std::string> missing, unknown, misshapen;
  for (const Parameter& parameter : store.all()) {
    const auto found = tensors.find(prefix + parameter.name);
    if (found == tensors.end()) {
      missing.push_back(parameter.name);
    } else if (!(found->second.shape() == parameter.shape)) {
      misshapen.push_back(
          cat(parameter.name, " (file ", found->second.shape(), ", model ", parameter.shape, ")"));
    }
  }
  for (const auto& [name, tensor] : tensors) {
    if (name.rfind(prefix, 0) != 0 || is_ignored(name)) continue;
    if (!store.contains(name.substr(prefix.size()))) unknown.push_back(name);
  }
  if (missing.empty() && unknown.empty() && misshapen.empty()) return;
  std::string message = cat(path, " does not fit the model:");
  if (!missing.empty()) message += cat(" missing ", listed(missing), ";");
  if (!unknown.empty()) message += cat(" unknown ", listed(unknown), ";");
  if (!misshapen.empty()) message += cat(" wrong shape ", listed(misshapen), ";");
  message.pop_back();
  throw IoError(message,
                "the configuration beside the file has to be the one that the weights were made with");
}

// Copies one tensor of a file into its place and checks that every value is finite.
void read_tensor(Context& ctx, const Tensor& from, const Tensor& into, const std::string& name,
                 const std::string& path) {
  if (!is_floating(from.dtype())) {
    throw IoError(cat(path, ": ", name, " has dtype ", name_of(from.dtype()), ", expected a floating one"));
  }
  kernels::copy(ctx, from_host(ctx, from), into);
  if (ctx.item(kernels::all_finite(ctx, into)) == 0) {
    throw IoError(cat(path, ": ", name, " has a value that is not finite"),
                  "the file comes from a run that had diverged");
  }
}

}  // namespace

bool is_diffusers_model(const std::string& directory) {
  std::error_code ignored;
  return fs::is_regular_file(config_path(directory), ignored);
}

std::string diffusers_weights_path(const std::string& directory) {
  return (fs::path(directory) / "denoiser" / "diffusion_pytorch_model.safetensors").string();
}

DiffusersModel read_diffusers_model(const std::string& directory) {
  const std::string config = config_path(directory).string();
  DiffusersConfig parsed = parse_diffusers_config(read_text_file(config), config);
  DiffusersModel model{std::move(parsed.config), 1.0, {}, std::move(parsed.notes)};
  const std::string scheduler = scheduler_path(directory).string();
  if (path_exists(scheduler)) {
    model.noise_scale = parse_scheduler_config(read_text_file(scheduler), scheduler);
  } else {
    model.notes.emplace_back("there is no scheduler/scheduler_config.json: noise_rescale 1 is assumed");
  }
  const std::string classes = classes_path(directory).string();
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

void write_diffusers_model(const std::string& directory, const Dit& model, const Tensor& flat,
                           double noise_scale, const std::vector<std::string>& class_names) {
  const fs::path root = directory;
  for (const char* folder : {"denoiser", "scheduler"}) {
    std::error_code error;
    fs::create_directory(root / folder, error);
    if (error) throw IoError(cat("cannot create ", (root / folder).string(), ": ", error.message()));
  }
  Context& ctx = model.context();
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const Parameter& parameter : model.parameters().all()) {
    tensors.emplace_back(
        parameter.name,
        to_host(ctx, kernels::cast(ctx, model.parameters().view(flat, parameter), DType::f32)));
  }
  write_safetensors(diffusers_weights_path(directory), tensors, {{"format", "pt"}});
  write_file_atomically((root / "model_index.json").string(), model_index_json());
  write_file_atomically(config_path(directory).string(), diffusers_config_json(model.config()));
  write_file_atomically(scheduler_path(directory).string(), scheduler_config_json(noise_scale));
  if (!class_names.empty()) {
    write_file_atomically(classes_path(directory).string(), JsonWriter().add("names", class_names).pretty());
  }
}

Tensor read_weights(const Parameters& store, const TensorMap& tensors, const std::string& path,
                    const std::string& prefix) {
  check_names(store, tensors, path, prefix);
  Tensor flat = store.zeros_like_flat();
  for (const Parameter& parameter : store.all()) {
    read_tensor(store.context(), tensors.at(prefix + parameter.name), store.view(flat, parameter),
                prefix + parameter.name, path);
  }
  return flat;
}

Tensor read_diffusers_weights(const Parameters& store, const std::string& directory) {
  const std::string path = diffusers_weights_path(directory);
  return read_weights(store, SafetensorsFile(path).tensors(), path);
}

std::unique_ptr<Dit> load_diffusers_model(Context& ctx, const std::string& directory, DType dtype) {
  const DiffusersModel about = read_diffusers_model(directory);
  auto model = std::make_unique<Dit>(ctx, about.config, 0, dtype);
  model->parameters().load(read_diffusers_weights(model->parameters(), directory));
  model->set_noise_scale(about.noise_scale);
  return model;
}

std::vector<std::string> init_from_diffusers_model(Dit& model, const std::string& directory) {
  Parameters& store = model.parameters();
  Context& ctx = store.context();
  const std::string path = diffusers_weights_path(directory);
  const SafetensorsFile file(path);
  std::vector<std::string> notes;

  const bool model_has = store.contains(kPosEmbed), file_has = file.contains(kPosEmbed);
  if (model_has == file_has && (!model_has || file.at(kPosEmbed).shape() == store.find(kPosEmbed).shape)) {
    store.load(read_weights(store, file.tensors(), path));
    return notes;
  }
  // All but the position embedding, through a model that does not have one.
  DitConfig config = model.config();
  config.pos_embed = false;
  const Dit without(ctx, config, 0, store.flat().dtype());
  const Parameters& rest = without.parameters();
  TensorMap others = file.tensors();
  others.erase(kPosEmbed);
  const Tensor weights = read_weights(rest, others, path);
  const Tensor flat = kernels::clone(ctx, store.flat());
  for (const Parameter& parameter : rest.all()) {
    kernels::copy(ctx, rest.view(weights, parameter), store.view(flat, store.find(parameter.name)));
  }
  if (!model_has) {
    notes.emplace_back("the position embedding of the checkpoint is not used: this model has none");
  } else if (!file_has) {
    notes.emplace_back("the checkpoint has no position embedding: it starts anew");
  } else {
    const Parameter& target = store.find(kPosEmbed);
    const Tensor& source = file.at(kPosEmbed);
    if (source.rank() != 3 || source.size(2) != target.shape[2]) {
      throw IoError(cat(path, ": pos_embed has shape ", source.shape(), ", expected [rows,columns,",
                        target.shape[2], "]"));
    }
    const NoGrad no_grad;
    const Var grid(ctx, kernels::cast(ctx, from_host(ctx, source), store.flat().dtype()));
    const Tensor resized = resize_position_embedding(grid, target.shape[0], target.shape[1]).value();
    read_tensor(ctx, resized, store.view(flat, target), kPosEmbed, path);
    notes.push_back(cat("the position embedding was resized from ", source.shape(), " to ", target.shape));
  }
  store.load(flat);
  return notes;
}

}  // namespace llsa::nn
