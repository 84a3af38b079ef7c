// Every op of the table, in every way that does not need to know what it computes.
//
// Differences are measured as max |a - b| / max(max |b|, floor), the maxima taken over all outputs or over
// all gradients together; a NaN counts as infinite. Seeds of backward are numbers that bf16 holds, so that
// all dtypes get the same.

#include "autograd/table/op_table.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iostream>
#include <limits>
#include <set>
#include <string>

#include "autograd/gradcheck.h"
#include "kernels/copy.h"
#include "kernels/elementwise.h"
#include "kernels/random.h"

using namespace llsa;

TEST_SUITE_BEGIN("autograd/op_table");

namespace {

struct Results {
  std::vector<Tensor> outputs;
  std::vector<Tensor> gradients;  // one per input
};

Tensor seed_for(Context& ctx, const Tensor& output, std::uint64_t stream) {
  const Tensor numbers = kernels::random_normal(ctx, output.shape(), DType::f32, 77, stream);
  return kernels::cast(ctx, kernels::cast(ctx, numbers, DType::bf16), output.dtype());
}

/// Forward and backward.
Results run(OpFunction function, const OpSample& sample, bool strided_seeds = false) {
  Context& ctx = *sample.context;
  const Vars leaves = leaves_of(sample, true);
  const Vars outputs = function(sample, leaves);
  Results results;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    Tensor seed = seed_for(ctx, outputs[i].value(), i);
    if (strided_seeds && seed.rank() >= 2)
      seed = kernels::contiguous(ctx, seed.transpose(0, 1)).transpose(0, 1);
    results.outputs.push_back(outputs[i].value());
    backward(outputs[i], seed, i + 1 < outputs.size() ? Graph::retain : Graph::free);
  }
  for (const Var& leaf : leaves) results.gradients.push_back(leaf.grad());
  return results;
}

double difference(Context& ctx, const std::vector<Tensor>& a, const std::vector<Tensor>& b, double floor) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (a.size() != b.size()) return kInfinity;
  double worst = 0;
  double scale = 0;
  for (std::size_t t = 0; t < a.size(); ++t) {
    if (!a[t].defined() || !b[t].defined() || a[t].shape() != b[t].shape()) return kInfinity;
    const auto x = kernels::to_vector<double>(ctx, a[t]);
    const auto y = kernels::to_vector<double>(ctx, b[t]);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double d = std::abs(x[i] - y[i]);
      if (!(d <= worst)) worst = std::isnan(d) ? kInfinity : d;
      scale = std::max(scale, std::abs(y[i]));
    }
  }
  return worst /
         (scale > 1e-12 ? std::max(scale, floor) : 1.0);  // zeros cancelled from numbers of the order of 1
}

bool same_bits(Context& ctx, const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i].shape() != b[i].shape() || a[i].dtype() != b[i].dtype()) return false;
    const Tensor x = kernels::contiguous(ctx, a[i]);
    const Tensor y = kernels::contiguous(ctx, b[i]);
    if (x.numel() > 0 && std::memcmp(x.raw(), y.raw(), x.nbytes()) != 0) return false;
  }
  return true;
}

bool same_bits(Context& ctx, const Results& a, const Results& b) {
  return same_bits(ctx, a.outputs, b.outputs) && same_bits(ctx, a.gradients, b.gradients);
}

/// What f32 or bf16 may differ from f64 by.
double tolerance_of(OpTolerance tolerance, DType dtype) {
  const double unit = dtype == DType::bf16 ? 0x1p-8 : 0x1p-24;
  switch (tolerance) {
    case OpTolerance::exact:
      return 0;
    case OpTolerance::rounding:
      return 16 * unit;
    case OpTolerance::sums:
      break;
  }
  return dtype == DType::bf16 ? 8 * unit : 256 * unit;
}

constexpr double kFloor = 1e-2;

}  // namespace

TEST_CASE("names are unique, and every row says what its inputs are") {
  Context ctx(1);
  std::set<std::string> names;
  for (const OpRow& row : op_table()) {
    INFO(std::string(row.name));
    CHECK(names.insert(row.name).second);
    const OpSample sample = row.sample({ctx, {}});
    CHECK(sample.inputs.size() == std::string(row.inputs).size());
    CHECK(row.flops(sample) >= 0);
  }
}

