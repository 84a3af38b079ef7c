#include "nn/checkpoint/model_files.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "core/closest.h"
#include "core/error.h"
#include "core/safetensors.h"
#include "core/text_file.h"
#include "nn/checkpoint/checksums.h"
#include "nn/json.h"

namespace llsa::nn {
namespace {

namespace fs = std::filesystem;

using TensorMap = std::map<std::string, Tensor>;

constexpr const char* kUsualName = "diffusion_pytorch_model.safetensors";
constexpr const char* kConfig = "config.json";
constexpr const char* kOnly = "denoiser";
constexpr const char* kAverage = "denoiser_ema";

bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

bool is_index(const std::string& name) {
  return name.find(".safetensors.index") != std::string::npos && name.ends_with(".json");
}

/// "NAME-00001-of-00003.safetensors": one of the files that an index names.
bool is_part(const std::string& name) {
  const std::size_t of = name.rfind("-of-");
  return of != std::string::npos && of > 0 &&
         name.find_first_not_of("0123456789", of + 4) == name.rfind(".safetensors");
}

bool is_weights(const std::string& name) {
  return is_index(name) || (name.ends_with(".safetensors") && !is_part(name));
}

/// The names of the files in a folder that `fits`, in order. None if the folder cannot be read.
template <class Fits>
std::vector<std::string> names_in(const fs::path& folder, Fits fits) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (fits(name) && is_file(it->path())) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

struct Place {
  fs::path folder;           // with config.json
  std::string weights = {};  // the file's name, if it was given
  bool alone = false;        // given without the directory that it may belong to
  fs::path root() const { return folder / ".."; }
};

std::optional<Place> place_of(const std::string& given) {
  const fs::path named = given, path = named.has_filename() ? named : named.parent_path();
  if (is_weights(path.filename().string()) && is_file(path))
    return Place{path.parent_path(), path.filename().string(), true};
  for (const char* name : {kAverage, kOnly})
    if (is_file(path / name / kConfig)) return Place{path / name};
  if (is_file(path / kConfig) && !names_in(path, is_weights).empty()) return Place{path, {}, true};
  return std::nullopt;
}

[[noreturn]] void refuse_without_weights(const fs::path& folder) {
  const std::vector<std::string> others = names_in(folder, [](const std::string& name) {
    return is_part(name) || name.ends_with(".bin") || name.ends_with(".pt") || name.ends_with(".pth") ||
           name.ends_with(".ckpt");
  });
  throw IoError(cat("there are no weights: expected ", (folder / kUsualName).string(),
                    others.empty() ? std::string() : cat(", found ", listed(others))),
                others.empty() ? ""
                : is_part(others[0])
                    ? "parts are read through their index, NAME.safetensors.index.json"
                    : "only safetensors files are read: convert them, with the Python package safetensors");
}

std::string choose_weights(const fs::path& folder, std::vector<std::string>& notes) {
  std::vector<std::string> names = names_in(folder, is_weights);
  if (names.empty()) refuse_without_weights(folder);
  auto chosen = std::find(names.begin(), names.end(), kUsualName);
  if (chosen == names.end()) chosen = std::find(names.begin(), names.end(), cat(kUsualName, ".index.json"));
  if (chosen == names.end() && names.size() > 1)
    throw IoError(cat(folder.string(), " holds several files of weights: ", listed(names)),
                  "give the path of the one that you mean");
  if (chosen == names.end()) {
    notes.push_back(cat("the weights are those of ", names[0]));
    return names[0];
  }
  const std::string name = *chosen;
  names.erase(chosen);
  if (!names.empty())
    notes.push_back(cat("the weights are those of ", name, "; beside it ", names.size() == 1 ? "is " : "are ",
                        listed(names), ", which can be given by path"));
  return name;
}

TensorMap read_parts(const std::string& index_path) {
  JsonObject index(read_text_file(index_path), index_path);
  JsonObject weight_map = index.object("weight_map");
  std::map<std::string, std::set<std::string>> names_of;  // of each file
  for (const auto& entry : weight_map.entries()) {
    const std::string file = weight_map.string(entry.first, "");
    if (file.find('/') != std::string::npos || !file.ends_with(".safetensors"))
      throw IoError(cat(index_path, " places \"", entry.first, "\" in \"", file,
                        "\": expected the name of a .safetensors file beside it"));
    names_of[file].insert(entry.first);
  }
  TensorMap tensors;
  for (const auto& [name, expected] : names_of) {
    const std::string path = (fs::path(index_path).parent_path() / name).string();
    const SafetensorsFile file(path);
    for (const std::string& tensor : expected) tensors[tensor] = file.at(tensor);
    for (const auto& item : file.tensors())
      if (expected.count(item.first) == 0)
        throw IoError(cat(path, " holds \"", item.first, "\", which ", index_path, " does not place there"),
                      "were the files of two checkpoints mixed?");
  }
  if (tensors.empty()) throw IoError(cat(index_path, " names no tensors in \"weight_map\""));
  return tensors;
}

/// The tensors with names that were changed by `rename`.
template <class Rename>
TensorMap renamed(const TensorMap& tensors, const std::string& path, Rename rename) {
  TensorMap out;
  for (const auto& [name, tensor] : tensors)
    if (const std::string now = rename(name); !out.emplace(now, tensor).second)
      throw IoError(cat(path, " holds \"", now, "\" twice, once as \"", name, '"'));
  return out;
}

TensorMap without_wrappers(TensorMap tensors, const std::string& path) {
  constexpr std::string_view kCompiled = "_orig_mod.";  // stands anywhere in a name
  tensors = renamed(tensors, path, [&](std::string name) {
    for (std::size_t at; (at = name.find(kCompiled)) != std::string::npos;) name.erase(at, kCompiled.size());
    return name;
  });
  constexpr std::string_view kWrappers[] = {"module.", "model.", "denoiser."};
  for (bool again = true; again && !tensors.empty();) {
    again = false;
    for (const std::string_view wrapper : kWrappers) {
      const auto begins = [&](const auto& entry) { return entry.first.starts_with(wrapper); };
      if (!std::all_of(tensors.begin(), tensors.end(), begins)) continue;
      tensors = renamed(tensors, path, [&](const std::string& name) { return name.substr(wrapper.size()); });
      again = true;
    }
  }
  return tensors;
}

/// Throws IoError if the directory's checksum of a file in one of its folders is another.
void check_sum(const std::string& directory, const fs::path& file) {
  checked_file(directory, (file.parent_path().filename() / file.filename()).string());
}

}  // namespace

bool is_diffusers_model(const std::string& path) { return place_of(path).has_value(); }

std::vector<std::string> diffusers_averages(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error))
    if (const std::string name = it->path().filename().string(); name.starts_with(kFurtherAverage))
      names.push_back(name.substr(std::string_view(kFurtherAverage).size()));
  std::sort(names.begin(), names.end());
  return names;
}

