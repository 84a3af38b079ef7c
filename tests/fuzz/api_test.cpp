// Public functions with unusual arguments: every op of the table, and the ops that the table calls with fixed numbers,
// with random shapes (empty, one, odd, huge), dtypes, views, values and options. A call succeeds or throws llsa::Error; under
// sanitizers it has to be free of undefined behaviour, too. Other tests check the values of results.
//
// Only tensors without elements and expanded views have extents of 2^31 and more. The context has little memory, so that
// an op which would allocate such a tensor is refused instead of computed.
#include <limits>

#include "autograd/ops.h"
#include "autograd/table/op_table.h"
#include "kernels/copy.h"
#include "kernels/diffusion.h"
#include "kernels/index.h"
#include "kernels/make.h"
#include "kernels/random.h"
#include "kernels/reduce.h"
#include "tests/fuzz/cases.h"

using namespace llsa;
using namespace llsa::test;

TEST_SUITE_BEGIN("fuzz/api");

namespace {

using Extents = std::vector<std::int64_t>;

constexpr std::size_t kMemory = std::size_t{64} << 20;
constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
constexpr int kMostInt = std::numeric_limits<int>::max();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::int64_t small(Draw& draw) { return draw.from<std::int64_t>({0, 1, 2, 3, 5, 9, 17}); }
std::int64_t huge(Draw& draw) {
  return draw.from<std::int64_t>(
      {kMostInt, std::int64_t{1} << 31, std::int64_t{1} << 40, std::int64_t{1} << 59});
}
/// A number where a count, a place or a size is expected.
std::int64_t integer(Draw& draw) {
  if (!draw.one_in(3)) return small(draw);
  return draw.from<std::int64_t>({-1, -2, kMostInt, -kMostInt - 1, kMost / 3, kMost - 1, kMost, -kMost - 1});
}
int axis(Draw& draw) { return draw.from<int>({0, 1, 2, 3, -1, -2, 7, kMostInt, -kMostInt - 1}); }
int positive_int(Draw& draw) {
  return draw.from<int>({0, 1, 2, 3, 4, 16, -1, 1 << 16, kMostInt / 3, kMostInt});
}
double real(Draw& draw) {
  return draw.from<double>(
      {0, 1, -1, 0.5, 1e-310, 1e300, kInfinity, -kInfinity, std::numeric_limits<double>::quiet_NaN()});
}
DType dtype(Draw& draw) {
  return draw.from<DType>(
      {DType::f32, DType::f32, DType::f32, DType::bf16, DType::f64, DType::i32, DType::i64, DType::u8});
}

Extents extents(Draw& draw) {
  Extents out(draw.below(5));
  for (std::int64_t& extent : out) extent = small(draw);
  return out;
}

/// Replaces some elements by numbers that calculations often treat wrongly.
void spoil(Draw& draw, Context& ctx, const Tensor& x) {
  for (std::size_t n = draw.below(4); n > 0; --n) {
    Tensor part = x;
    for (int i = 0; i < x.rank(); ++i)
      if (x.size(i) > 0 && x.size(i) < 1000)
        part =
            part.slice(i, 0, static_cast<std::int64_t>(draw.below(static_cast<std::size_t>(x.size(i)))) + 1);
    kernels::fill(ctx, part, is_floating(x.dtype()) ? real(draw) : static_cast<double>(integer(draw)));
  }
}

/// x as another view, of the same or of another shape.
Tensor view(Draw& draw, Context& ctx, Tensor x) {
  const int rank = x.rank();
  if (rank == 0) return draw.one_in(2) ? x.unsqueeze(0) : x;
  const int at = static_cast<int>(draw.below(static_cast<std::size_t>(rank)));
  switch (draw.below(10)) {
    case 0:  // other strides
      return kernels::clone(ctx, x.transpose(0, at)).transpose(0, at);
    case 1:
      return x.transpose(0, at);
    case 2: {  // gaps
      Extents wide = x.shape().extents();
      wide[static_cast<std::size_t>(at)] *= 3;
      const Tensor room = ctx.zeros(Shape(wide), x.dtype());
      const Tensor part = room.slice(at, 0, wide[static_cast<std::size_t>(at)], 3);
      kernels::copy(ctx, x, part);
      return part;
    }
    case 3:
      return x.slice(at, 0, std::min(x.size(at), small(draw)));
    case 4:
      return x.unsqueeze(axis(draw));
    case 5:
      return x.select(at, 0);
    case 6: {  // no elements, and extents of any size
      Extents other = x.shape().extents();
      other[static_cast<std::size_t>(at)] = 0;
      if (rank > 1) other[static_cast<std::size_t>((at + 1) % rank)] = huge(draw);
      return ctx.empty(Shape(other), x.dtype());
    }
    case 7:
    case 8: {  // repeated elements
      Extents other = x.shape().extents();
      other[static_cast<std::size_t>(at)] = draw.one_in(2) ? huge(draw) : small(draw);
      return x.slice(at, 0, std::min<std::int64_t>(1, x.size(at))).expand(Shape(other));
    }
    default:
      return kernels::cast(ctx, x, dtype(draw));
  }
}

Tensor tensor(Draw& draw, Context& ctx, const Extents& shape) {
  const Tensor x = draw.one_in(2) ? rand(ctx, Shape(shape), 1) : randn(ctx, Shape(shape), 1);
  spoil(draw, ctx, x);
  const Tensor other = draw.one_in(4) ? kernels::cast(ctx, x, dtype(draw)) : x;
  return draw.one_in(3) ? view(draw, ctx, other) : other;
}
Tensor tensor(Draw& draw, Context& ctx) { return tensor(draw, ctx, extents(draw)); }

/// Runs backward from all outputs.
void run_backward(Draw& draw, Context& ctx, const Vars& outputs) {
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (!outputs[i].requires_grad()) continue;
    Tensor seed = draw.one_in(2) ? ctx.zeros(outputs[i].shape(), outputs[i].dtype())
                                 : ctx.zeros(Shape{}, outputs[i].dtype()).expand(outputs[i].shape());
    if (draw.one_in(10)) seed = view(draw, ctx, seed);
    backward(outputs[i], seed, i + 1 < outputs.size() ? Graph::retain : Graph::free);
  }
}

