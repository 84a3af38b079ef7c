#include "nn/parameters.h"

#include <doctest/doctest.h>

#include <cmath>
#include <sstream>

#include "autograd/elementwise.h"
#include "autograd/matmul.h"
#include "autograd/reduce.h"
#include "core/error.h"
#include "kernels/copy.h"
#include "kernels/elementwise.h"
#include "tests/support/tensors.h"
#include "tests/support/text.h"

namespace llsa::nn {

namespace {

/// Two parameters that are joined, and one that is not.
struct Three {
  Parameters params;
  Var joined, c;

  explicit Three(Context& ctx, std::uint64_t seed = 1, DType dtype = DType::f32)
      : params(ctx, seed, dtype),
        joined(params.declare_joined(
            {{"a.weight", Shape{2, 3}, Init::normal(1.0)}, {"b.weight", Shape{1, 3}, Init::uniform(0.5)}},
            Shape{3, 3})),
        c(params.declare("c.bias", Shape{5}, Init::ones())) {}
};

std::vector<float> values(Context& ctx, const Tensor& x) { return kernels::to_vector<float>(ctx, x); }

}  // namespace

TEST_SUITE_BEGIN("nn/parameters");

TEST_CASE("parameters are views of one flat buffer, aligned unless joined") {
  Context ctx(1);
  Three three(ctx);
  Parameters& params = three.params;
  params.lay_out();
  REQUIRE(params.all().size() == 3);
  CHECK(params.parameter_count() == 14);
  CHECK(params.find("a.weight").offset == 0);
  CHECK(params.find("b.weight").offset == 6);
  CHECK(params.find("c.bias").offset == 16);
  CHECK(params.flat_size() == 32);
  CHECK(params.at("c.bias").value().raw() == params.flat().raw() + 16 * 4);
  CHECK(three.joined.value().raw() == params.flat().raw());
  for (const int padding : {9, 15, 21, 31}) CHECK(values(ctx, params.flat())[padding] == 0.0f);
  kernels::fill(ctx, params.flat(), 2.0);
  for (const float x : values(ctx, params.at("b.weight").value())) CHECK(x == 2.0f);
  for (const float x : values(ctx, three.joined.value())) CHECK(x == 2.0f);
}

TEST_CASE("a forward and a backward pass before the buffers are laid out count as any other") {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    CAPTURE(name_of(dtype));
    Context ctx(1);
    Three early(ctx, 1, dtype), late(ctx, 1, dtype);
    late.params.lay_out();
    const auto loss = [&](const Three& three) {
      const Var x(ctx, kernels::cast(ctx, kernels::from_vector(ctx, std::vector<float>{1, 2, 3}, Shape{1, 3}),
                                     dtype));
      // Every path into the gradients: the joined leaf, one of its parts, a leaf of its own.
      return sum(linear(x, three.joined)) + sum(square(three.params.at("b.weight"))) + sum(square(three.c));
    };
    const Var pending = loss(early);
    for (int pass = 0; pass < 3; ++pass) {
      backward(loss(early));
      backward(loss(late));
    }
    const Tensor before = kernels::clone(ctx, early.joined.grad());
    early.params.lay_out();
    CHECK(test::same_bits(ctx, early.joined.grad(), before));
    backward(pending);  // recorded before, walked after
    backward(loss(late));
    CHECK(test::same_bits(ctx, early.params.flat(), late.params.flat()));
    CHECK(test::same_bits(ctx, early.params.flat_grad(), late.params.flat_grad()));
    CHECK(test::same_bits(ctx, loss(early).value(), loss(late).value()));
    CHECK(values(ctx, early.params.at("b.weight").grad())[0] != 0.0f);
  }
}

