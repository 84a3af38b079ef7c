// LLSA written out densely in f64, straight from its definition: for each query an explicit list of attended
// tokens, an ordinary softmax over it with the logarithm of the weights added, ordinary derivatives. Shares
// no code with the kernels, not even the plan's arithmetic.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace llsa::test {

/// The sizes of a problem; K per level, finest first.
struct LlsaCase {
  std::int64_t n = 1, d = 1;
  std::int64_t block = 2;
  std::vector<std::int64_t> topk;
  int levels = 0;
  int enriched = 0;
  bool reweight = true;
  bool own = false;

  std::int64_t span(int level) const {
    std::int64_t s = 1;
    for (int l = 0; l < level; ++l) s *= block;
    return s;
  }
  std::int64_t count(int level) const { return (n + span(level) - 1) / span(level); }
  std::int64_t covered(int level, std::int64_t i) const { return std::min(span(level), n - i * span(level)); }
};

/// One head: rows of d values.
using Matrix = std::vector<double>;
/// index[l][i] = ascending picks of node i at level l; index[0] is empty.
using PickTable = std::vector<std::vector<std::vector<std::int64_t>>>;

/// Mean of the fine tokens under token i of a level.
std::vector<double> pooled(const LlsaCase& c, const Matrix& x, int level, std::int64_t i);

/// Candidates of node i at a level, given the picks above.
std::vector<std::int64_t> candidates(const LlsaCase& c, const PickTable& picks, int level, std::int64_t i);

PickTable oracle_select(const LlsaCase& c, const Matrix& q, const Matrix& k);

struct AttendedToken {
  int level;
  std::int64_t token;
  double weight;
};

/// Everything that query n attends to.
std::vector<AttendedToken> attended_by(const LlsaCase& c, const PickTable& picks, std::int64_t n);

struct OracleResult {
  Matrix o, lse, dq, dk, dv;
};

/// Forward, and the gradients for the gradient g arriving at o.
OracleResult oracle_attention(const LlsaCase& c, const PickTable& picks, const Matrix& q, const Matrix& k,
                              const Matrix& v, const Matrix& g);

/// Standard normal values, the same for every dtype: rounded to f32.
Matrix random_matrix(std::int64_t size, std::uint64_t seed);

double largest(const Matrix& x);

/// max|a - b|; NaN if any of them is not a number, or the sizes differ.
double largest_difference(const Matrix& a, const Matrix& b);

/// max|a - b| / max|b|.
double relative_error(const Matrix& a, const Matrix& b);

}  // namespace llsa::test
