#include <cstdio>

#include "apps/llsa/commands.h"
#include "apps/llsa/output.h"
#include "core/device_choice.h"
#include "kernels/make.h"
#include "nn/checkpoint/diffusers.h"
#include "nn/checkpoint/run_folder.h"
#include "nn/checkpoint/training_state.h"
#include "nn/data/image_folder.h"
#include "nn/data/image_io.h"
#include "nn/diffusion/sampler.h"
#include "nn/dit_config.h"
#include "nn/eval/frechet.h"
#include "nn/json.h"
#include "nn/train_folder.h"

namespace llsa::apps {

namespace {

// Held-out images are decoded like the training images.
nn::DecodeOptions decode_options(const EvalArgs& args, const std::string& checkpoint) {
  nn::TrainOptions training;
  if (nn::has_training_state(checkpoint)) training = nn::read_training_options(checkpoint);
  return {nn::parse_colour(args.background.empty() ? training.background : args.background),
          args.max_pixels > 0 ? args.max_pixels : training.max_pixels};
}

}  // namespace

int run_eval(const EvalArgs& args) {
  const std::string checkpoint = nn::resolve_checkpoint(args.model);
  const nn::DiffusersModel about = nn::read_diffusers_model(checkpoint);
  const nn::ImageFolder held_out(args.data, decode_options(args, checkpoint));
  for (const std::string& warning : held_out.warnings())
    std::fprintf(stderr, "warning: %s\n", warning.c_str());

  // Images are drawn on the device and scored on the CPU.
  Context host(args.threads);
  const DeviceChoice choice = choose_device(args.device);
  const DType dtype = dtype_from_name(args.dtype);
  Context ctx(choice.device, args.threads);
  ctx.allow_tf32(args.tf32);
  print_note(passed_over_text(choice));
  const nn::FrechetReference reference(host, held_out, about.config.height, about.config.width, args.count,
                                       args.reference);
  for (const nn::SkippedFile& file : reference.skipped())
    std::fprintf(stderr, "warning: left out %s: %s\n", file.path.c_str(), file.reason.c_str());
  nn::SampleOptions sampling;
  sampling.count = args.count;
  sampling.guidance = about.config.classes > 0 ? args.guidance : 1.0;
  sampling.steps = args.steps;
  sampling.seed = args.seed;
  sampling.noise_scale = about.noise_scale;

  const auto score_of = [&](nn::Dit& model) {
    return reference.score(host, to_host(ctx, nn::sample(ctx, model, sampling)));
  };
  const auto trained = nn::load_diffusers_model(ctx, checkpoint, dtype);
  print_note(nn::slower_attention_text(trained->config(), choice.device, dtype));
  const double score = score_of(*trained);
  nn::Dit fresh(ctx, about.config, args.seed, dtype);
  const double untrained = score_of(fresh);
  const double real = reference.real_score();

  if (args.json) {
    const std::string line = nn::JsonWriter()
                                 .add("checkpoint", checkpoint)
                                 .add("count", args.count)
                                 .add("reference", reference.reference_count())
                                 .add("score", score)
                                 .add("real", real)
                                 .add("untrained", untrained)
                                 .add("score_over_real", score / real)
                                 .add("score_over_untrained", score / untrained)
                                 .line();
    std::printf("%s\n", line.c_str());
    return 0;
  }
  std::printf("random-feature Frechet distance to %lld held-out images (smaller is better)\n",
              static_cast<long long>(reference.reference_count()));
  std::printf("  %lld images of this model        %10.5f\n", static_cast<long long>(args.count), score);
  std::printf("  %lld other real images           %10.5f   (model / real %.2f)\n",
              static_cast<long long>(args.count), real, score / real);
  std::printf("  %lld images of an untrained model %9.5f   (model / untrained %.3f)\n",
              static_cast<long long>(args.count), untrained, score / untrained);
  return 0;
}

}  // namespace llsa::apps
