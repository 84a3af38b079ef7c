// Matrix products cut into pieces for the thread pool.
//
// A product is cut into panels of 256 rows and, where there are few panels, into column tiles as well. The cut does
// not depend on the number of threads, so the bits do not either. Each piece is one product on one thread (gemm.h).
// The weight gradient dy^T x sums over rows: fixed groups of panels each give a partial sum, and these are added in
// order.
//
// The backward pass of a linear layer is one parallel loop over groups of panels: a group gives its rows of dx and
// its partial sums of dw and db while dy is in the cache. Weights too large for partial sums are split by rows of
// dw instead.
#include "kernels/backend/layers.h"

#include <algorithm>
#include <vector>

#include "core/error.h"
#include "kernels/cpu/activation.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/strided.h"

namespace llsa::kernels::cpu {
namespace {

template <class T>
using Acc = accumulator_t<T>;

constexpr std::int64_t kPanel = 256;
constexpr std::int64_t kMaxGroups = 32;                              // partial sums of a weight gradient
constexpr std::int64_t kMaxPartialElements = std::int64_t{1} << 23;  // of all of them together
constexpr std::int64_t kWorthHandingOver = std::int64_t{1} << 19;    // multiply-adds
constexpr int kOut = 5, kPartial = 7;                                // scratch slots

std::int64_t blocks(std::int64_t n, std::int64_t size) { return (n + size - 1) / size; }

/// The pieces of an m x n product with k terms per element.
struct Cut {
  std::int64_t m, n, tile, panels, tiles, group;

  Cut(std::int64_t m, std::int64_t n, std::int64_t k) : m(m), n(n), tile(std::max<std::int64_t>(n, 1)) {
    panels = blocks(m, kPanel);
    const std::int64_t rows = std::min(m, kPanel);
    if (panels < 4) {  // too few pieces: cut columns too
      const std::int64_t width = blocks(kWorthHandingOver, std::max<std::int64_t>(rows * k, 1));
      tile = std::min(tile, std::max<std::int64_t>(64, blocks(width, 64) * 64));
    }
    tiles = blocks(n, tile);
    group = std::max<std::int64_t>(1, kWorthHandingOver / std::max<std::int64_t>(rows * tile * k, 1));
  }

  std::int64_t pieces() const { return panels * tiles; }
};

/// Calls body(item, row, rows, col, cols) for the pieces of `count` products of one size.
template <class Body>
void for_pieces(Context& ctx, const Cut& cut, std::int64_t count, Body&& body) {
  ctx.pool().parallel_ranges(count * cut.pieces(), cut.group, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t col = i % cut.tiles * cut.tile;
      const std::int64_t row = i / cut.tiles % cut.panels * kPanel;
      body(i / cut.pieces(), row, std::min(kPanel, cut.m - row), col, std::min(cut.tile, cut.n - col));
    }
  });
}

template <class T>
MatrixRef<T> matrix(const Tensor& x) {
  return {x.data<T>(), x.stride(-2), x.stride(-1)};
}

/// c[m,n] (rows ldc apart) = a b + bias, through f32 for bf16; multiplied by gelu_tanh'(pre) where there is such a
/// matrix, laid out as c.
template <class T>
void product_into(std::int64_t m, std::int64_t n, std::int64_t k, MatrixRef<T> a, MatrixRef<T> b,
                  const Acc<T>* bias, T* c, std::int64_t ldc, const T* pre = nullptr) {
  constexpr bool kDirect = std::is_same_v<T, Acc<T>>;
  Acc<T>* product;
  std::int64_t ld = n;
  if constexpr (kDirect) {
    product = c;
    ld = ldc;
  } else {
    product = scratch<kOut, Acc<T>>(m * n);
  }
  gemm(m, n, k, a, b, bias, product, ld, false);
  if (kDirect && pre == nullptr) return;
  for (std::int64_t i = 0; i < m; ++i) {
    const Acc<T>* const from = product + i * ld;
    T* const to = c + i * ldc;
    if (pre == nullptr) {
#pragma omp simd
      for (std::int64_t j = 0; j < n; ++j) to[j] = from[j];
    } else {
      const T* const at = pre + i * ldc;
#pragma omp simd
      for (std::int64_t j = 0; j < n; ++j) to[j] = from[j] * gelu_tanh_derivative(Acc<T>(at[j]));
    }
  }
}

/// sum[j] += column sums of dy[rows,n] (rows ld apart)
template <class T>
void add_column_sums(const T* dy, std::int64_t rows, std::int64_t n, std::int64_t ld, Acc<T>* sum) {
  for (std::int64_t first = 0; first < n; first += 64) {
    const std::int64_t width = std::min<std::int64_t>(64, n - first);
    Acc<T> part[64] = {};
    for (std::int64_t i = 0; i < rows; ++i) {
      const T* const row = dy + i * ld + first;
#pragma omp simd
      for (std::int64_t j = 0; j < width; ++j) part[j] += Acc<T>(row[j]);
    }
    for (std::int64_t j = 0; j < width; ++j) sum[first + j] += part[j];
  }
}

