// Linear attention over blocks that were not picked, on the CPU. For each head:
//
//     S_j = sum of b[s]^T c[s] over block j           in the dtype of the tensors, token by token
//     R_i = sum of the S_j that row i leaves out      in f64: directly, or total minus picked ones
//     y[t] = a[t] R_i                                 for the tokens of block i
//
// The matrices of as many heads as fit into kMatrixBytes are kept at a time.
#include <vector>

#include "kernels/backend/attention.h"
#include "kernels/cpu/attention_driver.h"
#include "kernels/cpu/chunks.h"
#include "kernels/cpu/scratch.h"

namespace llsa::kernels::cpu {
namespace {

constexpr std::int64_t kMatrixBytes = std::int64_t{64} << 20;

/// The blocks that each row lists, ascending. `offset` as in an IndexTranspose, or null where rows have a fixed
/// width and -1 fills their ends.
struct Lists {
  const std::int32_t* offset;
  const std::int32_t* entries;
  std::int64_t rows, width;

  struct Row {
    const std::int32_t* at;
    std::int64_t count;
  };
  Row row(std::int64_t head, std::int64_t i) const {
    if (offset) {
      const std::int32_t* const begin = offset + head * (rows + 1) + i;
      return {entries + head * rows * width + begin[0], begin[1] - begin[0]};
    }
    Row row = {entries + (head * rows + i) * width, 0};
    while (row.count < width && row.at[row.count] >= 0) ++row.count;
    return row;
  }
};

void check_row(const Lists::Row& row, std::int64_t blocks) {
  for (std::int64_t e = 0; e < row.count; ++e)
    if (row.at[e] >= blocks || (e > 0 && row.at[e] <= row.at[e - 1]))
      throw ValueError(cat("[linear_attention_rest] picks have to ascend and to be below ", blocks, ", got ",
                           row.at[e], e > 0 ? cat(" after ", row.at[e - 1]) : std::string()));
}

/// sum[x] += sign times each of the rows, in order, four rows at a time.
template <class A>
void add_rows(const std::vector<const A*>& rows, double sign, std::int64_t first, std::int64_t count,
              double* sum) {
  std::size_t r = 0;
  for (; r + 4 <= rows.size(); r += 4) {
    const A *const a = rows[r] + first, *const b = rows[r + 1] + first, *const c = rows[r + 2] + first,
                   *const d = rows[r + 3] + first;
#pragma omp simd
    for (std::int64_t x = 0; x < count; ++x)
      sum[x] = sum[x] + sign * static_cast<double>(a[x]) + sign * static_cast<double>(b[x]) +
               sign * static_cast<double>(c[x]) + sign * static_cast<double>(d[x]);
  }
  for (; r < rows.size(); ++r) {
    const A* const a = rows[r] + first;
#pragma omp simd
    for (std::int64_t x = 0; x < count; ++x) sum[x] += sign * static_cast<double>(a[x]);
  }
}

/// left = the sum of the matrices of all blocks that the row leaves out. matrices[j] has `size` numbers;
/// `rows` is working memory.
template <class A>
void sum_rest(const A* matrices, const double* total, std::int64_t size, std::int64_t blocks, Lists::Row row,
              std::vector<const A*>& rows, A* left) {
  const bool direct = blocks <= 4 * row.count;
  rows.clear();
  if (direct) {
    std::int64_t e = 0;
    for (std::int64_t j = 0; j < blocks; ++j) {
      if (e < row.count && row.at[e] == j)
        ++e;
      else
        rows.push_back(matrices + j * size);
    }
  } else {
    for (std::int64_t e = 0; e < row.count; ++e) rows.push_back(matrices + row.at[e] * size);
  }
  constexpr std::int64_t kPart = 1024;  // numbers that stay in the first cache
  double sum[kPart];
  for (std::int64_t first = 0; first < size; first += kPart) {
    const std::int64_t count = std::min(kPart, size - first);
    if (direct)
      std::fill_n(sum, count, 0.0);
    else
      std::copy_n(total + first, count, sum);
    add_rows(rows, direct ? 1.0 : -1.0, first, count, sum);
    for (std::int64_t x = 0; x < count; ++x) left[first + x] = static_cast<A>(sum[x]);
  }
}

template <class A>
void rest(Context& ctx, const Heads<A>& a, const Heads<A>& b, const Heads<A>& c, std::int64_t block,
          const Lists& lists, const Heads<A>& y) {
  const std::int64_t tokens = a.tokens, blocks = lists.rows, rows = a.d, columns = c.d, size = rows * columns;
  const std::int64_t bytes = blocks * size * static_cast<std::int64_t>(sizeof(A));
  const std::int64_t group = std::clamp<std::int64_t>(kMatrixBytes / std::max<std::int64_t>(bytes, 1), 1,
                                                      std::max<std::int64_t>(a.count(), 1));
  const Tensor matrices = ctx.empty({group, blocks, size}, dtype_of<A>::value);
  const Tensor totals = ctx.empty({group, size}, DType::f64);
  A* const s = matrices.data<A>();
  const std::int64_t per_chunk = std::max<std::int64_t>(1, 65536 / std::max<std::int64_t>(block * size, 1));

  for (std::int64_t begin = 0; begin < a.count(); begin += group) {
    const std::int64_t heads = std::min(group, a.count() - begin);
    for_block_ranges(
        ctx, heads, blocks, per_chunk, [&](std::int64_t head, std::int64_t first, std::int64_t last) {
          for (std::int64_t j = first; j < last; ++j) {
            const std::int64_t t = j * block, count = std::min(block, tokens - t);
            A* const to = s + (head * blocks + j) * size;
            std::fill_n(to, size, A(0));
            const tile::RowRange<A> values = {c.row(begin + head, t), c.stride, count, 0};
            tile::add_product<A>(b.row(begin + head, t), 1, b.stride, &values, 1, columns, rows, to, columns);
          }
        });
    sum_partials(ctx, s, heads, blocks, size, totals.data<double>());
    for_block_ranges(ctx, heads, blocks, per_chunk,
                     [&](std::int64_t head, std::int64_t first, std::int64_t last) {
                       A* const left = scratch<0, A>(size);
                       std::vector<const A*> listed;
                       for (std::int64_t i = first; i < last; ++i) {
                         const Lists::Row row = lists.row(begin + head, i);
                         check_row(row, blocks);
                         sum_rest(s + head * blocks * size, totals.data<double>() + head * size, size, blocks,
                                  row, listed, left);
                         const std::int64_t t = i * block, count = std::min(block, tokens - t);
                         for (std::int64_t n = 0; n < count; ++n)
                           std::fill_n(y.row(begin + head, t + n), columns, A(0));
                         const tile::RowRange<A> factor = {left, columns, rows, 0};
                         tile::add_product<A>(a.row(begin + head, t), a.stride, 1, &factor, 1, columns, count,
                                              y.row(begin + head, t), y.stride);
                       }
                     });
  }
}

void linear_attention_rest(Context& ctx, const Tensor& a, const Tensor& b, const Tensor& c,
                           std::int64_t block, const Tensor& lists, const Tensor& offset, const Tensor& y) {
  const std::int64_t blocks = (a.size(2) + block - 1) / block;
  const std::int64_t width = lists.numel() / std::max<std::int64_t>(a.size(0) * a.size(1) * blocks, 1);
  const Lists by_row = {offset.defined() ? offset.data<std::int32_t>() : nullptr, lists.data<std::int32_t>(),
                        blocks, width};
  const auto run = [&]<class A>() {
    rest<A>(ctx, Heads<A>(a), Heads<A>(b), Heads<A>(c), block, by_row, Heads<A>(y));
  };
  a.dtype() == DType::f64 ? run.template operator()<double>() : run.template operator()<float>();
}

}  // namespace

constinit const LinearAttentionBackend kLinearAttention = {.linear_attention_rest = linear_attention_rest};

}  // namespace llsa::kernels::cpu
