// RoPE, and the fused norm + rotation + head split, against naive f64 formulas and their definition in
// ordinary ops.
#include "kernels/rope.h"

#include "kernels/norm.h"
#include "tests/support/kernels.h"

TEST_SUITE_BEGIN("kernels/rope");

using namespace llsa;
using namespace llsa::test;

namespace {

constexpr double kEps = 1e-5;

DType table_dtype(DType dtype) { return dtype == DType::f64 ? DType::f64 : DType::f32; }

kernels::RopeTable random_table(Context& ctx, std::int64_t tokens, std::int64_t head_dim, DType dtype) {
  const Values angles = values_of(ctx, random_tensor(ctx, Shape{tokens, head_dim / 2}, DType::f64, 99));
  Values c;
  Values s;
  for (const double angle : angles) {
    c.push_back(std::cos(3 * angle));
    s.push_back(std::sin(3 * angle));
  }
  const auto tensor = [&](const Values& v) {
    return kernels::cast(ctx, kernels::from_vector(ctx, v, Shape{tokens, head_dim / 2}), table_dtype(dtype));
  };
  return {tensor(c), tensor(s)};
}

/// y of x [b,H,N,D].
Values rotated(Context& ctx, const Tensor& x, const kernels::RopeTable& table) {
  const Values v = values_of(ctx, x), c = values_of(ctx, table.cos), s = values_of(ctx, table.sin);
  const auto d = static_cast<std::size_t>(x.size(3)), n = static_cast<std::size_t>(x.size(2));
  Values y(v.size());
  for (std::size_t i = 0; i + 1 < v.size(); i += 2) {
    const std::size_t at = i / d % n * (d / 2) + i % d / 2;
    y[i] = c[at] * v[i] - s[at] * v[i + 1];
    y[i + 1] = s[at] * v[i] + c[at] * v[i + 1];
  }
  return y;
}

/// Query, key or value (0, 1, 2) of a fused projection as [b,H,N,D].
Tensor heads_of(Context& ctx, const Tensor& qkv, int part, std::int64_t heads) {
  const std::int64_t c = qkv.size(2) / 3;
  return kernels::contiguous(ctx, kernels::contiguous(ctx, qkv.slice(2, part * c, (part + 1) * c))
                                      .reshape({qkv.size(0), qkv.size(1), heads, c / heads})
                                      .transpose(1, 2));
}

/// [b,H,N,D] whose memory is [b,N,H,D]: what the gradient of an attention output can look like.
Tensor token_major(Context& ctx, const Tensor& x) {
  return kernels::clone(ctx, x.transpose(1, 2)).transpose(1, 2);
}

}  // namespace

TEST_CASE("rope turns interleaved pairs, and back") {
  Context ctx(2);
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    for (const std::int64_t d : {2, 6, 32, 64, 66, 128}) {
      for (const std::int64_t n : {1, 33}) {
        CAPTURE(name_of(dtype));
        CAPTURE(d);
        const Tensor x = random_tensor(ctx, Shape{2, 3, n, d}, dtype, 1);
        const kernels::RopeTable table = random_table(ctx, n, d, dtype);
        const Values want = rotated(ctx, x, table);
        for (const Tensor& input :
             {x, with_gaps(ctx, x), transposed_in_memory(ctx, x), token_major(ctx, x)}) {
          const Tensor y = kernels::rope(ctx, input, table);
          CHECK(y.is_contiguous());
          CHECK(deviation(ctx, y, want) <= tolerance(dtype));
        }
        CHECK(deviation(ctx, kernels::rope_backward(ctx, kernels::rope(ctx, x, table), table), x) <=
              2 * tolerance(dtype));
      }
    }
  }
}

TEST_CASE("rope backward against finite differences") {
  Context ctx(1);
  const Tensor x = random_tensor(ctx, Shape{2, 2, 3, 4}, DType::f64, 1),
               dy = random_tensor(ctx, Shape{2, 2, 3, 4}, DType::f64, 2);
  const kernels::RopeTable table = random_table(ctx, 3, 4, DType::f64);
  CHECK(gradient_error(ctx, x, kernels::rope_backward(ctx, dy, table), dy,
                       [&] { return kernels::rope(ctx, x, table); }) <= 1e-8);
}

