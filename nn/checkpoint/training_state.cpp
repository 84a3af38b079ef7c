#include "nn/checkpoint/training_state.h"

#include <limits>
#include <utility>
#include <vector>

#include "core/atomic_file.h"
#include "core/number.h"
#include "core/safetensors.h"
#include "core/text_file.h"
#include "kernels/make.h"
#include "nn/checkpoint/checksums.h"
#include "nn/json.h"
#include "nn/parameter_file.h"

namespace llsa::nn {
namespace {

constexpr std::int64_t kFormatVersion = 2;
constexpr const char* kWeights = "weights.";
constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();

// In a checkpoint.
constexpr const char* kState = "training_state/state.json";
constexpr const char* kTensors = "training_state/state.safetensors";

/// Every average with its prefix.
std::vector<std::pair<std::string, Ema*>> averages_of(const TrainingState& state) {
  std::vector<std::pair<std::string, Ema*>> averages;
  if (!state.ema) return averages;
  averages.emplace_back("average.", state.ema);
  for (const auto& other : state.ema->others())
    averages.emplace_back(cat("average_", averages.size() + 1, "."), other.get());
  return averages;
}

// 64-bit words stand as text in JSON, because many readers keep numbers as doubles.
std::uint64_t parse_word(JsonObject& json, const std::string& key, const std::string& path) {
  const std::string text = json.string(key, "");
  const auto word = as_number<std::uint64_t>(text);
  if (!word) throw ValueError(cat(path, ": ", key, " has to be a 64-bit number in quotes, got '", text, "'"));
  return *word;
}

struct Counters {
  std::int64_t step = 0;  // optimiser steps done
  LoaderState loader;     // where the next batch begins
};

Counters read_counters(const std::string& checkpoint) {
  const std::string path = checked_file(checkpoint, kState);
  JsonObject json(read_text_file(path), path);
  const std::int64_t version = json.integer("format_version", 1, 1, kMost);
  if (version > kFormatVersion)
    throw ValueError(
        cat(path, " has format version ", version, ", this version of llsa reads up to ", kFormatVersion),
        "resume it with the version of llsa that wrote it, or a newer one");
  Counters counters;
  counters.step = json.integer("step", -1, 0, kMost);
  counters.loader.epoch = json.integer("loader_epoch", 0, 0, kMost);
  counters.loader.cursor = json.integer("loader_cursor", 0, 0, kMost);
  counters.loader.seed = parse_word(json, "loader_seed", path);
  counters.loader.fingerprint = parse_word(json, "loader_fingerprint", path);
  json.finish();
  if (counters.step < 0) throw ValueError(cat(path, " has no step"));
  if (const std::int64_t named = step_in_name(checkpoint); named >= 0 && named != counters.step)
    throw ValueError(cat(path, " is that of step ", counters.step, ", the folder is named for step ", named));
  return counters;
}

}  // namespace

std::int64_t resume_latest(RunFolder& run, const TrainingState& state) {
  run.prepare();
  const auto latest = run.latest();
  return latest ? restore_training_state(latest->path, state) : 0;
}

std::string save_checkpoint(const RunFolder& run, const TrainingState& state, std::int64_t step) {
  return run.save(step, [&](const std::string& path) { write_training_state(path, state, step); });
}

std::string training_state_folder(const std::string& checkpoint) { return checkpoint + "/training_state"; }

bool has_training_state(const std::string& checkpoint) { return path_exists(cat(checkpoint, "/", kState)); }

void write_training_state(const std::string& checkpoint, const TrainingState& state, std::int64_t step) {
  Context& ctx = state.parameters.context();
  const Slices& slices = state.parameters.slices();
  std::vector<std::pair<std::string, Tensor>> tensors;
  const auto add = [&](const std::string& prefix, const Tensor& flat) {
    if (!slices.ranks().leads()) return;
    for (const Parameter& parameter : state.parameters.all())
      tensors.emplace_back(prefix + parameter.name, to_host(ctx, state.parameters.view(flat, parameter)));
  };
  add(kWeights, state.parameters.flat());
  for (const auto& [name, slice] : state.optimizer.buffers()) add(name + ".", slices.whole(ctx, slice));
  for (const auto& [prefix, average] : averages_of(state)) add(prefix, average->whole());
  if (!slices.ranks().leads()) return;

  const std::string folder = training_state_folder(checkpoint);
  make_folder(folder);
  write_safetensors(cat(checkpoint, "/", kTensors), tensors);
  const LoaderState loader = state.loader ? state.loader->state() : LoaderState{};
  JsonWriter json;
  json.add("format_version", kFormatVersion)
      .add("step", step)
      .add("loader_epoch", loader.epoch)
      .add("loader_cursor", loader.cursor)
      .add("loader_seed", std::to_string(loader.seed))
      .add("loader_fingerprint", std::to_string(loader.fingerprint));
  write_file_atomically(cat(checkpoint, "/", kState), json.pretty());
}

std::int64_t restore_training_state(const std::string& checkpoint, const TrainingState& state) {
  const Counters counters = read_counters(checkpoint);
  const std::string path = checked_file(checkpoint, kTensors);
  const SafetensorsFile file(path);
  const auto buffer = [&](const std::string& prefix) {
    return read_weights(state.parameters, file.tensors(), path, prefix);
  };
  state.parameters.load(buffer(kWeights));
  std::vector<Tensor> buffers;
  for (const auto& [name, flat] : state.optimizer.buffers()) buffers.push_back(buffer(name + "."));
  state.optimizer.restore(buffers, counters.step);
  for (const auto& [prefix, average] : averages_of(state)) average->restore(buffer(prefix), counters.step);
  if (state.loader) state.loader->restore(counters.loader);
  return counters.step;
}

LoaderState read_loader_state(const std::string& checkpoint) { return read_counters(checkpoint).loader; }

std::int64_t read_training_step(const std::string& checkpoint) { return read_counters(checkpoint).step; }

}  // namespace llsa::nn
