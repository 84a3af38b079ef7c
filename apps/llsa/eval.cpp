#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>

#include "apps/llsa/commands.h"
#include "apps/llsa/model_flags.h"
#include "apps/llsa/output.h"
#include "apps/llsa/progress.h"
#include "core/device_choice.h"
#include "kernels/copy.h"
#include "kernels/make.h"
#include "nn/checkpoint/diffusers.h"
#include "nn/checkpoint/run_folder.h"
#include "nn/checkpoint/training_state.h"
#include "nn/data/image_folder.h"
#include "nn/data/image_io.h"
#include "nn/data/transform.h"
#include "nn/diffusion/sampler.h"
#include "nn/dit_config.h"
#include "nn/eval/drawn_score.h"
#include "nn/eval/frechet.h"
#include "nn/eval/image_statistics.h"
#include "nn/json.h"
#include "nn/train_folder.h"

namespace llsa::apps {

namespace {

/// Images that a covariance of all Inception features needs.
constexpr std::int64_t kEnoughImages = nn::Inception::kFeatures + 1;

// Real images are chosen and decoded like the training images. Their classes do not matter.
nn::TrainOptions data_options(const EvalArgs& args, const std::string& checkpoint) {
  nn::TrainOptions options;
  if (!checkpoint.empty() && nn::has_training_state(checkpoint))
    options = nn::read_training_options(checkpoint);
  if (!args.background.empty()) options.background = args.background;
  if (args.max_pixels > 0) options.max_pixels = args.max_pixels;
  if (!args.exif.empty()) options.exif = args.exif;
  if (options.classes == "auto") options.classes = "none";
  if (!args.classes.empty()) options.classes = args.classes;
  return options;
}

nn::ImageFolder open_folder(const std::string& path, const nn::TrainOptions& options,
                            const std::string& classes) {
  nn::ImageFolder folder(path, nn::decode_options(options), nn::classes_from_name(classes));
  for (const std::string& warning : folder.warnings()) std::fprintf(stderr, "warning: %s\n", warning.c_str());
  return folder;
}

void warn_skipped(const std::vector<nn::SkippedFile>& files) {
  for (const nn::SkippedFile& file : files)
    std::fprintf(stderr, "warning: left out %s: %s\n", file.path.c_str(), file.reason.c_str());
}

/// What is scored: a model, or a folder of images.
struct Subject {
  std::string checkpoint;  // empty for a folder
  nn::DiffusersModel about;
  std::unique_ptr<nn::ImageModel> model;
  std::optional<nn::ImageFolder> folder;
  nn::SampleOptions sampling;
};

int eval_inception(const EvalArgs& args, Context& ctx, Context& host, Subject& subject,
                   const nn::ImageFolder& data) {
  const nn::Inception network(ctx, args.inception);
  nn::FeatureOptions options;
  options.resize = nn::inception_resize(args.resize);
  if (subject.model) {
    options.height = subject.about.config.height;
    options.width = subject.about.config.width;
  }
  std::vector<nn::SkippedFile> skipped;
  check_output(args.statistics);
  const nn::ImageStatistics real = [&] {
    Counter counter("real");
    return nn::cached_statistics(args.statistics, ctx, host, network, data, options, &skipped,
                                 counter.callbacks())
        .value();  // nothing stops it
  }();
  nn::ImageStatistics found;
  Counter scored(subject.model ? "drawn" : "scored");
  if (subject.model)
    nn::draw_batches(*subject.model, subject.sampling, scored.callbacks(), [&](const Tensor& images) {
      found.add(ctx, host, network(from_host(ctx, nn::levels_of(host, images)), options.resize));
    });
  else
    found = nn::statistics_of(ctx, host, network, *subject.folder, options, &skipped, scored.callbacks());
  warn_skipped(skipped);
  if (const std::int64_t least = std::min(real.count(), found.count()); least < kEnoughImages)
    std::fprintf(stderr,
                 "warning: %lld images are fewer than the %lld that a covariance of %lld features needs: FID "
                 "comes out too "
                 "large\n",
                 static_cast<long long>(least), static_cast<long long>(kEnoughImages),
                 static_cast<long long>(nn::Inception::kFeatures));

  const double fid = nn::frechet_distance(host, found.gaussian(), real.gaussian());
  const nn::MeanAndSpread kid = nn::kernel_inception_distance(host, found, real),
                          is = found.inception_score();
  if (args.json) {
    const std::string line =
        nn::JsonWriter()
            .add(subject.model ? "checkpoint" : "images", subject.model ? subject.checkpoint : args.images)
            .add("count", found.count())
            .add("real", real.count())
            .add("resize", args.resize)
            .add("fid", fid)
            .add("kid", kid.mean)
            .add("kid_spread", kid.spread)
            .add("inception_score", is.mean)
            .add("inception_score_spread", is.spread)
            .line();
    std::printf("%s\n", line.c_str());
    return 0;
  }
  std::printf("%lld images against %lld real ones, Inception-v3 of 2015, resize %s\n",
              static_cast<long long>(found.count()), static_cast<long long>(real.count()),
              args.resize.c_str());
  std::printf("  Frechet Inception Distance  %10.4f   (smaller is better)\n", fid);
  std::printf("  Kernel Inception Distance   %10.6f +- %.6f   (smaller is better)\n", kid.mean, kid.spread);
  std::printf("  Inception Score             %10.4f +- %.4f   (larger is better)\n", is.mean, is.spread);
  return 0;
}

int eval_random_features(const EvalArgs& args, Context& ctx, Context& host, Subject& subject,
                         const nn::ImageFolder& data) {
  std::int64_t count = args.count;
  int height = subject.about.config.height, width = subject.about.config.width;
  if (subject.folder) {
    const nn::Image first = subject.folder->load(0);
    count = subject.folder->size();
    height = first.height;
    width = first.width;
  }
  const nn::FrechetReference reference(host, data, height, width, count, args.reference);
  warn_skipped(reference.skipped());
  const auto score_of = [&](nn::ImageModel& model, const char* what) {
    std::vector<Tensor> features;
    Counter counter(what);
    nn::draw_batches(model, subject.sampling, counter.callbacks(),
                     [&](const Tensor& images) { features.push_back(nn::frechet_features(host, images)); });
    return reference.score_features(host, kernels::concat(host, features, 0));
  };
  const auto score_of_folder = [&] {
    std::vector<Tensor> features;
    std::vector<nn::SkippedFile> skipped;
    Counter counter("scored");
    for (std::int64_t i = 0; i < count; ++i) {
      const Tensor image = nn::load_images(host, *subject.folder, {i}, height, width, &skipped);
      if (image.defined()) features.push_back(nn::frechet_features(host, image));
      counter(i + 1, count);
    }
    warn_skipped(skipped);
    return reference.score_features(host, kernels::concat(host, features, 0));
  };
  const double score = subject.model ? score_of(*subject.model, "drawn") : score_of_folder();
  const double real = reference.real_score();
  double untrained = 0;
  if (subject.model) {
    const auto fresh =
        nn::make_model(ctx, subject.about.kind, subject.about.config, args.seed, dtype_from_name(args.dtype));
    untrained = score_of(*fresh, "drawn by an untrained model");
  }

  if (args.json) {
    nn::JsonWriter json;
    json.add(subject.model ? "checkpoint" : "images", subject.model ? subject.checkpoint : args.images)
        .add("count", count)
        .add("reference", reference.reference_count())
        .add("score", score)
        .add("real", real)
        .add("score_over_real", score / real);
    if (subject.model) json.add("untrained", untrained).add("score_over_untrained", score / untrained);
    std::printf("%s\n", json.line().c_str());
    return 0;
  }
  std::printf("random-feature Frechet distance to %lld real images (smaller is better)\n",
              static_cast<long long>(reference.reference_count()));
  std::printf("  %lld images of this %s        %10.5f\n", static_cast<long long>(count),
              subject.model ? "model" : "folder", score);
  std::printf("  %lld other real images           %10.5f   (%s / real %.2f)\n", static_cast<long long>(count),
              real, subject.model ? "model" : "folder", score / real);
  if (subject.model)
    std::printf("  %lld images of an untrained model %9.5f   (model / untrained %.3f)\n",
                static_cast<long long>(count), untrained, score / untrained);
  return 0;
}

}  // namespace

int run_eval(const EvalArgs& args) {
  if (args.model.empty() == args.images.empty())
    throw UsageError("llsa eval scores a model or a folder of images: expected one of them",
                     "llsa eval RUN --data DIR, or llsa eval --images DIR --data DIR");
  if (!args.statistics.empty() && args.inception.empty())
    throw UsageError("--statistics holds what Inception says of images: expected --inception, too");
  Subject subject;
  if (!args.model.empty()) {
    subject.checkpoint = nn::resolve_checkpoint(args.model);
    subject.about = nn::read_diffusers_model(subject.checkpoint);
    for (const std::string& note : subject.about.notes) print_note(note);
  }
  const nn::TrainOptions options = data_options(args, subject.checkpoint);
  const nn::ImageFolder data = open_folder(args.data, options, options.classes);

  // Images are drawn on the device and scored on the CPU, but for the Inception network, which runs on the device.
  Context host(args.threads);
  const DeviceChoice choice = choose_device(args.device);
  const DType dtype = dtype_from_name(args.dtype);
  Context ctx(choice.device, args.threads);
  ctx.allow_tf32(args.tf32);
  print_note(passed_over_text(choice));
  if (args.model.empty()) {
    subject.folder.emplace(open_folder(args.images, options, "none"));
  } else {
    subject.model = nn::load_diffusers_model(ctx, subject.about, dtype, args.average);
    print_note(nn::slower_attention_text(subject.model->last_stage(), choice.device, dtype));
    subject.sampling.count = args.count;
    subject.sampling.batch = args.batch;
    subject.sampling.guidance = subject.about.config.classes > 0 ? args.guidance : 1.0;
    subject.sampling.guided = nn::guidance_interval(args.guidance_interval);
    subject.sampling.sampler = nn::sampler_kind(args.sampler);
    subject.sampling.steps = args.steps;
    subject.sampling.seed = args.seed;
    subject.sampling.noise_scale = subject.about.noise_scale;
  }
  return args.inception.empty() ? eval_random_features(args, ctx, host, subject, data)
                                : eval_inception(args, ctx, host, subject, data);
}

}  // namespace llsa::apps
