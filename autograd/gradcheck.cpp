// Gradient check by central differences.

#include "autograd/gradcheck.h"

#include <algorithm>
#include <cmath>

#include "autograd/elementwise.h"
#include "autograd/reduce.h"
#include "kernels/copy.h"
#include "kernels/random.h"

namespace llsa {
namespace {

constexpr std::uint64_t kProjectionStream = 0x67726164;

/// The scalar sum_o sum(f_o R_o).
Var projected(const VarFunction& function, const std::vector<Var>& inputs, std::uint64_t seed) {
  const std::vector<Var> outputs = function(inputs);
  Var total;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    Context& context = outputs[i].context();
    const Tensor weights =
        kernels::random_normal(context, outputs[i].shape(), DType::f64, seed, kProjectionStream + i);
    const Var part = sum(mul(outputs[i], Var(context, weights)));
    total = total.defined() ? add(total, part) : part;
  }
  return total;
}

std::vector<std::int64_t> unravel(const Shape& shape, std::int64_t flat) {
  std::vector<std::int64_t> index(static_cast<std::size_t>(shape.rank()));
  for (int axis = shape.rank() - 1; axis >= 0; --axis) {
    index[static_cast<std::size_t>(axis)] = flat % shape[axis];
    flat /= shape[axis];
  }
  return index;
}

}  // namespace

std::string GradcheckResult::str() const {
  TextStream text;
  text << "worst " << worst << " at input " << input << " [";
  for (std::size_t i = 0; i < index.size(); ++i) text << (i ? "," : "") << index[i];
  text.precision(12);
  text << "]: analytic " << analytic << ", numeric " << numeric << "; " << checked << " entries";
  return text.str();
}

GradcheckResult gradcheck(const VarFunction& function, const std::vector<Var>& inputs,
                          const std::vector<bool>& differentiable, const GradcheckOptions& options) {
  std::vector<Var> leaves;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const bool wanted = inputs[i].defined() && (differentiable.empty() || differentiable[i]);
    if (wanted && inputs[i].dtype() != DType::f64)
      throw DTypeError(cat("[gradcheck] expected f64 inputs, got ", name_of(inputs[i].dtype())));
    leaves.push_back(
        wanted ? Var(inputs[i].context(), kernels::clone(inputs[i].context(), inputs[i].value()), true)
               : inputs[i]);
  }
  backward(projected(function, leaves, options.seed));

  const NoGrad no_grad;
  GradcheckResult result;
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    if (!leaves[i].requires_grad()) continue;
    Context& context = leaves[i].context();
    const Shape& shape = leaves[i].shape();
    std::vector<double> values = kernels::to_vector<double>(context, leaves[i].value());
    std::vector<double> analytic(values.size(), 0.0);
    if (leaves[i].grad().defined()) analytic = kernels::to_vector<double>(context, leaves[i].grad());
    std::vector<double> numeric(values.size());
    std::vector<Var> moved = leaves;
    const auto value_at = [&](std::size_t element, double x) {
      const double before = values[element];
      values[element] = x;
      moved[i] = Var(context, kernels::from_vector(context, values, shape));
      values[element] = before;
      return context.item(projected(function, moved, options.seed).value());
    };
    for (std::size_t j = 0; j < values.size(); ++j) {
      const double h = options.step * std::max(1.0, std::abs(values[j]));
      const double above = values[j] + h;
      const double below = values[j] - h;
      numeric[j] = (value_at(j, above) - value_at(j, below)) / (above - below);
    }
    double scale = 1.0;
    for (const double n : numeric) scale = std::max(scale, std::abs(n));
    for (std::size_t j = 0; j < values.size(); ++j) {
      const double error = std::abs(analytic[j] - numeric[j]) / scale;
      ++result.checked;
      if (!(error <= options.tolerance)) result.ok = false;
      if (result.input < 0 || !(error <= result.worst)) {
        if (std::isnan(result.worst)) continue;
        result.worst = error;
        result.input = static_cast<int>(i);
        result.index = unravel(shape, static_cast<std::int64_t>(j));
        result.analytic = analytic[j];
        result.numeric = numeric[j];
      }
    }
  }
  return result;
}

}  // namespace llsa