TEST_CASE("gradients agree with central differences in f64") {
  Context ctx(1);
  std::set<std::string_view> ops;
  std::size_t cases = 0;
  double worst = 0;
  for (const OpRow& row : op_table()) {
    std::vector<OpSize> sizes = {{6, 5, 2}};
    if (row.op() == "llsa_attention") sizes = {{6, 4, 2}, {23, 3, 1}, {66, 2, 1}};  // no, one and two levels
    for (const OpSize& size : sizes) {
      INFO(std::string(row.name) << ", " << size.tokens << " tokens");
      const OpSample sample = row.sample({ctx, size, DType::f64, 2});
      std::int64_t entries = 0;
      for (const Tensor& input : sample.inputs) entries += input.numel();
      const auto result =
          gradcheck([&](const Vars& x) { return row.apply(sample, x); }, leaves_of(sample, false));
      INFO(result.str());
      CHECK(result.ok);
      CHECK(result.checked == entries);
      CHECK(entries > 0);
      worst = std::max(worst, result.worst);
      if (!result.ok || result.checked != entries) continue;
      ops.insert(row.op());
      ++cases;
    }
  }
  std::set<std::string_view> listed;
  for (const OpRow& row : op_table()) listed.insert(row.op());
  CHECK(ops == listed);
  std::cout << cat("gradchecked ops: ", ops.size(), " (", cases, " cases, worst error ", worst, ")\n");
}

TEST_CASE("fused ops agree with their definitions in f64") {
  Context ctx(2);
  for (const OpRow& row : op_table()) {
    if (!row.definition) continue;
    for (const OpSize size : {OpSize{6, 5, 2}, OpSize{1, 1, 1}, OpSize{67, 4, 2}}) {
      INFO(std::string(row.name) << ", " << size.tokens << " tokens");
      const OpSample sample = row.sample({ctx, size, DType::f64, 3});
      const Results fused = run(row.apply, sample);
      const Results plain = run(row.definition, sample);
      CHECK(difference(ctx, fused.outputs, plain.outputs, 1.0) <= 1e-10);
      CHECK(difference(ctx, fused.gradients, plain.gradients, 1.0) <= 1e-10);
    }
  }
}

TEST_CASE("f32 agrees with f64, at odd sizes") {
  Context ctx(2);
  for (const OpRow& row : op_table()) {
    for (const OpSize size : {OpSize{1, 5, 2}, OpSize{31, 5, 2}, OpSize{33, 5, 2}, OpSize{257, 5, 1},
                              OpSize{3, 1, 2}, OpSize{3, 31, 2}, OpSize{3, 33, 1}, OpSize{3, 257, 1}}) {
      INFO(std::string(row.name) << ", " << size.tokens << " tokens, width " << size.width);
      const OpSample narrow = row.sample({ctx, size, DType::f32, 4});
      const OpSample wide = cast_sample(narrow, DType::f64);
      const Results a = run(row.apply, narrow);
      const Results b = run(row.apply, wide);
      const double tolerance = tolerance_of(row.tolerance, DType::f32);
      CHECK(difference(ctx, a.outputs, b.outputs, kFloor) <= tolerance);
      // Over one column the gradient of a norm is what rounding leaves of terms 1 / sqrt(eps) times as large.
      if (size.width == 1 && row.op() == "gate_norm_modulate") continue;
      CHECK(difference(ctx, a.gradients, b.gradients, kFloor) <= tolerance);
    }
  }
}

TEST_CASE("bf16 agrees with f64") {
  Context ctx(2);
  for (const OpRow& row : op_table()) {
    if (!row.narrow) continue;
    for (const OpSize size : {OpSize{33, 8, 2}, OpSize{5, 31, 1}}) {
      INFO(std::string(row.name) << ", " << size.tokens << " tokens, width " << size.width);
      const OpSample narrow = row.sample({ctx, size, DType::bf16, 5});
      const Results a = run(row.apply, narrow);
      const Results b = run(row.apply, cast_sample(narrow, DType::f64));
      const double tolerance = tolerance_of(row.tolerance, DType::bf16);
      CHECK(difference(ctx, a.outputs, b.outputs, kFloor) <= tolerance);
      CHECK(difference(ctx, a.gradients, b.gradients, kFloor) <= tolerance);
    }
  }
}

