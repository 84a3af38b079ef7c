// The part of cuBLASLt that kernels/cuda/cublaslt.cpp calls, on the emulated device: plain loops over
// column-major matrices.
//
// It is strict where the library is: sizes of options, leading dimensions, alignments promised to the
// heuristic, reductions that were not asked for. And it has no algorithm for bias gradients, for GELU and bias, and for
// the gradient of GELU, when the output has fewer than four rows, and none in bf16 when an extent is below four, so that the ways
// without them are walked, too.
//
// It offers several algorithms, which cut the sum into 1, 2, .. parts and so round differently. Some are
// traps: one adds its parts in a way that was not asked for, one is proposed but cannot run, one is proposed
// only as unsupported. How long they take is what a test says (emulator.h).
#include <cublasLt.h>
#include <cuda_bf16.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <utility>
#include <vector>

#include "kernels/cpu/activation.h"
#include "tests/emu/cuda_objects.h"
#include "tests/emu/emulator.h"

namespace {

struct Matrix {
  cudaDataType_t type;
  std::uint64_t rows, cols;
  std::int64_t ld;
  std::int32_t batch = 1;
  std::int64_t batch_stride = 0;
};

struct Operation {
  cublasComputeType_t compute;
  cudaDataType_t scale;
  cublasOperation_t op_a = CUBLAS_OP_N, op_b = CUBLAS_OP_N;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  void* bias = nullptr;
  void* aux = nullptr;
  std::int64_t aux_ld = 0;
};

struct Wishes {
  std::uint64_t workspace = 0;
  std::uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_MASK;
  std::uint32_t align_a = 256, align_b = 256, align_c = 256, align_d = 256;
};

/// What the heuristic hands out: what the algorithm relies on.
struct Algorithm {
  std::uint64_t m, n, k;
  std::uint32_t align_a, align_b, align_c, align_d, align_bias;
  std::uint32_t epilogue;
  std::uint64_t workspace;
  std::uint32_t id, scheme;
};
static_assert(sizeof(Algorithm) <= sizeof(cublasLtMatmulAlgo_t));

/// The algorithms in the order of the heuristic; the place is the id, and the sum has one part more.
struct Offer {
  cublasLtReductionScheme_t scheme = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
  cublasStatus_t proposed = CUBLAS_STATUS_SUCCESS;
  cublasStatus_t runs = CUBLAS_STATUS_SUCCESS;
};
constexpr Offer kOffers[] = {{.scheme = CUBLASLT_REDUCTION_SCHEME_NONE},
                             {},
                             {.scheme = CUBLASLT_REDUCTION_SCHEME_INPLACE},
                             {.runs = CUBLAS_STATUS_NOT_SUPPORTED},
                             {},
                             {.proposed = CUBLAS_STATUS_NOT_SUPPORTED},
                             {},
                             {},
                             {},   // nobody who asks for eight
                             {}};  // is told of these
constexpr int kOfferCount = static_cast<int>(std::size(kOffers));

struct StatusText {
  cublasStatus_t status;
  const char* name;
  const char* text;
};
constexpr StatusText kStatuses[] = {
    {CUBLAS_STATUS_INVALID_VALUE, "CUBLAS_STATUS_INVALID_VALUE",
     "an unsupported value or parameter was passed to the function"},  // and what is not listed
    {CUBLAS_STATUS_SUCCESS, "CUBLAS_STATUS_SUCCESS", "success"},
    {CUBLAS_STATUS_NOT_INITIALIZED, "CUBLAS_STATUS_NOT_INITIALIZED", "the library was not initialized"},
    {CUBLAS_STATUS_ALLOC_FAILED, "CUBLAS_STATUS_ALLOC_FAILED", "the resource allocation failed"},
    {CUBLAS_STATUS_ARCH_MISMATCH, "CUBLAS_STATUS_ARCH_MISMATCH", "the device has another architecture"},
    {CUBLAS_STATUS_EXECUTION_FAILED, "CUBLAS_STATUS_EXECUTION_FAILED",
     "the work could not be put into the stream"},
    {CUBLAS_STATUS_INTERNAL_ERROR, "CUBLAS_STATUS_INTERNAL_ERROR", "an internal operation failed"},
    {CUBLAS_STATUS_NOT_SUPPORTED, "CUBLAS_STATUS_NOT_SUPPORTED",
     "the functionality requested is not supported"},
};

std::size_t place_of(cublasStatus_t status) {
  for (std::size_t i = 0; i < std::size(kStatuses); ++i)
    if (kStatuses[i].status == status) return i;
  return 0;
}

/// What a test wants the call to return instead of doing anything.
cublasStatus_t requested(const char* function) {
  return static_cast<cublasStatus_t>(llsa::emu::requested_failure(function));
}

struct Log {
  std::vector<double> milliseconds;  // by id
  std::vector<int> used;
};
Log& product_log() {
  static Log log;
  return log;
}

template <class To, class From>
To* real(From* opaque) {
  return reinterpret_cast<To*>(opaque);
}

template <class Value>
cublasStatus_t take(Value& to, const void* from, std::size_t bytes) {
  if (from == nullptr || bytes != sizeof to) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&to, from, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

std::uint32_t alignment(const void* pointer) {
  const auto address = reinterpret_cast<std::uintptr_t>(pointer);
  std::uint32_t bytes = 256;
  while (address % bytes != 0) bytes /= 2;
  return bytes;
}

double load(cudaDataType_t type, const void* data, std::int64_t at) {
  if (type == CUDA_R_64F) return static_cast<const double*>(data)[at];
  if (type == CUDA_R_32F) return static_cast<double>(static_cast<const float*>(data)[at]);
  return static_cast<double>(__bfloat162float(static_cast<const __nv_bfloat16*>(data)[at]));
}

void store(cudaDataType_t type, void* data, std::int64_t at, double value) {
  if (type == CUDA_R_64F)
    static_cast<double*>(data)[at] = value;
  else if (type == CUDA_R_32F)
    static_cast<float*>(data)[at] = static_cast<float>(value);
  else
    static_cast<__nv_bfloat16*>(data)[at] = __float2bfloat16(static_cast<float>(value));
}

std::size_t size_of(cudaDataType_t type) { return type == CUDA_R_64F ? 8 : type == CUDA_R_32F ? 4 : 2; }

/// Batch item `index` of a matrix.
void* item(const Matrix& matrix, const void* data, std::int32_t index) {
  return static_cast<char*>(const_cast<void*>(data)) +
         index * matrix.batch_stride * static_cast<std::int64_t>(size_of(matrix.type));
}

struct Sizes {
  std::int64_t m, n, k;
};

/// Throws out whatever does not fit together.
bool consistent(const Operation& op, const Matrix& a, const Matrix& b, const Matrix& d, Sizes& sizes) {
  const auto rows = [](const Matrix& x, cublasOperation_t t) { return t == CUBLAS_OP_N ? x.rows : x.cols; };
  const auto cols = [](const Matrix& x, cublasOperation_t t) { return t == CUBLAS_OP_N ? x.cols : x.rows; };
  sizes = {static_cast<std::int64_t>(d.rows), static_cast<std::int64_t>(d.cols),
           static_cast<std::int64_t>(cols(a, op.op_a))};
  bool good =
      rows(a, op.op_a) == d.rows && cols(b, op.op_b) == d.cols && rows(b, op.op_b) == cols(a, op.op_a);
  for (const Matrix* x : {&a, &b, &d}) {
    good = good && x->rows > 0 && x->cols > 0 && x->ld >= static_cast<std::int64_t>(x->rows) &&
           (x->type == d.type || (x->type == CUDA_R_16BF && d.type == CUDA_R_32F)) && x->batch == d.batch;
  }
  good = good && a.type == b.type;
  const bool gelu_gradient = op.epilogue == CUBLASLT_EPILOGUE_DGELU;
  if (gelu_gradient || op.epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS)
    good = good && op.aux != nullptr && op.aux_ld % 8 == 0 && op.aux_ld >= sizes.m;
  if (op.epilogue != CUBLASLT_EPILOGUE_DEFAULT)
    good = good && (op.bias != nullptr || gelu_gradient) && d.batch == 1;
  return good && op.scale == (d.type == CUDA_R_64F ? CUDA_R_64F : CUDA_R_32F);
}

/// Batch item `index` of a matrix, or its transpose, column by column without gaps.
std::vector<double> unpack(const Matrix& x, const void* data, std::int32_t index, bool transposed) {
  const void* const from = item(x, data, index);
  const auto rows = static_cast<std::int64_t>(x.rows), cols = static_cast<std::int64_t>(x.cols);
  std::vector<double> to;
  to.reserve(x.rows * x.cols);
  for (std::int64_t j = 0; j < (transposed ? rows : cols); ++j)
    for (std::int64_t i = 0; i < (transposed ? cols : rows); ++i)
      to.push_back(load(x.type, from, transposed ? i * x.ld + j : j * x.ld + i));
  return to;
}

/// What a product computes, its epilogue included; the sums in so many parts.
void multiply(const Operation& op, const Matrix& a, const Matrix& b, const Matrix& d, const Sizes& sizes,
              std::int64_t parts, const void* a_data, const void* b_data, void* d_data) {
  const auto [m, n, k] = sizes;
  const std::int64_t part = k / parts + 1;  // elements of a part
  std::vector<double> column(static_cast<std::size_t>(m)), finished(static_cast<std::size_t>(m));
  for (std::int32_t index = 0; index < d.batch; ++index) {
    const std::vector<double> columns_of_a = unpack(a, a_data, index, op.op_a != CUBLAS_OP_N);
    const std::vector<double> columns_of_b = unpack(b, b_data, index, op.op_b != CUBLAS_OP_N);
    void* const d_item = item(d, d_data, index);
    for (std::int64_t j = 0; j < n; ++j) {
      std::fill(column.begin(), column.end(), 0.0);
      std::fill(finished.begin(), finished.end(), 0.0);
      double column_of_b = 0;
      for (std::int64_t p = 0; p < k; ++p) {
        if (p > 0 && p % part == 0) {
          for (std::size_t i = 0; i < column.size(); ++i) {
            finished[i] +=
                d.type == CUDA_R_64F ? column[i] : static_cast<double>(static_cast<float>(column[i]));
            column[i] = 0;
          }
        }
        const double factor = columns_of_b[static_cast<std::size_t>(j * k + p)];
        column_of_b += factor;
        const double* const column_of_a = &columns_of_a[static_cast<std::size_t>(p * m)];
        for (std::size_t i = 0; i < column.size(); ++i) column[i] += factor * column_of_a[i];
      }
      if (op.epilogue == CUBLASLT_EPILOGUE_BGRADB) store(d.type, op.bias, j, column_of_b);
      for (std::int64_t i = 0; i < m; ++i) {
        double value = finished[static_cast<std::size_t>(i)] + column[static_cast<std::size_t>(i)];
        if (op.epilogue == CUBLASLT_EPILOGUE_BIAS || op.epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS)
          value += load(d.type, op.bias, i);
        if (op.epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS) {
          store(d.type, op.aux, j * op.aux_ld + i, value);
          value = llsa::kernels::cpu::gelu_tanh(value);
        }
        if (op.epilogue == CUBLASLT_EPILOGUE_DGELU)
          value *= llsa::kernels::cpu::gelu_tanh_derivative(load(d.type, op.aux, j * op.aux_ld + i));
        store(d.type, d_item, j * d.ld + i, value);
      }
    }
  }
}

/// Whether the algorithm was made for this product.
bool belongs(const Algorithm& algorithm, const Operation& op, const Matrix& d, const Sizes& sizes) {
  return algorithm.m == d.rows && algorithm.n == d.cols &&
         algorithm.k == static_cast<std::uint64_t>(sizes.k) &&
         algorithm.epilogue == static_cast<std::uint32_t>(op.epilogue) && algorithm.id < kOfferCount &&
         algorithm.scheme == static_cast<std::uint32_t>(kOffers[algorithm.id].scheme);
}

}  // namespace

namespace llsa::emu {

void set_product_times(const std::vector<double>& milliseconds) { product_log().milliseconds = milliseconds; }

std::vector<int> products_since_last_asked() { return std::exchange(product_log().used, {}); }

}  // namespace llsa::emu

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  if (const cublasStatus_t status = requested("cublasLtCreate"); status != CUBLAS_STATUS_SUCCESS)
    return status;
  *handle = reinterpret_cast<cublasLtHandle_t>(new int(0));
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete reinterpret_cast<int*>(handle);
  return CUBLAS_STATUS_SUCCESS;
}

