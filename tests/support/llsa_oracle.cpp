#include "tests/support/llsa_oracle.h"

#include <cmath>
#include <limits>
#include <tuple>
#include <utility>

#include "core/philox.h"
#include "tests/support/tensors.h"

namespace llsa::test {

std::vector<double> pooled(const LlsaCase& c, const Matrix& x, int level, std::int64_t i) {
  std::vector<double> mean(static_cast<std::size_t>(c.d), 0.0);
  const std::int64_t first = i * c.span(level), cover = c.covered(level, i);
  for (std::int64_t t = first; t < first + cover; ++t)
    for (std::int64_t j = 0; j < c.d; ++j)
      mean[static_cast<std::size_t>(j)] += x[static_cast<std::size_t>(t * c.d + j)];
  for (double& m : mean) m /= static_cast<double>(cover);
  return mean;
}

std::vector<std::int64_t> candidates(const LlsaCase& c, const PickTable& picks, int level, std::int64_t i) {
  std::vector<std::int64_t> list;
  if (level == c.levels) {
    for (std::int64_t j = 0; j < c.count(level); ++j) list.push_back(j);
    return list;
  }
  for (std::int64_t j : picks[static_cast<std::size_t>(level) + 1][static_cast<std::size_t>(i / c.block)])
    for (std::int64_t t = j * c.block; t < std::min((j + 1) * c.block, c.count(level)); ++t)
      list.push_back(t);
  return list;
}

PickTable oracle_select(const LlsaCase& c, const Matrix& q, const Matrix& k) {
  PickTable picks(static_cast<std::size_t>(c.levels) + 1);
  for (int l = c.levels; l >= 1; --l) {
    for (std::int64_t i = 0; i < c.count(l); ++i) {
      const std::vector<double> query = pooled(c, q, l, i);
      std::vector<std::tuple<bool, double, std::int64_t>> scored;
      for (std::int64_t t : candidates(c, picks, l, i)) {
        const double s = dot(query, pooled(c, k, l, t));
        scored.emplace_back(!(c.own && t == i), std::isnan(s) ? std::numeric_limits<double>::infinity() : -s,
                            t);
      }
      std::sort(scored.begin(), scored.end());  // an own node first, then by score, then by index
      std::vector<std::int64_t> best;
      const auto keep =
          std::min(scored.size(), static_cast<std::size_t>(c.topk[static_cast<std::size_t>(l) - 1]));
      for (std::size_t e = 0; e < keep; ++e) best.push_back(std::get<2>(scored[e]));
      std::sort(best.begin(), best.end());
      picks[static_cast<std::size_t>(l)].push_back(best);
    }
  }
  return picks;
}

std::vector<AttendedToken> attended_by(const LlsaCase& c, const PickTable& picks, std::int64_t n) {
  std::vector<AttendedToken> list;
  for (int l = 0; l <= c.levels; ++l) {
    if (l > 0 && l > c.enriched) continue;
    const bool all = l == c.levels;
    std::vector<std::int64_t> tokens;
    if (all) {
      for (std::int64_t t = 0; t < c.count(l); ++t) tokens.push_back(t);
    } else {
      for (std::int64_t j :
           picks[static_cast<std::size_t>(l) + 1][static_cast<std::size_t>(n / c.span(l + 1))])
        for (std::int64_t t = j * c.block; t < std::min((j + 1) * c.block, c.count(l)); ++t)
          tokens.push_back(t);
    }
    for (std::int64_t t : tokens)
      list.push_back({l, t, l > 0 && c.reweight ? static_cast<double>(c.covered(l, t)) : 1.0});
  }
  return list;
}

OracleResult oracle_attention(const LlsaCase& c, const PickTable& picks, const Matrix& q, const Matrix& k,
                              const Matrix& v, const Matrix& g) {
  const auto d = static_cast<std::size_t>(c.d);
  const double scale = 1 / std::sqrt(static_cast<double>(c.d));
  std::vector<std::vector<std::vector<double>>> kl, vl;
  for (int l = 0; l <= c.levels; ++l) {
    kl.emplace_back();
    vl.emplace_back();
    for (std::int64_t i = 0; i < c.count(l); ++i) {
      kl.back().push_back(pooled(c, k, l, i));
      vl.back().push_back(pooled(c, v, l, i));
    }
  }
  OracleResult r;
  r.o.resize(q.size());
  r.dq.resize(q.size());
  r.dk.resize(q.size());
  r.dv.resize(q.size());
  r.lse.resize(static_cast<std::size_t>(c.n));
  for (std::int64_t n = 0; n < c.n; ++n) {
    const std::vector<AttendedToken> list = attended_by(c, picks, n);
    const auto row = static_cast<std::size_t>(n) * d;
    const std::vector<double> query(q.begin() + static_cast<std::ptrdiff_t>(row),
                                    q.begin() + static_cast<std::ptrdiff_t>(row + d));
    const std::vector<double> grad(g.begin() + static_cast<std::ptrdiff_t>(row),
                                   g.begin() + static_cast<std::ptrdiff_t>(row + d));
    std::vector<double> p;
    double top = -std::numeric_limits<double>::infinity();
    for (const AttendedToken& a : list) {
      p.push_back(dot(query, kl[static_cast<std::size_t>(a.level)][static_cast<std::size_t>(a.token)]) *
                      scale +
                  std::log(a.weight));
      top = std::max(top, p.back());
    }
    double sum = 0;
    for (double& x : p) sum += x = std::exp(x - top);
    r.lse[static_cast<std::size_t>(n)] = top + std::log(sum);
    double delta = 0;
    for (std::size_t e = 0; e < list.size(); ++e) {
      p[e] /= sum;
      const auto& value =
          vl[static_cast<std::size_t>(list[e].level)][static_cast<std::size_t>(list[e].token)];
      for (std::size_t j = 0; j < d; ++j) r.o[row + j] += p[e] * value[j];
      delta += p[e] * dot(grad, value);
    }
    for (std::size_t e = 0; e < list.size(); ++e) {
      const AttendedToken& a = list[e];
      const auto& key = kl[static_cast<std::size_t>(a.level)][static_cast<std::size_t>(a.token)];
      const auto& value = vl[static_cast<std::size_t>(a.level)][static_cast<std::size_t>(a.token)];
      const double ds = p[e] * (dot(grad, value) - delta) * scale;
      for (std::size_t j = 0; j < d; ++j) r.dq[row + j] += ds * key[j];
      // The gradient of a mean is shared by what it is the mean of.
      const std::int64_t first = a.token * c.span(a.level), cover = c.covered(a.level, a.token);
      for (std::int64_t t = first; t < first + cover; ++t) {
        const auto fine = static_cast<std::size_t>(t) * d;
        for (std::size_t j = 0; j < d; ++j) {
          r.dk[fine + j] += ds * query[j] / static_cast<double>(cover);
          r.dv[fine + j] += p[e] * grad[j] / static_cast<double>(cover);
        }
      }
    }
  }
  return r;
}

Matrix random_matrix(std::int64_t size, std::uint64_t seed) {
  Matrix x;
  for (std::int64_t i = 0; i < size; ++i)
    x.push_back(static_cast<double>(Philox{seed, 77}.normal(static_cast<std::uint64_t>(i))));
  return x;
}

double largest(const Matrix& x) {
  double size = 0;
  for (double value : x) size = std::max(size, std::abs(value));
  return size;
}

double largest_difference(const Matrix& a, const Matrix& b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::quiet_NaN();
  double error = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double e = std::abs(a[i] - b[i]);
    if (!(e <= std::numeric_limits<double>::max())) return std::numeric_limits<double>::quiet_NaN();
    error = std::max(error, e);
  }
  return error;
}

double relative_error(const Matrix& a, const Matrix& b) { return largest_difference(a, b) / largest(b); }

}  // namespace llsa::test
