// Runs of the trainer on a few tiny images.
#pragma once

#include <filesystem>
#include <string>

#include "core/error.h"
#include "nn/checkpoint/diffusers.h"
#include "nn/checkpoint/run_folder.h"
#include "nn/data/shapes.h"
#include "nn/train.h"
#include "tests/support/files.h"

namespace llsa::nn {

// Twelve shapes of 8 x 8 pixels, shared by the tests of this program.
inline const std::string& shapes_folder() {
  static const test::TempDir dir;
  static const std::string folder = [] {
    ShapesOptions options;
    options.out = dir / "shapes";
    options.count = 12;
    options.size = 8;
    write_shapes(options);
    return options.out;
  }();
  return folder;
}

inline TrainOptions tiny_options() {
  TrainOptions options;
  options.data = shapes_folder();
  options.model.height = options.model.width = 8;
  options.model.heads = 2;
  options.model.head_dim = 8;
  options.model.layers = 2;
  options.model.attention = AttentionKind::llsa;
  options.model.llsa.block = 4;
  options.model.llsa.topk = {2};
  options.model.pos_embed = true;
  options.steps = 20;
  options.batch = 3;
  options.lr = 2e-3;
  options.schedule = "cosine";
  options.warmup = 3;
  options.flip = true;
  options.log_every = 5;
  options.sample_every = 0;
  options.sample_count = 2;
  options.sample_steps = 1;
  options.save_every = 0;
  options.threads = 2;
  return options;
}

inline TrainResult run(const TrainOptions& options, const std::string& out, bool resume = false,
                       const TrainCallbacks& callbacks = {}) {
  return train(options, out, resume, callbacks);
}

// Asks to stop after `calls` questions.
inline TrainCallbacks stopping_after(int calls) {
  TrainCallbacks callbacks;
  callbacks.should_stop = [left = calls]() mutable { return left-- <= 0; };
  return callbacks;
}

// All bytes that make up a training state, but for the configuration, where steps and threads may differ.
inline std::string state_bytes(const std::string& checkpoint) {
  return test::read_file(diffusers_weights_path(checkpoint)) +
         test::read_file(checkpoint + "/training_state/state.safetensors") +
         test::read_file(checkpoint + "/training_state/state.json");
}

template <class Failure>
std::string failure_of(const TrainOptions& options, const std::string& out, bool resume = false,
                       std::string* hint = nullptr) {
  try {
    run(options, out, resume);
  } catch (const Failure& error) {
    if (hint) *hint = error.hint();
    return error.what();
  }
  return "";
}

}  // namespace llsa::nn
