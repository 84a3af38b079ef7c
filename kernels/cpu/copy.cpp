// Copies between any strides and dtypes.
//
// Between equal dtypes, three kinds of block are fast: unit stride on both sides (memcpy per row), a value repeated
// (stride 0), and a transpose (unit stride in the rows of the source). A transpose moves tiles of 16 x 16 elements, so
// that whole cache lines are used.
#include "kernels/backend/tensors.h"

#include <cstring>
#include <type_traits>

#include "kernels/convert.h"
#include "kernels/cpu/strided.h"

namespace llsa::kernels::cpu {
namespace {

template <class D, class S>
void copy_tile(const S* src, std::int64_t src_row, std::int64_t src_col, D* dst, std::int64_t dst_row,
               std::int64_t dst_col, std::int64_t rows, std::int64_t cols) {
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < cols; ++c)
      dst[r * dst_row + c * dst_col] = convert<D, bf16>(src[r * src_row + c * src_col]);
}

/// Reads and writes whole cache lines of 16 floats, through a buffer. With strides that are powers of two, a line that
/// is used in parts would be evicted in between.
template <class D>
void copy_transposed(const D* src, std::int64_t src_col, D* dst, std::int64_t dst_row, std::int64_t rows,
                     std::int64_t cols) {
  constexpr std::int64_t kTile = 16;
  D buffer[kTile][kTile];
  for (std::int64_t r = 0; r < rows; r += kTile) {
    for (std::int64_t c = 0; c < cols; c += kTile) {
      const D* const from = src + r + c * src_col;
      D* const to = dst + r * dst_row + c;
      if (rows - r >= kTile && cols - c >= kTile) {
        for (std::int64_t j = 0; j < kTile; ++j) std::memcpy(buffer[j], from + j * src_col, sizeof buffer[j]);
        for (std::int64_t i = 0; i < kTile; ++i)
          for (std::int64_t j = 0; j < kTile; ++j) to[i * dst_row + j] = buffer[j][i];
      } else {
        copy_tile(from, 1, src_col, to, dst_row, 1, std::min(kTile, rows - r), std::min(kTile, cols - c));
      }
    }
  }
}

template <class D, class S>
void copy_elements(Context& ctx, const Tensor& src, const Tensor& dst) {
  const StridedLoop<2> loop(dst.shape(), {&dst, &src});
  D* const to = reinterpret_cast<D*>(dst.raw());
  const S* const from = reinterpret_cast<const S*>(src.raw());
  const std::int64_t dst_row = loop.row_stride[0], src_row = loop.row_stride[1];
  const std::int64_t dst_col = loop.col_stride[0], src_col = loop.col_stride[1];
  loop.run(ctx, [&](const StridedLoop<2>::Block& block) {
    D* const d = to + block.offset[0];
    const S* const s = from + block.offset[1];
    if constexpr (std::is_same_v<D, S>) {
      if (dst_col == 1 && src_col == 1) {
        for (std::int64_t r = 0; r < block.rows; ++r)
          std::memcpy(d + r * dst_row, s + r * src_row, static_cast<std::size_t>(block.cols) * sizeof(D));
        return;
      }
      if (dst_col == 1 && src_col == 0) {
        for (std::int64_t r = 0; r < block.rows; ++r)
          std::fill_n(d + r * dst_row, block.cols, s[r * src_row]);
        return;
      }
      if (dst_col == 1 && src_row == 1)
        return copy_transposed(s, src_col, d, dst_row, block.rows, block.cols);
    } else if (dst_col == 1 && src_col == 1) {
      for (std::int64_t r = 0; r < block.rows; ++r)
        copy_tile(s + r * src_row, 0, 1, d + r * dst_row, 0, 1, 1, block.cols);
      return;
    }
    copy_tile(s, src_row, src_col, d, dst_row, dst_col, block.rows, block.cols);
  });
}

void copy(Context& ctx, const Tensor& src, const Tensor& dst) {
  visit_any(dst.dtype(), [&]<class D>() {
    visit_any(src.dtype(), [&]<class S>() { copy_elements<D, S>(ctx, src, dst); });
  });
}

void fill(Context& ctx, const Tensor& dst, double value) {
  visit_any(dst.dtype(), [&]<class D>() {
    const StridedLoop<1> loop(dst.shape(), {&dst});
    const D element = convert<D, bf16>(value);
    D* const to = dst.data<D>();
    loop.run(ctx, [&](const StridedLoop<1>::Block& block) {
      for (std::int64_t r = 0; r < block.rows; ++r) {
        D* const row = to + block.offset[0] + r * loop.row_stride[0];
        if (loop.col_stride[0] == 1)
          std::fill_n(row, block.cols, element);
        else
          for (std::int64_t c = 0; c < block.cols; ++c) row[c * loop.col_stride[0]] = element;
      }
    });
  });
}

}  // namespace

constinit const CopyBackend kCopy = {.copy = copy, .fill = fill};

}  // namespace llsa::kernels::cpu
