// Layer norm, RMS norm and their fusions against naive f64 formulas, their definition in ordinary ops, and
// differences.
#include "kernels/norm.h"

#include "kernels/elementwise.h"
#include "kernels/reduce.h"
#include "tests/support/kernels.h"

TEST_SUITE_BEGIN("kernels/norm");

using namespace llsa;
using namespace llsa::test;

namespace {

constexpr double kEps = 1e-5;

struct Rows {
  Values normed, mean, rstd;
};

/// Rows of n values, centred or not, divided by their root mean square.
Rows normed(const Values& x, std::size_t n, bool centred) {
  Rows out;
  for (std::size_t begin = 0; begin < x.size(); begin += n) {
    double mean = 0;
    double squares = 0;
    for (std::size_t i = begin; i < begin + n; ++i) mean += centred ? x[i] / static_cast<double>(n) : 0;
    for (std::size_t i = begin; i < begin + n; ++i) squares += (x[i] - mean) * (x[i] - mean);
    const double rstd = 1 / std::sqrt(squares / static_cast<double>(n) + kEps);
    out.mean.push_back(mean);
    out.rstd.push_back(rstd);
    for (std::size_t i = begin; i < begin + n; ++i) out.normed.push_back((x[i] - mean) * rstd);
  }
  return out;
}

/// normed * w + b, both repeating.
Values scaled(const Values& u, const Values& w, const Values& b) {
  Values y(u.size());
  for (std::size_t i = 0; i < u.size(); ++i) y[i] = u[i] * w[i % w.size()] + b[i % b.size()];
  return y;
}

/// The second third of each row of [b,3C]: what a chunk of a linear layer's output looks like.
Tensor middle_chunk(Context& ctx, const Tensor& x) {
  const std::int64_t c = x.size(1);
  const Tensor room = ctx.empty(Shape{x.size(0), 3 * c}, x.dtype());
  kernels::fill(ctx, room, kNan);
  const Tensor view = room.slice(1, c, 2 * c);
  kernels::copy(ctx, x, view);
  return view;
}

}  // namespace

TEST_CASE("layer_norm and rms_norm forward: every dtype, odd widths, strided input") {
  Context ctx(2);
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    for (const std::int64_t n : {1, 31, 33, 257}) {
      CAPTURE(name_of(dtype));
      CAPTURE(n);
      const Tensor x = kernels::affine(ctx, random_tensor(ctx, Shape{5, 3, n}, dtype, 1), 2, 3);
      const Tensor w = random_tensor(ctx, Shape{n}, dtype, 2), b = random_tensor(ctx, Shape{n}, dtype, 3);
      const Values wv = values_of(ctx, w), bv = values_of(ctx, b), zero{0}, one{1};
      const Rows ln = normed(values_of(ctx, x), static_cast<std::size_t>(n), true);
      const Rows rms = normed(values_of(ctx, x), static_cast<std::size_t>(n), false);
      const double bound = 4 * tolerance(dtype);
      for (const Tensor& input : {x, with_gaps(ctx, x), transposed_in_memory(ctx, x)}) {
        const kernels::NormResult full = kernels::layer_norm(ctx, input, with_gaps(ctx, w), b, kEps);
        CHECK(full.mean.shape() == Shape{5, 3});
        CHECK(deviation(ctx, full.y, scaled(ln.normed, wv, bv)) <= bound);
        CHECK(deviation(ctx, full.mean, ln.mean) <= 1e-6);
        CHECK(deviation(ctx, full.rstd, ln.rstd) <= 1e-5);
        CHECK(deviation(ctx, kernels::layer_norm(ctx, input, Tensor(), Tensor(), kEps).y, ln.normed) <=
              bound);
        CHECK(deviation(ctx, kernels::layer_norm(ctx, input, Tensor(), b, kEps).y,
                        scaled(ln.normed, one, bv)) <= bound);
        CHECK(deviation(ctx, kernels::layer_norm(ctx, input, w, Tensor(), kEps).y,
                        scaled(ln.normed, wv, zero)) <= bound);
        const kernels::RmsNormResult root = kernels::rms_norm(ctx, input, w, kEps);
        CHECK(deviation(ctx, root.y, scaled(rms.normed, wv, zero)) <= bound);
        CHECK(deviation(ctx, root.rstd, rms.rstd) <= 1e-5);
        CHECK(deviation(ctx, kernels::rms_norm(ctx, input, Tensor(), kEps).y, rms.normed) <= bound);
      }
    }
  }
}