TEST_CASE("qkv_split is split, rms_norm and rope") {
  Context ctx(2);
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    for (const std::int64_t d : {2, 6, 32, 64, 128}) {
      for (const std::int64_t n : {1, 31, 33, 257}) {
        CAPTURE(name_of(dtype));
        CAPTURE(d);
        CAPTURE(n);
        constexpr int kHeads = 3;
        const Tensor qkv = random_tensor(ctx, Shape{2, n, 3 * kHeads * d}, dtype, 1);
        const Tensor qw = random_tensor(ctx, Shape{d}, dtype, 2), kw = random_tensor(ctx, Shape{d}, dtype, 3);
        const kernels::RopeTable table = random_table(ctx, n, d, dtype);
        const Tensor parts[3] = {heads_of(ctx, qkv, 0, kHeads), heads_of(ctx, qkv, 1, kHeads),
                                 heads_of(ctx, qkv, 2, kHeads)};
        const auto qn = kernels::rms_norm(ctx, parts[0], qw, kEps),
                   kn = kernels::rms_norm(ctx, parts[1], kw, kEps);
        const double bound = 2 * tolerance(dtype);

        const kernels::QkvHeads all =
            kernels::qkv_split(ctx, with_gaps(ctx, qkv), kHeads, qw, kw, kEps, table);
        CHECK(deviation(ctx, all.q, kernels::rope(ctx, qn.y, table)) <= bound);
        CHECK(deviation(ctx, all.k, kernels::rope(ctx, kn.y, table)) <= bound);
        CHECK(same_bits(ctx, all.v, parts[2]));
        CHECK(deviation(ctx, all.q_rstd, qn.rstd) <= 1e-6);
        CHECK(deviation(ctx, all.k_rstd, kn.rstd) <= 1e-6);

        const kernels::QkvHeads turned =
            kernels::qkv_split(ctx, qkv, kHeads, Tensor(), Tensor(), kEps, table);
        CHECK(deviation(ctx, turned.q, kernels::rope(ctx, parts[0], table)) <= bound);
        CHECK(!turned.q_rstd.defined());
        const kernels::QkvHeads plain = kernels::qkv_split(ctx, qkv, kHeads, Tensor(), kw, kEps, {});
        CHECK(same_bits(ctx, plain.q, parts[0]));
        CHECK(deviation(ctx, plain.k, kn.y) <= bound);
      }
    }
  }
}

TEST_CASE("qkv_split backward against finite differences, with and without each step") {
  Context ctx(1);
  constexpr int kHeads = 2;
  const Tensor qkv = random_tensor(ctx, Shape{2, 3, 3 * kHeads * 4}, DType::f64, 1);
  const Tensor weight[2] = {random_tensor(ctx, Shape{4}, DType::f64, 2),
                            random_tensor(ctx, Shape{4}, DType::f64, 3)};
  const Shape shape{2, kHeads, 3, 4};
  const Tensor dq = random_tensor(ctx, shape, DType::f64, 4), dk = random_tensor(ctx, shape, DType::f64, 5);
  const Tensor dv = random_tensor(ctx, shape, DType::f64, 6);
  const Tensor dy = kernels::concat(ctx, {dq, dk, dv}, 0);
  for (const bool normed : {true, false}) {
    for (const bool turned : {true, false}) {
      CAPTURE(normed);
      CAPTURE(turned);
      const Tensor qw = normed ? weight[0] : Tensor(), kw = normed ? weight[1] : Tensor();
      const kernels::RopeTable table = turned ? random_table(ctx, 3, 4, DType::f64) : kernels::RopeTable{};
      const auto split = [&] { return kernels::qkv_split(ctx, qkv, kHeads, qw, kw, kEps, table); };
      const auto joined = [&] {
        const kernels::QkvHeads out = split();
        return kernels::concat(ctx, {out.q, out.k, out.v}, 0);
      };
      const kernels::QkvHeads saved = split();
      const kernels::QkvGrads grads =
          kernels::qkv_split_backward(ctx, token_major(ctx, dq), with_gaps(ctx, dk), token_major(ctx, dv),
                                      qkv, qw, kw, saved.q_rstd, saved.k_rstd, table);
      CHECK(gradient_error(ctx, qkv, grads.dqkv, dy, joined) <= 1e-7);
      CHECK(grads.dq_weight.defined() == normed);
      if (!normed) continue;
      CHECK(gradient_error(ctx, qw, grads.dq_weight, dy, joined) <= 1e-7);
      CHECK(gradient_error(ctx, kw, grads.dk_weight, dy, joined) <= 1e-7);
    }
  }
}

