// Runs the LLSA kernels on the oracle's data, and reads their results back.
#pragma once

#include <vector>

#include "kernels/copy.h"
#include "kernels/llsa_stages.h"
#include "tests/support/llsa_oracle.h"

namespace llsa::test {

inline LlsaOptions options_of(const LlsaCase& c) {
  LlsaOptions o;
  o.block = static_cast<int>(c.block);
  o.topk.assign(c.topk.begin(), c.topk.end());
  o.levels = c.levels;
  o.enriched = c.enriched;
  o.reweight = c.reweight;
  o.own = c.own;
  return o;
}

/// A problem of b H heads with its data; head h uses elements [h n d, (h + 1) n d).
struct LlsaProblem {
  LlsaCase c;
  std::int64_t batch = 1, heads = 1;
  Matrix q, k, v, g;

  LlsaProblem(const LlsaCase& sizes, std::int64_t b, std::int64_t h, std::uint64_t seed)
      : c(sizes), batch(b), heads(h) {
    const std::int64_t size = b * h * c.n * c.d;
    q = random_matrix(size, 4 * seed);
    k = random_matrix(size, 4 * seed + 1);
    v = random_matrix(size, 4 * seed + 2);
    g = random_matrix(size, 4 * seed + 3);
  }

  Shape shape() const { return {batch, heads, c.n, c.d}; }
  Matrix head(const Matrix& x, std::int64_t h) const {
    const auto size = static_cast<std::ptrdiff_t>(c.n * c.d);
    return Matrix(x.begin() + h * size, x.begin() + (h + 1) * size);
  }
};

/// All heads of an oracle, one after the other.
struct OracleAll {
  std::vector<PickTable> picks;
  OracleResult result;
};

inline void append(Matrix& to, const Matrix& from) { to.insert(to.end(), from.begin(), from.end()); }

inline OracleAll run_oracle(const LlsaProblem& p) {
  OracleAll all;
  for (std::int64_t h = 0; h < p.batch * p.heads; ++h) {
    all.picks.push_back(oracle_select(p.c, p.head(p.q, h), p.head(p.k, h)));
    const OracleResult r = oracle_attention(p.c, all.picks.back(), p.head(p.q, h), p.head(p.k, h),
                                            p.head(p.v, h), p.head(p.g, h));
    append(all.result.o, r.o);
    append(all.result.lse, r.lse);
    append(all.result.dq, r.dq);
    append(all.result.dk, r.dk);
    append(all.result.dv, r.dv);
  }
  return all;
}

/// The oracle's picks as index tables.
inline kernels::LlsaIndices indices_of(Context& ctx, const LlsaProblem& p,
                                       const std::vector<PickTable>& picks, const LlsaPlan& plan) {
  kernels::LlsaIndices indices;
  for (int l = 1; l <= plan.levels; ++l) {
    const int width = plan.width[static_cast<std::size_t>(l) - 1];
    std::vector<std::int32_t> table;
    for (const PickTable& of_head : picks)
      for (const auto& row : of_head[static_cast<std::size_t>(l)])
        for (std::size_t e = 0; e < static_cast<std::size_t>(width); ++e)
          table.push_back(e < row.size() ? static_cast<std::int32_t>(row[e]) : -1);
    indices.level.push_back(
        kernels::from_vector(ctx, table, {p.batch, p.heads, plan.count[static_cast<std::size_t>(l)], width}));
  }
  return indices;
}

inline Tensor tensor_of(Context& ctx, const Matrix& x, const Shape& shape, DType dtype) {
  return kernels::cast(ctx, kernels::from_vector(ctx, x, shape), dtype);
}

struct KernelRun {
  Matrix o, lse, dq, dk, dv;
};

/// Forward and backward with given indices.
inline KernelRun run_kernels(Context& ctx, const LlsaProblem& p, const kernels::LlsaIndices& indices,
                             const LlsaPlan& plan, DType dtype) {
  const Tensor q = tensor_of(ctx, p.q, p.shape(), dtype), k = tensor_of(ctx, p.k, p.shape(), dtype),
               v = tensor_of(ctx, p.v, p.shape(), dtype), g = tensor_of(ctx, p.g, p.shape(), dtype);
  const kernels::LlsaResult r = kernels::llsa_attend(ctx, q, k, v, indices, plan);
  const kernels::AttentionGrads d = kernels::llsa_attention_backward(ctx, g, *r.state);
  const auto read = [&ctx](const Tensor& x) { return kernels::to_vector<double>(ctx, x); };
  return {read(r.o), read(r.lse), read(d.dq), read(d.dk), read(d.dv)};
}

}  // namespace llsa::test
