// All settings of a training run, in one struct and one table.
//
// The table names each setting once: its JSON key, its flag, its range, its help text, and what --resume makes
// of a change. The JSON reader and writer, the command line, the list of differences on resume and the
// configuration reference are all made from it. The model's own keys (dit_config.h) stand in the same JSON
// object.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "data/image_io.h"
#include "dit_config.h"

namespace llsa::nn {

struct TrainOptions {
  std::string kind = "dit";  ///< "dit" | "pixelflow"; its key is `model`
  DitConfig model;           ///< of a PixelFlow: its last stage. model.classes is set from model_classes
  std::int64_t model_classes = -1;  ///< -1 = as many as the data has; 0 = none

  // data
  std::string data;                  ///< folder of images
  std::string classes = "auto";      ///< "auto" | "none" | "folders"
  std::string crop = "centre";       ///< "centre" | "random"
  bool flip = false;                 ///< mirror half of the samples
  std::string background = "black";  ///< under transparent pixels: a form that parse_colour takes
  std::int64_t max_pixels = 64'000'000;
  std::string exif = "apply";  ///< "apply" | "ignore"
  std::int64_t workers = 1;
  std::int64_t cache_mb = 512;  ///< decoded images kept in memory
  std::string held_out;         ///< images not to train on: a folder, a share such as "5%", or none

  // optimisation
  std::int64_t steps = 10'000;
  std::int64_t batch = 8;  ///< images per micro-batch
  /// Micro-batches per step, of all processes together; 0 = one for each process, or what a resumed run was begun with.
  std::int64_t accumulate = 0;
  double lr = 1e-4;
  std::string schedule = "constant";  ///< "constant" | "cosine"
  std::int64_t warmup = 0;            ///< steps
  double lr_final = 0.05;             ///< end of the cosine, as a share of lr
  double weight_decay = 0.01;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double clip = 1.0;  ///< largest gradient norm; 0 = no clipping
  double ema_power = 0.75;
  double ema_max = 0.9999;
  std::string ema_also;  ///< further averages: the limit of the decay of each, a text for ema_decays()
  double class_drop = 0.1;
  std::string noise_level = "uniform";  ///< "uniform" | "logit_normal"
  double noise_level_mean = 0.0;        ///< of logit(1 - sigma), under logit_normal
  double noise_level_deviation = 1.0;   ///< same
  double noise_scale = 0.0;             ///< s; 0 = max(1, sqrt(height width) / 64)
  std::string loss = "v";               ///< "v" | "x": errors of the flow, or of the image
  std::int64_t seed = 0;
  std::string dtype = "f32";
  bool recompute = false;  ///< activation checkpointing: recompute each block in backward
  std::string init_from;   ///< checkpoint to take the first weights from

  // machine
  std::string device = "auto";  ///< "auto" | "cpu" | "cuda" | "cuda:N"
  std::int64_t threads = 0;
  bool tune = false;   ///< time the algorithms of matrix products and keep the fastest (CUDA)
  bool graph = false;  ///< replay the step from CUDA graphs
  bool tf32 = false;   ///< products of f32 matrices may round their operands to TF32 (CUDA)

  // output
  std::int64_t log_every = 20;      ///< steps between log entries
  std::int64_t sample_every = 500;  ///< steps between sample grids; 0 = none
  std::int64_t sample_count = 16;
  std::int64_t sample_steps = 20;
  double guidance = 1.5;
  std::string guidance_interval = "0,1";  ///< of 1 - sigma: a text for guidance_interval()
  std::string sampler = "euler";          ///< "euler" | "heun"
  std::int64_t save_every = 500;          ///< steps between checkpoints; 0 = only at the end
  std::int64_t keep = 2;                  ///< checkpoints kept, beside the best one
  std::int64_t eval_every = 0;            ///< steps between evaluations; 0 = none
  std::int64_t eval_images = 1000;        ///< held-out images used at most; 0 = all
  std::int64_t eval_samples = 0;          ///< images drawn for the score; 0 = no score
  std::string inception;                  ///< weights for FID; empty = random features

  /// Reads a document of settings and model keys; keys that are absent keep their default. Throws ValueError
  /// that names the key for an unknown, duplicate, wrongly typed or out-of-range one.
  static TrainOptions parse(const std::string& text, const std::string& where);
  /// The whole configuration, defaults included; parse(json()) gives the same options.
  std::string json() const;
  /// Throws ValueError for settings that do not fit each other.
  void validate() const;

  ModelKind model_kind() const { return nn::model_kind(kind); }
};

/// How the images of a run are decoded.
DecodeOptions decode_options(const TrainOptions& options);

/// What happens when a run is resumed with another value of a setting.
enum class OnResume {
  refuse,  ///< an error: the weights do not fit
  ask,  ///< the run would learn something else, or in another arithmetic: it goes on only if the host allows it
  note,  ///< the weights will differ from those of a run without the change: it goes on, and the log says so
  accept,  ///< the weights are the same
};

/// One row of the table.
struct Setting {
  std::string key;   ///< JSON key
  std::string flag;  ///< command-line flag without its dashes: the key with - for _
  std::string help;
  std::variant<std::int64_t TrainOptions::*, double TrainOptions::*, bool TrainOptions::*,
               std::string TrainOptions::*>
      member;
  double least = 0, most = 0;             ///< range of numbers
  std::vector<std::string> choices = {};  ///< words allowed; empty = any text
  OnResume on_resume = OnResume::ask;
  bool dit_only = false;                      ///< a PixelFlow has no use for it: only the default is accepted
  void (*check)(std::string_view) = nullptr;  ///< throws ValueError for other text; null = none
};

/// All settings but the model's.
const std::vector<Setting>& train_settings();

/// Sets one setting from the text of a flag. Throws ValueError naming the flag, what is expected and what
/// came.
void set_from_text(TrainOptions& options, const Setting& setting, const std::string& text);

/// A setting or key of the model in which two runs differ.
struct SettingChange {
  std::string key;
  OnResume on_resume;
  std::string text;  ///< "lr: stored 0.0001, now 0.001"
};

/// The differences between the stored options and those of the resumed run, without those of OnResume::accept.
std::vector<SettingChange> changes_on_resume(const TrainOptions& stored, const TrainOptions& now);

}  // namespace llsa::nn