ModelFiles find_model_files(const std::string& path, const std::string& average) {
  auto place = place_of(path);
  if (place && !average.empty()) {
    const std::vector<std::string> names = diffusers_averages(path);
    if (std::find(names.begin(), names.end(), average) == names.end())
      throw IoError(cat(path, " has no average ", average, " beside its first one"),
                    names.empty() ? "leave --ema out: there is one average only"
                                  : cat("there are ", listed(names), "; without --ema it is the first one"));
    place = Place{fs::path(path) / (kFurtherAverage + average)};
  }
  if (!place)
    throw IoError(cat(path,
                      " is no checkpoint: expected denoiser/config.json in it, config.json beside weights, "
                      "or a .safetensors file"));
  ModelFiles files;
  files.config = (place->folder / kConfig).string();
  if (!is_file(files.config))
    throw IoError(cat(path, " has no config.json beside it, which would say what model it is"),
                  "copy it from the source of the weights");
  const auto beside = [&](const char* folder) { return is_file(place->root() / folder / kConfig); };
  if (place->alone && place->folder.filename() == kOnly && beside(kAverage))
    files.notes.push_back(cat("these are raw weights; the averaged ones are in ", kAverage, " beside them"));
  if (!place->alone && place->folder.filename() == kAverage && beside(kOnly))
    files.notes.push_back(
        cat("the averaged weights in ", kAverage, " are taken, not the raw ones beside them"));
  if (place->weights.empty()) place->weights = choose_weights(place->folder, files.notes);
  files.weights = (place->folder / place->weights).string();
  // A part that was given alone takes the other files from a checkpoint directory only if it lies in one.
  const fs::path root = place->alone ? place->root() : place->folder.parent_path();
  files.directory = root.string();
  check_sum(files.directory, files.config);
  if (!place->alone || is_file(root / "model_index.json")) {
    const auto found = [&](const char* name) {
      const std::string file = checked_file(files.directory, name);
      return path_exists(file) ? file : std::string();
    };
    files.scheduler = found("scheduler/scheduler_config.json");
    files.classes = found("classes.json");
  }
  return files;
}

TensorMap read_model_tensors(const ModelFiles& files) {
  check_sum(files.directory, files.weights);
  TensorMap tensors = without_wrappers(
      is_index(files.weights) ? read_parts(files.weights) : SafetensorsFile(files.weights).tensors(),
      files.weights);
  std::erase_if(tensors, [](const auto& entry) { return entry.first.starts_with("repa_layer."); });
  return tensors;
}

std::vector<std::string> read_class_names(const ModelFiles& files, std::int64_t classes) {
  if (files.classes.empty()) return {};
  JsonObject json(read_text_file(files.classes), files.classes);
  std::vector<std::string> names = json.strings("names", {});
  json.finish();
  if (static_cast<std::int64_t>(names.size()) != classes)
    throw ValueError(cat(files.classes, " names ", names.size(), " classes, the model has ", classes));
  return names;
}

}  // namespace llsa::nn
