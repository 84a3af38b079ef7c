#include "kernels/cuda/product_plan.h"

#include <algorithm>
#include <charconv>
#include <iterator>

#include "core/cuda/check.h"
#include "core/error.h"

namespace llsa::kernels::cuda {
namespace {

constexpr int kProposals = 8;
constexpr std::size_t kWordDigits = 16;

// Parts of a sum are added in the compute type, outside of the output; "none" is a sum in one piece.
constexpr std::uint32_t kReductions = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;

std::int64_t alignment(const Tensor& x) {
  const auto address = reinterpret_cast<std::uintptr_t>(x.raw());
  std::int64_t bytes = kMaxAlignment;
  while (address % static_cast<std::uintptr_t>(bytes) != 0) bytes /= 2;
  return bytes;
}

cudaDataType_t data_type(DType dtype) {
  return dtype == DType::f64 ? CUDA_R_64F : dtype == DType::bf16 ? CUDA_R_16BF : CUDA_R_32F;
}

cublasLtEpilogue_t option_of(Epilogue epilogue) {
  switch (epilogue) {
    case Epilogue::bias:
      return CUBLASLT_EPILOGUE_BIAS;
    case Epilogue::bias_gelu:
      return CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
    case Epilogue::gelu_gradient:
      return CUBLASLT_EPILOGUE_DGELU;
    case Epilogue::operand_row_sum:
      return CUBLASLT_EPILOGUE_BGRADB;
    case Epilogue::none:
      break;
  }
  return CUBLASLT_EPILOGUE_DEFAULT;
}

const char* name_of(Epilogue epilogue) {
  switch (epilogue) {
    case Epilogue::bias:
      return "bias";
    case Epilogue::bias_gelu:
      return "bias and GELU";
    case Epilogue::gelu_gradient:
      return "gradient of GELU";
    case Epilogue::operand_row_sum:
      return "row sums of a";
    case Epilogue::none:
      break;
  }
  return "plain";
}

/// An option of an algorithm.
std::uint32_t config_of(const Algorithm& algorithm, cublasLtMatmulAlgoConfigAttributes_t option,
                        const Kind& kind) {
  std::uint32_t value = 0;
  std::size_t written = 0;
  check(LLSA_CALL(cublasLtMatmulAlgoConfigGetAttribute(&algorithm, option, &value, sizeof value, &written)),
        &kind);
  return value;
}

/// Whether equal operands always give equal bits: no part of a sum is added atomically, as with the scheme
/// "in place", or in the dtype of the output.
bool is_deterministic(const Algorithm& algorithm, const Kind& kind) {
  return (config_of(algorithm, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, kind) & ~kReductions) == 0;
}

/// Whether a product in bf16 has a side that is no multiple of 8, so that it may have an algorithm once padded.
bool can_be_padded(const Kind& kind) {
  return kind.dtype == DType::bf16 && (kind.m % 8 != 0 || kind.n % 8 != 0 || kind.k % 8 != 0);
}

/// What a user can do about a status.
std::string hint_for(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_NOT_INITIALIZED:
      return "cuBLASLt could not start: is the NVIDIA driver older than it, or the device's memory full? "
             "(nvidia-smi shows both)";
    case CUBLAS_STATUS_ALLOC_FAILED:
      return llsa::cuda::hint_for(cudaErrorMemoryAllocation);
    case CUBLAS_STATUS_ARCH_MISMATCH:
      return "the installed cuBLAS has no kernels for this GPU: install that of a newer CUDA toolkit";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "the installed cuBLAS has no algorithm for this on this GPU: use another dtype, or the "
             "cuBLAS of a newer CUDA toolkit";
    case CUBLAS_STATUS_EXECUTION_FAILED:
      return llsa::cuda::kEarlierCommandHint;
    default:
      return "with CUBLASLT_LOG_LEVEL=1 in the environment the library says more";
  }
}

}  // namespace

void check(cublasStatus_t status, const llsa::cuda::Command& command, const Kind* kind) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  llsa::cuda::library_failed("matmul", command, kind != nullptr ? kind->str() : "",
                             cat(cublasLtGetStatusString(status), " (", cublasLtGetStatusName(status), ")"),
                             hint_for(status));
}

Layout::Layout(const Tensor& x)
    : rows(x.size(-2)), cols(x.size(-1)), batch_stride(x.rank() == 3 ? x.stride(0) : 0) {
  const std::int64_t row = x.stride(-2), col = x.stride(-1);
  by_columns = !((col == 1 || cols == 1) && (row >= cols || rows == 1));
  ld = by_columns ? (cols == 1 ? rows : col) : (rows == 1 ? cols : row);
}

