// cuBLASLt thinks in columns: a row-major matrix [r,c] is its c x r matrix. So out^T = b^T a^T is what it is
// asked for: its first operand is our b, its second our a, and its output, n x m, is out in memory. A bias
// per output row of its matrix is then one per column of ours.
#include "kernels/cuda/cublaslt.h"

#include <cublasLt.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <array>
#include <map>

#include "core/error.h"
#include "kernels/cuda/libraries.h"

namespace llsa::kernels::cuda {
namespace {

constexpr std::int64_t kWorkspaceBytes = std::int64_t{64} << 20;
constexpr std::int64_t kMaxAlignment = 256;  // bytes; what the allocator gives
constexpr std::int64_t kMaxBatch = 65535;    // products per call

void check(cublasStatus_t status, const char* call, const std::string& what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw CudaError(cat("[matmul] ", call, " failed", what.empty() ? "" : " for ", what, ": ",
                      cublasLtGetStatusString(status), " (", cublasLtGetStatusName(status), ")"));
}

/// A matrix with unit stride in one axis; by_columns: in the first.
struct Layout {
  std::int64_t rows, cols, ld, batch_stride;
  bool by_columns;

  explicit Layout(const Tensor& x)
      : rows(x.size(-2)), cols(x.size(-1)), batch_stride(x.rank() == 3 ? x.stride(0) : 0) {
    const std::int64_t row = x.stride(-2), col = x.stride(-1);
    by_columns = !((col == 1 || cols == 1) && (row >= cols || rows == 1));
    ld = by_columns ? (cols == 1 ? rows : col) : (rows == 1 ? cols : row);
  }
};

std::int64_t alignment(const Tensor& x) {
  const auto address = reinterpret_cast<std::uintptr_t>(x.raw());
  std::int64_t bytes = kMaxAlignment;
  while (address % static_cast<std::uintptr_t>(bytes) != 0) bytes /= 2;
  return bytes;
}

cudaDataType_t data_type(DType dtype) {
  return dtype == DType::f64 ? CUDA_R_64F : dtype == DType::bf16 ? CUDA_R_16BF : CUDA_R_32F;
}

cublasLtEpilogue_t name_of(Epilogue epilogue) {
  switch (epilogue) {
    case Epilogue::bias:
      return CUBLASLT_EPILOGUE_BIAS;
    case Epilogue::bias_gelu:
      return CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
    case Epilogue::operand_row_sum:
      return CUBLASLT_EPILOGUE_BGRADB;
    case Epilogue::none:
      break;
  }
  return CUBLASLT_EPILOGUE_DEFAULT;
}

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

using MatrixLayout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Preference = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

/// How one kind of product is computed.
struct Plan {
  Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy> operation;
  MatrixLayout first, second, out;
  cublasLtMatmulAlgo_t algorithm = {};
  bool found = false;
};

/// Everything that the choice of an algorithm depends on.
struct Kind {
  DType dtype;
  bool tf32;
  Epilogue epilogue;
  std::int64_t m, n, k, batch;
  Layout a, b;
  std::int64_t align_a, align_b, align_out, align_extra;

  std::array<std::int64_t, 17> key() const {
    return {static_cast<std::int64_t>(dtype),
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

  std::string str() const {
    return cat(llsa::name_of(dtype), " ", batch > 1 ? cat(batch, " x ") : std::string(), "[", m, ",", k,
               "] times [", k, ",", n, "]");
  }
};

/// Points the operation to the product's vectors. The heuristic looks at their alignment too.
void point(const Plan& plan, const Product& product, const Kind& kind) {
  const auto set = [&](cublasLtMatmulDescAttributes_t option, const Tensor& x) {
    const void* address = x.raw();
    check(cublasLtMatmulDescSetAttribute(plan.operation.handle, option, &address, sizeof address),
          "cublasLtMatmulDescSetAttribute", kind.str());
  };
  if (product.bias.defined()) set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, product.bias);
  if (product.pre.defined()) set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, product.pre);
}

void set_up(Plan& plan, const Product& product, const Kind& kind, cublasLtHandle_t handle) {
  const std::string what = kind.str();
  const auto ok = [&](cublasStatus_t status, const char* call) { check(status, call, what); };
  const auto operation_option = [&](cublasLtMatmulDescAttributes_t option, auto value) {
    ok(cublasLtMatmulDescSetAttribute(plan.operation.handle, option, &value, sizeof value),
       "cublasLtMatmulDescSetAttribute");
  };
  const cudaDataType_t type = data_type(kind.dtype);
  const cublasComputeType_t compute = kind.dtype == DType::f64 ? CUBLAS_COMPUTE_64F
                                      : kind.tf32              ? CUBLAS_COMPUTE_32F_FAST_TF32
                                                               : CUBLAS_COMPUTE_32F;
  ok(cublasLtMatmulDescCreate(&plan.operation.handle, compute,
                              kind.dtype == DType::f64 ? CUDA_R_64F : CUDA_R_32F),
     "cublasLtMatmulDescCreate");
  operation_option(CUBLASLT_MATMUL_DESC_TRANSA, kind.b.by_columns ? CUBLAS_OP_T : CUBLAS_OP_N);
  operation_option(CUBLASLT_MATMUL_DESC_TRANSB, kind.a.by_columns ? CUBLAS_OP_T : CUBLAS_OP_N);
  operation_option(CUBLASLT_MATMUL_DESC_EPILOGUE, name_of(kind.epilogue));
  if (kind.epilogue == Epilogue::bias_gelu) operation_option(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, kind.n);
  point(plan, product, kind);

  const auto make_layout = [&](MatrixLayout& layout, std::int64_t rows, std::int64_t cols, std::int64_t ld,
                               std::int64_t batch_stride) {
    ok(cublasLtMatrixLayoutCreate(&layout.handle, type, static_cast<std::uint64_t>(rows),
                                  static_cast<std::uint64_t>(cols), ld),
       "cublasLtMatrixLayoutCreate");
    if (kind.batch == 1) return;
    const auto count = static_cast<std::int32_t>(kind.batch);
    ok(cublasLtMatrixLayoutSetAttribute(layout.handle, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count,
                                        sizeof count),
       "cublasLtMatrixLayoutSetAttribute");
    ok(cublasLtMatrixLayoutSetAttribute(layout.handle, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                                        &batch_stride, sizeof batch_stride),
       "cublasLtMatrixLayoutSetAttribute");
  };
  const auto operand = [&](MatrixLayout& layout, const Layout& x) {
    make_layout(layout, x.by_columns ? x.rows : x.cols, x.by_columns ? x.cols : x.rows, x.ld, x.batch_stride);
  };
  operand(plan.first, kind.b);
  operand(plan.second, kind.a);
  make_layout(plan.out, kind.n, kind.m, kind.n, kind.m * kind.n);

  Preference preference;
  ok(cublasLtMatmulPreferenceCreate(&preference.handle), "cublasLtMatmulPreferenceCreate");
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t option, auto value) {
    ok(cublasLtMatmulPreferenceSetAttribute(preference.handle, option, &value, sizeof value),
       "cublasLtMatmulPreferenceSetAttribute");
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<std::uint64_t>(kWorkspaceBytes));
  prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
         static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, static_cast<std::uint32_t>(kind.align_b));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, static_cast<std::uint32_t>(kind.align_a));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, static_cast<std::uint32_t>(kind.align_out));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, static_cast<std::uint32_t>(kind.align_out));

  cublasLtMatmulHeuristicResult_t result = {};
  int count = 0;
  const cublasStatus_t status =
      cublasLtMatmulAlgoGetHeuristic(handle, plan.operation.handle, plan.first.handle, plan.second.handle,
                                     plan.out.handle, plan.out.handle, preference.handle, 1, &result, &count);
  const bool none =
      status == CUBLAS_STATUS_NOT_SUPPORTED ||
      (status == CUBLAS_STATUS_SUCCESS && (count == 0 || result.state != CUBLAS_STATUS_SUCCESS));
  if (none && kind.epilogue != Epilogue::none) return;
  ok(none ? CUBLAS_STATUS_NOT_SUPPORTED : status, "cublasLtMatmulAlgoGetHeuristic");
  plan.algorithm = result.algo;
  plan.found = true;
}

}  // namespace