TEST_CASE("the variance of a nearly constant row does not cancel") {
  Context ctx(1);
  const std::vector<float> x = {10000.0f, 10000.5f, 10001.0f, 9999.5f};
  const Values y = values_of(
      ctx, kernels::layer_norm(ctx, kernels::from_vector(ctx, x, Shape{1, 4}), Tensor(), Tensor(), 0).y);
  const Values want = {-0.4472135955, 0.4472135955, 1.3416407865, -1.3416407865};
  CHECK(deviation(y, want) <= 1e-5);
}

TEST_CASE("backward of layer_norm and rms_norm against finite differences") {
  Context ctx(1);
  const Tensor x = random_tensor(ctx, Shape{2, 3, 7}, DType::f64, 1),
               dy = random_tensor(ctx, Shape{2, 3, 7}, DType::f64, 2);
  const Tensor w = random_tensor(ctx, Shape{7}, DType::f64, 3),
               b = random_tensor(ctx, Shape{7}, DType::f64, 4);
  const auto ln = [&] { return kernels::layer_norm(ctx, x, w, b, kEps); };
  const auto y = [&] { return ln().y; };
  const kernels::NormGrads grads = kernels::layer_norm_backward(ctx, dy, x, w, ln().mean, ln().rstd, true);
  CHECK(gradient_error(ctx, x, grads.dx, dy, y) <= 1e-7);
  CHECK(gradient_error(ctx, w, grads.dw, dy, y) <= 1e-7);
  CHECK(gradient_error(ctx, b, grads.db, dy, y) <= 1e-7);
  const kernels::NormGrads plain =
      kernels::layer_norm_backward(ctx, dy, x, Tensor(), ln().mean, ln().rstd, false);
  CHECK(!plain.dw.defined());
  CHECK(!plain.db.defined());
  CHECK(gradient_error(ctx, x, plain.dx, dy,
                       [&] { return kernels::layer_norm(ctx, x, Tensor(), Tensor(), kEps).y; }) <= 1e-7);

  const auto rms = [&] { return kernels::rms_norm(ctx, x, w, kEps); };
  const kernels::NormGrads root = kernels::rms_norm_backward(ctx, dy, x, w, rms().rstd);
  CHECK(!root.db.defined());
  CHECK(gradient_error(ctx, x, root.dx, dy, [&] { return rms().y; }) <= 1e-7);
  CHECK(gradient_error(ctx, w, root.dw, dy, [&] { return rms().y; }) <= 1e-7);
}

TEST_CASE("fused forward against its definition in ordinary ops, chunks of a wider tensor as modulation") {
  Context ctx(2);
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    for (const std::int64_t c : {1, 31, 33, 257}) {
      CAPTURE(name_of(dtype));
      CAPTURE(c);
      const Tensor x = random_tensor(ctx, Shape{3, 70, c}, dtype, 1),
                   y = random_tensor(ctx, Shape{3, 70, c}, dtype, 2);
      const Tensor shift = middle_chunk(ctx, random_tensor(ctx, Shape{3, c}, dtype, 3));
      const Tensor scale = middle_chunk(ctx, random_tensor(ctx, Shape{3, c}, dtype, 4));
      const Tensor normal = kernels::layer_norm(ctx, x, Tensor(), Tensor(), kEps).y;
      const Tensor gain = kernels::affine(ctx, scale, 1, 1).unsqueeze(1);
      const Tensor want = kernels::add(ctx, kernels::mul(ctx, normal, gain), shift.unsqueeze(1));
      const double bound = 4 * tolerance(dtype);
      CHECK(deviation(ctx, kernels::layer_norm_modulate(ctx, x, shift, scale, kEps).y, want) <= bound);
      CHECK(deviation(ctx,
                      kernels::layer_norm_modulate(ctx, transposed_in_memory(ctx, x), shift,
                                                   with_gaps(ctx, scale), kEps)
                          .y,
                      want) <= bound);
      const Tensor sum = kernels::add(ctx, x, kernels::mul(ctx, scale.unsqueeze(1), y));
      CHECK(deviation(ctx, kernels::gate_residual(ctx, x, y, scale), sum) <= bound);
      CHECK(deviation(ctx,
                      kernels::gate_residual(ctx, with_gaps(ctx, x), transposed_in_memory(ctx, y), scale),
                      sum) <= bound);
      const Tensor factors = middle_chunk(ctx, kernels::concat(ctx, {scale, shift, scale}, 1));
      const auto joined =
          kernels::gate_norm_modulate(ctx, transposed_in_memory(ctx, x), with_gaps(ctx, y), factors, kEps);
      CHECK(deviation(ctx, joined.r, sum) <= bound);
      const kernels::NormResult after = kernels::layer_norm_modulate(ctx, joined.r, shift, scale, kEps);
      CHECK(deviation(ctx, joined.h, after.y) <= bound);
      CHECK(deviation(ctx, joined.mean, after.mean) <= 1e-6);
      CHECK(deviation(ctx, joined.rstd, after.rstd) <= 1e-6);
    }
  }
}