std::size_t cublasLtGetVersion() { return CUBLAS_VERSION; }

const char* cublasLtGetStatusName(cublasStatus_t status) { return kStatuses[place_of(status)].name; }
const char* cublasLtGetStatusString(cublasStatus_t status) { return kStatuses[place_of(status)].text; }

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType_t type,
                                          std::uint64_t rows, std::uint64_t cols, std::int64_t ld) {
  if (const cublasStatus_t status = requested("cublasLtMatrixLayoutCreate"); status != CUBLAS_STATUS_SUCCESS)
    return status;
  *layout = real<cublasLtMatrixLayoutOpaque_t>(new Matrix{type, rows, cols, ld});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete real<Matrix>(layout);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t option, const void* value,
                                                std::size_t bytes) {
  Matrix& matrix = *real<Matrix>(layout);
  if (option == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT) return take(matrix.batch, value, bytes);
  if (option == CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET) return take(matrix.batch_stride, value, bytes);
  return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* desc, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
  *desc = real<cublasLtMatmulDescOpaque_t>(new Operation{compute, scale});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) {
  delete real<Operation>(desc);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                                              cublasLtMatmulDescAttributes_t option, const void* value,
                                              std::size_t bytes) {
  if (const cublasStatus_t status = requested("cublasLtMatmulDescSetAttribute");
      status != CUBLAS_STATUS_SUCCESS)
    return status;
  Operation& operation = *real<Operation>(desc);
  switch (option) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return take(operation.op_a, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return take(operation.op_b, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return take(operation.epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return take(operation.bias, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER:
      return take(operation.aux, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD:
      return take(operation.aux_ld, value, bytes);
    default:
      return CUBLAS_STATUS_INVALID_VALUE;
  }
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = real<cublasLtMatmulPreferenceOpaque_t>(new Wishes);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete real<Wishes>(preference);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t option,
                                                    const void* value, std::size_t bytes) {
  Wishes& wishes = *real<Wishes>(preference);
  switch (option) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      return take(wishes.workspace, value, bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
      return take(wishes.reductions, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
      return take(wishes.align_a, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
      return take(wishes.align_b, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
      return take(wishes.align_c, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
      return take(wishes.align_d, value, bytes);
    default:
      return CUBLAS_STATUS_INVALID_VALUE;
  }
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t* results, int* count) {
  if (const cublasStatus_t status = requested("cublasLtMatmulAlgoGetHeuristic");
      status != CUBLAS_STATUS_SUCCESS)
    return status;
  const Operation& operation = *real<Operation>(desc);
  const Wishes& wishes = *real<Wishes>(preference);
  Sizes sizes;
  *count = 0;
  if (wanted < 1 || !consistent(operation, *real<Matrix>(a), *real<Matrix>(b), *real<Matrix>(d), sizes))
    return CUBLAS_STATUS_INVALID_VALUE;
  const bool in_output =
      (wishes.reductions & (CUBLASLT_REDUCTION_SCHEME_INPLACE | CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE)) != 0;
  if (in_output) return CUBLAS_STATUS_INVALID_VALUE;
  const bool fused = operation.epilogue != CUBLASLT_EPILOGUE_DEFAULT;
  if (fused &&
      (real<Matrix>(d)->type == CUDA_R_64F || (operation.epilogue != CUBLASLT_EPILOGUE_BIAS && sizes.m < 4)))
    return CUBLAS_STATUS_NOT_SUPPORTED;
  if (!fused && real<Matrix>(a)->type == CUDA_R_16BF && std::min({sizes.m, sizes.n, sizes.k}) < 4)
    return CUBLAS_STATUS_NOT_SUPPORTED;
  Algorithm algorithm{real<Matrix>(d)->rows,
                      real<Matrix>(d)->cols,
                      static_cast<std::uint64_t>(sizes.k),
                      wishes.align_a,
                      wishes.align_b,
                      wishes.align_c,
                      wishes.align_d,
                      std::min(alignment(operation.bias), alignment(operation.aux)),
                      static_cast<std::uint32_t>(operation.epilogue),
                      wishes.workspace,
                      0,
                      0};
  *count = std::min(wanted, kOfferCount);
  for (int i = 0; i < *count; ++i) {
    algorithm.id = static_cast<std::uint32_t>(i);
    algorithm.scheme = static_cast<std::uint32_t>(kOffers[i].scheme);
    std::memcpy(&results[i].algo, &algorithm, sizeof algorithm);
    results[i].state = kOffers[i].proposed;
    results[i].workspaceSize = wishes.workspace;
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t* algo,
                                                    cublasLtMatmulAlgoConfigAttributes_t option, void* value,
                                                    std::size_t bytes, std::size_t* written) {
  Algorithm algorithm;
  std::memcpy(&algorithm, algo, sizeof algorithm);
  const std::uint32_t parts = algorithm.id + 1;
  const bool cut = option == CUBLASLT_ALGO_CONFIG_SPLITK_NUM;
  if ((option != CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME && !cut) || value == nullptr || bytes != sizeof parts)
    return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(value, cut ? &parts : &algorithm.scheme, bytes);
  *written = bytes;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
                                       cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t,
                                       cublasLtMatrixLayout_t d, const cublasLtMatmulAlgo_t* algo,
                                       cublasLtMatmulHeuristicResult_t* result) {
  Algorithm algorithm;
  std::memcpy(&algorithm, algo, sizeof algorithm);
  Sizes sizes;
  if (!consistent(*real<Operation>(desc), *real<Matrix>(a), *real<Matrix>(b), *real<Matrix>(d), sizes) ||
      !belongs(algorithm, *real<Operation>(desc), *real<Matrix>(d), sizes))
    return CUBLAS_STATUS_INVALID_VALUE;
  result->workspaceSize = algorithm.workspace;
  result->state = kOffers[algorithm.id].proposed;
  return result->state;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t desc, const void* alpha,
                              const void* a_data, cublasLtMatrixLayout_t a_layout, const void* b_data,
                              cublasLtMatrixLayout_t b_layout, const void* beta, const void* c_data,
                              cublasLtMatrixLayout_t, void* d_data, cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t* chosen, void* workspace,
                              std::size_t workspace_bytes, cudaStream_t stream) {
  if (const cublasStatus_t status = requested("cublasLtMatmul"); status != CUBLAS_STATUS_SUCCESS)
    return status;
  const Operation& op = *real<Operation>(desc);
  const Matrix &a = *real<Matrix>(a_layout), &b = *real<Matrix>(b_layout), &d = *real<Matrix>(d_layout);
  Sizes sizes;
  if (!consistent(op, a, b, d, sizes) || c_data != d_data || stream == nullptr)
    return CUBLAS_STATUS_INVALID_VALUE;
  Algorithm algorithm;
  std::memcpy(&algorithm, chosen, sizeof algorithm);
  if (!belongs(algorithm, op, d, sizes) || algorithm.workspace > workspace_bytes || workspace == nullptr ||
      alignment(a_data) < algorithm.align_a || alignment(b_data) < algorithm.align_b ||
      alignment(d_data) < algorithm.align_d || alignment(c_data) < algorithm.align_c ||
      std::min(alignment(op.bias), alignment(op.aux)) < algorithm.align_bias)
    return CUBLAS_STATUS_INVALID_VALUE;
  if (load(op.scale, alpha, 0) != 1 || load(op.scale, beta, 0) != 0) return CUBLAS_STATUS_INVALID_VALUE;
  if (kOffers[algorithm.id].runs != CUBLAS_STATUS_SUCCESS) return kOffers[algorithm.id].runs;
  const cudaError_t error = llsa::emu::enqueue(
      stream, [=, op = op, a = a, b = b, d = d] {  // copies: the library's objects need not outlive the call
        Log& log = product_log();
        log.used.push_back(static_cast<int>(algorithm.id));
        if (algorithm.id < log.milliseconds.size())
          llsa::emu::advance_device_clock(log.milliseconds[algorithm.id]);
        std::memset(workspace, 0xFF, std::min<std::size_t>(workspace_bytes, 4096));
        multiply(op, a, b, d, sizes, algorithm.id + 1, a_data, b_data, d_data);
        return cudaSuccess;
      });
  return error == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

}  // extern "C"
