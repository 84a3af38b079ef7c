// LLSA in one file, for study: pyramid, selection, attention and its backward pass, without any optimisation.
//
//     c++ -std=c++20 -O2 examples/study/llsa.cpp -o study_llsa && ./study_llsa
//
// Full attention compares each of N queries with N keys. Log-linear Sparse Attention (Zhou et al., "Trainable
// Log-linear Sparse Attention for Efficient Diffusion Transformers", arXiv 2512.16615) compares each query with
// a few hundred keys, and that number grows only with log N:
//
//   1. Pyramid.    The mean of B consecutive tokens is a token of level 1, that of B^2 tokens is one of level 2,
//                  and so on up to level L.
//   2. Selection.  At the top each pooled query picks the K pooled keys that it matches best. One level below,
//                  its B children choose among the children of those picks only, and so on down to level 1.
//   3. Attention.  A query attends to the tokens under its last picks, and to the means it met on the way.
//   4. Backward.   A key collects gradients from the queries that attended to it. The transpose of the tables of
//                  picks lists these queries.
//
// The file reads from top to bottom in this order. It handles one head of one sequence in double precision and
// assumes that all inputs are finite. The engine computes the same in kernels/, for many heads and on several
// processors; its tests compare it with this file.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <random>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace llsa_study {

// ---- 0. Sizes ---------------------------------------------------------------------------------------------

/// A row per token, a column per channel.
using Matrix = std::vector<std::vector<double>>;

/// Row i lists the picks of query node i, ascending. There is one such table for each level 1 .. L.
using Table = std::vector<std::vector<int>>;

/// Level 0 holds the N tokens themselves. Token i of level l stands for B^l of them, from i B^l on. No size has
/// to be a power of two or a multiple of anything: the last token of a level may stand for fewer.
struct Sizes {
  int n = 1;                 ///< N, the number of tokens
  int d = 1;                 ///< D, the number of channels
  int block = 16;            ///< B >= 2, how many tokens become one token of the next level
  std::vector<int> k = {8};  ///< picks of a query node: one K for all levels, or K_1 .. K_L
  int levels = 0;            ///< L >= 0, with more than one token at level L-1; 0 is full attention
  int enriched = 0;          ///< L_e <= L: queries attend to means of levels 1 .. L_e; 0 = to tokens only
  bool reweight = true;      ///< a mean of c tokens counts c times

  /// B^l
  int span(int level) const {
    int span = 1;
    for (int l = 0; l < level; ++l) span *= block;
    return span;
  }
  /// n_l = ceil(N / B^l), the number of tokens of a level.
  int count(int level) const { return (n + span(level) - 1) / span(level); }
  /// The tokens first .. last - 1 of level 0 that token i of a level stands for.
  int first(int level, int i) const { return i * span(level); }
  int last(int level, int i) const { return std::min((i + 1) * span(level), n); }
  /// c_l[i], the number of these tokens.
  int covered(int level, int i) const { return last(level, i) - first(level, i); }
  int picks(int level) const { return k.size() == 1 ? k[0] : k[level - 1]; }
};

/// The usual choice of L: as many levels as leave at least B tokens at the top. Below B^2 tokens that is L = 0.
int usual_levels(int n, int block) {
  int levels = 0;
  while (n / block >= block) {
    n /= block;
    ++levels;
  }
  return levels;
}

Matrix zeros(int rows, int columns) { return Matrix(rows, std::vector<double>(columns, 0.0)); }

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

/// y += factor x
void add_to(std::vector<double>& y, double factor, const std::vector<double>& x) {
  for (std::size_t i = 0; i < y.size(); ++i) y[i] += factor * x[i];
}

// ---- 1. Pyramid -------------------------------------------------------------------------------------------

/// level[l][i] is the mean of the tokens that token i of level l stands for; level[0] is x itself.
std::vector<Matrix> pyramid(const Sizes& s, const Matrix& x) {
  std::vector<Matrix> level;
  for (int l = 0; l <= s.levels; ++l) {
    Matrix means = zeros(s.count(l), s.d);
    for (int i = 0; i < s.count(l); ++i)
      for (int t = s.first(l, i); t < s.last(l, i); ++t) add_to(means[i], 1.0 / s.covered(l, i), x[t]);
    level.push_back(means);
  }
  return level;
}

// ---- 2. Selection -----------------------------------------------------------------------------------------

/// The keys of a level that query node i of that level can choose from: at the top all of them, below the top
/// the children of what its parent has picked. B siblings have the same parent, so they share their candidates.
std::vector<int> candidates(const Sizes& s, const std::vector<Table>& picks, int level, int i) {
  std::vector<int> list;
  if (level == s.levels) {
    for (int j = 0; j < s.count(level); ++j) list.push_back(j);
    return list;
  }
  for (int parent : picks[level + 1][i / s.block])
    for (int j = parent * s.block; j < std::min((parent + 1) * s.block, s.count(level)); ++j)
      list.push_back(j);
  return list;
}