TEST_CASE("fused backward against finite differences") {
  Context ctx(1);
  const Shape shape{2, 5, 7};
  const Tensor x = random_tensor(ctx, shape, DType::f64, 1), y = random_tensor(ctx, shape, DType::f64, 2);
  const Tensor dy = random_tensor(ctx, shape, DType::f64, 3);
  const Tensor shift = random_tensor(ctx, Shape{2, 7}, DType::f64, 4),
               scale = random_tensor(ctx, Shape{2, 7}, DType::f64, 5);
  const auto forward = [&] { return kernels::layer_norm_modulate(ctx, x, shift, scale, kEps); };
  const kernels::NormResult saved = forward();
  const kernels::ModulateGrads grads =
      kernels::layer_norm_modulate_backward(ctx, dy, x, scale, saved.mean, saved.rstd);
  const auto modulated = [&] { return forward().y; };
  CHECK(gradient_error(ctx, x, grads.dx, dy, modulated) <= 1e-7);
  CHECK(gradient_error(ctx, shift, grads.dshift, dy, modulated) <= 1e-7);
  CHECK(gradient_error(ctx, scale, grads.dscale, dy, modulated) <= 1e-7);

  const kernels::GateGrads gated = kernels::gate_residual_backward(ctx, dy, y, scale);
  const auto residual = [&] { return kernels::gate_residual(ctx, x, y, scale); };
  CHECK(gradient_error(ctx, y, gated.dy, dy, residual) <= 1e-7);
  CHECK(gradient_error(ctx, scale, gated.dgate, dy, residual) <= 1e-7);

  const Tensor factors = random_tensor(ctx, Shape{2, 21}, DType::f64, 6),
               dr = random_tensor(ctx, shape, DType::f64, 7);
  const auto joined = [&] { return kernels::gate_norm_modulate(ctx, x, y, factors, kEps); };
  const auto both = [&] {  // r and h as one tensor, with the gradients dr and dy
    const auto out = joined();
    return kernels::concat(ctx, {out.r, out.h}, 0);
  };
  const Tensor seeds = kernels::concat(ctx, {dr, dy}, 0);
  const kernels::GateNormResult kept = joined();
  const auto all =
      kernels::gate_norm_modulate_backward(ctx, dr, dy, kept.r, y, factors, kept.mean, kept.rstd);
  CHECK(gradient_error(ctx, x, all.dx, seeds, both) <= 1e-7);
  CHECK(gradient_error(ctx, y, all.dy, seeds, both) <= 1e-7);
  CHECK(gradient_error(ctx, factors, all.dfactors, seeds, both) <= 1e-7);
  const auto alone =
      kernels::gate_norm_modulate_backward(ctx, Tensor(), dy, kept.r, y, factors, kept.mean, kept.rstd);
  const auto h = [&] { return joined().h; };
  CHECK(gradient_error(ctx, x, alone.dx, dy, h) <= 1e-7);
  CHECK(gradient_error(ctx, factors, alone.dfactors, dy, h) <= 1e-7);
}

