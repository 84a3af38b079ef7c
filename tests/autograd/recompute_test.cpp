// Activation checkpointing: the same bits for less memory.

#include "autograd/recompute.h"

#include <doctest/doctest.h>

#include "autograd/node.h"
#include "autograd/ops.h"
#include "autograd/saved_report.h"
#include "kernels/copy.h"
#include "kernels/random.h"

using namespace llsa;

TEST_SUITE_BEGIN("autograd/recompute");

namespace {

struct Net {
  explicit Net(Context& ctx) {
    for (std::uint64_t i = 0; i < 3; ++i) weights.push_back(make(ctx, {16, 16}, i));
    condition = make(ctx, {16}, 10);
    x = make(ctx, {8, 16}, 11);
  }
  static Var make(Context& ctx, const Shape& shape, std::uint64_t stream) {
    return Var(ctx, kernels::random_normal(ctx, shape, DType::f32, 3, stream), true);
  }
  /// Uses its inputs and its weight more than once, so that the order of additions shows.
  Var block(std::size_t i, const std::vector<Var>& in) const {
    const Var h = silu(linear(in[0] * in[1], weights[i]) + in[1]);
    return in[0] + linear(h, weights[i]) * 0.3;
  }
  Var loss(bool recomputed) const {
    Var h = x;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      const auto function = [this, i](const std::vector<Var>& in) { return block(i, in); };
      h = recomputed ? recompute(function, {h, condition}) : function({h, condition});
    }
    return mean(square(h * condition));
  }
  std::vector<std::vector<float>> gradients() const {
    std::vector<std::vector<float>> all;
    const auto take = [&all](Var v) {
      all.push_back(kernels::to_vector<float>(v.context(), v.grad()));
      v.zero_grad();
    };
    for (const Var& w : weights) take(w);
    take(condition);
    take(x);
    return all;
  }

  std::vector<Var> weights;
  Var condition, x;
};

std::size_t saved_bytes(const Var& out) {
  std::size_t bytes = 0;
  for (const SavedRow& row : saved_report(out)) bytes += row.bytes;
  return bytes;
}

}  // namespace

TEST_CASE("loss and all gradients have the same bits, with less saved") {
  Context ctx(2);
  const Net net(ctx);
  const Var plain = net.loss(false);
  const Var recomputed = net.loss(true);
  CHECK(ctx.item(plain.value()) == ctx.item(recomputed.value()));
  CHECK(saved_bytes(recomputed) < saved_bytes(plain));
  backward(plain);
  const auto expected = net.gradients();
  backward(recomputed, {}, Graph::retain);
  CHECK(net.gradients() == expected);
  backward(recomputed);
  CHECK(net.gradients() == expected);
}

TEST_CASE("a part with several outputs, one of which nobody uses") {
  Context ctx(1);
  const Net net(ctx);
  const auto function = [&](const std::vector<Var>& in) {
    const Var h = silu(in[0] * in[1]);
    return std::vector<Var>{h + in[0], linear(h, net.weights[0]), exp(h)};
  };
  const auto loss = [&](const std::vector<Var>& out) { return sum(square(out[0]) * out[1]); };
  const auto gradients = [&] {
    std::vector<std::vector<float>> all;
    for (Var leaf : {net.x, net.condition, net.weights[0]}) {
      all.push_back(kernels::to_vector<float>(ctx, leaf.grad()));
      leaf.zero_grad();
    }
    return all;
  };
  backward(loss(function({net.x, net.condition})));
  const auto expected = gradients();
  const std::vector<Var> outputs = recompute(function, {net.x, net.condition});
  REQUIRE(outputs.size() == 3);
  backward(loss(outputs));
  CHECK(gradients() == expected);
}

TEST_CASE("recomputed parts nest, and need no input with a gradient") {
  Context ctx(1);
  const Net net(ctx);
  const Var x = net.x.detach();
  const Var c = net.condition.detach();
  const auto inner = [&](const std::vector<Var>& in) { return net.block(0, in); };
  const auto outer = [&](const std::vector<Var>& in) { return net.block(1, {recompute(inner, in), in[1]}); };
  backward(sum(recompute(outer, {x, c})));
  const auto w0 = kernels::to_vector<float>(ctx, net.weights[0].grad());
  const auto w1 = kernels::to_vector<float>(ctx, net.weights[1].grad());
  Var(net.weights[0]).zero_grad();
  Var(net.weights[1]).zero_grad();
  backward(sum(net.block(1, {net.block(0, {x, c}), c})));
  CHECK(kernels::to_vector<float>(ctx, net.weights[0].grad()) == w0);
  CHECK(kernels::to_vector<float>(ctx, net.weights[1].grad()) == w1);

  const NoGrad no_grad;
  CHECK(!recompute(inner, {x, c}).requires_grad());
}

TEST_CASE("the report of saved bytes counts each storage once") {
  Context ctx(1);
  const Var x(ctx, ctx.zeros({1024}, DType::f32), true);
  const Var y = exp(x);        // saves y
  const Var out = sum(y * y);  // saves y twice: the same storage
  const auto rows = saved_report(out);
  REQUIRE(rows.size() == 4);
  std::size_t bytes = 0;
  for (const SavedRow& row : rows) {
    bytes += row.bytes;
    if (row.op == "exp") CHECK(row.bytes == 4096);
    if (row.op == "leaf") CHECK(row.bytes == 4096);
    if (row.op == "mul") CHECK(row.tensors == 2);
  }
  CHECK(bytes == 8192);
  const std::string text = format_saved_report(rows);
  CHECK(text.find("exp") != std::string::npos);
  CHECK(text.find("total") != std::string::npos);
}

TEST_SUITE_END();