TEST_CASE("initial values depend on seed and name, not on the company") {
  Context ctx(1);
  Three three(ctx), reseeded(ctx, 2);
  Parameters other(ctx, 1);
  other.declare("x", Shape{7}, Init::normal(3.0));
  const Var same = other.declare("a.weight", Shape{2, 3}, Init::normal(1.0));
  const auto a = three.params.at("a.weight").value();
  CHECK(test::same_bits(ctx, a, same.value()));
  CHECK_FALSE(test::same_bits(ctx, a, reseeded.params.at("a.weight").value()));
  for (const float u : values(ctx, three.params.at("b.weight").value())) CHECK(std::abs(u) <= 0.5f);
  for (const float one : values(ctx, three.c.value())) CHECK(one == 1.0f);
}

TEST_CASE("laws have their moments") {
  Context ctx(1);
  Parameters params(ctx, 3);
  params.declare("n", Shape{20000}, Init::normal(0.02));
  params.declare("x", Shape{20000}, Init::xavier().for_fans(100, 200));
  params.declare("f", Shape{20000}, Init::fan_in().for_fans(100, 200));
  const auto moments = [&](const char* name) {
    double sum = 0, squares = 0;
    for (const double x : kernels::to_vector<double>(ctx, params.at(name).value())) {
      sum += x;
      squares += x * x;
    }
    return std::pair{sum / 20000, std::sqrt(squares / 20000)};
  };
  CHECK(moments("n").first == doctest::Approx(0.0).epsilon(0.001));
  CHECK(moments("n").second == doctest::Approx(0.02).epsilon(0.03));
  CHECK(moments("x").second == doctest::Approx(std::sqrt(6.0 / 300.0) / std::sqrt(3.0)).epsilon(0.03));
  CHECK(moments("f").second == doctest::Approx(0.1 / std::sqrt(3.0)).epsilon(0.03));
  CHECK_THROWS_AS(params.declare("y", Shape{3}, Init::xavier()), ValueError);
  CHECK_FALSE(params.contains("y"));
}

TEST_CASE("a joined leaf shares values and gradients with its parts") {
  Context ctx(1);
  Three three(ctx);
  Parameters& params = three.params;
  const Var x(ctx, kernels::from_vector(ctx, std::vector<float>{1, 2, 3}, Shape{1, 3}));
  backward(sum(linear(x, three.joined), {}));
  const auto grad = values(ctx, params.view(params.flat_grad(), params.find("b.weight")));
  CHECK(grad == std::vector<float>{1, 2, 3});
  CHECK(values(ctx, params.at("b.weight").grad()) == grad);
  params.zero_grad();
  CHECK(values(ctx, three.joined.grad()) == std::vector<float>(9, 0.0f));
}

TEST_CASE("one parameter under two shapes") {
  Context ctx(1);
  Parameters params(ctx);
  const Var flat = params.declare_joined({{"w", Shape{2, 1, 3}, Init::ones()}}, Shape{2, 3});
  CHECK(flat.shape() == Shape{2, 3});
  CHECK(params.find("w").shape == Shape{2, 1, 3});
  CHECK(flat.value().raw() == params.at("w").value().raw());
}

TEST_CASE("bf16 computes with a copy, gradients stay f32") {
  Context ctx(1);
  Three three(ctx, 1, DType::bf16);
  Parameters& params = three.params;
  CHECK(three.c.dtype() == DType::bf16);
  CHECK(three.c.grad().dtype() == DType::f32);
  CHECK(params.flat().dtype() == DType::f32);
  CHECK(params.flat_grad().dtype() == DType::f32);
  CHECK(params.at("a.weight").dtype() == DType::bf16);
  const Tensor exact = params.view(params.flat(), params.find("a.weight"));
  CHECK(test::same_bits(ctx, params.at("a.weight").value(), kernels::cast(ctx, exact, DType::bf16)));
  Three wide(ctx, 1);
  CHECK(test::same_bits(ctx, exact, wide.params.at("a.weight").value()));
  kernels::fill(ctx, params.flat(), 1.0 + 1.0 / 1024);
  params.refresh();
  CHECK(values(ctx, params.at("c.bias").value())[0] == 1.0f);
}

