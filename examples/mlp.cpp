// A spiral classifier: points on three arms of a spiral, and a small network that learns which arm a point
// belongs to. The weights then go to a file, and from there into a second network.
#include <llsa/llsa.h>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <vector>

namespace nn = llsa::nn;

constexpr int kArms = 3, kPoints = 300;

nn::Sequential classifier(nn::Parameters& params) {
  return {nn::Linear(params, "first", 2, 64), llsa::relu, nn::Linear(params, "second", 64, 64), llsa::relu,
          nn::Linear(params, "out", 64, kArms)};
}

// How many of the points have their largest score at their own arm, from 0 to 1.
double accuracy(const llsa::Var& scores, const std::vector<int>& arms) {
  const auto s = llsa::to_vector<float>(scores.context(), scores.value());
  auto row = s.begin();
  double right = 0;
  for (int i = 0; i < kPoints; ++i, row += kArms)
    if (std::max_element(row, row + kArms) - row == arms[i]) ++right;
  return right / kPoints;
}

int main() {
  llsa::Context ctx;
  const auto noise = llsa::to_vector<float>(ctx, llsa::randn(ctx, {kPoints}, /*seed=*/1));
  std::vector<float> points;
  std::vector<int> arms;
  for (int i = 0; i < kPoints; ++i) {
    arms.push_back(i % kArms);
    const float radius = static_cast<float>(i) / kPoints;
    const float angle = 4.0f * (static_cast<float>(arms[i]) + radius) + 0.2f * noise[i];
    points.insert(points.end(), {radius * std::sin(angle), radius * std::cos(angle)});
  }
  const llsa::Var x(ctx, llsa::from_vector(ctx, points, {kPoints, 2}));
  const llsa::Tensor y = llsa::from_vector(ctx, arms, {kPoints});

  nn::Parameters params(ctx, /*seed=*/0);
  const nn::Sequential model = classifier(params);
  nn::AdamW adam(params);
  std::cout << params;
  for (int step = 0; step < 300; ++step) {
    const llsa::Var loss = llsa::cross_entropy(model(x), y);
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