Var leaf(Draw& draw, Context& ctx, const Tensor& x) {
  return Var(ctx, x, is_floating(x.dtype()) && !draw.one_in(4));
}

/// A row of the table.
void call_row(Draw& draw, Context& ctx) {
  const OpRow& row = op_table()[draw.below(op_table().size())];
  const OpSize size = {draw.from<std::int64_t>({0, 1, 2, 5, 16, 17, 33, 70}),
                       draw.from<std::int64_t>({0, 1, 2, 3, 8, 17, 32}),
                       draw.from<std::int64_t>({0, 1, 2, 3})};
  OpSample sample =
      row.sample({ctx, size, draw.from<DType>({DType::f32, DType::bf16, DType::f64}), draw.below(100)});
  Vars inputs;
  for (Tensor& x : sample.inputs) {
    if (draw.one_in(2)) spoil(draw, ctx, x);
    for (std::size_t n = draw.one_in(2) ? draw.below(3) : 0; n > 0; --n) x = view(draw, ctx, x);
    inputs.push_back(draw.one_in(40) ? Var() : leaf(draw, ctx, x));
  }
  for (Tensor& x : sample.constants) {
    if (draw.one_in(4)) spoil(draw, ctx, x);
    if (draw.one_in(4)) x = view(draw, ctx, x);
  }
  if (draw.one_in(3)) {
    sample.heads = positive_int(draw);
    sample.llsa = {.block = positive_int(draw),
                   .topk = {positive_int(draw)},
                   .levels = positive_int(draw),
                   .enriched = -1,
                   .reweight = draw.one_in(2),
                   .own = draw.one_in(2)};
    if (draw.one_in(2)) sample.llsa.levels = -1;
    if (draw.one_in(3)) sample.llsa.topk.push_back(positive_int(draw));
    if (draw.one_in(3)) sample.llsa.enriched = positive_int(draw);
    sample.plan = kernels::llsa_plan(draw.one_in(4) ? integer(draw) : size.tokens, sample.llsa);
  }
  run_backward(draw, ctx, row.apply(sample, inputs));
}

