// Layer norm, RMS norm, norm + modulate, gate + residual, and both in one, on the CPU.
//
// One pass over memory: a row is read, stays in the first-level cache for its two or three loops, and is
// written. Chunks of at least 64 rows never cross a group, so that gain and offset are prepared once per
// chunk, and their gradients are summed into one small buffer per chunk; buffers are added in chunk order.
#include "kernels/backend/layers.h"

#include <cmath>
#include <type_traits>
#include <vector>

#include "kernels/cpu/chunks.h"

namespace llsa::kernels::cpu {
namespace {

/// Calls f.template operator()<T, kWidth>() with x's type and, for float rows of the usual widths, their
/// length (else 0): loops of known length are more than twice as fast on short rows.
template <class F>
void visit_rows(const Tensor& x, const char* where, F&& f) {
  visit_floating(x.dtype(), where, [&]<class T>() {
    if constexpr (std::is_same_v<T, float>) {
      switch (x.size(-1)) {
        case 64:
          return f.template operator()<T, 64>();
        case 128:
          return f.template operator()<T, 128>();
        case 384:
          return f.template operator()<T, 384>();
        default:
          break;
      }
    }
    f.template operator()<T, 0>();
  });
}

/// base + source[group, :], or base + source[:], in the accumulator's type; base alone when the source is undefined.
template <class T, class A = accumulator_t<T>>
std::vector<A> prepared(const Tensor& source, std::int64_t group, std::int64_t n, A base) {
  std::vector<A> out(static_cast<std::size_t>(n), base);
  if (source.defined()) {
    const T* in = source.data<T>() + (source.rank() == 1 ? 0 : group * source.stride(0));
    for (std::int64_t i = 0; i < n; ++i) out[static_cast<std::size_t>(i)] += static_cast<A>(in[i]);
  }
  return out;
}

/// What gain starts from: 1 where the factor is 1 + gain or there is none.
template <class A>
A gain_base(const Tensor& gain, bool plus_one) {
  return plus_one || !gain.defined() ? A(1) : A(0);
}

/// [b,N,C] as b groups; [R,C] as one.
GroupedRows grouped(const Tensor& x) {
  const bool one = x.rank() == 2;
  return {one ? 1 : x.size(0), x.size(-2), x.size(-1)};
}

/// Zeroed sums of one chunk, or null when nobody wants them.
template <class A>
A* chunk_sums(const Tensor& sums, std::int64_t chunk, std::int64_t n) {
  if (!sums.defined()) return nullptr;
  A* out = sums.data<A>() + chunk * n;
  std::fill_n(out, n, A(0));
  return out;
}

template <class A>
Tensor sums_buffer(Context& ctx, bool wanted, const GroupedRows& rows) {
  return wanted ? ctx.empty(Shape{rows.chunks, rows.width}, dtype_of<A>::value) : Tensor();
}

/// body(chunk, group, begin, end) with rows counted over all groups.
template <class Body>
void run_rows_of(Context& ctx, const GroupedRows& rows, Body&& body) {
  rows.run(ctx, [&](std::int64_t chunk, std::int64_t group, std::int64_t begin, std::int64_t end) {
    body(chunk, group, group * rows.rows + begin, group * rows.rows + end);
  });
}

/// out [G,C] from the sums of all chunks.
template <class A, class T>
void sum_groups(Context& ctx, const GroupedRows& rows, const A* sums, T* out) {
  sum_partials(ctx, sums, rows.groups, rows.per_group, rows.width, out);
}

/// out = (x - mean) rstd w + b, and the moments of the row x of n elements, or kWidth.
template <int kWidth, class T, class A>
void normalize_row(const T* x, std::int64_t width, const A* w, const A* b, double eps, T* out, A& mean,
                   A& rstd) {
  const std::int64_t n = kWidth ? kWidth : width;
  const A inverse_n = A(1) / static_cast<A>(n);
  A sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < n; ++i) sum += static_cast<A>(x[i]);
  const A m = sum * inverse_n;
  A squares = 0;
#pragma omp simd reduction(+ : squares)
  for (std::int64_t i = 0; i < n; ++i) {
    const A d = static_cast<A>(x[i]) - m;
    squares += d * d;
  }
  const A s = A(1) / std::sqrt(squares * inverse_n + static_cast<A>(eps));
  mean = m;
  rstd = s;
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) out[i] = static_cast<T>((static_cast<A>(x[i]) - m) * s * w[i] + b[i]);
}

