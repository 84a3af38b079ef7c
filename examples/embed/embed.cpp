// The engine without the trainer: fit a small network to a curve, then one call of Log-Linear Sparse
// Attention.
//
// Build it against the installed library with CMake (CMakeLists.txt) or with pkg-config (Makefile).
#include <llsa/autograd/attention.h>
#include <llsa/autograd/elementwise.h>
#include <llsa/autograd/loss.h>
#include <llsa/autograd/matmul.h>
#include <llsa/autograd/reduce.h>
#include <llsa/autograd/var.h>
#include <llsa/kernels/copy.h>
#include <llsa/kernels/elementwise.h>
#include <llsa/kernels/random.h>

#include <cmath>
#include <cstdio>
#include <vector>

using llsa::Context;
using llsa::Shape;
using llsa::Tensor;
using llsa::Var;

namespace {

// A parameter: normal values of the given spread, drawn from stream `stream` of seed 1.
Var parameter(Context& ctx, const Shape& shape, double spread, std::uint64_t stream) {
  const Tensor normal = llsa::kernels::random_normal(ctx, shape, llsa::DType::f32, 1, stream);
  return Var(ctx, llsa::kernels::affine(ctx, normal, spread, 0.0), true);
}

// y = sin(3 x) on [-1, 1] by one hidden layer and plain gradient descent; returns the last mean squared
// error.
double fit_sine(Context& ctx) {
  constexpr int kPoints = 256;
  constexpr int kHidden = 32;
  constexpr int kSteps = 2000;
  constexpr double kRate = 0.1;
  std::vector<float> xs(kPoints);
  std::vector<float> ys(kPoints);
  for (int i = 0; i < kPoints; ++i) {
    xs[i] = 2.0f * static_cast<float>(i) / (kPoints - 1) - 1.0f;
    ys[i] = std::sin(3.0f * xs[i]);
  }
  const Var x(ctx, llsa::kernels::from_vector(ctx, xs, {kPoints, 1}));
  const Var y(ctx, llsa::kernels::from_vector(ctx, ys, {kPoints, 1}));

  std::vector<Var> parameters = {
      parameter(ctx, {kHidden, 1}, 2.0, 0),  // w1
      parameter(ctx, {kHidden}, 1.0, 1),     // b1
      parameter(ctx, {1, kHidden}, 0.2, 2),  // w2
      parameter(ctx, {1}, 0.0, 3),           // b2
  };
  double error = 0.0;
  for (int step = 0; step < kSteps; ++step) {
    const Var hidden = llsa::tanh(llsa::linear(x, parameters[0], parameters[1]));
    const Var loss = llsa::mse(llsa::linear(hidden, parameters[2], parameters[3]), y);
    llsa::backward(loss);
    for (Var& p : parameters) {
      const Tensor change = llsa::kernels::affine(ctx, p.grad(), -kRate, 0.0);
      p.set_value(llsa::kernels::add(ctx, p.value(), change));
      p.zero_grad();
    }
    if (step % 500 == 0 || step + 1 == kSteps) {
      error = ctx.item(loss.value());
      std::printf("step %4d  mean squared error %.5f\n", step, error);
    }
  }
  return error;
}

// Self-attention over 1000 tokens, which is no power of anything; returns the length of dL/dq.
double attend(Context& ctx) {
  const Shape shape = {1, 2, 1000, 32};  // [b,H,N,D]
  const auto normal = [&](std::uint64_t stream) {
    return Var(ctx, llsa::kernels::random_normal(ctx, shape, llsa::DType::f32, 2, stream), true);
  };
  const Var q = normal(0);
  const Var k = normal(1);
  const Var v = normal(2);
  llsa::kernels::LlsaOptions options;  // blocks of 16 tokens, 8 picks per level, as many levels as fit
  const Var o = llsa::llsa_attention(q, k, v, options);
  const Var loss = llsa::mean(llsa::square(o));
  llsa::backward(loss);
  const Var dq(ctx, q.grad());
  const double length = std::sqrt(ctx.item(llsa::sum(llsa::square(dq)).value()));
  std::printf("LLSA on %d tokens: mean square of the output %.5f, |dq| %.2e\n", 1000, ctx.item(loss.value()),
              length);
  return length;
}

}  // namespace

int main() {
  try {
    Context ctx;
    const bool fitted = fit_sine(ctx) < 0.01;
    const bool attended = attend(ctx) > 0.0;
    return fitted && attended ? 0 : 1;
  } catch (const llsa::Error& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    if (!error.hint().empty()) std::fprintf(stderr, "hint: %s\n", error.hint().c_str());
    return 1;
  }
}