Kind::Kind(const Context& ctx, const Product& product)
    : dtype(product.a.dtype()),
      f32_sums(product.out.dtype() != dtype),
      tf32(ctx.tf32() && dtype == DType::f32),
      epilogue(product.epilogue),
      m(product.out.size(-2)),
      n(product.out.size(-1)),
      k(product.a.size(-1)),
      batch(product.out.rank() == 3 ? product.out.size(0) : 1),
      a(product.a),
      b(product.b),
      align_a(alignment(product.a)),
      align_b(alignment(product.b)),
      align_out(alignment(product.out)),
      align_extra(kMaxAlignment) {
  for (const Tensor* extra : {&product.bias, &product.pre})
    if (extra->defined()) align_extra = std::min(align_extra, alignment(*extra));
}

Kind::Key Kind::key() const {
  return {static_cast<std::int64_t>(dtype),
          f32_sums,
          tf32,
          static_cast<std::int64_t>(epilogue),
          m,
          n,
          k,
          batch,
          a.ld,
          a.batch_stride,
          a.by_columns,
          b.ld,
          b.batch_stride,
          b.by_columns,
          align_a,
          align_b,
          align_out,
          align_extra};
}

std::string Kind::str() const {
  return cat(llsa::name_of(dtype), f32_sums ? " to f32 " : " ", batch > 1 ? cat(batch, " x ") : std::string(),
             "[", m, ",", k, "] times [", k, ",", n, "]");
}

std::string Kind::title() const { return cat(str(), tf32 ? ", tf32, " : ", ", name_of(epilogue)); }

std::string Kind::name() const {
  const auto side = [](const char* name, const Layout& x) {
    return cat(", ", name, " by ", x.by_columns ? "columns " : "rows ", x.ld, " ", x.batch_stride);
  };
  return cat(title(), side("a", a), side("b", b), ", aligned ", align_a, " ", align_b, " ", align_out, " ",
             align_extra);
}

void point(const Plan& plan, const Product& product, const Kind& kind) {
  const auto set = [&](cublasLtMatmulDescAttributes_t option, const Tensor& x) {
    const void* address = x.raw();
    check(LLSA_CALL(cublasLtMatmulDescSetAttribute(plan.operation.handle, option, &address, sizeof address)),
          &kind);
  };
  if (product.bias.defined()) set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, product.bias);
  if (product.pre.defined()) set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, product.pre);
}

void describe(Plan& plan, const Product& product, const Kind& kind) {
  const auto operation_option = [&](cublasLtMatmulDescAttributes_t option, auto value) {
    check(LLSA_CALL(cublasLtMatmulDescSetAttribute(plan.operation.handle, option, &value, sizeof value)),
          &kind);
  };
  const cudaDataType_t type = data_type(kind.dtype);
  const cublasComputeType_t compute = kind.dtype == DType::f64 ? CUBLAS_COMPUTE_64F
                                      : kind.tf32              ? CUBLAS_COMPUTE_32F_FAST_TF32
                                                               : CUBLAS_COMPUTE_32F;
  const cudaDataType_t scale = kind.dtype == DType::f64 ? CUDA_R_64F : CUDA_R_32F;
  check(LLSA_CALL(cublasLtMatmulDescCreate(&plan.operation.handle, compute, scale)), &kind);
  operation_option(CUBLASLT_MATMUL_DESC_TRANSA, kind.b.by_columns ? CUBLAS_OP_T : CUBLAS_OP_N);
  operation_option(CUBLASLT_MATMUL_DESC_TRANSB, kind.a.by_columns ? CUBLAS_OP_T : CUBLAS_OP_N);
  operation_option(CUBLASLT_MATMUL_DESC_EPILOGUE, option_of(kind.epilogue));
  if (kind.epilogue == Epilogue::bias_gelu || kind.epilogue == Epilogue::gelu_gradient)
    operation_option(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, kind.n);
  point(plan, product, kind);

  const auto make_layout = [&](auto& layout, cudaDataType_t type, std::int64_t rows, std::int64_t cols,
                               std::int64_t ld, std::int64_t batch_stride) {
    check(LLSA_CALL(cublasLtMatrixLayoutCreate(&layout.handle, type, static_cast<std::uint64_t>(rows),
                                               static_cast<std::uint64_t>(cols), ld)),
          &kind);
    if (kind.batch == 1) return;
    const auto count = static_cast<std::int32_t>(kind.batch);
    check(LLSA_CALL(cublasLtMatrixLayoutSetAttribute(layout.handle, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT,
                                                     &count, sizeof count)),
          &kind);
    check(
        LLSA_CALL(cublasLtMatrixLayoutSetAttribute(layout.handle, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                                                   &batch_stride, sizeof batch_stride)),
        &kind);
  };
  const auto operand = [&](auto& layout, const Layout& x) {
    make_layout(layout, type, x.by_columns ? x.rows : x.cols, x.by_columns ? x.cols : x.rows, x.ld,
                x.batch_stride);
  };
  operand(plan.first, kind.b);
  operand(plan.second, kind.a);
  make_layout(plan.out, kind.f32_sums ? CUDA_R_32F : type, kind.n, kind.m, kind.n, kind.m * kind.n);
}

