// RoPE, and its fusion with the q/k norm and the head split, on the CPU.
//
// One pass over memory: the row of a token in the fused projection is read once; each of its heads is normed and rotated
// in the first-level cache and written to its head-major place. Common head dimensions are template arguments, so that
// the short loops over one head are unrolled.
#include "kernels/backend/layers.h"

#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/cpu/chunks.h"

namespace llsa::kernels::cpu {
namespace {

/// Calls f.template operator()<D>() with D = head_dim where that is common, else 0.
template <class F>
void visit_head_dim(std::int64_t head_dim, F&& f) {
  switch (head_dim) {
    case 32:
      return f.template operator()<32>();
    case 64:
      return f.template operator()<64>();
    case 128:
      return f.template operator()<128>();
    default:
      return f.template operator()<0>();
  }
}

/// y = rotation of x scale weight. cos == nullptr: no rotation. sign = -1 turns back. x and y may be the same
/// array.
template <int kD, class S, class T, class A>
void rotate(const S* x, A scale, const A* weight, const A* cos, const A* sin, A sign, std::int64_t head_dim,
            T* y) {
  const std::int64_t d = kD ? kD : head_dim;
  if (cos == nullptr) {
#pragma omp simd
    for (std::int64_t i = 0; i < d; ++i) y[i] = static_cast<T>(static_cast<A>(x[i]) * scale * weight[i]);
    return;
  }
#pragma omp simd
  for (std::int64_t i = 0; i < d / 2; ++i) {
    const A even = static_cast<A>(x[2 * i]) * scale * weight[2 * i];
    const A odd = static_cast<A>(x[2 * i + 1]) * scale * weight[2 * i + 1];
    const A s = sign * sin[i];
    y[2 * i] = static_cast<T>(cos[i] * even - s * odd);
    y[2 * i + 1] = static_cast<T>(s * even + cos[i] * odd);
  }
}

/// 1 / sqrt(mean(x^2) + eps)
template <int kD, class T, class A>
A inverse_rms(const T* x, std::int64_t head_dim, A eps) {
  const std::int64_t d = kD ? kD : head_dim;
  A squares = 0;
#pragma omp simd reduction(+ : squares)
  for (std::int64_t i = 0; i < d; ++i) squares += static_cast<A>(x[i]) * static_cast<A>(x[i]);
  return A(1) / std::sqrt(squares / static_cast<A>(d) + eps);
}

/// Gradient of the norm: dx = rstd (du - u mean(du u)) with u = x rstd, du = dz weight; dweight += dz u.
template <int kD, class T, class A>
void norm_backward(const A* dz, const T* x, const A* weight, A rstd, std::int64_t head_dim, T* dx,
                   A* dweight) {
  const std::int64_t d = kD ? kD : head_dim;
  A dot = 0;
#pragma omp simd reduction(+ : dot)
  for (std::int64_t i = 0; i < d; ++i) dot += dz[i] * weight[i] * static_cast<A>(x[i]);
  const A b = rstd * rstd * rstd * dot / static_cast<A>(d);
#pragma omp simd
  for (std::int64_t i = 0; i < d; ++i) {
    const A in = static_cast<A>(x[i]);
    dx[i] = static_cast<T>(rstd * (dz[i] * weight[i]) - in * b);
    dweight[i] += dz[i] * (in * rstd);
  }
}

/// A weight in the accumulator's type; ones when undefined.
template <class T, class A = accumulator_t<T>>
std::vector<A> weight_values(const Tensor& weight, std::int64_t d) {
  std::vector<A> out(static_cast<std::size_t>(d), A(1));
  if (weight.defined())
    for (std::int64_t i = 0; i < d; ++i)
      out[static_cast<std::size_t>(i)] = static_cast<A>(weight.data<T>()[i]);
  return out;
}

template <class A>
A* data_or_null(const Tensor& x) {
  return x.defined() ? x.data<A>() : nullptr;
}

/// Address of head h of token n of sample s in a [b,H,N,D] tensor with unit stride in D.
template <class T>
struct HeadView {
  T* data;
  std::int64_t sample, head, token;

  explicit HeadView(const Tensor& x)
      : data(x.data<T>()), sample(x.stride(0)), head(x.stride(1)), token(x.stride(2)) {}
  T* at(std::int64_t s, std::int64_t h, std::int64_t n) const {
    return data + s * sample + h * head + n * token;
  }
};

void rope(Context& ctx, const Tensor& x, const Tensor& cos, const Tensor& sin, bool inverse,
          const Tensor& y) {
  const std::int64_t heads = x.size(1), tokens = x.size(2), d = x.size(3);
  if (x.numel() == 0) return;
  visit_floating(x.dtype(), "rope", [&]<class T>() {
    using A = accumulator_t<T>;
    const HeadView<T> in(x);
    const std::vector<A> ones(static_cast<std::size_t>(d), A(1));
    const A* c = cos.data<A>();
    const A* s = sin.data<A>();
    T* out = y.data<T>();
    const A sign = inverse ? A(-1) : A(1);
    visit_head_dim(d, [&]<int kD>() {
      run_rows(ctx, x.numel() / d, d, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t r = begin; r < end; ++r) {
          const std::int64_t n = r % tokens;
          const std::int64_t bh = r / tokens;
          rotate<kD>(in.at(bh / heads, bh % heads, n), A(1), ones.data(), c + n * (d / 2), s + n * (d / 2),
                     sign, d, out + r * d);
        }
      });
    });
  });
}