/// a and b in the gradient of a row, dx = s du - a - (x - m) b with du = dy w: a = s mean(du) and
/// b = s^3 mean(du (x - m)).
template <class A>
struct NormTerms {
  A a, b;
};
template <int kWidth, class T, class A>
NormTerms<A> norm_terms(const T* dy, const T* x, std::int64_t width, const A* w, A m, A s) {
  const std::int64_t n = kWidth ? kWidth : width;
  const A inverse_n = A(1) / static_cast<A>(n);
  A sum = 0;
  A dot = 0;
#pragma omp simd reduction(+ : sum, dot)
  for (std::int64_t i = 0; i < n; ++i) {
    const A du = static_cast<A>(dy[i]) * w[i];
    sum += du;
    dot += du * (static_cast<A>(x[i]) - m);
  }
  return {s * sum * inverse_n, s * s * s * dot * inverse_n};
}

/// y = u gain + offset, u = (x - mean) rstd; plus_one: 1 + gain instead of gain.
void normalize(Context& ctx, const char* where, const Tensor& x, const Tensor& gain, const Tensor& offset,
               bool plus_one, double eps, const Tensor& y, const Tensor& mean, const Tensor& rstd) {
  visit_rows(x, where, [&]<class T, int kWidth>() {
    using A = accumulator_t<T>;
    const GroupedRows rows = grouped(x);
    const std::int64_t n = kWidth ? kWidth : rows.width;
    run_rows_of(ctx, rows, [&](std::int64_t, std::int64_t group, std::int64_t begin, std::int64_t end) {
      const std::vector<A> gains = prepared<T>(gain, group, n, gain_base<A>(gain, plus_one));
      const std::vector<A> offsets = prepared<T>(offset, group, n, A(0));
      for (std::int64_t r = begin; r < end; ++r)
        normalize_row<kWidth>(x.data<T>() + r * n, n, gains.data(), offsets.data(), eps, y.data<T>() + r * n,
                              mean.data<A>()[r], rstd.data<A>()[r]);
    });
  });
}

