#include "nn/train_options.h"

#include <algorithm>
#include <map>
#include <type_traits>
#include <utility>

#include "core/closest.h"
#include "core/device_choice.h"
#include "core/error.h"
#include "core/number.h"
#include "nn/data/held_out.h"
#include "nn/diffusion/cascade.h"
#include "nn/diffusion/sampler.h"
#include "nn/ema.h"
#include "nn/image_model.h"
#include "nn/json.h"

namespace llsa::nn {
namespace {

constexpr double kMany = 1e12;  // upper end of counts that have no natural limit

template <class T>
T parse_number(const Setting& setting, const std::string& text) {
  constexpr bool kInteger = std::is_same_v<T, std::int64_t>;
  const auto value = as_number<T>(text);
  const bool in_range =
      value && static_cast<double>(*value) >= setting.least && static_cast<double>(*value) <= setting.most;
  if (!in_range) {
    throw ValueError(cat("--", setting.flag, " takes ", kInteger ? "an integer" : "a number", " from ",
                         static_cast<T>(setting.least), " to ", static_cast<T>(setting.most), ", got '", text,
                         "'"));
  }
  return *value;
}

bool parse_bool(const Setting& setting, const std::string& text) {
  if (text.empty() || text == "true" || text == "on" || text == "1") return true;
  if (text == "false" || text == "off" || text == "0") return false;
  throw ValueError(cat("--", setting.flag, " takes true or false, got '", text, "'"));
}

void validate_cascade(const TrainOptions& options) {
  const TrainOptions defaults;
  for (const Setting& setting : train_settings())
    std::visit(
        [&](auto member) {
          if (setting.dit_only && options.*member != defaults.*member)
            throw ValueError(
                cat(setting.key, " has no meaning for the model pixelflow: expected its default, ",
                    defaults.*member, ", got ", options.*member),
                "leave it out");
        },
        setting.member);
  if (const std::int64_t rest = options.batch % kCascadeStages; rest != 0) {
    const std::int64_t below = options.batch - rest;
    throw ValueError(cat("batch: pixelflow spreads it evenly over ", kCascadeStages,
                         " stages, expected a multiple of ", kCascadeStages, ", got ", options.batch),
                     below > 0 ? cat("the nearest are ", below, " and ", below + kCascadeStages)
                               : cat("the smallest is ", kCascadeStages));
  }
}

using Member = decltype(Setting::member);

// Rows of the table: a number in a range, or a boolean or any text; one of some words.
Setting row(const char* key, const char* help, Member member, double least = 0, double most = 0) {
  std::string flag = key;
  std::replace(flag.begin(), flag.end(), '_', '-');
  return {key, flag, help, member, least, most};
}
Setting row(const char* key, const char* help, Member member, std::vector<std::string> choices) {
  Setting setting = row(key, help, member);
  setting.choices = std::move(choices);
  return setting;
}
Setting resumable(Setting setting) {
  setting.on_resume = OnResume::accept;
  return setting;
}
Setting noted(Setting setting) {
  setting.on_resume = OnResume::note;
  return setting;
}
Setting refused(Setting setting) {
  setting.on_resume = OnResume::refuse;
  return setting;
}
Setting dit_only(Setting setting) {
  setting.dit_only = true;
  return setting;
}
Setting checked(Setting setting, void (*check)(std::string_view)) {
  setting.check = check;
  return setting;
}

}  // namespace

const std::vector<Setting>& train_settings() {
  using O = TrainOptions;
  static const std::vector<Setting> settings = {
      refused(row("model", "kind of model", &O::kind, {"dit", "pixelflow"})),
      resumable(row("data", "folder of images; its sub-folders are classes", &O::data)),
      resumable(
          row("classes",
              "whether sub-folders of the data are classes; auto: yes, but images beside them are an error",
              &O::classes, {"auto", "none", "folders"})),
      row("crop", "which part of an image that is not of the wanted shape", &O::crop, {"centre", "random"}),
      row("flip", "mirror half of the samples", &O::flip),
      row("background", "colour under transparent pixels: black, white, grey, #rrggbb", &O::background),
      row("max_pixels", "larger images are left out, unread", &O::max_pixels, 1, 1e10),
      row("exif", "the EXIF orientation that a camera has recorded", &O::exif, {"apply", "ignore"}),
      resumable(row("workers", "threads that decode images", &O::workers, 1, 256)),
      resumable(row("cache_mb", "MiB of decoded images kept in memory", &O::cache_mb, 0, 1e6)),
      resumable(checked(
          row("held_out", "images not to train on: a folder, or a share of --data such as 5%", &O::held_out),
          [](std::string_view text) { held_out_share(text); })),
      resumable(row("steps", "optimiser steps of the whole run", &O::steps, 1, kMany)),
      row("batch", "images per micro-batch", &O::batch, 1, 1e6),
      row("accumulate",
          "micro-batches per step, of all processes together; 0 = as many as processes begin the run",
          &O::accumulate, 0, 1e6),
      noted(row("lr", "learning rate", &O::lr, 0, 1e3)),
      noted(row("schedule", "learning rate after the warm-up", &O::schedule, {"constant", "cosine"})),
      noted(row("warmup", "steps of linear warm-up", &O::warmup, 0, kMany)),
      noted(row("lr_final", "end of the cosine, as a share of lr", &O::lr_final, 0, 1)),
      noted(row("weight_decay", "of AdamW", &O::weight_decay, 0, 1e3)),
      noted(row("beta1", "of AdamW", &O::beta1, 0, 1)),
      noted(row("beta2", "of AdamW", &O::beta2, 0, 1)),
      noted(row("eps", "of AdamW", &O::eps, 0, 1)),
      noted(row("clip", "largest gradient norm; 0 = no clipping", &O::clip, 0, 1e9)),
      noted(dit_only(
          row("ema_power", "decay of the weight average after n steps: 1 - n^-power", &O::ema_power, 0, 10))),
      noted(row("ema_max", "largest decay of the weight average", &O::ema_max, 0, 1)),
      refused(checked(
          row("ema_also", "further averages: the largest decay of each, such as 0.999,0.99", &O::ema_also),
          [](std::string_view text) { ema_decays(std::string(text)); })),
      row("class_drop", "share of samples trained without their class", &O::class_drop, 0, 1),
      dit_only(row("noise_level", "law of the noise level", &O::noise_level, {"uniform", "logit_normal"})),
      dit_only(row("noise_level_mean", "under logit_normal: mean of logit(1 - sigma); JiT uses -0.8",
                   &O::noise_level_mean, -10, 10)),
      dit_only(row("noise_level_deviation", "under logit_normal: deviation of logit(1 - sigma); JiT uses 0.8",
                   &O::noise_level_deviation, 0, 10)),
      dit_only(row("noise_scale", "deviation of the noise; 0 = by image size", &O::noise_scale, 0, 1e6)),
      dit_only(row("loss", "squared error to minimise: that of the flow (v) or of the image (x)", &O::loss,
                   {"v", "x"})),
      row("seed", "of weights, order, noise and crops", &O::seed, 0, 9007199254740992.0),
      row("dtype", "what the model computes in", &O::dtype, {"f32", "bf16"}),
      resumable(row("recompute", "recompute each block in backward: less memory, more time", &O::recompute)),
      resumable(row("init_from", "checkpoint whose weights this run starts from", &O::init_from)),
      noted(checked(row("device", "where to compute: auto, cpu, cuda or cuda:N", &O::device),
                    check_device_name)),
      resumable(row("threads", "processors to use; 0 = LLSA_THREADS or all", &O::threads, 0, 4096)),
      noted(
          row("tune", "CUDA: time the algorithms of every kind of matrix product, keep the best", &O::tune)),
      resumable(row("graph", "replay the step from CUDA graphs; needs a CUDA device", &O::graph)),
      noted(row("tf32", "CUDA: products of f32 matrices may round their operands to TF32", &O::tf32)),
      resumable(row("log_every", "steps between entries of log.jsonl", &O::log_every, 1, kMany)),
      resumable(row("sample_every", "steps between sample grids; 0 = none", &O::sample_every, 0, kMany)),
      resumable(row("sample_count", "images of such a grid", &O::sample_count, 1, 1e6)),
      resumable(
          row("sample_steps", "steps of such a grid, for pixelflow in each stage", &O::sample_steps, 1, 1e6)),
      resumable(row("guidance", "guidance of such a grid, for pixelflow in the last stage; 1 = none",
                    &O::guidance, 0, 1e3)),
      resumable(dit_only(
          checked(row("guidance_interval", "a,b: such a grid is guided only where a <= 1 - sigma <= b",
                      &O::guidance_interval),
                  [](std::string_view text) { guidance_interval(std::string(text)); }))),
      resumable(dit_only(row("sampler", "how such a grid is drawn", &O::sampler, {"euler", "heun"}))),
      resumable(
          row("save_every", "steps between checkpoints; 0 = only at the end", &O::save_every, 0, kMany)),
      resumable(
          row("keep", "checkpoints kept, beside the one with the lowest held-out loss", &O::keep, 1, 1e6)),
      resumable(row("eval_every", "steps between evaluations (held-out loss, score); 0 = none",
                    &O::eval_every, 0, kMany)),
      row("eval_images", "held-out images used for the loss at most; 0 = all", &O::eval_images, 0, kMany),
      resumable(row("eval_samples", "images drawn for the score; 0 = no score", &O::eval_samples, 0, kMany)),
      resumable(row("inception", "weights of the Inception network: the score is FID", &O::inception)),
  };
  return settings;
}

void set_from_text(TrainOptions& options, const Setting& setting, const std::string& text) {
  std::visit(
      [&](auto member) {
        using Value = std::remove_reference_t<decltype(options.*member)>;
        if constexpr (std::is_same_v<Value, bool>) {
          options.*member = parse_bool(setting, text);
        } else if constexpr (std::is_same_v<Value, std::string>) {
          if (!setting.choices.empty() &&
              std::find(setting.choices.begin(), setting.choices.end(), text) == setting.choices.end()) {
            throw ValueError(
                cat("--", setting.flag, " takes one of ", listed(setting.choices), ", got '", text, "'"),
                did_you_mean(text, setting.choices));
          }
          if (setting.check) {
            try {
              setting.check(text);
            } catch (const ValueError& error) {
              throw ValueError(cat("--", setting.flag, ": ", error.what()), error.hint());
            }
          }
          options.*member = text;
        } else {
          options.*member = parse_number<Value>(setting, text);
        }
      },
      setting.member);
}

TrainOptions TrainOptions::parse(const std::string& text, const std::string& where) {
  JsonObject json(text, where);
  TrainOptions options;
  const bool names_classes = json.has("num_embeds_ada_norm");
  options.model = DitConfig::read(json);
  if (names_classes) options.model_classes = options.model.classes;
  for (const Setting& setting : train_settings()) {
    std::visit(
        [&](auto member) {
          auto& value = options.*member;
          using Value = std::remove_reference_t<decltype(value)>;
          if constexpr (std::is_same_v<Value, bool>) {
            value = json.boolean(setting.key, value);
          } else if constexpr (std::is_same_v<Value, std::string>) {
            value = setting.choices.empty() ? json.string(setting.key, value)
                                            : json.choice(setting.key, value, setting.choices);
          } else if constexpr (std::is_same_v<Value, double>) {
            value = json.number(setting.key, value, setting.least, setting.most);
          } else {
            value = json.integer(setting.key, value, static_cast<std::int64_t>(setting.least),
                                 static_cast<std::int64_t>(setting.most));
          }
        },
        setting.member);
  }
  json.finish();
  options.validate();
  return options;
}

std::string TrainOptions::json() const {
  JsonWriter json;
  model.write(json, model_classes >= 0);  // an absent key leaves the number to the data
  for (const Setting& setting : train_settings()) {
    std::visit([&](auto member) { json.add(setting.key, this->*member); }, setting.member);
  }
  return json.pretty();
}

void TrainOptions::validate() const {
  validate_model(model_kind(), model);
  if (model_kind() == ModelKind::pixelflow) validate_cascade(*this);
  parse_colour(background);
  if (!(beta1 < 1 && beta2 < 1))
    throw ValueError(cat("beta1 and beta2 have to be below 1, got ", beta1, " and ", beta2));
  if (!(eps > 0)) throw ValueError(cat("eps has to be above 0, got ", eps));
  if (!(lr > 0)) throw ValueError(cat("lr has to be above 0, got ", lr));
  if (model.in_channels != 3 || model.out_channels != 3)
    throw ValueError(cat("images have 3 channels, got in_channels ", model.in_channels, " and out_channels ",
                         model.out_channels),
                     "leave both keys out to train on images");
  if (const TrainOptions defaults;
      noise_level == "uniform" && (noise_level_mean != defaults.noise_level_mean ||
                                   noise_level_deviation != defaults.noise_level_deviation))
    throw ValueError(
        cat("noise_level_mean and noise_level_deviation have no meaning for uniform levels, got ",
            noise_level_mean, " and ", noise_level_deviation),
        "set noise_level to logit_normal, too");
  check_device_name(device);
  held_out_share(held_out);
  nn::guidance_interval(guidance_interval);
  ema_decays(ema_also);
  if (eval_every > 0 && held_out.empty() && eval_samples == 0)
    throw ValueError(
        cat("eval_every is ", eval_every, ", which needs something to evaluate, got nothing"),
        "give --held-out a folder of images, or a share of the training images such as 5%, for the loss "
        "on them; or --eval-samples a number of images to draw, for a score");
  if (eval_samples == 1)
    throw ValueError("eval_samples is 1: a score needs at least 2 images",
                     "some hundreds are usual; 0 = no score");
  if (!inception.empty() && eval_samples == 0)
    throw ValueError("inception is given, but no images to draw for FID", "give --eval-samples, too");
}

DecodeOptions decode_options(const TrainOptions& options) {
  return {parse_colour(options.background), options.max_pixels, options.exif == "apply"};
}

std::vector<SettingChange> changes_on_resume(const TrainOptions& stored, const TrainOptions& now) {
  std::map<std::string, OnResume> rules;  // keys of the model have none: they may not change
  for (const Setting& setting : train_settings()) rules[setting.key] = setting.on_resume;
  // A cosine falls over all steps, so another end is another learning rate.
  if (stored.schedule == "cosine" || now.schedule == "cosine") rules["steps"] = OnResume::note;
  const auto entries_of = [](const TrainOptions& options) {
    return JsonObject(options.json(), "configuration").entries();
  };
  std::map<std::string, std::string> before;
  for (const auto& entry : entries_of(stored)) before.insert(entry);

  std::vector<SettingChange> changes;
  const auto add = [&](const std::string& key, const std::string& old, const std::string& value) {
    const auto rule = rules.find(key);
    const OnResume on_resume = rule == rules.end() ? OnResume::refuse : rule->second;
    if (old != value && on_resume != OnResume::accept)
      changes.push_back({key, on_resume, cat(key, ": stored ", old, ", now ", value)});
  };
  for (const auto& [key, value] : entries_of(now)) {
    const auto found = before.find(key);
    add(key, found == before.end() ? "nothing" : found->second, value);
    if (found != before.end()) before.erase(found);
  }
  for (const auto& [key, value] : before) add(key, value, "nothing");
  return changes;
}

}  // namespace llsa::nn