void qkv_split(Context& ctx, const Tensor& qkv, const Tensor& q_weight, const Tensor& k_weight, double eps,
               const Tensor& cos, const Tensor& sin, const Tensor& q, const Tensor& k, const Tensor& v,
               const Tensor& q_rstd, const Tensor& k_rstd) {
  const std::int64_t samples = q.size(0), heads = q.size(1), tokens = q.size(2), d = q.size(3);
  const std::int64_t width = 3 * heads * d;
  visit_floating(qkv.dtype(), "qkv_split", [&]<class T>() {
    using A = accumulator_t<T>;
    const GroupedRows rows(samples, tokens, width);
    T* const out[3] = {q.data<T>(), k.data<T>(), v.data<T>()};
    A* const rstd[2] = {data_or_null<A>(q_rstd), data_or_null<A>(k_rstd)};
    const std::vector<A> weight[2] = {weight_values<T>(q_weight, d), weight_values<T>(k_weight, d)};
    const A* c = data_or_null<A>(cos);
    const A* s = data_or_null<A>(sin);
    visit_head_dim(d, [&]<int kD>() {
      rows.run(ctx, [&](std::int64_t, std::int64_t sample, std::int64_t begin, std::int64_t end) {
        for (std::int64_t column = 0; column < 3 * heads; ++column) {
          const std::int64_t part = column / heads;
          const std::int64_t first =
              (sample * heads + column % heads) * tokens;  // row of token 0 in the output
          const T* row = qkv.data<T>() + (sample * tokens + begin) * width + column * d;
          T* y = out[part] + (first + begin) * d;
          for (std::int64_t n = begin; n < end; ++n, row += width, y += d) {
            if (part == 2) {
              std::memcpy(y, row, static_cast<std::size_t>(d) * sizeof(T));
              continue;
            }
            A scale = 1;
            if (rstd[part] != nullptr)
              rstd[part][first + n] = scale = inverse_rms<kD>(row, d, static_cast<A>(eps));
            rotate<kD>(row, scale, weight[part].data(), c ? c + n * (d / 2) : c, s ? s + n * (d / 2) : s,
                       A(1), d, y);
          }
        }
      });
    });
  });
}

void qkv_split_backward(Context& ctx, const Tensor& dq, const Tensor& dk, const Tensor& dv, const Tensor& qkv,
                        const Tensor& q_weight, const Tensor& k_weight, const Tensor& q_rstd,
                        const Tensor& k_rstd, const Tensor& cos, const Tensor& sin, const Tensor& dqkv,
                        const Tensor& dq_weight, const Tensor& dk_weight) {
  const std::int64_t samples = dq.size(0), heads = dq.size(1), tokens = dq.size(2), d = dq.size(3);
  const std::int64_t width = 3 * heads * d;
  visit_floating(qkv.dtype(), "qkv_split_backward", [&]<class T>() {
    using A = accumulator_t<T>;
    const GroupedRows rows(samples, tokens, width);
    const HeadView<T> grads[3] = {HeadView<T>(dq), HeadView<T>(dk), HeadView<T>(dv)};
    const A* const rstd[2] = {data_or_null<A>(q_rstd), data_or_null<A>(k_rstd)};
    const std::vector<A> weight[2] = {weight_values<T>(q_weight, d), weight_values<T>(k_weight, d)};
    const std::vector<A> ones(static_cast<std::size_t>(d), A(1));
    const A* c = data_or_null<A>(cos);
    const A* s = data_or_null<A>(sin);
    Tensor sums[2];
    if (rstd[0] != nullptr) sums[0] = ctx.empty(Shape{rows.chunks, d}, dtype_of<A>::value);
    if (rstd[1] != nullptr) sums[1] = ctx.empty(Shape{rows.chunks, d}, dtype_of<A>::value);
    visit_head_dim(d, [&]<int kD>() {
      rows.run(ctx, [&](std::int64_t chunk, std::int64_t sample, std::int64_t begin, std::int64_t end) {
        std::vector<A> dz(static_cast<std::size_t>(d));
        std::vector<A> dweight[2] = {std::vector<A>(static_cast<std::size_t>(d)),
                                     std::vector<A>(static_cast<std::size_t>(d))};
        for (std::int64_t column = 0; column < 3 * heads; ++column) {
          const std::int64_t part = column / heads, head = column % heads;
          const std::int64_t offset = (sample * tokens + begin) * width + column * d;
          const T* row = qkv.data<T>() + offset;
          T* out = dqkv.data<T>() + offset;
          for (std::int64_t n = begin; n < end; ++n, row += width, out += width) {
            const T* g = grads[part].at(sample, head, n);
            const A* cn = c ? c + n * (d / 2) : c;
            const A* sn = s ? s + n * (d / 2) : s;
            if (part == 2) {
              std::memcpy(out, g, static_cast<std::size_t>(d) * sizeof(T));
            } else if (rstd[part] == nullptr) {
              rotate<kD>(g, A(1), ones.data(), cn, sn, A(-1), d, out);
            } else {
              rotate<kD>(g, A(1), ones.data(), cn, sn, A(-1), d, dz.data());
              norm_backward<kD>(dz.data(), row, weight[part].data(),
                                rstd[part][(sample * heads + head) * tokens + n], d, out,
                                dweight[part].data());
            }
          }
        }
        for (int part = 0; part < 2; ++part)
          if (sums[part].defined())
            std::copy(dweight[part].begin(), dweight[part].end(), sums[part].template data<A>() + chunk * d);
      });
    });
    if (dq_weight.defined())
      sum_partials(ctx, sums[0].template data<A>(), 1, rows.chunks, d, dq_weight.data<A>());
    if (dk_weight.defined())
      sum_partials(ctx, sums[1].template data<A>(), 1, rows.chunks, d, dk_weight.data<A>());
  });
}

}  // namespace

constinit const RopeBackend kRope = {
    .rope = rope, .qkv_split = qkv_split, .qkv_split_backward = qkv_split_backward};

}  // namespace llsa::kernels::cpu
