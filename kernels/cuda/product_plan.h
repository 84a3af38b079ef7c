// One kind of matrix product as it is described to cuBLASLt: descriptors, and the algorithms that it may use.
//
// cuBLASLt stores matrices by columns, so our row-major matrix [r,c] is its c x r matrix. We therefore ask for
// out^T = b^T a^T: the first operand is our b, the second our a, and the output, n x m, is out in memory. A bias
// per row of the library's output is one per column of ours.
//
// For files compiled with CUDA headers only.
#pragma once

#include <cublasLt.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "../../core/cuda/check.h"
#include "cublaslt.h"

namespace llsa::kernels::cuda {

constexpr std::int64_t kWorkspaceBytes = std::int64_t{64} << 20;
constexpr std::int64_t kMaxAlignment = 256;  // bytes; what the allocator gives

/// 64 bytes that the library lets a program store, and use again with the same version of the library.
using Algorithm = cublasLtMatmulAlgo_t;

template <class T, cublasStatus_t (*destroy)(T)>
struct Owned {
  T handle = nullptr;

  Owned() = default;
  ~Owned() {
    if (handle != nullptr) static_cast<void>(destroy(handle));
  }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
};

/// A matrix with unit stride in one axis; by_columns: in the first.
struct Layout {
  std::int64_t rows, cols, ld, batch_stride;
  bool by_columns;

  explicit Layout(const Tensor& x);
};

/// Everything that the choice of an algorithm depends on.
struct Kind {
  DType dtype;    ///< of a and b
  bool f32_sums;  ///< out is f32, though they are bf16
  bool tf32;
  Epilogue epilogue;
  std::int64_t m, n, k, batch;
  Layout a, b;
  std::int64_t align_a, align_b, align_out, align_extra;  ///< bytes; extra: bias and pre

  Kind(const Context& ctx, const Product& product);

  using Key = std::array<std::int64_t, 18>;
  Key key() const;
  /// For messages: dtype and sizes.
  std::string str() const;
  /// With the epilogue.
  std::string title() const;
  /// For storing: all of it, so different for different kinds.
  std::string name() const;
};

/// Throws CudaError (core/cuda/check.h) for a failed call of the library, with the product that it was made
/// for, if it was for one.
void check(cublasStatus_t status, const llsa::cuda::Command& command, const Kind* kind = nullptr);

/// How one kind of product is computed.
struct Plan {
  Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy> operation;
  Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy> first, second, out;
  Algorithm algorithm = {};
  bool found = false;  ///< whether the library has an algorithm for it
};

/// Makes the plan's descriptors.
void describe(Plan& plan, const Product& product, const Kind& kind);

/// Points the operation to the product's vectors. The heuristic looks at their alignment too.
void point(const Plan& plan, const Product& product, const Kind& kind);

/// Whether the product, with its sum in one piece and tiles of 128 x 128 as in the library's kernels, has work for fewer
/// than half of this number of multiprocessors.
bool needs_cut_sum(const Kind& kind, int processors);
/// Whether the algorithm cuts the sum into parts.
bool cuts_sum(const Algorithm& algorithm, const Kind& kind);

/// At most eight algorithms for a described plan, the library's best guess first: of the eight that it
/// proposes those that can run and add the parts of a long sum as this project wants it (cublaslt.h). Empty
/// when there is none and the kind has an epilogue, or is one in bf16 whose sides are no multiples of 8; otherwise that
/// is a CudaError.
std::vector<Algorithm> proposals(const Plan& plan, const Kind& kind, cublasLtHandle_t library);

/// Throws CudaError unless the algorithm is one that proposals() might have returned.
void check_stored(const Algorithm& algorithm, const Plan& plan, const Kind& kind, cublasLtHandle_t library);

/// 128 hexadecimal digits, and back. Throws ValueError, with the kind's name in it, for any other text.
std::string text_of(const Algorithm& algorithm);
Algorithm algorithm_from(const std::string& text, const std::string& kind);

}  // namespace llsa::kernels::cuda