TEST_CASE("qkv_split backward in lower precision agrees with f64, many chunks") {
  Context ctx(2);
  constexpr int kHeads = 2;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const std::int64_t d : {6, 32}) {
      const std::int64_t n = 700;
      const auto wide = [&](const Tensor& t) { return kernels::cast(ctx, t, DType::f64); };
      const Tensor qkv = random_tensor(ctx, Shape{2, n, 3 * kHeads * d}, dtype, 1),
                   w = random_tensor(ctx, Shape{d}, dtype, 2);
      const Tensor dq = random_tensor(ctx, Shape{2, kHeads, n, d}, dtype, 3);
      const kernels::RopeTable table = random_table(ctx, n, d, dtype);
      const kernels::RopeTable table64{wide(table.cos), wide(table.sin)};
      const auto s = kernels::qkv_split(ctx, qkv, kHeads, w, w, kEps, table);
      const auto s64 = kernels::qkv_split(ctx, wide(qkv), kHeads, wide(w), wide(w), kEps, table64);
      const auto g = kernels::qkv_split_backward(ctx, dq, dq, dq, qkv, w, w, s.q_rstd, s.k_rstd, table);
      const auto g64 = kernels::qkv_split_backward(ctx, wide(dq), wide(dq), wide(dq), wide(qkv), wide(w),
                                                   wide(w), s64.q_rstd, s64.k_rstd, table64);
      // The weight's gradient from its definition: the queries' rms_norm, given the gradient turned back.
      const Tensor dz = kernels::rope_backward(ctx, wide(dq), table64);
      const Tensor queries = heads_of(ctx, wide(qkv), 0, kHeads);
      const Values u = values_of(ctx, kernels::rms_norm(ctx, queries, Tensor(), kEps).y),
                   gz = values_of(ctx, dz);
      Values dw(static_cast<std::size_t>(d));
      for (std::size_t i = 0; i < u.size(); ++i) dw[i % dw.size()] += gz[i] * u[i];
      CHECK(deviation(ctx, g64.dq_weight, dw) <= 1e-12);
      CHECK(deviation(ctx, g.dqkv, g64.dqkv) <= 2 * tolerance(dtype));
      CHECK(deviation(ctx, g.dq_weight, g64.dq_weight) <= 2 * tolerance(dtype));
      CHECK(deviation(ctx, g.dk_weight, g64.dk_weight) <= 2 * tolerance(dtype));
    }
  }
}

TEST_CASE("NaN stays in its head, infinity in its pair; empty inputs") {
  Context ctx(1);
  const Tensor qkv = random_tensor(ctx, Shape{1, 2, 24}, DType::f32, 1);
  qkv.data<float>()[5] = std::numeric_limits<float>::quiet_NaN();
  const Tensor w = random_tensor(ctx, Shape{4}, DType::f32, 2);
  const kernels::QkvHeads out =
      kernels::qkv_split(ctx, qkv, 2, w, w, kEps, random_table(ctx, 2, 4, DType::f32));
  const Values q = values_of(ctx, out.q), k = values_of(ctx, out.k);
  for (std::size_t i = 0; i < 16; ++i) {
    CHECK(std::isnan(q[i]) == (i >= 8 && i < 12));  // head 1, token 0
    CHECK(std::isfinite(k[i]));
  }
  qkv.data<float>()[5] = std::numeric_limits<float>::infinity();
  CHECK(std::isfinite(values_of(ctx, kernels::qkv_split(ctx, qkv, 2, Tensor(), Tensor(), kEps, {}).q)[8]));
  CHECK(kernels::qkv_split(ctx, ctx.empty(Shape{2, 0, 24}, DType::f32), 2, w, w, kEps, {}).q.shape() ==
        Shape{2, 2, 0, 4});
}

