// Layer norm, RMS norm, norm + modulate, gate + residual, and both in one, over rows of C elements:
//
//     layer norm   y = u gain + offset,  u = (x - mean) rstd;   dx = rstd (du - mean(du) - u mean(du u))
//     RMS norm     y = u gain,  u = x rstd;                     dx = rstd (du - u mean(du u))
//     gate         z = x + gate y,  dy = gate dz,  dgate = sum dz y
//     where        du = dy gain,  dgain = sum dy u,  doffset = sum dy
//
// Forward and the gradient of x: a warp per row, which reads the row from memory once and from caches in the
// later passes. Rows and factors move in packs of 16 bytes if all of them are aligned to that, else element by
// element. The gradients of gain, offset and gate are sums over rows: a thread sums one column of kRowBlock rows,
// and a fold adds these partial sums in order.
//
// Bytes per element in f32 (bf16): norms 8 (4), the gradient of x 12 (6), the gradients of the factors 8 (4) more;
// gate 12 (6), its gradient twice 8 (4). FLOPs per element: layer norm 8, gradients 11 and 5; RMS norm 4, 7 and 4;
// gate 2. That is at most 2 per byte: bound by memory.
//
// Gate, norm and modulation in one: kernels of device/gated_norm.cuh for rows that a warp can hold, otherwise one
// after the other.
#include "kernels/backend/layers.h"

#include <cmath>

#include "kernels/backend/tensors.h"
#include "kernels/copy.h"
#include "kernels/cuda/device/fold.cuh"
#include "kernels/cuda/device/gated_norm.cuh"
#include "kernels/cuda/device/launch.cuh"
#include "kernels/cuda/device/norm_rows.cuh"
#include "kernels/cuda/device/types.cuh"