/// The tables of picks, from the pyramids of queries and keys. picks[l] is that of level l; picks[0] is empty.
///
/// Scores are plain dot products: a factor such as 1/sqrt(D) would not change which of them are largest. Of equal
/// scores the lower index wins. Nothing makes a node pick itself: a query may attend to no token of its own block.
std::vector<Table> select(const Sizes& s, const std::vector<Matrix>& q, const std::vector<Matrix>& k) {
  std::vector<Table> picks(s.levels + 1);
  for (int l = s.levels; l >= 1; --l) {
    for (int i = 0; i < s.count(l); ++i) {
      std::vector<std::pair<double, int>> ranking;  // sorted by -score, then by index
      for (int j : candidates(s, picks, l, i)) ranking.emplace_back(-dot(q[l][i], k[l][j]), j);
      std::sort(ranking.begin(), ranking.end());

      std::vector<int> best;
      for (const auto& [minus_score, j] : ranking)
        if (static_cast<int>(best.size()) < s.picks(l)) best.push_back(j);
      std::sort(best.begin(), best.end());
      picks[l].push_back(best);
    }
  }
  return picks;
}

// ---- 3. Attention -----------------------------------------------------------------------------------------

/// One thing that a query attends to: a token of some level. Its weight multiplies exp(score).
struct Attended {
  int level, token;
  double weight;
};

/// All that query t attends to. At level 0, where nothing is picked any more, that is every candidate of t; at
/// the levels l = 1 .. L_e it is every candidate of its ancestor t / B^l, not only what the ancestor has picked.
/// A mean stays in the list even where the query attends to some of its tokens as well.
std::vector<Attended> attended_by(const Sizes& s, const std::vector<Table>& picks, int t) {
  std::vector<Attended> list;
  for (int l = 0; l <= s.enriched; ++l)
    for (int j : candidates(s, picks, l, t / s.span(l)))
      list.push_back({l, j, s.reweight ? static_cast<double>(s.covered(l, j)) : 1.0});
  return list;
}

/// The weight c of a mean appears as ln c here, because c exp(x) = exp(x + ln c).
double logit(const std::vector<double>& query, const std::vector<double>& key, double weight) {
  return dot(query, key) / std::sqrt(static_cast<double>(query.size())) + std::log(weight);
}

struct Result {
  Matrix o;  ///< O[t] = sum_j w_j exp(q_t k_j / sqrt(D)) v_j / sum_j w_j exp(q_t k_j / sqrt(D))
  std::vector<double> lse;  ///< the natural logarithm of that denominator
};

/// One softmax for each query, over everything that it attends to.
Result attention(const Sizes& s, const std::vector<Table>& picks, const Matrix& q, const Matrix& k,
                 const Matrix& v) {
  const std::vector<Matrix> keys = pyramid(s, k), values = pyramid(s, v);
  Result result{zeros(s.n, s.d), {}};
  for (int t = 0; t < s.n; ++t) {
    const std::vector<Attended> list = attended_by(s, picks, t);
    std::vector<double> logits;
    for (const Attended& a : list) logits.push_back(logit(q[t], keys[a.level][a.token], a.weight));

    // exp() of a large logit would overflow, so the largest one is subtracted first: it cancels in the quotient.
    const double largest = *std::max_element(logits.begin(), logits.end());
    double sum = 0;
    for (double x : logits) sum += std::exp(x - largest);
    result.lse.push_back(largest + std::log(sum));

    for (std::size_t e = 0; e < list.size(); ++e)
      add_to(result.o[t], std::exp(logits[e] - result.lse[t]), values[list[e].level][list[e].token]);
  }
  return result;
}

// ---- 4. Backward ------------------------------------------------------------------------------------------
//
// The selection is a choice and has no gradient: the picks are constants here. A query q has the probabilities
// P_j = exp(logit_j - lse) and the output o = sum_j P_j v_j. For a gradient dO of o, the rules of softmax give
//
//     dV_j += P_j dO
//     dS_j  = P_j (dO . v_j - dO . o)          the gradient of the score q . k_j / sqrt(D)
//     dQ   += dS_j k_j / sqrt(D)
//     dK_j += dS_j q / sqrt(D)
//
// P is computed again from lse instead of being kept, so nothing of size N x N is ever stored.

/// Which query nodes have picked key j: row j of the result, ascending.
Table transpose(const Table& table, int keys) {
  Table transposed(keys);
  for (int i = 0; i < static_cast<int>(table.size()); ++i)
    for (int j : table[i]) transposed[j].push_back(i);
  return transposed;
}