/// With du = dy gain: dx = rstd (du - mean(du) - u mean(du u)), dgain = sum dy u, doffset = sum dy.
void normalize_backward(Context& ctx, const char* where, const Tensor& dy, const Tensor& x,
                        const Tensor& gain, bool plus_one, const Tensor& mean, const Tensor& rstd,
                        const Tensor& dx, const Tensor& dgain, const Tensor& doffset) {
  visit_rows(x, where, [&]<class T, int kWidth>() {
    using A = accumulator_t<T>;
    const GroupedRows rows = grouped(x);
    const std::int64_t n = kWidth ? kWidth : rows.width;
    const Tensor gain_sums = sums_buffer<A>(ctx, dgain.defined(), rows);
    const Tensor offset_sums = sums_buffer<A>(ctx, doffset.defined(), rows);
    run_rows_of(ctx, rows, [&](std::int64_t chunk, std::int64_t group, std::int64_t begin, std::int64_t end) {
      const std::vector<A> gains = prepared<T>(gain, group, n, gain_base<A>(gain, plus_one));
      const A* w = gains.data();
      A* dw = chunk_sums<A>(gain_sums, chunk, n);
      A* db = chunk_sums<A>(offset_sums, chunk, n);
      for (std::int64_t r = begin; r < end; ++r) {
        const T* g = dy.data<T>() + r * n;
        const T* in = x.data<T>() + r * n;
        T* out = dx.data<T>() + r * n;
        const A m = mean.data<A>()[r];
        const A s = rstd.data<A>()[r];
        const auto terms = norm_terms<kWidth>(g, in, n, w, m, s);
        const A a = terms.a;
        const A b = terms.b;
#pragma omp simd
        for (std::int64_t i = 0; i < n; ++i)
          out[i] = static_cast<T>(s * (static_cast<A>(g[i]) * w[i]) - a - (static_cast<A>(in[i]) - m) * b);
        if (dw != nullptr) {
#pragma omp simd
          for (std::int64_t i = 0; i < n; ++i)
            dw[i] += static_cast<A>(g[i]) * ((static_cast<A>(in[i]) - m) * s);
        }
        if (db != nullptr) {
#pragma omp simd
          for (std::int64_t i = 0; i < n; ++i) db[i] += static_cast<A>(g[i]);
        }
      }
    });
    if (dgain.defined()) sum_groups(ctx, rows, gain_sums.data<A>(), dgain.data<T>());
    if (doffset.defined()) sum_groups(ctx, rows, offset_sums.data<A>(), doffset.data<T>());
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
  visit_rows(x, "rms_norm", [&]<class T, int kWidth>() {
    using A = accumulator_t<T>;
    const GroupedRows rows = grouped(x);
    const std::int64_t n = kWidth ? kWidth : rows.width;
    const A inverse_n = A(1) / static_cast<A>(n);
    run_rows_of(ctx, rows, [&](std::int64_t, std::int64_t group, std::int64_t begin, std::int64_t end) {
      const std::vector<A> weights = prepared<T>(weight, group, n, gain_base<A>(weight, false));
      const A* w = weights.data();
      for (std::int64_t r = begin; r < end; ++r) {
        const T* in = x.data<T>() + r * n;
        T* out = y.data<T>() + r * n;
        A squares = 0;
#pragma omp simd reduction(+ : squares)
        for (std::int64_t i = 0; i < n; ++i) squares += static_cast<A>(in[i]) * static_cast<A>(in[i]);
        const A s = A(1) / std::sqrt(squares * inverse_n + static_cast<A>(eps));
        rstd.data<A>()[r] = s;
#pragma omp simd
        for (std::int64_t i = 0; i < n; ++i) out[i] = static_cast<T>(static_cast<A>(in[i]) * s * w[i]);
      }
    });
  });
}

void rms_norm_backward(Context& ctx, const Tensor& dy, const Tensor& x, const Tensor& weight,
                       const Tensor& rstd, const Tensor& dx, const Tensor& dw) {
  // With u = x rstd and du = dy weight: dx = rstd (du - u mean(du u)), dw = sum dy u.
  visit_rows(x, "rms_norm_backward", [&]<class T, int kWidth>() {
    using A = accumulator_t<T>;
    const GroupedRows rows = grouped(x);
    const std::int64_t n = kWidth ? kWidth : rows.width;
    const Tensor sums = sums_buffer<A>(ctx, dw.defined(), rows);
    run_rows_of(ctx, rows, [&](std::int64_t chunk, std::int64_t group, std::int64_t begin, std::int64_t end) {
      const std::vector<A> weights = prepared<T>(weight, group, n, gain_base<A>(weight, false));
      const A* w = weights.data();
      A* dweight = chunk_sums<A>(sums, chunk, n);
      for (std::int64_t r = begin; r < end; ++r) {
        const T* g = dy.data<T>() + r * n;
        const T* in = x.data<T>() + r * n;
        T* out = dx.data<T>() + r * n;
        const A s = rstd.data<A>()[r];
        A dot = 0;
#pragma omp simd reduction(+ : dot)
        for (std::int64_t i = 0; i < n; ++i) dot += static_cast<A>(g[i]) * w[i] * static_cast<A>(in[i]);
        const A b = s * s * s * dot / static_cast<A>(n);
#pragma omp simd
        for (std::int64_t i = 0; i < n; ++i)
          out[i] = static_cast<T>(s * (static_cast<A>(g[i]) * w[i]) - static_cast<A>(in[i]) * b);
        if (dweight != nullptr) {
#pragma omp simd
          for (std::int64_t i = 0; i < n; ++i)
            dweight[i] += static_cast<A>(g[i]) * (static_cast<A>(in[i]) * s);
        }
      }
    });
    if (dw.defined()) sum_groups(ctx, rows, sums.data<A>(), dw.data<T>());
  });
}

void gate_residual(Context& ctx, const Tensor& x, const Tensor& y, const Tensor& gate, const Tensor& z) {
  visit_rows(x, "gate_residual", [&]<class T, int kWidth>() {
    using A = accumulator_t<T>;
    const GroupedRows rows = grouped(x);
    const std::int64_t n = kWidth ? kWidth : rows.width;
    run_rows_of(ctx, rows, [&](std::int64_t, std::int64_t group, std::int64_t begin, std::int64_t end) {
      const std::vector<A> gates = prepared<T>(gate, group, n, A(0));
      const A* w = gates.data();
      for (std::int64_t r = begin; r < end; ++r) {
        const T* a = x.data<T>() + r * n;
        const T* b = y.data<T>() + r * n;
        T* out = z.data<T>() + r * n;
#pragma omp simd
        for (std::int64_t i = 0; i < n; ++i)
          out[i] = static_cast<T>(static_cast<A>(a[i]) + w[i] * static_cast<A>(b[i]));
      }
    });
  });
}

void gate_residual_backward(Context& ctx, const Tensor& dz, const Tensor& y, const Tensor& gate,
                            const Tensor& dy, const Tensor& dgate) {
  visit_rows(y, "gate_residual_backward", [&]<class T, int kWidth>() {
    using A = accumulator_t<T>;
    const GroupedRows rows = grouped(y);
    const std::int64_t n = kWidth ? kWidth : rows.width;
    const Tensor sums = sums_buffer<A>(ctx, true, rows);
    run_rows_of(ctx, rows, [&](std::int64_t chunk, std::int64_t group, std::int64_t begin, std::int64_t end) {
      const std::vector<A> gates = prepared<T>(gate, group, n, A(0));
      const A* w = gates.data();
      A* dw = chunk_sums<A>(sums, chunk, n);
      for (std::int64_t r = begin; r < end; ++r) {
        const T* g = dz.data<T>() + r * n;
        const T* in = y.data<T>() + r * n;
        T* out = dy.data<T>() + r * n;
#pragma omp simd
        for (std::int64_t i = 0; i < n; ++i) {
          dw[i] += static_cast<A>(g[i]) * static_cast<A>(in[i]);
          out[i] = static_cast<T>(static_cast<A>(g[i]) * w[i]);
        }
      }
    });
    sum_groups(ctx, rows, sums.data<A>(), dgate.data<T>());
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
  visit_rows(x, "gate_norm_modulate", [&]<class T, int kWidth>() {
    using A = accumulator_t<T>;
    const GroupedRows rows = grouped(x);
    const std::int64_t n = kWidth ? kWidth : rows.width;
    run_rows_of(ctx, rows, [&](std::int64_t, std::int64_t group, std::int64_t begin, std::int64_t end) {
      const std::vector<A> gates = prepared<T>(gate, group, n, A(0));
      const std::vector<A> gains = prepared<T>(scale, group, n, A(1));
      const std::vector<A> offsets = prepared<T>(shift, group, n, A(0));
      const A* const w = gates.data();
      for (std::int64_t row = begin; row < end; ++row) {
        const T* const a = x.data<T>() + row * n;
        const T* const b = y.data<T>() + row * n;
        T* const sum = r.data<T>() + row * n;
#pragma omp simd
        for (std::int64_t i = 0; i < n; ++i)
          sum[i] = static_cast<T>(static_cast<A>(a[i]) + w[i] * static_cast<A>(b[i]));
        normalize_row<kWidth>(sum, n, gains.data(), offsets.data(), eps, h.data<T>() + row * n,
                              mean.data<A>()[row], rstd.data<A>()[row]);
      }
    });
  });
}

void gate_norm_modulate_backward(Context& ctx, const Tensor& dr, const Tensor& dh, const Tensor& r,
                                 const Tensor& y, const Tensor& factors, const Tensor& mean,
                                 const Tensor& rstd, const Tensor& dx, const Tensor& dy,
                                 const Tensor& dfactors) {
  const Tensor gate = factor(factors, 0), scale = factor(factors, 2);
  visit_rows(r, "gate_norm_modulate_backward", [&]<class T, int kWidth>() {
    using A = accumulator_t<T>;
    const GroupedRows rows = grouped(r);
    const std::int64_t n = kWidth ? kWidth : rows.width;
    const Tensor sums = ctx.empty(Shape{rows.chunks, 3 * n}, dtype_of<A>::value);
    run_rows_of(ctx, rows, [&](std::int64_t chunk, std::int64_t group, std::int64_t begin, std::int64_t end) {
      const std::vector<A> gates = prepared<T>(gate, group, n, A(0));
      const std::vector<A> gains = prepared<T>(scale, group, n, A(1));
      const std::vector<T> zeros(static_cast<std::size_t>(dr.defined() ? 0 : n));
      A* const dgate = chunk_sums<A>(sums, chunk, 3 * n);
      A* const dshift = dgate + n;
      A* const dscale = dshift + n;
      const A* const gated = gates.data();
      const A* const w = gains.data();
      for (std::int64_t row = begin; row < end; ++row) {
        const T* const from_r = dr.defined() ? dr.data<T>() + row * n : zeros.data();
        const T* const g = dh.data<T>() + row * n;
        const T* const in = r.data<T>() + row * n;
        const T* const branch = y.data<T>() + row * n;
        T* const to_x = dx.data<T>() + row * n;
        T* const to_branch = dy.data<T>() + row * n;
        const A m = mean.data<A>()[row];
        const A s = rstd.data<A>()[row];
        const auto terms = norm_terms<kWidth>(g, in, n, w, m, s);
        const A a = terms.a;
        const A b = terms.b;
#pragma omp simd
        for (std::int64_t i = 0; i < n; ++i) {
          const A from_h = static_cast<A>(g[i]);
          const A centred = static_cast<A>(in[i]) - m;
          const A sum = static_cast<A>(from_r[i]) + (s * (from_h * w[i]) - a - centred * b);
          to_x[i] = static_cast<T>(sum);
          to_branch[i] = static_cast<T>(sum * gated[i]);
          dgate[i] += sum * static_cast<A>(branch[i]);
          dshift[i] += from_h;
          dscale[i] += from_h * (centred * s);
        }
      }
    });
    sum_partials(ctx, sums.data<A>(), rows.groups, rows.per_group, 3 * n, dfactors.data<T>());
  });
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

}  // namespace llsa::kernels::cpu