TEST_CASE("forward and backward in lower precision agree with f64, common widths") {
  Context ctx(2);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const std::int64_t c : {31, 64, 128, 384}) {
      const Tensor x = random_tensor(ctx, Shape{2, 300, c}, dtype, 1),
                   dy = random_tensor(ctx, Shape{2, 300, c}, dtype, 2);
      const Tensor scale = random_tensor(ctx, Shape{2, c}, dtype, 3),
                   w = random_tensor(ctx, Shape{c}, dtype, 4);
      const auto wide = [&](const Tensor& t) { return kernels::cast(ctx, t, DType::f64); };
      const double bound = 4 * tolerance(dtype);
      const kernels::NormResult saved = kernels::layer_norm(ctx, x, w, Tensor(), kEps);
      const kernels::NormResult saved64 = kernels::layer_norm(ctx, wide(x), wide(w), Tensor(), kEps);
      const auto grads =
          kernels::layer_norm_backward(ctx, with_gaps(ctx, dy), x, w, saved.mean, saved.rstd, true);
      const auto grads64 =
          kernels::layer_norm_backward(ctx, wide(dy), wide(x), wide(w), saved64.mean, saved64.rstd, true);
      CHECK(deviation(ctx, grads.dx, grads64.dx) <= bound);
      CHECK(deviation(ctx, grads.dw, grads64.dw) <= bound);
      CHECK(deviation(ctx, grads.db, grads64.db) <= bound);
      const auto mod = kernels::layer_norm_modulate_backward(ctx, transposed_in_memory(ctx, dy), x, scale,
                                                             saved.mean, saved.rstd);
      const auto mod64 = kernels::layer_norm_modulate_backward(ctx, wide(dy), wide(x), wide(scale),
                                                               saved64.mean, saved64.rstd);
      CHECK(deviation(ctx, mod.dx, mod64.dx) <= bound);
      CHECK(deviation(ctx, mod.dshift, mod64.dshift) <= bound);
      CHECK(deviation(ctx, mod.dscale, mod64.dscale) <= bound);
      const auto gate = kernels::gate_residual_backward(ctx, dy, x, scale);
      const auto gate64 = kernels::gate_residual_backward(ctx, wide(dy), wide(x), wide(scale));
      CHECK(deviation(ctx, gate.dy, gate64.dy) <= bound);
      CHECK(deviation(ctx, gate.dgate, gate64.dgate) <= bound);
      const Tensor factors = random_tensor(ctx, Shape{2, 3 * c}, dtype, 5);
      const auto joined =
          kernels::gate_norm_modulate_backward(ctx, x, dy, x, dy, factors, saved.mean, saved.rstd);
      const auto joined64 = kernels::gate_norm_modulate_backward(ctx, wide(x), wide(dy), wide(x), wide(dy),
                                                                 wide(factors), saved64.mean, saved64.rstd);
      CHECK(deviation(ctx, joined.dx, joined64.dx) <= bound);
      CHECK(deviation(ctx, joined.dy, joined64.dy) <= bound);
      CHECK(deviation(ctx, joined.dfactors, joined64.dfactors) <= bound);
      const auto rms = kernels::rms_norm(ctx, x, w, kEps),
                 rms64 = kernels::rms_norm(ctx, wide(x), wide(w), kEps);
      const auto root = kernels::rms_norm_backward(ctx, dy, x, w, rms.rstd);
      const auto root64 = kernels::rms_norm_backward(ctx, wide(dy), wide(x), wide(w), rms64.rstd);
      CHECK(deviation(ctx, root.dx, root64.dx) <= bound);
      CHECK(deviation(ctx, root.dw, root64.dw) <= bound);
    }
  }
}