struct CublasLt::Impl {
  Owned<cublasLtHandle_t, cublasLtDestroy> library;
  Tensor workspace;
  std::map<std::array<std::int64_t, 17>, Plan> plans;
};

CublasLt& CublasLt::of(Context& ctx) {
  std::shared_ptr<CublasLt>& own = Libraries::of(ctx).cublaslt;
  if (!own) own = std::make_shared<CublasLt>(ctx);
  return *own;
}

CublasLt::CublasLt(Context& ctx) : impl_(std::make_unique<Impl>()) {
  static_cast<void>(ctx.stream());  // the handle belongs to the thread's current device
  check(cublasLtCreate(&impl_->library.handle), "cublasLtCreate", "");
  impl_->workspace = ctx.empty(Shape{kWorkspaceBytes}, DType::u8);
}

CublasLt::~CublasLt() = default;

bool CublasLt::multiply(Context& ctx, const Product& product) {
  const Tensor &a = product.a, &b = product.b, &out = product.out;
  const std::int64_t batch = out.rank() == 3 ? out.size(0) : 1;
  if (batch > kMaxBatch) {
    for (std::int64_t begin = 0; begin < batch; begin += kMaxBatch) {
      const std::int64_t end = std::min(batch, begin + kMaxBatch);
      multiply(ctx, {a.slice(0, begin, end), b.slice(0, begin, end), out.slice(0, begin, end)});
    }
    return true;
  }
  Kind kind{out.dtype(),
            ctx.tf32() && out.dtype() == DType::f32,
            product.epilogue,
            out.size(-2),
            out.size(-1),
            a.size(-1),
            batch,
            Layout(a),
            Layout(b),
            alignment(a),
            alignment(b),
            alignment(out),
            kMaxAlignment};
  for (const Tensor* extra : {&product.bias, &product.pre})
    if (extra->defined()) kind.align_extra = std::min(kind.align_extra, alignment(*extra));

  const auto [place, fresh] = impl_->plans.try_emplace(kind.key());
  Plan& plan = place->second;
  if (fresh) {
    try {
      set_up(plan, product, kind, impl_->library.handle);
    } catch (...) {
      impl_->plans.erase(place);
      throw;
    }
  }
  if (!plan.found) return false;

  if (!fresh) point(plan, product, kind);

  const bool wide = kind.dtype == DType::f64;
  const float one = 1, zero = 0;
  const double wide_one = 1, wide_zero = 0;
  const cublasStatus_t status =
      cublasLtMatmul(impl_->library.handle, plan.operation.handle,
                     wide ? static_cast<const void*>(&wide_one) : &one, b.raw(), plan.first.handle, a.raw(),
                     plan.second.handle, wide ? static_cast<const void*>(&wide_zero) : &zero, out.raw(),
                     plan.out.handle, out.raw(), plan.out.handle, &plan.algorithm, impl_->workspace.raw(),
                     static_cast<std::size_t>(kWorkspaceBytes), static_cast<cudaStream_t>(ctx.stream()));
  if (status != CUBLAS_STATUS_SUCCESS) check(status, "cublasLtMatmul", kind.str());
  return true;
}

}  // namespace llsa::kernels::cuda
