// An op of your own with its gradient, written outside of the library: softplus(x) = ln(1 + e^x).
//
// An op computes its output and records a function for the chain rule with what that function will need. This one has loops for
// the CPU; kernels::... has the library's own, which run on every device.
#include <llsa/autograd/node.h>
#include <llsa/llsa.h>

#include <algorithm>
#include <cmath>
#include <iostream>

using llsa::Tensor;
using llsa::Var;

// y[i] = f(a[i], b[i]) for contiguous tensors of any floating dtype, by all threads of the context.
template <class Function>
Tensor elementwise(llsa::Context& ctx, const Tensor& a, const Tensor& b, Function f) {
  Tensor y = ctx.empty_like(a);
  llsa::visit_floating(a.dtype(), "softplus", [&]<class T>() {
    const T *from_a = a.data<T>(), *from_b = b.data<T>();
    T* to = y.data<T>();
    ctx.pool().parallel_ranges(a.numel(), 4096, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i)
        to[i] = T(f(llsa::accumulator_t<T>(from_a[i]), llsa::accumulator_t<T>(from_b[i])));
    });
  });
  return y;
}

// dx = dy / (1 + e^-x); x was saved.
void softplus_backward(llsa::BackwardStep& step) {
  const Tensor dy = llsa::kernels::contiguous(step.context(), step.dy());
  step.add(0, elementwise(step.context(), dy, step.saved(0),
                          [](auto g, auto x) { return g / (1 + std::exp(-x)); }));
}

Var softplus(const Var& input) {
  if (!input.value().device().is_cpu()) throw llsa::DeviceError("[softplus] runs on the CPU only");
  const Var x = llsa::contiguous(input);
  const auto f = [](auto v, auto) {
    return std::max(v, decltype(v)(0)) + std::log1p(std::exp(-std::abs(v)));
  };
  const Tensor y = elementwise(x.context(), x.value(), x.value(), f);
  return llsa::record("softplus", {&x}, y, softplus_backward, llsa::saving(x.value()));
}

int main() {
  llsa::Context ctx;
  const Var x(ctx, llsa::arange(ctx, -2, 3), /*requires_grad=*/true);
  const Var y = softplus(x);
  llsa::backward(llsa::sum(y));
  std::cout << "x            " << x << "\nsoftplus(x)  " << y << "\ngradient     " << x.grad() << "\n";

  // Against central differences, in f64, also where the op is a part of a larger expression.
  const Var z(ctx, llsa::randn(ctx, {3, 5}, /*seed=*/1, /*stream=*/0, llsa::DType::f64), true);
  const auto function = [](const std::vector<Var>& in) { return std::vector<Var>{softplus(in[0] * in[0])}; };
  const llsa::GradcheckResult result = llsa::gradcheck(function, {z});
  std::cout << "gradcheck    " << result.str() << "\n";
  return result.ok ? 0 : 1;
}