TEST_CASE("qkv_split of no tokens costs nothing, whatever the width; any number of heads is counted") {
  Context ctx(1);
  const std::int64_t width = std::int64_t{3} << 56;
  const Tensor qkv = ctx.empty({1, 0, width}, DType::f32);
  const kernels::QkvHeads heads = kernels::qkv_split(ctx, qkv, 1, {}, {}, 0.0, {});
  CHECK(heads.q.shape() == Shape{1, 1, 0, width / 3});
  CHECK(kernels::qkv_split_backward(ctx, heads.q, heads.k, heads.v, qkv, {}, {}, {}, {}, {}).dqkv.shape() ==
        qkv.shape());
  CHECK_THROWS_AS(kernels::qkv_split(ctx, ctx.zeros({1, 2, 12}, DType::f32), std::numeric_limits<int>::max(),
                                     {}, {}, 0.0, {}),
                  ShapeError);
}

TEST_CASE("equal bits for any number of threads") {
  CHECK(same_bits_for_any_threads([](Context& ctx) {
    const Tensor qkv = random_tensor(ctx, Shape{2, 901, 96}, DType::f32, 1),
                 w = random_tensor(ctx, Shape{16}, DType::f32, 2);
    const kernels::RopeTable table = random_table(ctx, 901, 16, DType::f32);
    const auto s = kernels::qkv_split(ctx, qkv, 2, w, w, kEps, table);
    const auto g = kernels::qkv_split_backward(ctx, s.k, s.v, s.q, qkv, w, w, s.q_rstd, s.k_rstd, table);
    return std::vector<Tensor>{s.q,    s.k,         s.v,         s.q_rstd,
                               g.dqkv, g.dq_weight, g.dk_weight, kernels::rope(ctx, s.v, table)};
  }));
}

TEST_CASE("errors name the op and both sides") {
  Context ctx(1);
  const Tensor x = random_tensor(ctx, Shape{1, 2, 5, 4}, DType::f32, 1),
               qkv = random_tensor(ctx, Shape{1, 5, 24}, DType::f32, 2);
  const kernels::RopeTable table = random_table(ctx, 5, 4, DType::f32),
                           longer = random_table(ctx, 6, 4, DType::f32);
  CHECK(contains(message_of<ShapeError>([&] { kernels::rope(ctx, x, longer); }),
                 {"[rope]", "cos", "[5,2]", "[6,2]"}));
  CHECK(contains(message_of<ShapeError>([&] { kernels::rope(ctx, x.slice(3, 0, 3), table); }),
                 {"[rope]", "even", "3"}));
  CHECK(contains(message_of<DTypeError>([&] { kernels::rope(ctx, x, random_table(ctx, 5, 4, DType::f64)); }),
                 {"[rope]", "f32", "f64"}));
  CHECK(contains(
      message_of<ShapeError>([&] { kernels::qkv_split(ctx, qkv, 5, Tensor(), Tensor(), kEps, table); }),
      {"[qkv_split]", "5 heads", "[1,5,24]"}));
  CHECK(contains(
      message_of<ValueError>([&] { kernels::qkv_split(ctx, qkv, 0, Tensor(), Tensor(), kEps, table); }),
      {"[qkv_split]", "0"}));
  CHECK(contains(message_of<ShapeError>([&] {
                   kernels::qkv_split(ctx, qkv, 2, Tensor(), random_tensor(ctx, Shape{3}, DType::f32, 1),
                                      kEps, table);
                 }),
                 {"[qkv_split]", "k_weight", "[4]", "[3]"}));
}

TEST_SUITE_END();