/// Ops that the table calls with fixed numbers, or not at all.
void call_other(Draw& draw, Context& ctx) {
  const Var x = leaf(draw, ctx, tensor(draw, ctx)), y = leaf(draw, ctx, tensor(draw, ctx));
  const auto many = [&](auto&& one) {
    std::vector<decltype(one(draw))> all(draw.below(5));
    for (auto& value : all) value = one(draw);
    return all;
  };
  const auto go_back = [&](const Vars& outputs) { run_backward(draw, ctx, outputs); };
  switch (draw.below(24)) {
    case 0:
      return go_back({slice(x, axis(draw), integer(draw), integer(draw), integer(draw))});
    case 1:
      return go_back(split(x, many(integer), axis(draw)));
    case 2:
      return go_back(chunk(x, positive_int(draw), axis(draw)));
    case 3:
      return go_back({transpose(x, axis(draw), axis(draw))});
    case 4:
      return go_back({permute(x, many(axis))});
    case 5:
      return go_back({reshape(x, many(integer))});
    case 6:
      return go_back({expand(x, Shape(many(draw.one_in(2) ? small : integer)))});
    case 7:
      return go_back({concat({x, y, x}, axis(draw))});
    case 8:
      return go_back({sum(x, many(axis), draw.one_in(2)), mean(x, many(axis), draw.one_in(2))});
    case 9:
      argmax(x, axis(draw), draw.one_in(2));
      kernels::max(ctx, x.value(), many(axis), draw.one_in(2));
      return;
    case 10:
      return go_back({affine(x, real(draw), real(draw)), clamp(x, real(draw), real(draw))});
    case 11: {
      const std::int64_t channels = draw.one_in(8) ? huge(draw) : small(draw), outputs = small(draw);
      const auto filled = [&](Extents shape) {
        return channels > 17 ? ctx.empty(Shape(shape), DType::f32) : tensor(draw, ctx, shape);
      };
      const auto few = [](Draw& d) { return d.from<std::int64_t>({0, 1, 1, 1, 2, 3, kMostInt, kMost}); };
      const Tensor bias = tensor(draw, ctx, {outputs});
      return go_back({conv2d(
          leaf(draw, ctx, filled({channels > 17 ? 0 : small(draw), channels, small(draw), small(draw)})),
          leaf(draw, ctx, filled({channels > 17 ? 0 : outputs, channels, small(draw), small(draw)})),
          draw.one_in(2) ? Var() : leaf(draw, ctx, bias), {few(draw), few(draw)}, {few(draw), few(draw)})});
    }
    case 12:
      return go_back({mean_pool(x, integer(draw))});
    case 13: {
      const std::int64_t b = small(draw), n = small(draw), d = small(draw);
      const Var a = leaf(draw, ctx, tensor(draw, ctx, {b, 2, n, d}));
      const Tensor picks = kernels::cast(
          ctx, tensor(draw, ctx, {b, 2, draw.one_in(2) ? 1 : small(draw), small(draw)}), DType::i32);
      return go_back({linear_attention_rest(a, a, a, integer(draw), picks)});
    }
    case 14: {
      const Tensor table = kernels::cast(ctx, tensor(draw, ctx), DType::i32);
      kernels::index_transpose(ctx, table, draw.one_in(2) ? 3 : integer(draw));
      return;
    }
    case 15:
      return go_back({where(x > y, x, y), x <= 1.0, real(draw) / x, maximum(x, y)});
    case 16:
      return go_back({matmul(x, y, draw.one_in(2), draw.one_in(2)), linear(x, y, {}), mlp(y, x, {}, y, {})});
    case 17: {
      const Tensor ids = kernels::cast(ctx, x.value(), DType::i32);
      return go_back({embedding(y, ids), gather_tokens(y, ids, ids)});
    }
    case 18: {
      const Tensor ids = kernels::cast(ctx, x.value(), draw.one_in(4) ? dtype(draw) : DType::i64);
      const Tensor classes = kernels::cast(ctx, x.value(), DType::i32);
      kernels::noise_levels(ctx, ids, kernels::NoiseLevel::logit_normal, 1, 2);
      kernels::drop_classes(ctx, classes, ids, real(draw), 5, 1, 2);
      kernels::class_rows(ctx, classes, positive_int(draw), positive_int(draw));
      return;
    }
    case 19:
      kernels::flow_mix(ctx, y.value(), y.value(), x.value(), real(draw));
      kernels::time_embedding(ctx, x.value(), dtype(draw));
      return;
    case 20:
      arange(ctx, real(draw), real(draw), real(draw), dtype(draw));
      randint(ctx, x.shape(), integer(draw), integer(draw), 1, 2, dtype(draw));
      return;
    case 21: {
      const Tensor ids = kernels::cast(ctx, y.value(), DType::i64);
      kernels::random_normal_samples(ctx, x.shape(), dtype(draw), 1, 2, ids);
      return;
    }
    case 22: {
      Tensor z = x.value();
      for (int i = 0; i < 4; ++i) z = view(draw, ctx, z);
      if (z.can_view_as(many(integer))) z.select(axis(draw), integer(draw));
      kernels::copy(ctx, x.value(), ctx.empty(y.shape(), dtype(draw)));
      return;
    }
    default:
      return go_back({full_attention(x, y, y, {.causal = draw.one_in(2)}), softmax(x), log_sum_exp(x),
                      mse(x, y), cross_entropy(x, kernels::cast(ctx, y.value(), DType::i32))});
  }
}

}  // namespace

TEST_CASE("ops succeed or throw llsa::Error, whatever their arguments") {
  Context ctx(2, kMemory);
  const std::size_t succeeded =
      run_cases(3000, [&](Draw& draw) { draw.one_in(2) ? call_row(draw, ctx) : call_other(draw, ctx); });
  CHECK(succeeded > 500);
  CHECK(ctx.allocator()->stats().active == 0);
}

TEST_SUITE_END();