/// The queries that attend to token j of a level: attended_by, read the other way. At the top that is every query.
/// Below the top it is every query under the nodes that have picked its parent, j / B.
std::vector<int> queries_of(const Sizes& s, const std::vector<Table>& transposed, int level, int j) {
  std::vector<int> list;
  if (level == s.levels) {
    for (int t = 0; t < s.n; ++t) list.push_back(t);
    return list;
  }
  for (int i : transposed[level + 1][j / s.block])
    for (int t = s.first(level + 1, i); t < s.last(level + 1, i); ++t) list.push_back(t);
  return list;
}

struct Gradients {
  Matrix dq, dk, dv;
};

Gradients backward(const Sizes& s, const std::vector<Table>& picks, const Matrix& q, const Matrix& k,
                   const Matrix& v, const Result& forward, const Matrix& d_o) {
  const std::vector<Matrix> keys = pyramid(s, k), values = pyramid(s, v);
  const double scale = 1 / std::sqrt(static_cast<double>(s.d));
  Gradients grads{zeros(s.n, s.d), zeros(s.n, s.d), zeros(s.n, s.d)};

  // P and dS of query t and a token that it attends to.
  const auto p_and_ds = [&](int t, int level, int j, double weight) {
    const double p = std::exp(logit(q[t], keys[level][j], weight) - forward.lse[t]);
    return std::pair(p, p * (dot(d_o[t], values[level][j]) - dot(d_o[t], forward.o[t])));
  };

  // By query, as in the forward pass. The pooled queries have only made choices, so they have no gradient.
  for (int t = 0; t < s.n; ++t)
    for (const Attended& a : attended_by(s, picks, t)) {
      const auto [p, ds] = p_and_ds(t, a.level, a.token, a.weight);
      add_to(grads.dq[t], ds * scale, keys[a.level][a.token]);
    }

  // By key, through the transposed tables. Each sum belongs to one key and has a fixed order, so processors can
  // work on different keys, and no two of them ever add to the same number.
  std::vector<Table> transposed;
  for (int l = 0; l <= s.levels; ++l) transposed.push_back(transpose(picks[l], s.count(l)));
  for (int l = 0; l <= s.enriched; ++l)
    for (int j = 0; j < s.count(l); ++j) {
      const double weight = s.reweight ? s.covered(l, j) : 1.0;
      std::vector<double> dk(s.d, 0.0), dv(s.d, 0.0);
      for (int t : queries_of(s, transposed, l, j)) {
        const auto [p, ds] = p_and_ds(t, l, j, weight);
        add_to(dk, ds * scale, q[t]);
        add_to(dv, p, d_o[t]);
      }
      // Token j is the mean of c tokens, so each of them receives 1/c of its gradient.
      for (int t = s.first(l, j); t < s.last(l, j); ++t) {
        add_to(grads.dk[t], 1.0 / s.covered(l, j), dk);
        add_to(grads.dv[t], 1.0 / s.covered(l, j), dv);
      }
    }
  return grads;
}

// ---- 5. Is all this right? --------------------------------------------------------------------------------

Matrix random_matrix(int rows, int columns, std::mt19937& random) {
  std::normal_distribution<double> normal;
  Matrix x = zeros(rows, columns);
  for (auto& row : x)
    for (double& value : row) value = normal(random);
  return x;
}

/// max |a - b|; NaN if any of them is.
double difference(const Matrix& a, const Matrix& b) {
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    for (std::size_t j = 0; j < a[i].size(); ++j) {
      const double now = std::abs(a[i][j] - b[i][j]);
      if (std::isnan(now)) return now;
      largest = std::max(largest, now);
    }
  return largest;
}

/// The derivative of sum(O * d_o) by every element of x, which is one of q, k and v: the slope between two points
/// close by. The picks stay what they are.
Matrix finite_differences(const Sizes& s, const std::vector<Table>& picks, const Matrix& q, const Matrix& k,
                          const Matrix& v, const Matrix& d_o, Matrix& x) {
  const auto loss = [&] {
    const Result result = attention(s, picks, q, k, v);
    double sum = 0;
    for (int t = 0; t < s.n; ++t) sum += dot(result.o[t], d_o[t]);
    return sum;
  };
  constexpr double kStep = 1e-5;
  Matrix slope = zeros(s.n, s.d);
  for (int t = 0; t < s.n; ++t)
    for (int channel = 0; channel < s.d; ++channel) {
      const double value = x[t][channel];
      x[t][channel] = value + kStep;
      const double above = loss();
      x[t][channel] = value - kStep;
      const double below = loss();
      x[t][channel] = value;
      slope[t][channel] = (above - below) / (2 * kStep);
    }
  return slope;
}

