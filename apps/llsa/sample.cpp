#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <optional>

#include "apps/llsa/commands.h"
#include "apps/llsa/model_flags.h"
#include "apps/llsa/output.h"
#include "apps/llsa/progress.h"
#include "apps/llsa/sample_folder.h"
#include "apps/llsa/stop_signal.h"
#include "core/checksum.h"
#include "core/device_choice.h"
#include "kernels/copy.h"
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

// What labels.csv says of the images.
SampleLabels labels_of(const nn::DiffusersModel& model, const SampleArgs& args,
                       const nn::SampleOptions& options) {
  const auto name_of = [&](std::int32_t c) {
    const auto at = static_cast<std::size_t>(c);
    return at < model.class_names.size() ? model.class_names[at] : cat(c);
  };
  SampleLabels labels{{}, args.seed};
  for (const std::int32_t c : options.classes) labels.classes.push_back(name_of(c));
  if (options.classes.empty())
    for (int c = 0; c < model.config.classes; ++c) labels.classes.push_back(name_of(c));
  return labels;
}

// What decides about the images of a call, but for their classes, which stand in their table.
nn::JsonWriter settings_of(const SampleArgs& args, const std::string& checkpoint, nn::ImageModel& model,
                           const nn::SampleOptions& options) {
  const Tensor weights = to_host(model.context(), model.parameters().flat());
  const nn::DitConfig size = at_size(model.last_stage(), options);
  return nn::JsonWriter()
      .add("weights", std::to_string(checksum(weights.data<float>(), weights.nbytes())))
      .add("checkpoint", std::filesystem::absolute(checkpoint).lexically_normal().string())
      .add("size", cat(size.height, 'x', size.width))
      .add("guidance", options.guidance)
      .add("guidance_interval", cat(options.guided[0], ',', options.guided[1]))
      .add("sampler", args.sampler)
      .add("steps", args.steps)
      .add("seed", std::to_string(args.seed))
      .add("dtype", args.dtype);
}

}  // namespace

int run_sample(const SampleArgs& args) {
  if (args.out.empty() && args.each.empty()) {
    throw UsageError("llsa sample needs somewhere to write to", "--out GRID.png, --each FOLDER, or both");
  }
  if (args.resume && !args.out.empty())
    throw UsageError(
        "--resume draws what is missing in --each, a grid would show that alone: expected no --out");
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
  const auto model = nn::load_diffusers_model(ctx, about, dtype, args.average);
  print_note(nn::slower_attention_text(at_size(model->last_stage(), options), choice.device, dtype));

  // A grid of several classes is sorted by them.
  const auto classes =
      args.class_name.empty() ? nn::sample_classes(*model, options) : std::vector<std::int32_t>{};
  if (!args.out.empty()) {
    const nn::DitConfig size = at_size(model->last_stage(), options);
    nn::check_grid({args.count, size.out_channels, size.height, size.width}, classes);
  }
  std::optional<SampleFolder> folder;
  if (!args.each.empty()) {
    const Earlier earlier = args.resume ? Earlier::resume : args.replace ? Earlier::replace : Earlier::refuse;
    folder.emplace(args.each, labels_of(about, args, options), earlier,
                   settings_of(args, checkpoint, *model, options));
    listen_for_stop();
  }
  std::vector<Tensor> drawn;  // for the grid
  std::int64_t done = folder ? folder->done() : 0;
  {
    Counter counter("drawn");
    while (done < args.count && !stop_requested()) {
      options.first = done;
      options.count = std::min(args.batch, args.count - done);
      const nn::Callbacks callbacks{
          .on_progress =
              [&](std::int64_t step, std::int64_t steps) {
                counter(done, args.count, cat(", step ", step, " / ", steps, " of the next ", options.count));
              },
          .should_stop = stop_requested};
      const Tensor images = to_host(ctx, model->draw(options, callbacks));
      if (images.size(0) < options.count) break;
      if (folder) folder->add(images);
      if (!args.out.empty()) drawn.push_back(images);
      done += options.count;
    }
  }
  if (done < args.count) {
    std::printf("stopped after %lld of %lld images: go on with --resume\n", static_cast<long long>(done),
                static_cast<long long>(args.count));
    return 0;
  }
  if (!args.out.empty()) {
    Context host(1);
    nn::write_png(args.out, nn::make_grid(kernels::concat(host, drawn, 0), classes));
  }
  const std::string both = args.out.empty() || args.each.empty() ? "" : " and ";
  std::printf("%lld images from %s: %s\n", static_cast<long long>(done), checkpoint.c_str(),
              (args.out + both + args.each).c_str());
  return 0;
}

}  // namespace llsa::apps
