#include <unistd.h>

#include <cstdio>
#include <filesystem>

#include "apps/llsa/commands.h"
#include "apps/llsa/model_flags.h"
#include "apps/llsa/output.h"
#include "core/device_choice.h"
#include "kernels/make.h"
#include "nn/checkpoint/diffusers.h"
#include "nn/checkpoint/run_folder.h"
#include "nn/class_names.h"
#include "nn/data/grid.h"
#include "nn/diffusion/sampler.h"
#include "nn/dit_config.h"

namespace llsa::apps {
namespace {

// The class that --class asks for.
std::int32_t chosen_class(const nn::DiffusersModel& model, const std::string& wanted) {
  if (model.config.classes == 0) throw UsageError("--class: this model was trained without classes");
  try {
    return nn::find_class(model.class_names, model.config.classes, wanted);
  } catch (const ValueError& error) {
    throw UsageError(cat("--class: ", error.what()), error.hint());
  }
}

// The model's configuration at the size of the images that are drawn.
nn::DitConfig at_size(nn::DitConfig config, const nn::SampleOptions& options) {
  if (options.height == 0) return config;
  nn::check_sides(options.height, options.width, config.patch);
  config.height = static_cast<int>(options.height);
  config.width = static_cast<int>(options.width);
  return config;
}

void make_folder(const std::string& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw IoError(cat("cannot create ", folder, ": ", error.message()));
}

void write_each(const std::string& folder, const Tensor& images) {
  for (std::int64_t i = 0; i < images.size(0); ++i) {
    char name[32];
    std::snprintf(name, sizeof name, "/%06lld.png", static_cast<long long>(i));
    nn::write_png(folder + name, nn::to_image(images.select(0, i)));
  }
}

}  // namespace

int run_sample(const SampleArgs& args) {
  if (args.out.empty() && args.each.empty()) {
    throw UsageError("llsa sample needs somewhere to write to", "--out GRID.png, --each FOLDER, or both");
  }
  check_output(args.out);
  const std::string checkpoint = nn::resolve_checkpoint(args.model);
  const nn::DiffusersModel about = nn::read_diffusers_model(checkpoint);
  for (const std::string& note : about.notes) print_note(note);

  nn::SampleOptions options;
  options.count = args.count;
  options.guidance = about.config.classes > 0 ? args.guidance : 1.0;
  options.guided = nn::guidance_interval(args.guidance_interval);
  options.sampler = nn::sampler_kind(args.sampler);
  options.steps = args.steps;
  options.seed = args.seed;
  options.batch = args.batch;
  if (!args.size.empty()) std::tie(options.height, options.width) = parse_size(args.size);
  if (!args.class_name.empty()) options.classes = {chosen_class(about, args.class_name)};

  const DeviceChoice choice = choose_device(args.device);
  print_note(passed_over_text(choice));
  const DType dtype = dtype_from_name(args.dtype);
  Context ctx(choice.device, args.threads);
  ctx.allow_tf32(args.tf32);
  const auto model = nn::load_diffusers_model(ctx, checkpoint, dtype, args.average);
  print_note(nn::slower_attention_text(at_size(model->last_stage(), options), choice.device, dtype));
  if (!args.each.empty()) make_folder(args.each);
  const bool live = isatty(STDERR_FILENO) != 0;
  nn::Callbacks callbacks;
  if (live)
    callbacks.on_progress = [](std::int64_t done, std::int64_t total) {
      std::fprintf(stderr, "\r%lld / %lld steps\033[K", static_cast<long long>(done),
                   static_cast<long long>(total));
    };
  const Tensor images = to_host(ctx, model->draw(options, callbacks));
  if (live) std::fprintf(stderr, "\r\033[K");

  // A grid of several classes is sorted by them.
  const auto classes =
      args.class_name.empty() ? nn::sample_classes(*model, options) : std::vector<std::int32_t>{};
  if (!args.out.empty()) nn::write_png(args.out, nn::make_grid(images, classes));
  if (!args.each.empty()) write_each(args.each, images);
  std::printf("%lld images from %s: %s\n", static_cast<long long>(args.count), checkpoint.c_str(),
              (args.out.empty() ? args.each : args.out).c_str());
  return 0;
}

}  // namespace llsa::apps
