// A spiral classifier: three arms of points in the plane, which no straight line separates, and a small network
// that learns which arm a point belongs to. The weights then go to a file, and from there into a second network.
#include <llsa/llsa.h>

#include <cmath>
#include <iostream>
#include <vector>

namespace nn = llsa::nn;
using llsa::Tensor, llsa::Var;

constexpr int kArms = 3, kPoints = 100;  // points of each arm

nn::Sequential classifier(nn::Parameters& params) {
  return {nn::Linear(params, "first", 2, 64), llsa::relu, nn::Linear(params, "second", 64, 64), llsa::relu,
          nn::Linear(params, "out", 64, kArms)};
}

// The share of points whose largest score is that of their own arm.
double accuracy(const Var& scores, const std::vector<int>& arms) {
  const auto best = llsa::to_vector<int>(scores.context(), llsa::argmax(scores, 1));
  double right = 0;
  for (std::size_t i = 0; i < arms.size(); ++i) right += best[i] == arms[i];
  return right / static_cast<double>(arms.size());
}

int main() {
  llsa::Context ctx;
  const auto noise = llsa::to_vector<float>(ctx, llsa::randn(ctx, {kArms * kPoints}, /*seed=*/1));
  std::vector<float> points;
  std::vector<int> arms;
  for (int i = 0; i < kArms * kPoints; ++i) {
    arms.push_back(i / kPoints);
    const float radius = static_cast<float>(i % kPoints) / kPoints;
    const float angle = 4.0f * (static_cast<float>(arms[i]) + radius) + 0.2f * noise[i];
    points.insert(points.end(), {radius * std::sin(angle), radius * std::cos(angle)});
  }
  const Var x(ctx, llsa::from_vector(ctx, points, {kArms * kPoints, 2}));
  const Tensor y = llsa::from_vector(ctx, arms, {kArms * kPoints});

  nn::Parameters params(ctx, /*seed=*/0);
  const nn::Sequential model = classifier(params);
  nn::AdamW adam(params);
  std::cout << params;
  for (int step = 0; step < 300; ++step) {
    const Var loss = llsa::cross_entropy(model(x), y);
    llsa::backward(loss);
    adam.step(1e-2);
    if (step % 100 == 0) std::cout << "step " << step << ", loss " << loss.item() << '\n';
  }
  nn::save(params, "mlp.safetensors");

  nn::Parameters loaded(ctx, /*seed=*/1);
  const nn::Sequential again = classifier(loaded);
  nn::load(loaded, "mlp.safetensors");
  const double trained = accuracy(model(x), arms), reloaded = accuracy(again(x), arms);
  std::cout << "accuracy " << trained << ", of the loaded network " << reloaded << '\n';
  return trained > 0.95 && reloaded == trained ? 0 : 1;
}