TEST_CASE("summed gradients over many chunks are plain sums") {
  Context ctx(2);
  constexpr std::int64_t kSamples = 2, kTokens = 1501, kWidth = 65;
  const Shape shape{kSamples, kTokens, kWidth};
  const Tensor x = random_tensor(ctx, shape, DType::f64, 1), dy = random_tensor(ctx, shape, DType::f64, 2);
  const Tensor scale = random_tensor(ctx, Shape{kSamples, kWidth}, DType::f64, 3);
  const Tensor w = random_tensor(ctx, Shape{kWidth}, DType::f64, 4);
  const Values g = values_of(ctx, dy), v = values_of(ctx, x);
  const Values u = normed(v, kWidth, true).normed, root = normed(v, kWidth, false).normed;
  Values dshift(kSamples * kWidth), dscale(kSamples * kWidth), dgate(kSamples * kWidth);
  Values db(kWidth), dw(kWidth), dw_root(kWidth);
  for (std::size_t i = 0; i < g.size(); ++i) {
    const std::size_t c = i % kWidth, sc = i / (kTokens * kWidth) * kWidth + c;
    dshift[sc] += g[i];
    dscale[sc] += g[i] * u[i];
    dgate[sc] += g[i] * v[i];
    db[c] += g[i];
    dw[c] += g[i] * u[i];
    dw_root[c] += g[i] * root[i];
  }
  const kernels::NormResult saved = kernels::layer_norm(ctx, x, w, w, kEps);
  const auto mod = kernels::layer_norm_modulate_backward(ctx, dy, x, scale, saved.mean, saved.rstd);
  const auto ln = kernels::layer_norm_backward(ctx, dy, x, w, saved.mean, saved.rstd, true);
  const auto rms = kernels::rms_norm_backward(ctx, dy, x, w, kernels::rms_norm(ctx, x, w, kEps).rstd);
  CHECK(deviation(ctx, mod.dshift, dshift) <= 1e-12);
  CHECK(deviation(ctx, mod.dscale, dscale) <= 1e-12);
  CHECK(deviation(ctx, ln.db, db) <= 1e-12);
  CHECK(deviation(ctx, ln.dw, dw) <= 1e-12);
  CHECK(deviation(ctx, rms.dw, dw_root) <= 1e-12);
  CHECK(deviation(ctx, kernels::gate_residual_backward(ctx, dy, x, scale).dgate, dgate) <= 1e-12);
}

TEST_CASE("NaN stays in its row, or in its column of a summed gradient") {
  Context ctx(1);
  const Tensor x = random_tensor(ctx, Shape{1, 3, 5}, DType::f32, 1);
  x.data<float>()[7] = std::numeric_limits<float>::quiet_NaN();
  const Tensor scale = random_tensor(ctx, Shape{1, 5}, DType::f32, 2);
  const Values y = values_of(ctx, kernels::layer_norm_modulate(ctx, x, scale, scale, kEps).y);
  const Values z = values_of(ctx, kernels::gate_residual(ctx, x, x, scale));
  for (std::size_t i = 0; i < 15; ++i) {
    CHECK(std::isnan(y[i]) == (i >= 5 && i < 10));
    CHECK(std::isnan(z[i]) == (i == 7));
  }
  const Values dgate = values_of(ctx, kernels::gate_residual_backward(ctx, x, x, scale).dgate);
  for (std::size_t i = 0; i < 5; ++i) CHECK(std::isnan(dgate[i]) == (i == 2));
}

TEST_CASE("empty inputs have zero gradients") {
  Context ctx(1);
  const Tensor x = ctx.empty(Shape{2, 0, 5}, DType::f32),
               scale = random_tensor(ctx, Shape{2, 5}, DType::f32, 1);
  const kernels::NormResult r = kernels::layer_norm_modulate(ctx, x, scale, scale, kEps);
  CHECK(r.y.numel() == 0);
  CHECK(values_of(ctx, kernels::layer_norm_modulate_backward(ctx, x, x, scale, r.mean, r.rstd).dscale) ==
        Values(10, 0.0));
  CHECK(values_of(ctx, kernels::gate_residual_backward(ctx, x, x, scale).dgate) == Values(10, 0.0));
  const Tensor factors = random_tensor(ctx, Shape{2, 15}, DType::f32, 1);
  CHECK(values_of(ctx,
                  kernels::gate_norm_modulate_backward(ctx, x, x, x, x, factors, r.mean, r.rstd).dfactors) ==
        Values(30, 0.0));
  CHECK(kernels::rms_norm(ctx, ctx.empty(Shape{0, 3}, DType::f32), Tensor(), kEps).y.numel() == 0);
}

