#include "nn/modules.h"

#include <doctest/doctest.h>

#include <vector>

#include "autograd/attention.h"
#include "autograd/conv.h"
#include "autograd/elementwise.h"
#include "autograd/index.h"
#include "autograd/matmul.h"
#include "autograd/norm.h"
#include "autograd/reduce.h"
#include "autograd/rope.h"
#include "autograd/view.h"
#include "kernels/copy.h"
#include "kernels/random.h"
#include "nn/attention.h"
#include "nn/rope_table.h"
#include "tests/support/tensors.h"

namespace llsa::nn {

namespace {

Var random_var(Context& ctx, const Shape& shape) {
  return Var(ctx, kernels::random_normal(ctx, shape, DType::f64, 1, 2));
}

std::vector<std::string> names_of(const Parameters& params) {
  std::vector<std::string> names;
  for (const Parameter& p : params.all()) names.push_back(p.name + p.shape.str());
  return names;
}

using Names = std::vector<std::string>;

}  // namespace

TEST_SUITE_BEGIN("nn/modules");

TEST_CASE("each layer declares its parameters and computes its op") {
  Context ctx(1);
  Parameters params(ctx, 1, DType::f64);
  const auto same = [&](const Var& a, const Var& b) { return test::same_bits(ctx, a.value(), b.value()); };
  const Var x = random_var(ctx, Shape{2, 5, 6});

  SUBCASE("Linear") {
    const Linear layer(params, "l", 6, 3), bare(params, "m", 6, 3, {.bias = false});
    CHECK(names_of(params) == Names{"l.weight[3,6]", "l.bias[3]", "m.weight[3,6]"});
    CHECK(same(layer(x), linear(x, params.at("l.weight"), params.at("l.bias"))));
    CHECK(same(bare(x), linear(x, params.at("m.weight"))));
  }
  SUBCASE("Embedding") {
    const Embedding layer(params, "e", 7, 4);
    const Tensor ids = kernels::from_vector(ctx, std::vector<int>{6, 0, 6}, Shape{3});
    CHECK(names_of(params) == Names{"e.weight[7,4]"});
    CHECK(same(layer(ids), embedding(params.at("e.weight"), ids)));
    CHECK(same(layer(Var(ctx, ids)), layer(ids)));
  }
  SUBCASE("Conv2d") {
    const Var image = random_var(ctx, Shape{2, 3, 8, 6});
    const Conv2d layer(params, "c", 3, 4, {3, 2}, {.stride = {2, 1}, .padding = {1, 0}});
    const Conv2d bare(params, "d", 3, 4, {1, 1}, {.bias = false});
    CHECK(names_of(params) == Names{"c.weight[4,3,3,2]", "c.bias[4]", "d.weight[4,3,1,1]"});
    CHECK(same(layer(image), conv2d(image, params.at("c.weight"), params.at("c.bias"), {2, 1}, {1, 0})));
    CHECK(same(bare(image), conv2d(image, params.at("d.weight"))));
  }
  SUBCASE("LayerNorm and RmsNorm") {
    const LayerNorm layer(params, "n", 6);
    const RmsNorm rms(params, "r", 6, 1e-3);
    CHECK(names_of(params) == Names{"n.weight[6]", "n.bias[6]", "r.weight[6]"});
    CHECK(same(layer(x), layer_norm(x, params.at("n.weight"), params.at("n.bias"), 1e-5)));
    CHECK(same(rms(x), rms_norm(x, params.at("r.weight"), 1e-3)));
    CHECK(same(layer(x), layer_norm(x, Var(), Var(), 1e-5)));  // starts as the plain norm
  }
  SUBCASE("Mlp") {
    const Mlp layer(params, "f", 6, 24);
    CHECK(names_of(params) == Names{"f.net.0.proj.weight[24,6]", "f.net.0.proj.bias[24]",
                                    "f.net.2.weight[6,24]", "f.net.2.bias[6]"});
    const Var h = gelu_tanh(linear(x, params.at("f.net.0.proj.weight"), params.at("f.net.0.proj.bias")));
    const Var y = linear(h, params.at("f.net.2.weight"), params.at("f.net.2.bias"));
    CHECK(test::relative_error(ctx, layer(x).value(), y.value()) <= 1e-14);
  }
}

TEST_CASE("laws of the first values reach the layers with their sizes") {
  Context ctx(1);
  Parameters params(ctx, 1);
  const Linear layer(params, "l", 100, 4, {.weight_init = Init::xavier(), .bias_init = Init::zeros()});
  const Conv2d conv(params, "c", 4, 50, {5, 5});
  const auto largest = [&](const char* name) {
    float most = 0;
    for (const float v : kernels::to_vector<float>(ctx, params.at(name).value()))
      most = std::max(most, std::abs(v));
    return most;
  };
  CHECK(largest("l.weight") == doctest::Approx(std::sqrt(6.0 / 104.0)).epsilon(0.02));
  CHECK(largest("l.bias") == 0.0f);
  CHECK(largest("c.weight") == doctest::Approx(0.1).epsilon(0.02));
}

TEST_CASE("Attention is its parts") {
  Context ctx(1);
  Parameters params(ctx, 1, DType::f64);
  const std::int64_t b = 2, n = 9, heads = 2, d = 8, c = heads * d;
  const Var x = random_var(ctx, Shape{b, n, c});
  std::vector<std::int32_t> order;
  for (std::int32_t i = 0; i < n; ++i) order.push_back(i);
  const kernels::RopeTable table = rope_table(ctx, 3, 3, 3, 3, d, order, DType::f64);
  LlsaOptions sparse;
  sparse.block = 3;
  sparse.topk = {1};
  sparse.levels = 1;
  for (const bool rich : {false, true}) {
    CAPTURE(rich);
    const std::string name = rich ? "rich" : "plain";
    AttentionOptions options{.heads = 2, .head_dim = 8};
    options.bias = options.qk_norm = rich;
    if (rich) options.kind = sparse;
    const Attention layer(params, name, options);
    const auto at = [&](const std::string& end) { return params.at(name + end); };
    const auto head = [&](const char* letter) {
      const std::string to = std::string(".to_") + letter;
      const Var y = linear(x, at(to + ".weight"), rich ? at(to + ".bias") : Var());
      return permute(reshape(y, Shape{b, n, heads, d}), {0, 2, 1, 3});
    };
    Var q = head("q"), k = head("k");
    const Var v = head("v");
    if (rich) {
      q = rope(rms_norm(q, at(".norm_q.weight"), 1e-5), table);
      k = rope(rms_norm(k, at(".norm_k.weight"), 1e-5), table);
    }
    const Var o = rich ? llsa_attention(q, k, v, sparse) : full_attention(q, k, v);
    const Var y = linear(reshape(permute(o, {0, 2, 1, 3}), Shape{b, n, c}), at(".to_out.0.weight"),
                         at(".to_out.0.bias"));
    const Var got = rich ? layer(x, table) : layer(x);
    CHECK(test::relative_error(ctx, got.value(), y.value()) <= 1e-12);
    CHECK(params.contains(name + ".to_q.bias") == rich);
    CHECK(params.contains(name + ".norm_q.weight") == rich);
  }
  CHECK_THROWS_AS(Attention(params, "none", {.heads = 0}), ValueError);
}

TEST_CASE("Attention names the shape that it expects") {
  Context ctx(1);
  Parameters params(ctx, 0, DType::f64);
  const Attention layer(params, "a", {.heads = 2, .head_dim = 16});
  for (const Shape& shape : {Shape{1, 10, 48}, Shape{10, 32}, Shape{}}) {
    const std::string expected =
        "[attention] expected x of shape [b,N,C], C = heads head_dim = 32, got " + shape.str();
    CHECK_THROWS_WITH_AS(layer(random_var(ctx, shape)), expected.c_str(), ShapeError);
  }
}

TEST_CASE("causal attention of a token is full attention of the tokens up to it") {
  Context ctx(1);
  Parameters params(ctx, 1, DType::f64);
  AttentionOptions options{.heads = 2, .head_dim = 4};
  const Attention full(params, "full", options);
  options.kind = FullAttentionOptions{.causal = true};
  const Attention causal(params, "causal", options);
  for (const Parameter& p : params.all())  // the same weights
    if (p.name.rfind("full.", 0) == 0)
      kernels::copy(ctx, p.var.value(), params.at("causal." + p.name.substr(5)).value());
  const Var x = random_var(ctx, Shape{2, 6, 8});
  const Tensor got = causal(x).value();
  for (const std::int64_t n : {1, 2, 6}) {
    CAPTURE(n);
    const Var upto = full(slice(x, 1, 0, n));
    CHECK(test::relative_error(ctx, got.slice(1, n - 1, n), upto.value().slice(1, n - 1, n)) <= 1e-12);
  }
}

TEST_CASE("VSA and SLA start as attention over the picked blocks alone, and their layers learn") {
  Context ctx(1);
  const std::int64_t b = 2, n = 10, heads = 2, d = 8, c = heads * d;
  const Var x = random_var(ctx, Shape{b, n, c});
  const VsaOptions picks{3, 2};
  for (const bool vsa : {true, false}) {
    CAPTURE(vsa);
    Parameters params(ctx, 1, DType::f64);
    AttentionOptions options{.heads = 2, .head_dim = 8, .bias = false};
    options.kind = picks;
    if (!vsa) options.kind = SlaOptions{picks.block, picks.topk};
    const Attention layer(params, "a", options);
    const auto head = [&](const char* letter) {
      const Var y = linear(x, params.at(cat("a.to_", letter, ".weight")), Var());
      return permute(reshape(y, Shape{b, n, heads, d}), {0, 2, 1, 3});
    };
    const Var q = head("q"), k = head("k"), v = head("v");
    const auto project = [&](const Var& o) {
      return linear(reshape(permute(o, {0, 2, 1, 3}), Shape{b, n, c}), params.at("a.to_out.0.weight"),
                    params.at("a.to_out.0.bias"));
    };
    const LlsaPlan plan = kernels::picked_blocks_plan(n, picks.block, picks.topk);
    const auto table = kernels::llsa_select(ctx, q.value(), k.value(), plan);
    CHECK(test::relative_error(ctx, layer(x).value(), project(llsa_attend(q, k, v, table, plan)).value()) <=
          1e-12);

    const std::string name = vsa ? "a.to_gate_compress" : "a.proj_l";
    const Var weight = params.at(name + ".weight"), bias = params.at(name + ".bias");
    CHECK(weight.shape() == (vsa ? Shape{c, c} : Shape{d, d}));
    kernels::copy(ctx, kernels::random_normal(ctx, weight.shape(), DType::f64, 3, 1), weight.value());
    kernels::copy(ctx, kernels::random_normal(ctx, bias.shape(), DType::f64, 3, 2), bias.value());
    const auto gate = [&] {
      return permute(reshape(linear(x, weight, bias), Shape{b, n, heads, d}), {0, 2, 1, 3});
    };
    const Var expected = vsa ? vsa_attention(q, k, v, gate(), picks)
                             : sla_attention(q, k, v, weight, bias, {picks.block, picks.topk});
    CHECK(test::relative_error(ctx, layer(x).value(), project(expected).value()) <= 1e-12);
    backward(sum(square(layer(x))));
    const auto gradient = kernels::to_vector<double>(ctx, weight.grad());
    CHECK(std::any_of(gradient.begin(), gradient.end(), [](double g) { return std::abs(g) > 1e-6; }));
    if (vsa) {
      options.vsa_gate = false;
      const Attention plain(params, "plain", options);
      CHECK_FALSE(params.contains("plain.to_gate_compress.weight"));
    }
  }
}

TEST_CASE("Sequential takes layers, functions, lambdas and others of its kind") {
  Context ctx(1);
  Parameters params(ctx, 1, DType::f64);
  const Var x = random_var(ctx, Shape{4, 3});
  const Sequential inner{Linear(params, "b", 5, 5), tanh};
  Sequential model{Linear(params, "a", 3, 5), relu, inner, [](const Var& y) { return y * 2.0; }};
  model.add(Linear(params, "c", 5, 1));
  const auto layer = [&](const Var& y, const std::string& name) {
    return linear(y, params.at(name + ".weight"), params.at(name + ".bias"));
  };
  const Var y = layer(tanh(layer(relu(layer(x, "a")), "b")) * 2.0, "c");
  CHECK(test::same_bits(ctx, model(x).value(), y.value()));
  CHECK(test::same_bits(ctx, Sequential{}(x).value(), x.value()));
  // A copy of a layer shares its parameters: both copies add to the same gradient.
  const Sequential copy = model;
  backward(sum(model(x)));
  const Tensor once = kernels::clone(ctx, params.flat_grad());
  backward(sum(copy(x)));
  params.load(once);
  CHECK(test::relative_error(ctx, (Var(ctx, params.flat()) * 2.0).value(), params.flat_grad()) <= 1e-15);
}

TEST_CASE("layers in bf16 compute in bf16") {
  Context ctx(1);
  Parameters params(ctx, 1, DType::bf16);
  const Sequential model{LayerNorm(params, "n", 8), Attention(params, "a", {.heads = 2, .head_dim = 4}),
                         Mlp(params, "f", 8, 16)};
  const Var x(ctx, kernels::random_normal(ctx, Shape{1, 5, 8}, DType::bf16, 1, 2));
  const Var y = model(x);
  CHECK(y.dtype() == DType::bf16);
  backward(sum(y));
  for (const Parameter& p : params.all()) {
    CAPTURE(p.name);
    double length = 0;
    for (const double g : kernels::to_vector<double>(ctx, p.var.grad())) length += g * g;
    CHECK(length > 0.0);
  }
}

TEST_SUITE_END();

}  // namespace llsa::nn
