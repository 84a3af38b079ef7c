// LLSA attention as one would write it with bf16 tensors and f32 accumulation: every intermediate tensor
// (pooled tokens, scores, probabilities, dP, dS, results) is rounded to bf16. What the tensor-core kernels'
// errors are held against.
#pragma once

#include "tests/support/llsa_run.h"
#include "tests/support/tensors.h"

namespace llsa::test {

inline double rounded(double x) {
  return static_cast<double>(static_cast<float>(bf16(static_cast<float>(x))));
}

inline std::vector<double> rounded(std::vector<double> x) {
  for (double& value : x) value = rounded(value);
  return x;
}

/// One head, appended to `all`. Gradients of coarse tokens go down in f32 and are rounded once. Without
/// levels there may be more or fewer queries than the c.n keys.
inline void append_bf16_head(KernelRun& all, const LlsaCase& c, const PickTable& picks, const Matrix& q,
                             const Matrix& k, const Matrix& v, const Matrix& g) {
  const auto d = static_cast<std::size_t>(c.d);
  const double scale = 1 / std::sqrt(static_cast<double>(c.d));
  std::vector<std::vector<std::vector<double>>> kl, vl;  // [level][token]
  for (int l = 0; l <= c.levels; ++l) {
    kl.emplace_back();
    vl.emplace_back();
    for (std::int64_t i = 0; i < c.count(l); ++i) {
      kl.back().push_back(rounded(pooled(c, k, l, i)));
      vl.back().push_back(rounded(pooled(c, v, l, i)));
    }
  }
  Matrix dk(k.size()), dv(k.size());
  for (std::int64_t n = 0; n < static_cast<std::int64_t>(q.size()) / c.d; ++n) {
    const std::vector<AttendedToken> list = attended_by(c, picks, n);
    const auto row = static_cast<std::ptrdiff_t>(n * c.d);
    const std::vector<double> query(q.begin() + row, q.begin() + row + c.d),
        grad(g.begin() + row, g.begin() + row + c.d);
    const auto key = [&](const AttendedToken& a) -> const std::vector<double>& {
      return kl[static_cast<std::size_t>(a.level)][static_cast<std::size_t>(a.token)];
    };
    const auto value = [&](const AttendedToken& a) -> const std::vector<double>& {
      return vl[static_cast<std::size_t>(a.level)][static_cast<std::size_t>(a.token)];
    };
    std::vector<double> p;
    double top = -std::numeric_limits<double>::infinity(), sum = 0;
    for (const AttendedToken& a : list) {
      p.push_back(rounded(dot(query, key(a)) * scale) + std::log(a.weight));
      top = std::max(top, p.back());
    }
    for (double& x : p) sum += x = std::exp(x - top);
    std::vector<double> o(d), dq(d);
    double delta = 0;
    for (std::size_t e = 0; e < list.size(); ++e) {
      p[e] = rounded(p[e] / sum);
      for (std::size_t j = 0; j < d; ++j) o[j] += p[e] * value(list[e])[j];
    }
    o = rounded(o);
    delta = dot(o, grad);
    for (std::size_t e = 0; e < list.size(); ++e) {
      const AttendedToken& a = list[e];
      const double ds = rounded(p[e] * (rounded(dot(grad, value(a))) - delta)) * scale;
      for (std::size_t j = 0; j < d; ++j) dq[j] += ds * key(a)[j];
      const std::int64_t first = a.token * c.span(a.level), cover = c.covered(a.level, a.token);
      for (std::int64_t t = first; t < first + cover; ++t)
        for (std::size_t j = 0; j < d; ++j) {
          dk[static_cast<std::size_t>(t) * d + j] += ds * query[j] / static_cast<double>(cover);
          dv[static_cast<std::size_t>(t) * d + j] += p[e] * grad[j] / static_cast<double>(cover);
        }
    }
    append(all.o, o);
    append(all.dq, rounded(dq));
    all.lse.push_back(top + std::log(sum));
  }
  append(all.dk, rounded(dk));
  append(all.dv, rounded(dv));
}

inline KernelRun run_bf16_reference(const LlsaProblem& p, const std::vector<PickTable>& picks) {
  KernelRun all;
  for (std::int64_t h = 0; h < p.batch * p.heads; ++h)
    append_bf16_head(all, p.c, picks[static_cast<std::size_t>(h)], p.head(p.q, h), p.head(p.k, h),
                     p.head(p.v, h), p.head(p.g, h));
  return all;
}

}  // namespace llsa::test
