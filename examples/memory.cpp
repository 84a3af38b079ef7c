// What a training step keeps for its backward, by the depth of the model, with and without recompute.
#include <llsa/autograd/saved_report.h>
#include <llsa/llsa.h>

#include <cstdio>

namespace nn = llsa::nn;
using llsa::Var;

constexpr double kMiB = 1024.0 * 1024.0;

// MiB that the graph below `out` keeps alive, without the parameters.
double saved(const Var& out) {
  double bytes = 0;
  for (const llsa::SavedRow& row : llsa::saved_report(out))
    if (row.op != "leaf") bytes += static_cast<double>(row.bytes);
  return bytes / kMiB;
}

int main() {
  llsa::Context ctx;
  const Var images(ctx, llsa::randn(ctx, {2, 3, 32, 32}, /*seed=*/1));
  const llsa::Tensor times = llsa::full(ctx, {2}, 500);
  std::puts(
      "        saved, MiB            most in use, MiB\nlayers  recorded  recomputed  recorded  recomputed");
  for (const int layers : {1, 2, 4, 8, 16}) {
    double kept[2], peak[2];
    for (const bool recompute : {false, true}) {
      nn::Dit model(ctx, {.layers = layers, .height = 32, .width = 32, .attention = nn::AttentionKind::llsa},
                    /*seed=*/0);
      model.set_recompute(recompute);
      ctx.allocator()->reset_peak();
      const Var loss = llsa::mean(llsa::square(model.forward(images, times, {})));
      kept[recompute] = saved(loss);
      llsa::backward(loss);
      peak[recompute] = static_cast<double>(ctx.allocator()->stats().peak) / kMiB;
    }
    std::printf("%6d %9.1f %11.1f %9.1f %11.1f\n", layers, kept[0], kept[1], peak[0], peak[1]);
    if (layers > 1 && !(kept[1] < kept[0] && peak[1] < peak[0])) return 1;
  }
}