bool needs_cut_sum(const Kind& kind, int processors) {
  constexpr std::int64_t kTile = 128, kLongSum = 4096;
  const std::int64_t tiles = (kind.m + kTile - 1) / kTile * ((kind.n + kTile - 1) / kTile) * kind.batch;
  return kind.k >= kLongSum && 2 * tiles < processors;
}

bool cuts_sum(const Algorithm& algorithm, const Kind& kind) {
  return config_of(algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, kind) > 1;
}

std::vector<Algorithm> proposals(const Plan& plan, const Kind& kind, cublasLtHandle_t library) {
  Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy> preference;
  check(LLSA_CALL(cublasLtMatmulPreferenceCreate(&preference.handle)), &kind);
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t option, auto value) {
    check(LLSA_CALL(cublasLtMatmulPreferenceSetAttribute(preference.handle, option, &value, sizeof value)),
          &kind);
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<std::uint64_t>(kWorkspaceBytes));
  prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, kReductions);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, static_cast<std::uint32_t>(kind.align_b));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, static_cast<std::uint32_t>(kind.align_a));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, static_cast<std::uint32_t>(kind.align_out));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, static_cast<std::uint32_t>(kind.align_out));

  std::array<cublasLtMatmulHeuristicResult_t, kProposals> results = {};
  int count = 0;
  const llsa::cuda::Command ask = "cublasLtMatmulAlgoGetHeuristic";
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      library, plan.operation.handle, plan.first.handle, plan.second.handle, plan.out.handle, plan.out.handle,
      preference.handle, kProposals, results.data(), &count);
  if (status != CUBLAS_STATUS_NOT_SUPPORTED) check(status, ask, &kind);
  std::vector<Algorithm> good;
  for (int i = 0; i < count; ++i) {
    const cublasLtMatmulHeuristicResult_t& result = results[static_cast<std::size_t>(i)];
    if (result.state == CUBLAS_STATUS_SUCCESS && is_deterministic(result.algo, kind))
      good.push_back(result.algo);
  }
  if (good.empty() && kind.epilogue == Epilogue::none && !can_be_padded(kind))
    check(CUBLAS_STATUS_NOT_SUPPORTED, ask, &kind);
  return good;
}

void check_stored(const Algorithm& algorithm, const Plan& plan, const Kind& kind, cublasLtHandle_t library) {
  cublasLtMatmulHeuristicResult_t result = {};
  const cublasStatus_t status =
      cublasLtMatmulAlgoCheck(library, plan.operation.handle, plan.first.handle, plan.second.handle,
                              plan.out.handle, plan.out.handle, &algorithm, &result);
  const char* reason = status != CUBLAS_STATUS_SUCCESS ? cublasLtGetStatusString(status)
                       : result.workspaceSize > static_cast<std::size_t>(kWorkspaceBytes)
                           ? "it wants a larger workspace"
                       : !is_deterministic(algorithm, kind) ? "it adds in no fixed order"
                                                            : nullptr;
  if (reason == nullptr) return;
  throw CudaError(cat("[matmul] the stored algorithm cannot compute ", kind.name(), ": ", reason),
                  "go on without the stored choices; the last bits of later results may then differ");
}

std::string text_of(const Algorithm& algorithm) {
  std::string text;
  for (const std::uint64_t word : algorithm.data) {
    std::array<char, kWordDigits> digits;
    const auto [end, error] = std::to_chars(digits.data(), digits.data() + digits.size(), word, 16);
    const auto length = static_cast<std::size_t>(end - digits.data());
    text.append(kWordDigits - length, '0').append(digits.data(), length);
  }
  return text;
}

Algorithm algorithm_from(const std::string& text, const std::string& kind) {
  Algorithm algorithm;
  const std::size_t digits = kWordDigits * std::size(algorithm.data);
  if (text.size() != digits || text.find_first_not_of("0123456789abcdef") != std::string::npos)
    throw ValueError(cat("[matmul] expected an algorithm of ", digits, " hexadecimal digits for \"", kind,
                         "\", got \"", text, "\""));
  for (std::size_t i = 0; i < std::size(algorithm.data); ++i) {
    const char* const begin = text.data() + i * kWordDigits;
    static_cast<void>(std::from_chars(begin, begin + kWordDigits, algorithm.data[i], 16));
  }
  return algorithm;
}

}  // namespace llsa::kernels::cuda