template <class T>
class LinearBackward {
 public:
  LinearBackward(Context& ctx, const LinearBackwardArgs& args)
      : ctx_(ctx),
        args_(args),
        m_(args.dy.size(0)),
        n_(args.dy.size(1)),
        k_(args.w.size(1)),
        dy_(args.dy.data<T>()),
        x_(args.x.data<T>()),
        pre_(args.pre.defined() ? args.pre.data<T>() : nullptr),
        panels_(blocks(m_, kPanel)) {}

  void run() {
    const std::int64_t by_memory = kMaxPartialElements / std::max<std::int64_t>(n_ * k_, 1);
    const std::int64_t groups = std::min({panels_, kMaxGroups, by_memory});
    if (!args_.dw.defined() && !args_.db.defined())
      input_gradient();
    else if (panels_ >= 4 && groups >= std::min<std::int64_t>(panels_, 8))
      by_groups(blocks(panels_, groups));
    else
      by_parts();
  }

 private:
  void input_gradient() {
    if (!args_.dx.defined()) return;
    const MatrixRef<T> dy{dy_, n_, 1};
    const MatrixRef<T> w = matrix<T>(args_.w);
    T* const dx = args_.dx.data<T>();
    for_pieces(ctx_, Cut(m_, k_, n_), 1,
               [&](std::int64_t, std::int64_t row, std::int64_t rows, std::int64_t col, std::int64_t cols) {
                 const std::int64_t at = row * k_ + col;
                 product_into<T>(rows, cols, n_, dy.at(row, 0), w.at(0, col), nullptr, dx + at, k_,
                                 pre_ != nullptr ? pre_ + at : nullptr);
               });
  }

  /// Every group of panels gives its rows of dx and its partial sums.
  void by_groups(std::int64_t panels_per_group) {
    const std::int64_t groups = blocks(panels_, panels_per_group);
    const std::int64_t dw_size = args_.dw.defined() ? n_ * k_ : 0;
    const std::int64_t db_size = args_.db.defined() ? n_ : 0;
    const std::int64_t size = dw_size + db_size;
    const Tensor partial = ctx_.empty(Shape{groups, size}, dtype_of<Acc<T>>::value);
    Acc<T>* const sums = partial.data<Acc<T>>();
    ctx_.pool().parallel_for(groups, [&](std::int64_t group) {
      Acc<T>* const dw = sums + group * size;
      Acc<T>* const db = dw + dw_size;
      std::fill_n(db, db_size, Acc<T>(0));
      const std::int64_t end = std::min(m_, (group + 1) * panels_per_group * kPanel);
      const std::int64_t begin = group * panels_per_group * kPanel;
      for (std::int64_t row = begin; row < end; row += kPanel) {
        const std::int64_t rows = std::min(kPanel, end - row);
        const T* const dy = dy_ + row * n_;
        const MatrixRef<T> grad{dy, n_, 1};
        if (dw_size > 0)
          gemm(n_, k_, rows, grad.transposed(), MatrixRef<T>{x_ + row * k_, k_, 1}, nullptr, dw, k_,
               row > begin);
        if (args_.dx.defined())
          product_into<T>(rows, k_, n_, grad, matrix<T>(args_.w), nullptr, args_.dx.data<T>() + row * k_, k_,
                          pre_ != nullptr ? pre_ + row * k_ : nullptr);
        if (db_size > 0) add_column_sums(dy, rows, n_, n_, db);
      }
    });
    Acc<T>* const dw = dw_size > 0 ? args_.dw.data<Acc<T>>() : nullptr;
    Acc<T>* const db = db_size > 0 ? args_.db.data<Acc<T>>() : nullptr;
    ctx_.pool().parallel_ranges(size, kElementGrain / 4, [&](std::int64_t begin, std::int64_t end) {
      Acc<T>* const sum = scratch<kPartial, Acc<T>>(kElementGrain / 4);
      std::copy_n(sums + begin, end - begin, sum);
      for (std::int64_t group = 1; group < groups; ++group) {
        const Acc<T>* const part = sums + group * size + begin;
#pragma omp simd
        for (std::int64_t i = 0; i < end - begin; ++i) sum[i] += part[i];
      }
      for (std::int64_t i = begin; i < end; ++i) (i < dw_size ? dw[i] : db[i - dw_size]) = sum[i - begin];
    });
  }