TEST_CASE("the table names every parameter, its shape and its number of elements") {
  Context ctx(1);
  Three three(ctx);
  three.params.freeze("b");
  std::ostringstream out;
  out << three.params;
  CHECK(out.str() ==
        "a.weight  [2,3]   6\n"
        "b.weight  [1,3]   3  frozen\n"
        "c.bias    [5]     5\n"
        "total            14\n");
  std::ostringstream none;
  none << Parameters(ctx);
  CHECK(none.str() == "total    0\n");
}

TEST_CASE("freezing goes by whole parts of a name, and can be undone") {
  Context ctx(1);
  Parameters params(ctx);
  for (const char* name : {"net.1.weight", "net.1.bias", "net.12.weight", "net"})
    params.declare(name, Shape{2}, Init::ones());
  const auto frozen = [&] {
    std::string text;
    for (const Parameter& p : params.all()) text += p.frozen ? 'f' : '-';
    for (const Parameter& p : params) CHECK(p.var.requires_grad() == !p.frozen);
    return text;
  };
  params.freeze("net.1");
  CHECK(frozen() == "ff--");
  CHECK_THROWS_AS(backward(sum(square(params.at("net.1.weight")))), ValueError);
  params.unfreeze("net.1.bias");
  CHECK(frozen() == "f---");
  params.freeze("net");
  CHECK(frozen() == "ffff");
  params.unfreeze("");
  CHECK(frozen() == "----");
  for (const char* name : {"net.21", "nett", "net.12.wieght"}) {
    try {
      params.freeze(name);
      FAIL("an unknown name was frozen: ", name);
    } catch (const ValueError& error) {
      CHECK(test::contains(error.hint(), "did you mean \"net"));
    }
  }
  backward(sum(square(params.at("net.1.weight"))));
  CHECK(values(ctx, params.view(params.flat_grad(), params.find("net.1.weight"))) ==
        std::vector<float>{2, 2});
}

TEST_CASE("ScopedWeights puts the own weights back") {
  Context ctx(1);
  Three three(ctx);
  Parameters& params = three.params;
  const Tensor before = kernels::clone(ctx, params.flat());
  const Tensor other = params.zeros_like_flat();
  {
    const ScopedWeights scoped(params, other);
    CHECK(test::same_bits(ctx, params.flat(), other));
  }
  CHECK(test::same_bits(ctx, params.flat(), before));
  {
    ScopedWeights scoped(params, other);
    scoped.restore();
    CHECK(test::same_bits(ctx, params.flat(), before));
    params.load(other);
  }
  CHECK(test::same_bits(ctx, params.flat(), other));
  params.load(before);
  CHECK(test::same_bits(ctx, params.flat(), before));
}

TEST_CASE("errors") {
  Context ctx(1);
  Three three(ctx);
  Parameters& params = three.params;
  CHECK_THROWS_AS(params.declare("c.bias", Shape{1}, {}), ValueError);
  CHECK_THROWS_AS(params.declare_joined({{"d", Shape{1}, {}}, {"d", Shape{1}, {}}}, Shape{2}), ValueError);
  CHECK_THROWS_AS(params.declare("", Shape{1}, {}), ValueError);
  CHECK_THROWS_AS(params.declare_joined({}, Shape{0}), ValueError);
  CHECK_THROWS_AS(params.declare_joined({{"d", Shape{6}, {}}}, Shape{7}), ShapeError);
  CHECK_FALSE(params.contains("d"));
  CHECK_THROWS_AS(Parameters(ctx, 1, DType::i32), DTypeError);
  CHECK_THROWS_AS(params.load(ctx.zeros(Shape{3}, DType::f32)), ShapeError);
  try {
    params.at("a.wieght");
    FAIL("no error");
  } catch (const ValueError& e) {
    CHECK(e.hint() == "did you mean \"a.weight\"?");
  }
  try {
    params.declare("late", Shape{1}, {});  // load() has laid the parameters out
    FAIL("no error");
  } catch (const ValueError& e) {
    CHECK(std::string(e.what()).find("\"late\" is declared after") != std::string::npos);
    CHECK_FALSE(e.hint().empty());
  }
}

TEST_SUITE_END();

}  // namespace llsa::nn