/// By query and by key the same pairs must be met.
bool transpose_agrees(const Sizes& s, const std::vector<Table>& picks) {
  std::set<std::tuple<int, int, int>> by_query, by_key;  // query, level, token
  for (int t = 0; t < s.n; ++t)
    for (const Attended& a : attended_by(s, picks, t)) by_query.emplace(t, a.level, a.token);
  std::vector<Table> transposed;
  for (int l = 0; l <= s.levels; ++l) transposed.push_back(transpose(picks[l], s.count(l)));
  for (int l = 0; l <= s.enriched; ++l)
    for (int j = 0; j < s.count(l); ++j)
      for (int t : queries_of(s, transposed, l, j)) by_key.emplace(t, l, j);
  return by_query == by_key;
}

/// Runs all checks, describes them on `out`, and returns whether they have passed.
bool check(std::ostream& out) {
  bool passed = true;
  const auto report = [&](const std::string& what, bool right) {
    out << (right ? "ok      " : "FAILED  ") << what << '\n';
    passed = passed && right;
  };
  const auto number = [](double x) {
    char text[32];
    std::snprintf(text, sizeof text, "%.1e", x);
    return std::string(text);
  };
  std::mt19937 random(1);

  // Sizes are ragged on purpose: N, D, B, K, L, L_e, re-weighting.
  const std::vector<Sizes> cases = {
      {1, 3, 4, {2}, 0, 0, true},        {23, 4, 4, {2}, 0, 0, true},       {23, 3, 4, {2}, 1, 1, true},
      {23, 3, 4, {2}, 1, 0, true},       {29, 3, 3, {2}, 2, 2, true},       {29, 3, 3, {2}, 2, 2, false},
      {31, 2, 2, {3, 2, 1}, 3, 3, true}, {31, 2, 2, {1, 2, 3}, 3, 2, true}, {37, 2, 5, {1}, 2, 1, true}};
  for (const Sizes& s : cases) {
    Matrix q = random_matrix(s.n, s.d, random), k = random_matrix(s.n, s.d, random),
           v = random_matrix(s.n, s.d, random);
    const Matrix d_o = random_matrix(s.n, s.d, random);
    const std::vector<Table> picks = select(s, pyramid(s, q), pyramid(s, k));
    const Gradients grads = backward(s, picks, q, k, v, attention(s, picks, q, k, v), d_o);
    const double error = difference(grads.dq, finite_differences(s, picks, q, k, v, d_o, q)) +
                         difference(grads.dk, finite_differences(s, picks, q, k, v, d_o, k)) +
                         difference(grads.dv, finite_differences(s, picks, q, k, v, d_o, v));
    const std::string name = "N = " + std::to_string(s.n) + ", B = " + std::to_string(s.block) +
                             ", L = " + std::to_string(s.levels) + ", L_e = " + std::to_string(s.enriched) +
                             (s.reweight ? "" : ", no re-weighting");
    report(name + ": gradients differ from finite differences by " + number(error), error < 1e-8);
    report(name + ": the transpose lists the same pairs", transpose_agrees(s, picks));
  }

  // Whoever picks every block and attends to no means computes full attention.
  const Sizes all{45, 4, 4, {1000}, 2, 0, true}, full{45, 4, 4, {1}, 0, 0, true};
  const Matrix q = random_matrix(45, 4, random), k = random_matrix(45, 4, random),
               v = random_matrix(45, 4, random);
  const double error =
      difference(attention(all, select(all, pyramid(all, q), pyramid(all, k)), q, k, v).o,
                 attention(full, select(full, pyramid(full, q), pyramid(full, k)), q, k, v).o);
  report("all blocks picked: full attention, to " + number(error), error < 1e-13);

  // The point of the method: queries hardly get more keys. Here all scores are equal, which changes no count.
  out << "\nkeys of a query, B = 16, K = 8\n";
  const std::vector<std::pair<int, int>> expected = {{1024, 192}, {4096, 272}, {16384, 320}, {65536, 400}};
  for (const auto& [n, keys] : expected) {
    Sizes s{n, 1, 16, {8}, usual_levels(n, 16), usual_levels(n, 16), true};
    const std::vector<Matrix> same = pyramid(s, zeros(n, 1));
    const auto met = static_cast<int>(attended_by(s, select(s, same, same), 0).size());
    report("N = " + std::to_string(n) + ", L = " + std::to_string(s.levels) + ": " + std::to_string(met),
           met == keys);
  }
  return passed;
}

}  // namespace llsa_study

#ifndef STUDY_WITHOUT_MAIN
int main() { return llsa_study::check(std::cout) ? 0 : 1; }
#endif