  /// dx, then dw and db in tiles of rows of dw.
  void by_parts() {
    input_gradient();
    const std::int64_t depth = kPanel * 4;
    const std::int64_t worth = kWorthHandingOver / std::max<std::int64_t>(k_ * std::min(m_, depth), 1);
    const std::int64_t tile = std::clamp<std::int64_t>(blocks(worth, 16) * 16, 16, 128);
    ctx_.pool().parallel_ranges(n_, tile, [&](std::int64_t begin, std::int64_t end) {
      const std::int64_t lines = end - begin;
      if (args_.dw.defined()) {
        Acc<T>* const dw = args_.dw.data<Acc<T>>() + begin * k_;
        for (std::int64_t row = 0; row < m_; row += depth)
          gemm(lines, k_, std::min(depth, m_ - row), MatrixRef<T>{dy_ + row * n_ + begin, 1, n_},
               MatrixRef<T>{x_ + row * k_, k_, 1}, nullptr, dw, k_, row > 0);
      }
      if (args_.db.defined()) {
        Acc<T>* const db = args_.db.data<Acc<T>>() + begin;
        std::fill_n(db, lines, Acc<T>(0));
        for (std::int64_t row = 0; row < m_; row += kPanel)
          add_column_sums(dy_ + row * n_ + begin, std::min(kPanel, m_ - row), lines, n_, db);
      }
    });
  }

  Context& ctx_;
  const LinearBackwardArgs& args_;
  std::int64_t m_, n_, k_;
  const T* dy_;
  const T* x_;
  const T* pre_;
  std::int64_t panels_;
};

void matmul(Context& ctx, const Tensor& a, const Tensor& b, const Tensor& out) {
  Profiler::add_work(product_flops(out.size(0) * out.size(1), out.size(2), a.size(2)));
  visit_floating(out.dtype(), "matmul", [&]<class T>() {
    const std::int64_t m = out.size(1), n = out.size(2), k = a.size(2);
    const MatrixRef<T> left = matrix<T>(a), right = matrix<T>(b);
    T* const c = out.data<T>();
    for_pieces(
        ctx, Cut(m, n, k), out.size(0),
        [&](std::int64_t item, std::int64_t row, std::int64_t rows, std::int64_t col, std::int64_t cols) {
          MatrixRef<T> l = left, r = right;
          l.data += item * a.stride(0);
          r.data += item * b.stride(0);
          product_into<T>(rows, cols, k, l.at(row, 0), r.at(0, col), nullptr, c + (item * m + row) * n + col,
                          n);
        });
  });
}

void linear(Context& ctx, const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& y,
            const Tensor& pre) {
  Profiler::add_work(product_flops(x.size(0), w.size(0), x.size(1)));
  visit_floating(y.dtype(), "linear", [&]<class T>() {
    const std::int64_t m = x.size(0), k = x.size(1), n = w.size(0);
    const MatrixRef<T> left = matrix<T>(x), right = matrix<T>(w).transposed();
    std::vector<Acc<T>> wide_bias;
    if (bias.defined()) {
      wide_bias.resize(static_cast<std::size_t>(n));
      for (std::int64_t j = 0; j < n; ++j)
        wide_bias[static_cast<std::size_t>(j)] = Acc<T>(bias.data<T>()[j * bias.stride(0)]);
    }
    const bool with_gelu = pre.defined();
    T* const product = (with_gelu ? pre : y).data<T>();
    T* const activated = y.data<T>();
    for_pieces(ctx, Cut(m, n, k), 1,
               [&](std::int64_t, std::int64_t row, std::int64_t rows, std::int64_t col, std::int64_t cols) {
                 const std::int64_t at = row * n + col;
                 product_into<T>(rows, cols, k, left.at(row, 0), right.at(0, col),
                                 bias.defined() ? wide_bias.data() + col : nullptr, product + at, n);
                 if (!with_gelu) return;
                 for (std::int64_t i = 0; i < rows; ++i) {
                   const T* const from = product + at + i * n;
                   T* const to = activated + at + i * n;
#pragma omp simd
                   for (std::int64_t j = 0; j < cols; ++j) to[j] = gelu_tanh(Acc<T>(from[j]));
                 }
               });
  });
}

void linear_backward(Context& ctx, const LinearBackwardArgs& args) {
  Profiler::add_work((args.dx.defined() + args.dw.defined()) *
                     product_flops(args.dy.size(0), args.dy.size(1), args.x.size(1)));
  visit_floating(args.dy.dtype(), "linear_backward", [&]<class T>() { LinearBackward<T>(ctx, args).run(); });
}

// oneDNN has one way to compute a product: there is nothing to choose.

void tune_products(Context&, bool) {}

ProductChoices product_choices(Context& ctx) { return {cat(ctx.device().str(), ", ", gemm_library()), {}}; }

bool restore_product_choices(Context& ctx, const ProductChoices& choices) {
  return choices.machine == product_choices(ctx).machine;
}

}  // namespace

constinit const MatmulBackend kMatmul = {.matmul = matmul,
                                         .linear = linear,
                                         .linear_backward = linear_backward,
                                         .tune_products = tune_products,
                                         .product_choices = product_choices,
                                         .restore_product_choices = restore_product_choices};

}  // namespace llsa::kernels::cpu
