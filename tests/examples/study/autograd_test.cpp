// Runs the checks of examples/study/autograd.cpp, and holds it against the engine.
#define STUDY_WITHOUT_MAIN
#include "examples/study/autograd.cpp"  // NOLINT(bugprone-suspicious-include)

#include <doctest/doctest.h>

#include <sstream>

#include "autograd/elementwise.h"
#include "kernels/copy.h"

TEST_SUITE_BEGIN("examples/study/autograd");

TEST_CASE("its own checks pass") {
  std::ostringstream out;
  CHECK(autograd_study::check(out));
  CAPTURE(out.str());
  CHECK(out.str().find("FAILED") == std::string::npos);
}

TEST_CASE("the engine finds the same derivatives, and both sum over several walks") {
  llsa::Context ctx;
  const auto leaf = [&](double value) {
    return llsa::Var(ctx, llsa::kernels::from_vector(ctx, std::vector<double>{value}, {1}), true);
  };
  const auto f = [](const auto& x, const auto& y) { return tanh(x * y - x) + log(y * y + x) * exp(x / y); };

  const llsa::Var x = leaf(0.7), y = leaf(1.3);
  const autograd_study::Var study_x(0.7), study_y(1.3);
  for (int walk = 0; walk < 2; ++walk) {
    llsa::backward(f(x, y));
    autograd_study::backward(f(study_x, study_y));
  }
  const auto value = [&](const llsa::Tensor& tensor) {
    return llsa::kernels::to_vector<double>(ctx, tensor)[0];
  };
  CHECK(study_x.node->gradient == doctest::Approx(value(x.grad())).epsilon(1e-12));
  CHECK(study_y.node->gradient == doctest::Approx(value(y.grad())).epsilon(1e-12));
}

TEST_SUITE_END();
