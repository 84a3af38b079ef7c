#include "kernels/cuda/cublaslt.h"

#include <cublasLt.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/cuda/check.h"
#include "core/error.h"
#include "core/profiler.h"
#include "kernels/cuda/fastest.h"
#include "kernels/cuda/libraries.h"
#include "kernels/cuda/product_plan.h"

namespace llsa::kernels::cuda {
namespace {

constexpr std::int64_t kMaxBatch = 65535;  // products per call

/// Work of a stream under capture is written down, not done: it has no time.
bool is_captured(Context& ctx) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  LLSA_CUDA_CHECK(cudaStreamIsCapturing(static_cast<cudaStream_t>(ctx.stream()), &status));
  return status != cudaStreamCaptureStatusNone;
}

std::string machine_of(const Context& ctx) {
  const llsa::cuda::DeviceProperties device = llsa::cuda::device_properties(ctx.device().index);
  return cat(device.name, ", ", device.processors, " processors, cuBLASLt ", cublasLtGetVersion());
}

}  // namespace

struct CublasLt::Impl {
  Owned<cublasLtHandle_t, cublasLtDestroy> library;
  Tensor workspace;
  std::map<Kind::Key, Plan> plans;
  std::map<std::string, Algorithm> choices;  // by Kind::name(); empty in a context that never tunes
  bool tuning = false;

  /// Puts the product into the stream.
  cublasStatus_t launch(Context& ctx, const Plan& plan, const Algorithm& algorithm, const Product& product) {
    const bool wide = product.out.dtype() == DType::f64;
    const float one = 1, zero = 0;
    const double wide_one = 1, wide_zero = 0;
    const Tensor &a = product.a, &b = product.b, &out = product.out;
    return cublasLtMatmul(library.handle, plan.operation.handle,
                          wide ? static_cast<const void*>(&wide_one) : &one, b.raw(), plan.first.handle,
                          a.raw(), plan.second.handle, wide ? static_cast<const void*>(&wide_zero) : &zero,
                          out.raw(), plan.out.handle, out.raw(), plan.out.handle, &algorithm, workspace.raw(),
                          static_cast<std::size_t>(kWorkspaceBytes), static_cast<cudaStream_t>(ctx.stream()));
  }

  /// Settles the algorithm of a described plan. Trials write where the product itself will write right
  /// after them: it reads nothing there, and outputs are no operands.
  void choose(Context& ctx, Plan& plan, const Product& product, const Kind& kind) {
    const std::string name = kind.name();
    if (const auto stored = choices.find(name); stored != choices.end()) {
      check_stored(stored->second, plan, kind, library.handle);
      plan.algorithm = stored->second;
      plan.found = true;
      return;
    }
    std::vector<Algorithm> offers = proposals(plan, kind, library.handle);
    // Such a product, with the sums of the bias, is several times as slow as a plain product, whose sum the library cuts,
    // followed by another pass for the bias.
    const int processors = llsa::cuda::device_properties(ctx.device().index).processors;
    if (kind.epilogue == Epilogue::operand_row_sum && needs_cut_sum(kind, processors))
      std::erase_if(offers, [&](const Algorithm& offer) { return !cuts_sum(offer, kind); });
    if (offers.empty()) return;
    std::size_t best = 0;
    if (tuning && offers.size() > 1 && !is_captured(ctx)) {
      best = fastest(ctx, offers.size(), [&](std::size_t i) {
        return launch(ctx, plan, offers[i], product) == CUBLAS_STATUS_SUCCESS;
      });
    }
    plan.algorithm = offers[best];
    plan.found = true;
    if (tuning || !choices.empty()) choices.emplace(name, plan.algorithm);
  }
};

CublasLt& CublasLt::of(Context& ctx) {
  std::shared_ptr<CublasLt>& own = Libraries::of(ctx).cublaslt;
  if (!own) own = std::make_shared<CublasLt>(ctx);
  return *own;
}

CublasLt::CublasLt(Context& ctx) : impl_(std::make_unique<Impl>()) {
  static_cast<void>(ctx.stream());  // the handle belongs to the thread's current device
  check(LLSA_CALL(cublasLtCreate(&impl_->library.handle)));
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
  const Kind kind(ctx, product);
  const auto [place, fresh] = impl_->plans.try_emplace(kind.key());
  Plan& plan = place->second;
  if (fresh) {
    try {
      describe(plan, product, kind);
      impl_->choose(ctx, plan, product, kind);
    } catch (...) {
      impl_->plans.erase(place);
      throw;
    }
  }
  if (!plan.found) return false;

  if (!fresh) point(plan, product, kind);
  const Profiler::Span span(ctx.stream(), &plan, [&] { return KernelText{"cublasLt " + kind.title()}; });
  Profiler::add_work(static_cast<double>(kind.batch) * product_flops(kind.m, kind.n, kind.k),
                     bytes_of(std::vector<Tensor>{a, b, out, product.bias, product.pre}));
  check(impl_->launch(ctx, plan, plan.algorithm, product), "cublasLtMatmul", &kind);
  return true;
}

void CublasLt::tune(bool on) { impl_->tuning = on; }

ProductChoices CublasLt::choices(Context& ctx) const {
  ProductChoices all{machine_of(ctx), {}};
  for (const auto& [name, algorithm] : impl_->choices) all.algorithms.emplace(name, text_of(algorithm));
  return all;
}

bool CublasLt::restore(Context& ctx, const ProductChoices& choices) {
  if (choices.machine != machine_of(ctx)) return false;
  std::map<std::string, Algorithm> all = impl_->choices;  // what is in use stays
  for (const auto& [name, text] : choices.algorithms) all.emplace(name, algorithm_from(text, name));
  impl_->choices = std::move(all);
  return true;
}

}  // namespace llsa::kernels::cuda
