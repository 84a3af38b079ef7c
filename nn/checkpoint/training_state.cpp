#include "nn/checkpoint/training_state.h"

#include <charconv>
#include <filesystem>
#include <limits>
#include <utility>
#include <vector>

#include "core/atomic_file.h"
#include "core/safetensors.h"
#include "core/text_file.h"
#include "nn/checkpoint/diffusers.h"
#include "nn/host.h"
#include "nn/json.h"

namespace llsa::nn {
namespace {

namespace fs = std::filesystem;

constexpr const char* kWeights = "weights.";
constexpr const char* kFirstMoment = "adam_m.";
constexpr const char* kSecondMoment = "adam_v.";
constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();

fs::path state_folder(const std::string& directory) { return fs::path(directory) / "training_state"; }

// 64-bit words stand as text in JSON: many readers keep numbers as doubles.
std::string word_text(std::uint64_t word) { return cat(word); }

std::uint64_t parse_word(JsonObject& json, const std::string& key, const std::string& path) {
  const std::string text = json.string(key, "");
  std::uint64_t word = 0;
  const char* const text_end = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), text_end, word);
  if (error != std::errc() || end != text_end) {
    throw ValueError(cat(path, ": ", key, " has to be a 64-bit number in quotes, got '", text, "'"));
  }
  return word;
}

TrainingCounters read_counters(const std::string& directory) {
  const std::string path = (state_folder(directory) / "state.json").string();
  JsonObject json(read_text_file(path), path);
  TrainingCounters counters;
  counters.step = json.integer("step", -1, 0, kMost);
  counters.loader.epoch = json.integer("loader_epoch", 0, 0, kMost);
  counters.loader.cursor = json.integer("loader_cursor", 0, 0, kMost);
  counters.loader.seed = parse_word(json, "loader_seed", path);
  counters.loader.fingerprint = parse_word(json, "loader_fingerprint", path);
  json.finish();
  if (counters.step < 0) throw ValueError(cat(path, " has no step"));
  return counters;
}

}  // namespace

void write_training_state(const std::string& directory, const TrainOptions& options,
                          const ParameterStore& store, const AdamW& optimizer,
                          const TrainingCounters& counters) {
  const fs::path folder = state_folder(directory);
  std::error_code error;
  fs::create_directory(folder, error);
  if (error) throw IoError(cat("cannot create ", folder.string(), ": ", error.message()));

  std::vector<std::pair<std::string, Tensor>> tensors;
  const std::pair<const char*, const Tensor*> buffers[] = {{kWeights, &store.flat()},
                                                           {kFirstMoment, &optimizer.first_moment()},
                                                           {kSecondMoment, &optimizer.second_moment()}};
  for (const auto& [prefix, flat] : buffers) {
    for (const Parameter& parameter : store.all()) {
      tensors.emplace_back(prefix + parameter.name, to_host(store.context(), store.view(*flat, parameter)));
    }
  }
  write_safetensors((folder / "state.safetensors").string(), tensors);
  write_file_atomically((folder / "config.json").string(), options.json());
  JsonWriter json;
  json.add("step", counters.step)
      .add("loader_epoch", counters.loader.epoch)
      .add("loader_cursor", counters.loader.cursor)
      .add("loader_seed", word_text(counters.loader.seed))
      .add("loader_fingerprint", word_text(counters.loader.fingerprint));
  write_file_atomically((folder / "state.json").string(), json.pretty());
}

TrainOptions read_training_options(const std::string& directory) {
  const fs::path path = state_folder(directory) / "config.json";
  if (!path_exists(path.string())) {
    throw IoError(cat(directory, " has no training_state: it can be sampled from, not resumed"),
                  "start a new run from its weights with --init-from");
  }
  return TrainOptions::parse(read_text_file(path.string()), path.string());
}

bool has_training_state(const std::string& directory) {
  return path_exists((state_folder(directory) / "state.json").string());
}

std::int64_t read_training_step(const std::string& directory) { return read_counters(directory).step; }

TrainingCounters restore_training_state(const std::string& directory, ParameterStore& store, AdamW& optimizer,
                                        Ema& ema) {
  const TrainingCounters counters = read_counters(directory);
  const std::string weights_path = diffusers_weights_path(directory);
  const Tensor average = read_weights(store, SafetensorsFile(weights_path).tensors(), weights_path);
  const std::string state_path = (state_folder(directory) / "state.safetensors").string();
  const SafetensorsFile state(state_path);
  const auto buffer = [&](const char* prefix) {
    return read_weights(store, state.tensors(), state_path, prefix);
  };
  store.load(buffer(kWeights));
  optimizer.restore(buffer(kFirstMoment), buffer(kSecondMoment), counters.step);
  ema.restore(average);
  return counters;
}

}  // namespace llsa::nn