TEST_CASE("equal bits for any number of threads") {
  CHECK(same_bits_for_any_threads([](Context& ctx) {
    const Tensor x = random_tensor(ctx, Shape{3, 701, 65}, DType::f32, 1),
                 dy = random_tensor(ctx, Shape{3, 701, 65}, DType::f32, 2);
    const Tensor scale = random_tensor(ctx, Shape{3, 65}, DType::f32, 3),
                 w = random_tensor(ctx, Shape{65}, DType::f32, 4);
    const auto ln = kernels::layer_norm(ctx, x, w, w, kEps);
    const auto mod = kernels::layer_norm_modulate(ctx, x, scale, scale, kEps);
    const auto rms = kernels::rms_norm(ctx, x, w, kEps);
    const auto dln = kernels::layer_norm_backward(ctx, dy, x, w, ln.mean, ln.rstd, true);
    const auto dmod = kernels::layer_norm_modulate_backward(ctx, dy, x, scale, mod.mean, mod.rstd);
    const auto drms = kernels::rms_norm_backward(ctx, dy, x, w, rms.rstd);
    const auto dgate = kernels::gate_residual_backward(ctx, dy, x, scale);
    const Tensor factors = random_tensor(ctx, Shape{3, 195}, DType::f32, 5);
    const auto both = kernels::gate_norm_modulate(ctx, x, dy, factors, kEps);
    const auto dboth =
        kernels::gate_norm_modulate_backward(ctx, dy, x, both.r, dy, factors, both.mean, both.rstd);
    return std::vector<Tensor>{
        ln.y,          ln.mean,     ln.rstd,     mod.y,
        rms.y,         dln.dx,      dln.dw,      dln.db,
        dmod.dx,       dmod.dshift, dmod.dscale, drms.dx,
        drms.dw,       dgate.dy,    dgate.dgate, kernels::gate_residual(ctx, x, dy, scale),
        both.r,        both.h,      dboth.dx,    dboth.dy,
        dboth.dfactors};
  }));
}

TEST_CASE("errors name the op and both sides") {
  Context ctx(1);
  const Tensor x = random_tensor(ctx, Shape{2, 3, 4}, DType::f32, 1),
               w = random_tensor(ctx, Shape{5}, DType::f32, 2);
  const Tensor good = random_tensor(ctx, Shape{2, 4}, DType::f32, 3),
               w64 = random_tensor(ctx, Shape{4}, DType::f64, 2);
  CHECK(contains(message_of<ShapeError>([&] { kernels::layer_norm(ctx, x, w, Tensor(), kEps); }),
                 {"[layer_norm]", "weight", "[4]", "[5]", "[2,3,4]"}));
  CHECK(contains(message_of<ShapeError>([&] { kernels::rms_norm(ctx, x, w, kEps); }),
                 {"[rms_norm]", "weight", "[5]"}));
  CHECK(contains(message_of<DTypeError>([&] { kernels::rms_norm(ctx, x, w64, kEps); }),
                 {"[rms_norm]", "weight", "f32", "f64"}));
  CHECK(contains(message_of<ValueError>([&] { kernels::rms_norm(ctx, x, Tensor(), -1); }),
                 {"[rms_norm]", "eps", "-1"}));
  CHECK(contains(message_of<ShapeError>([&] {
                   kernels::layer_norm(ctx, ctx.empty(Shape{3, 0}, DType::f32), Tensor(), Tensor(), kEps);
                 }),
                 {"[layer_norm]", "[3,0]"}));
  CHECK(contains(message_of<ShapeError>([&] { kernels::layer_norm_modulate(ctx, x, good, w, kEps); }),
                 {"[layer_norm_modulate]", "scale", "[2,4]", "[5]"}));
  CHECK(contains(
      message_of<ShapeError>([&] { kernels::layer_norm_modulate(ctx, x.select(0, 0), good, good, kEps); }),
      {"[layer_norm_modulate]", "[b,N,C]", "[3,4]"}));
  CHECK(contains(message_of<ShapeError>([&] { kernels::gate_residual(ctx, x, x.slice(1, 0, 2), good); }),
                 {"[gate_residual]", "y", "[2,3,4]", "[2,2,4]"}));
  CHECK(contains(message_of<DTypeError>(
                     [&] { kernels::gate_residual(ctx, x, x, kernels::cast(ctx, good, DType::bf16)); }),
                 {"[gate_residual]", "gate", "f32", "bf16"}));
  CHECK(contains(message_of<ShapeError>([&] { kernels::gate_norm_modulate(ctx, x, x, good, kEps); }),
                 {"[gate_norm_modulate]", "factors", "[2,12]", "[2,4]"}));
  CHECK(contains(
      message_of<ShapeError>([&] { kernels::gate_norm_modulate(ctx, x, x.slice(1, 0, 2), good, kEps); }),
      {"[gate_norm_modulate]", "y", "[2,3,4]", "[2,2,4]"}));
}

TEST_SUITE_END();