namespace llsa::kernels::cuda {
namespace {

constexpr std::int64_t kRowBlock = 32;  // rows whose contributions one thread adds up

/// What gain starts from: 1 where the factor is 1 + gain or there is none.
template <class A>
A gain_base(const Tensor& gain, bool plus_one) {
  return plus_one || !gain.defined() ? A(1) : A(0);
}

/// body(x...) for the columns of one row that this lane has, in packs of N from each of x: pointers to rows,
/// or rows of factors and terms.
template <int N, class Body, class... Row>
__device__ void for_columns(std::int64_t width, Body&& body, const Row&... x) {
  for (std::int64_t c = lane_of_thread() * N; c < width; c += 32 * N) {
    const auto each = [&](const auto&... pack) {
      for (int j = 0; j < N; ++j) body(pack.value[j]...);
    };
    each(columns<N>(x, c)...);
  }
}

/// As for_columns, writing body's results to `out`.
template <int N, class Body, class T, class... Row>
__device__ void map_columns(std::int64_t width, T* out, Body&& body, const Row&... x) {
  for (std::int64_t c = lane_of_thread() * N; c < width; c += 32 * N) {
    Pack<T, N> result;
    const auto each = [&](const auto&... pack) {
      for (int j = 0; j < N; ++j) result.value[j] = static_cast<T>(body(pack.value[j]...));
    };
    each(columns<N>(x, c)...);
    store_pack(out + c, result);
  }
}

template <int N, class T, class A>
__global__ void layer_norm_rows(Rows rows, const T* x, GroupRow<T> gain, GroupRow<T> offset, A eps, T* y,
                                A* mean, A* rstd) {
  const std::int64_t r = piece_of_warp();
  if (r >= rows.groups * rows.rows) return;
  const std::int64_t n = rows.width, group = r / rows.rows;
  const T* const in = x + r * n;
  const A inverse_n = A(1) / static_cast<A>(n);
  A sum = 0;
  for_columns<N>(
      n, [&](A v) { sum += v; }, in);
  const A m = warp_sum(sum) * inverse_n;
  A squares = 0;
  for_columns<N>(
      n, [&](A v) { squares += (v - m) * (v - m); }, in);
  const A s = A(1) / std::sqrt(warp_sum(squares) * inverse_n + eps);
  if (lane_of_thread() == 0) {
    mean[r] = m;
    rstd[r] = s;
  }
  map_columns<N>(
      n, y + r * n, [&](A v, A factor, A term) { return (v - m) * s * factor + term; }, in, gain.of(group),
      offset.of(group));
}

/// With u = (x - mean) rstd and du = dy gain: dx = rstd (du - mean(du) - u mean(du u)).
template <int N, class T, class A>
__global__ void layer_norm_rows_backward(Rows rows, const T* dy, const T* x, GroupRow<T> gain, const A* mean,
                                         const A* rstd, T* dx) {
  const std::int64_t r = piece_of_warp();
  if (r >= rows.groups * rows.rows) return;
  const std::int64_t n = rows.width, group = r / rows.rows;
  const A m = mean[r], s = rstd[r];
  A sum = 0, dot = 0;
  for_columns<N>(
      n,
      [&](A g, A v, A factor) {
        const A du = g * factor;
        sum += du;
        dot += du * (v - m);
      },
      dy + r * n, x + r * n, gain.of(group));
  const A inverse_n = A(1) / static_cast<A>(n);
  const A a = s * warp_sum(sum) * inverse_n;
  const A b = s * s * s * warp_sum(dot) * inverse_n;
  map_columns<N>(
      n, dx + r * n, [&](A g, A v, A factor) { return s * (g * factor) - a - (v - m) * b; }, dy + r * n,
      x + r * n, gain.of(group));
}

template <int N, class T, class A>
__global__ void rms_norm_rows(Rows rows, const T* x, GroupRow<T> weight, A eps, T* y, A* rstd) {
  const std::int64_t r = piece_of_warp();
  if (r >= rows.groups * rows.rows) return;
  const std::int64_t n = rows.width;
  const T* const in = x + r * n;
  A squares = 0;
  for_columns<N>(
      n, [&](A v) { squares += v * v; }, in);
  const A s = A(1) / std::sqrt(warp_sum(squares) / static_cast<A>(n) + eps);
  if (lane_of_thread() == 0) rstd[r] = s;
  map_columns<N>(
      n, y + r * n, [&](A v, A w) { return v * s * w; }, in, weight);
}

/// With u = x rstd and du = dy weight: dx = rstd (du - u mean(du u)).
template <int N, class T, class A>
__global__ void rms_norm_rows_backward(Rows rows, const T* dy, const T* x, GroupRow<T> weight, const A* rstd,
                                       T* dx) {
  const std::int64_t r = piece_of_warp();
  if (r >= rows.groups * rows.rows) return;
  const std::int64_t n = rows.width;
  const A s = rstd[r];
  A dot = 0;
  for_columns<N>(
      n, [&](A g, A v, A w) { dot += g * w * v; }, dy + r * n, x + r * n, weight);
  const A b = s * s * s * warp_sum(dot) / static_cast<A>(n);
  map_columns<N>(
      n, dx + r * n, [&](A g, A v, A w) { return s * (g * w) - v * b; }, dy + r * n, x + r * n, weight);
}

/// Partial sums over blocks of rows: products[g,k,c] = sum dy u and terms[g,k,c] = sum dy, where u = (x -
/// mean) rstd; without mean it is 0, without rstd 1; either output may be null.
template <class T, class A>
__global__ void column_sums(Rows rows, std::int64_t blocks, const T* dy, const T* x, const A* mean,
                            const A* rstd, A* products, A* terms) {
  const std::int64_t i = piece_of_thread();
  if (i >= rows.groups * blocks * rows.width) return;
  const std::int64_t c = i % rows.width;
  const std::int64_t block = i / rows.width % blocks;
  const std::int64_t group = i / rows.width / blocks;
  const std::int64_t first = block * kRowBlock;
  const std::int64_t end = first + kRowBlock < rows.rows ? first + kRowBlock : rows.rows;
  A product = 0, term = 0;
  for (std::int64_t r = group * rows.rows + first; r < group * rows.rows + end; ++r) {
    const A g = static_cast<A>(dy[r * rows.width + c]);
    term += g;
    if (products != nullptr) {
      const A m = mean != nullptr ? mean[r] : A(0);
      const A s = rstd != nullptr ? rstd[r] : A(1);
      product += g * ((static_cast<A>(x[r * rows.width + c]) - m) * s);
    }
  }
  if (products != nullptr) products[i] = product;
  if (terms != nullptr) terms[i] = term;
}

/// products [G,C] and terms [G,C], either may be undefined: sums over all rows of a group.
template <class T>
void sum_columns(Context& ctx, const Tensor& dy, const Tensor& x, const Tensor& mean, const Tensor& rstd,
                 const Tensor& products, const Tensor& terms) {
  using A = accumulator_t<T>;
  const Rows rows(dy);
  const std::int64_t blocks = std::max<std::int64_t>(1, ceil_div(rows.rows, kRowBlock));
  const auto partial = [&](const Tensor& wanted) {
    return wanted.defined() ? ctx.empty(Shape{rows.groups, blocks, rows.width}, dtype_of<A>::value)
                            : Tensor();
  };
  const Tensor a = partial(products), b = partial(terms);
  if (!a.defined() && !b.defined()) return;
  launch_threads(ctx, column_sums<T, A>, rows.groups * blocks * rows.width, rows, blocks, device_data<T>(dy),
                 device_data<T>(x), device_data<A>(mean), device_data<A>(rstd), device_data<A>(a),
                 device_data<A>(b));
  const auto finish = [&](const Tensor& from, const Tensor& to) {
    if (from.defined())
      fold_axis<FoldSum, A>(ctx, from.data<A>(), rows.groups, blocks, rows.width, 1.0, device_data<T>(to));
  };
  finish(a, products);
  finish(b, terms);
}

/// z = x + gate y
template <int N, class T>
__global__ void gate_residual_rows(Rows rows, const T* x, const T* y, GroupRow<T> gate, T* z) {
  using A = accumulator_t<T>;
  const std::int64_t r = piece_of_warp();
  if (r >= rows.groups * rows.rows) return;
  const std::int64_t n = rows.width, group = r / rows.rows;
  map_columns<N>(
      n, z + r * n, [&](A a, A b, A factor) { return a + factor * b; }, x + r * n, y + r * n, gate.of(group));
}

/// dy = gate dz
template <int N, class T>
__global__ void gate_rows(Rows rows, const T* dz, GroupRow<T> gate, T* dy) {
  using A = accumulator_t<T>;
  const std::int64_t r = piece_of_warp();
  if (r >= rows.groups * rows.rows) return;
  const std::int64_t n = rows.width, group = r / rows.rows;
  map_columns<N>(
      n, dy + r * n, [&](A g, A factor) { return g * factor; }, dz + r * n, gate.of(group));
}

/// Calls f.template operator()<N>() with the pack that fits them all; rows are of this width.
template <class F, class T, class... Rest>
void visit_pack(std::int64_t width, F&& f, const T* rows, const Rest&... rest) {
  if (packs(width, rows) && (packs(width, rest) && ...))
    f.template operator()<kPack<T>>();
  else
    f.template operator()<1>();
}

/// y = u gain + offset, u = (x - mean) rstd; plus_one: 1 + gain instead of gain.
void normalize(Context& ctx, const char* where, const Tensor& x, const Tensor& gain, const Tensor& offset,
               bool plus_one, double eps, const Tensor& y, const Tensor& mean, const Tensor& rstd) {
  visit_device(x.dtype(), where, [&]<class T>() {
    using A = accumulator_t<T>;
    const Rows rows(x);
    const T* const in = device_data<T>(x);
    const GroupRow<T> factors(gain, gain_base<A>(gain, plus_one)), terms(offset, A(0));
    T* const out = device_data<T>(y);
    visit_pack(
        rows.width,
        [&]<int N>() {
          launch_warps(ctx, layer_norm_rows<N, T, A>, rows.all(), rows, in, factors, terms,
                       static_cast<A>(eps), out, mean.data<A>(), rstd.data<A>());
        },
        in, out, factors, terms);
  });
}

void normalize_backward(Context& ctx, const char* where, const Tensor& dy, const Tensor& x,
                        const Tensor& gain, bool plus_one, const Tensor& mean, const Tensor& rstd,
                        const Tensor& dx, const Tensor& dgain, const Tensor& doffset) {
  visit_device(x.dtype(), where, [&]<class T>() {
    using A = accumulator_t<T>;
    const Rows rows(x);
    const T* const in = device_data<T>(x);
    const T* const grad = device_data<T>(dy);
    const GroupRow<T> factors(gain, gain_base<A>(gain, plus_one));
    T* const out = device_data<T>(dx);
    visit_pack(
        rows.width,
        [&]<int N>() {
          launch_warps(ctx, layer_norm_rows_backward<N, T, A>, rows.all(), rows, grad, in, factors,
                       mean.data<A>(), rstd.data<A>(), out);
        },
        in, grad, out, factors);
    sum_columns<T>(ctx, dy, x, mean, rstd, dgain, doffset);
  });
}

void layer_norm(Context& ctx, const Tensor& x, const Tensor& weight, const Tensor& bias, double eps,
                const Tensor& y, const Tensor& mean, const Tensor& rstd) {
  normalize(ctx, "layer_norm", x, weight, bias, false, eps, y, mean, rstd);
}

void layer_norm_backward(Context& ctx, const Tensor& dy, const Tensor& x, const Tensor& weight,
                         const Tensor& mean, const Tensor& rstd, const Tensor& dx, const Tensor& dw,
                         const Tensor& db) {
  normalize_backward(ctx, "layer_norm", dy, x, weight, false, mean, rstd, dx, dw, db);
}

void layer_norm_modulate(Context& ctx, const Tensor& x, const Tensor& shift, const Tensor& scale, double eps,
                         const Tensor& y, const Tensor& mean, const Tensor& rstd) {
  normalize(ctx, "layer_norm_modulate", x, scale, shift, true, eps, y, mean, rstd);
}

void layer_norm_modulate_backward(Context& ctx, const Tensor& dy, const Tensor& x, const Tensor& scale,
                                  const Tensor& mean, const Tensor& rstd, const Tensor& dx,
                                  const Tensor& dshift, const Tensor& dscale) {
  normalize_backward(ctx, "layer_norm_modulate", dy, x, scale, true, mean, rstd, dx, dscale, dshift);
}

void rms_norm(Context& ctx, const Tensor& x, const Tensor& weight, double eps, const Tensor& y,
              const Tensor& rstd) {
  visit_device(x.dtype(), "rms_norm", [&]<class T>() {
    using A = accumulator_t<T>;
    const Rows rows(x);
    const T* const in = device_data<T>(x);
    const GroupRow<T> factors(weight, gain_base<A>(weight, false));
    T* const out = device_data<T>(y);
    visit_pack(
        rows.width,
        [&]<int N>() {
          launch_warps(ctx, rms_norm_rows<N, T, A>, rows.all(), rows, in, factors, static_cast<A>(eps), out,
                       rstd.data<A>());
        },
        in, out, factors);
  });
}

void rms_norm_backward(Context& ctx, const Tensor& dy, const Tensor& x, const Tensor& weight,
                       const Tensor& rstd, const Tensor& dx, const Tensor& dw) {
  visit_device(x.dtype(), "rms_norm_backward", [&]<class T>() {
    using A = accumulator_t<T>;
    const Rows rows(x);
    const T* const in = device_data<T>(x);
    const T* const grad = device_data<T>(dy);
    const GroupRow<T> factors(weight, gain_base<A>(weight, false));
    T* const out = device_data<T>(dx);
    visit_pack(
        rows.width,
        [&]<int N>() {
          launch_warps(ctx, rms_norm_rows_backward<N, T, A>, rows.all(), rows, grad, in, factors,
                       rstd.data<A>(), out);
        },
        in, grad, out, factors);
    sum_columns<T>(ctx, dy, x, Tensor(), rstd, dw, Tensor());
  });
}

void gate_residual(Context& ctx, const Tensor& x, const Tensor& y, const Tensor& gate, const Tensor& z) {
  visit_device(x.dtype(), "gate_residual", [&]<class T>() {
    const Rows rows(x);
    const T* const a = device_data<T>(x);
    const T* const b = device_data<T>(y);
    const GroupRow<T> factors(gate, accumulator_t<T>(0));
    T* const out = device_data<T>(z);
    visit_pack(
        rows.width,
        [&]<int N>() { launch_warps(ctx, gate_residual_rows<N, T>, rows.all(), rows, a, b, factors, out); },
        a, b, out, factors);
  });
}

void gate_residual_backward(Context& ctx, const Tensor& dz, const Tensor& y, const Tensor& gate,
                            const Tensor& dy, const Tensor& dgate) {
  visit_device(y.dtype(), "gate_residual_backward", [&]<class T>() {
    const Rows rows(y);
    const T* const grad = device_data<T>(dz);
    const GroupRow<T> factors(gate, accumulator_t<T>(0));
    T* const out = device_data<T>(dy);
    visit_pack(
        rows.width,
        [&]<int N>() { launch_warps(ctx, gate_rows<N, T>, rows.all(), rows, grad, factors, out); }, grad, out,
        factors);
    sum_columns<T>(ctx, dz, y, Tensor(), Tensor(), dgate, Tensor());
  });
}

/// The third of factors [b,3C] that holds the gate (0), the shift (1) or the scale (2).
Tensor factor(const Tensor& factors, std::int64_t i) {
  const std::int64_t c = factors.size(1) / 3;
  return factors.slice(1, i * c, (i + 1) * c);
}

void gate_norm_modulate(Context& ctx, const Tensor& x, const Tensor& y, const Tensor& factors, double eps,
                        const Tensor& r, const Tensor& h, const Tensor& mean, const Tensor& rstd) {
  const Tensor gate = factor(factors, 0), shift = factor(factors, 1), scale = factor(factors, 2);
  const char* op = "gate_norm_modulate";
  bool held = false;
  visit_device(x.dtype(), op, [&]<class T>() {
    using A = accumulator_t<T>;
    const Rows rows(x);
    const T* const in = device_data<T>(x);
    const T* const branch = device_data<T>(y);
    const GroupRow<T> gates(gate, A(0)), terms(shift, A(0)), gains(scale, A(1));
    T* const sum = device_data<T>(r);
    T* const out = device_data<T>(h);
    held = visit_held_rows<T>(
        rows,
        [&]<int P>() {
          launch_warps(ctx, gate_norm_rows<P, T, A>, rows.all(), rows, in, branch, gates, terms, gains,
                       static_cast<A>(eps), sum, out, mean.data<A>(), rstd.data<A>());
        },
        in, branch, gates, terms, gains, sum, out);
  });
  if (held) return;
  gate_residual(ctx, x, y, gate, r);
  normalize(ctx, op, r, scale, shift, true, eps, h, mean, rstd);
}

void gate_norm_modulate_backward(Context& ctx, const Tensor& dr, const Tensor& dh, const Tensor& r,
                                 const Tensor& y, const Tensor& factors, const Tensor& mean,
                                 const Tensor& rstd, const Tensor& dx, const Tensor& dy,
                                 const Tensor& dfactors) {
  const Tensor gate = factor(factors, 0), scale = factor(factors, 2);
  const char* op = "gate_norm_modulate_backward";
  bool held = false;
  visit_device(r.dtype(), op, [&]<class T>() {
    using A = accumulator_t<T>;
    const Rows rows(r);
    const T* const from_r = device_data<T>(dr);
    const T* const from_h = device_data<T>(dh);
    const T* const in = device_data<T>(r);
    const T* const branch = device_data<T>(y);
    const GroupRow<T> gates(gate, A(0)), gains(scale, A(1));
    T* const to_x = device_data<T>(dx);
    T* const to_branch = device_data<T>(dy);
    const RowBlocks blocks(rows);
    held = visit_held_rows<T>(
        rows,
        [&]<int P>() {
          const Tensor sums = ctx.empty(Shape{rows.groups, blocks.count, 3 * rows.width}, dtype_of<A>::value);
          launch_warps(ctx, gate_norm_rows_backward<P, T, A>, rows.groups * blocks.count, rows, blocks,
                       from_r, from_h, in, branch, gates, gains, mean.data<A>(), rstd.data<A>(), to_x,
                       to_branch, sums.data<A>());
          fold_axis<FoldSum, A>(ctx, sums.data<A>(), rows.groups, blocks.count, 3 * rows.width, 1.0,
                                device_data<T>(dfactors));
        },
        from_r, from_h, in, branch, gates, gains, to_x, to_branch);
  });
  if (held) return;
  const Shape shape{r.size(0), r.size(2)};
  const Tensor dgate = ctx.empty(shape, r.dtype()), dshift = ctx.empty(shape, r.dtype()),
               dscale = ctx.empty(shape, r.dtype());
  normalize_backward(ctx, op, dh, r, scale, true, mean, rstd, dx, dscale, dshift);
  if (dr.defined() && dx.numel() != 0) kElementwise.accumulate(ctx, dr, dx);
  gate_residual_backward(ctx, dx, y, gate, dy, dgate);
  copy(ctx, dgate, factor(dfactors, 0));
  copy(ctx, dshift, factor(dfactors, 1));
  copy(ctx, dscale, factor(dfactors, 2));
}

}  // namespace

constinit const NormBackend kNorm = {.layer_norm = layer_norm,
                                     .layer_norm_backward = layer_norm_backward,
                                     .layer_norm_modulate = layer_norm_modulate,
                                     .layer_norm_modulate_backward = layer_norm_modulate_backward,
                                     .rms_norm = rms_norm,
                                     .rms_norm_backward = rms_norm_backward,
                                     .gate_residual = gate_residual,
                                     .gate_residual_backward = gate_residual_backward,
                                     .gate_norm_modulate = gate_norm_modulate,
                                     .gate_norm_modulate_backward = gate_norm_modulate_backward};

}  // namespace llsa::kernels::cuda