TEST_CASE("strided inputs and strided gradients give what contiguous ones give") {
  Context ctx(2);
  const auto transposed =
      [&ctx](const Tensor& x) {  // the same elements, the first two axes swapped in memory
        if (x.rank() >= 2) return kernels::contiguous(ctx, x.transpose(0, 1)).transpose(0, 1);
        const Tensor twice = ctx.zeros({x.numel(), 2}, x.dtype());
        kernels::copy(ctx, x, twice.select(1, 1));
        return twice.select(1, 1);
      };
  const auto sliced = [&ctx](const Tensor& x) {  // a part of something with a longer last axis
    std::vector<std::int64_t> shape = x.shape().extents();
    shape.back() += 3;
    const Tensor larger = ctx.empty(Shape(shape), x.dtype());
    kernels::fill(ctx, larger, std::numeric_limits<double>::quiet_NaN());
    Tensor part = larger.slice(-1, 1, shape.back() - 2);
    kernels::copy(ctx, x, part);
    return part;
  };
  for (const OpRow& row : op_table()) {
    for (const OpSize size : {OpSize{6, 5, 2}, OpSize{33, 8, 3}}) {
      INFO(std::string(row.name) << ", " << size.tokens << " tokens");
      const OpSample plain = row.sample({ctx, size, DType::f32, 6});
      const Results expected = run(row.apply, plain);
      OpSample turned = plain;
      OpSample cut = plain;
      for (Tensor& input : turned.inputs) input = transposed(input);
      for (Tensor& input : cut.inputs) input = sliced(input);
      const double tolerance = tolerance_of(row.tolerance, DType::f32);
      for (const OpSample* sample : {&turned, &cut}) {
        const Results results = run(row.apply, *sample, true);
        CHECK(difference(ctx, results.outputs, expected.outputs, kFloor) <= tolerance);
        CHECK(difference(ctx, results.gradients, expected.gradients, kFloor) <= tolerance);
      }
    }
  }
}

TEST_CASE("a NaN is never lost, and stays within its sample") {
  Context ctx(2);
  const auto has_nan = [&ctx](const Tensor& x) {
    for (const double value : kernels::to_vector<double>(ctx, x))
      if (std::isnan(value)) return true;
    return false;
  };
  const NoGrad no_grad;
  for (const OpRow& row : op_table()) {
    const OpSample clean = row.sample({ctx, {33, 6, 3}, DType::f32, 7});
    const Vars expected = row.apply(clean, leaves_of(clean, false));
    for (std::size_t i = 0; i < clean.inputs.size(); ++i) {
      INFO(std::string(row.name) << ", input " << i);
      OpSample sample = clean;
      sample.inputs[i] = kernels::clone(ctx, clean.inputs[i]);
      sample.inputs[i].data<float>()[0] = std::numeric_limits<float>::quiet_NaN();
      const Vars outputs = row.apply(sample, leaves_of(sample, false));
      bool found = false;
      for (std::size_t o = 0; o < outputs.size(); ++o) {
        found = found || has_nan(outputs[o].value());
        if (row.inputs[i] != 'b') continue;
        const Tensor others = outputs[o].value().slice(0, 1, 3);
        CHECK(same_bits(ctx, {others}, {expected[o].value().slice(0, 1, 3)}));
      }
      CHECK(found);
    }
  }
}

TEST_CASE("same bits in every run and with 1, 2 and 3 threads") {
  Context one(1);
  Context two(2);
  Context three(3);
  for (const OpRow& row : op_table()) {
    for (const OpSize size : {OpSize{33, 31, 3}, OpSize{1031, 34, 2}}) {
      INFO(std::string(row.name) << ", " << size.tokens << " tokens");
      const Results expected = run(row.apply, row.sample({one, size, DType::f32, 8}));
      CHECK(same_bits(one, run(row.apply, row.sample({one, size, DType::f32, 8})), expected));
      CHECK(same_bits(one, run(row.apply, row.sample({two, size, DType::f32, 8})), expected));
      CHECK(same_bits(one, run(row.apply, row.sample({three, size, DType::f32, 8})), expected));
    }
  }
}

TEST_SUITE_END();
