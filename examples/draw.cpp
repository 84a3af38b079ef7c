// Draws images with a trained model:  draw CHECKPOINT OUT.png
//
// CHECKPOINT is the folder of a run of `llsa train`, or one of its checkpoints. Ctrl-C cancels.
#include <llsa/llsa.h>

#include <csignal>
#include <iostream>

volatile std::sig_atomic_t cancelled = 0;

int main(int argc, char** argv) try {
  if (argc != 3) throw llsa::ValueError("usage: draw CHECKPOINT OUT.png");
  std::signal(SIGINT, [](int) { cancelled = 1; });
  llsa::Context ctx;  // the CPU; llsa::Context ctx(llsa::Device::cuda()) for a GPU
  const auto model = llsa::nn::load_diffusers_model(ctx, argv[1]);

  llsa::nn::SampleOptions options;
  options.count = 16;      // the classes take turns
  options.guidance = 1.5;  // how strongly the images follow their class
  llsa::nn::Callbacks callbacks;
  callbacks.on_progress = [](auto done, auto total) { std::cerr << "\rstep " << done << " of " << total; };
  callbacks.should_stop = [] { return cancelled != 0; };
  const llsa::Tensor images = llsa::to_host(ctx, model->draw(options, callbacks));
  std::cerr << "\n";
  if (images.size(0) < options.count) throw llsa::Error("cancelled");
  llsa::nn::write_png(argv[2], llsa::nn::make_grid(images, sample_classes(*model, options)));
} catch (const llsa::Error& error) {
  std::cerr << error.what() << "\n" << error.hint() << "\n";
  return 1;
}
