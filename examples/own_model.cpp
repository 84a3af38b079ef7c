// An image model of your own, here a small convolutional net, learns the flow from noise to images with the
// library's training step, average and checkpoints. At the end it checks that the loss fell by half, and
// that training which was interrupted and resumed gives the same bits as training without a break.
#include <llsa/llsa.h>

#include <filesystem>
#include <iostream>

namespace nn = llsa::nn;
using llsa::Tensor, llsa::Var;

struct ConvNet {
  nn::Conv2d in, middle, out;
  nn::Linear time;
  nn::Embedding kind;

  explicit ConvNet(nn::Parameters& params)
      : in(params, "in", 3, 24, {3, 3}, {.padding = {1, 1}}),
        middle(params, "middle", 24, 24, {3, 3}, {.padding = {1, 1}}),
        out(params, "out", 24, 3, {3, 3}, {.padding = {1, 1}}),
        time(params, "time", 256, 24),
        kind(params, "kind", 4 + 1, 24) {}  // the last one means "no class"
  Var operator()(const Var& x, const Tensor& t, const Tensor& y) const {
    const Var embedded(x.context(), llsa::kernels::time_embedding(x.context(), t, x.dtype()));
    const Var condition = reshape(time(embedded) + kind(y), {x.size(0), 24, 1, 1});
    return out(silu(middle(silu(in(x) + condition))));
  }
};

// Goes on from the last checkpoint, if there is one, to `steps` steps. Returns the average and its loss.
std::pair<std::vector<float>, double> train(const std::string& folder, const std::string& name, int steps) {
  llsa::Context ctx;
  nn::Parameters params(ctx, /*seed=*/1);
  const nn::Denoiser model{.predict = ConvNet(params), .height = 8, .width = 8, .classes = 4};
  const auto images = std::make_shared<nn::ImageFolder>(folder + "/shapes");
  nn::Loader loader(ctx, images, {.batch = 16, .height = 8, .width = 8});
  const nn::Objective objective = nn::flow_objective(ctx, model, loader);
  nn::AdamW adam(params);
  nn::Ema average(params);
  nn::TrainStep step(params, adam, &average, objective);
  nn::RunFolder run(folder + "/" + name);
  const nn::TrainingState state{params, adam, &average, &loader};
  for (auto done = nn::resume_latest(run, state); done < steps; ++done) step.run(/*learning_rate=*/3e-3);
  nn::save_checkpoint(run, state, steps);
  const nn::ScopedWeights averaged(params, average.flat());
  objective.next();
  return {llsa::to_vector<float>(ctx, params.flat()), objective.loss().item()};
}

int main() {
  const std::string folder = "own_model_files";
  std::filesystem::remove_all(folder);
  nn::write_shapes({.out = folder + "/shapes", .count = 64, .size = 8});
  const auto [fresh, before] = train(folder, "fresh", 0);
  const auto [whole, after] = train(folder, "whole", 200);
  train(folder, "parts", 120);
  const auto [parts, resumed] = train(folder, "parts", 200);
  std::cout << "loss " << before << ", after training " << after << ", when resumed " << resumed << "\n";
  return after < 0.5 * before && parts == whole ? 0 : 1;
}
