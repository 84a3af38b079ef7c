// Convolution by cuDNN: f32 and bf16, sums in f32. Each of the three operations has one algorithm, which adds in a
// fixed order:
//
//   y    implicit matrix product with precomputed offsets; y first holds the bias, and the product is added to it
//        before it is rounded
//   dx   algorithm 1: implicit matrix product with the transposed filter
//   dw   algorithm 1: implicit matrix product, with the parts of the sum kept apart in the workspace
//
// Nothing is searched or timed. Whether the library takes a convolution depends on its kind alone (shapes, dtype,
// TF32); the answer is asked for once and remembered. f64 is left to im2col and cuBLASLt, because the library has no
// tensor cores for it; so is a convolution that would take more than 1 GiB of workspace.
#include "kernels/backend/layers.h"

#include <algorithm>
#include <array>
#include <map>

#include "kernels/copy.h"
#include "kernels/cuda/cudnn.h"
#include "kernels/cuda/libraries.h"

namespace llsa::kernels::cuda {
namespace {

constexpr std::size_t kMostWorkspace = std::size_t{1} << 30;  // bytes
constexpr std::int64_t kMostElements = 0x7fffffff;            // the library's extents and strides are int

constexpr cudnnConvolutionFwdAlgo_t kForward = CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;
constexpr cudnnConvolutionBwdDataAlgo_t kInputGradient = CUDNN_CONVOLUTION_BWD_DATA_ALGO_1;
constexpr cudnnConvolutionBwdFilterAlgo_t kWeightGradient = CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1;

enum class Part : std::uint8_t { forward, input_gradient, weight_gradient };

const char* name_of(Part part) {
  return part == Part::forward          ? "conv2d"
         : part == Part::input_gradient ? "conv2d input gradient"
                                        : "conv2d weight gradient";
}

/// Everything that the library's answer depends on.
struct Kind {
  Part part;
  DType dtype;
  bool tf32;
  ConvGeometry g;
  std::int64_t outputs;

  std::array<std::int64_t, 14> key() const {
    return {static_cast<std::int64_t>(part),
            static_cast<std::int64_t>(dtype),
            tf32,
            g.batch,
            g.channels,
            g.height,
            g.width,
            outputs,
            g.kernel[0],
            g.kernel[1],
            g.stride[0],
            g.stride[1],
            g.padding[0],
            g.padding[1]};
  }

  std::string str() const {
    return cat(llsa::name_of(dtype), " x [", g.batch, ",", g.channels, ",", g.height, ",", g.width, "], w [",
               outputs, ",", g.channels, ",", g.kernel[0], ",", g.kernel[1], "], stride ", g.stride[0], " ",
               g.stride[1], ", padding ", g.padding[0], " ", g.padding[1]);
  }

  /// Whether the library can be asked at all.
  bool askable() const {
    const std::array<std::int64_t, 4> elements = {
        g.batch * g.channels * g.height * g.width, outputs * g.patch(),
        g.batch * outputs * g.out_height * g.out_width,
        std::max({g.stride[0], g.stride[1], g.padding[0], g.padding[1]})};
    const bool empty = elements[0] == 0 || elements[1] == 0 || elements[2] == 0;
    return dtype != DType::f64 && !empty &&
           *std::max_element(elements.begin(), elements.end()) <= kMostElements;
  }
};

template <auto destroy>
struct Destroy {
  template <class T>
  void operator()(T* descriptor) const {
    static_cast<void>(destroy(descriptor));
  }
};
template <class Descriptor, auto destroy>
using Owned = std::unique_ptr<std::remove_pointer_t<Descriptor>, Destroy<destroy>>;

struct Plan {
  Owned<cudnnTensorDescriptor_t, cudnnDestroyTensorDescriptor> x, y;
  Owned<cudnnFilterDescriptor_t, cudnnDestroyFilterDescriptor> w;
  Owned<cudnnConvolutionDescriptor_t, cudnnDestroyConvolutionDescriptor> convolution;
  std::size_t workspace = 0;  // bytes
  bool taken = false;
};

/// Whether a call succeeded; false where the library refuses. Throws CudaError for other failures.
bool done(cudnnStatus_t status, const llsa::cuda::Command& command, const Kind& kind) {
  if (refused(status)) return false;
  if (status != CUDNN_STATUS_SUCCESS) check(status, command, name_of(kind.part), kind.str());
  return true;
}

void make_descriptors(Plan& plan, const Kind& kind) {
  const auto make = [&](auto& owned, auto create, const llsa::cuda::Command& command) {
    typename std::remove_reference_t<decltype(owned)>::pointer descriptor = nullptr;
    check(create(&descriptor), command, name_of(kind.part), kind.str());
    owned.reset(descriptor);
  };
  make(plan.x, LLSA_CALL(cudnnCreateTensorDescriptor));
  make(plan.y, LLSA_CALL(cudnnCreateTensorDescriptor));
  make(plan.w, LLSA_CALL(cudnnCreateFilterDescriptor));
  make(plan.convolution, LLSA_CALL(cudnnCreateConvolutionDescriptor));
}

/// False where the library refuses the operands.
bool describe(const Plan& plan, const Kind& kind) {
  const auto i = [](std::int64_t extent) { return static_cast<int>(extent); };
  const ConvGeometry& g = kind.g;
  const cudnnDataType_t type = kind.dtype == DType::bf16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
  // The default would let f32 be rounded to TF32.
  const cudnnMathType_t math = kind.dtype == DType::bf16 ? CUDNN_TENSOR_OP_MATH
                               : kind.tf32               ? CUDNN_DEFAULT_MATH
                                                         : CUDNN_FMA_MATH;
  return done(LLSA_CALL(cudnnSetTensor4dDescriptor(plan.x.get(), CUDNN_TENSOR_NCHW, type, i(g.batch),
                                                   i(g.channels), i(g.height), i(g.width))),
              kind) &&
         done(LLSA_CALL(cudnnSetTensor4dDescriptor(plan.y.get(), CUDNN_TENSOR_NCHW, type, i(g.batch),
                                                   i(kind.outputs), i(g.out_height), i(g.out_width))),
              kind) &&
         done(LLSA_CALL(cudnnSetFilter4dDescriptor(plan.w.get(), type, CUDNN_TENSOR_NCHW, i(kind.outputs),
                                                   i(g.channels), i(g.kernel[0]), i(g.kernel[1]))),
              kind) &&
         done(LLSA_CALL(cudnnSetConvolution2dDescriptor(plan.convolution.get(), i(g.padding[0]),
                                                        i(g.padding[1]), i(g.stride[0]), i(g.stride[1]), 1, 1,
                                                        CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT)),
              kind) &&
         done(LLSA_CALL(cudnnSetConvolutionMathType(plan.convolution.get(), math)), kind);
}

/// False where the algorithm does not cover the convolution.
bool measure_workspace(Plan& plan, const Kind& kind, cudnnHandle_t handle) {
  switch (kind.part) {
    case Part::forward:
      return done(LLSA_CALL(cudnnGetConvolutionForwardWorkspaceSize(handle, plan.x.get(), plan.w.get(),
                                                                    plan.convolution.get(), plan.y.get(),
                                                                    kForward, &plan.workspace)),
                  kind);
    case Part::input_gradient:
      return done(LLSA_CALL(cudnnGetConvolutionBackwardDataWorkspaceSize(handle, plan.w.get(), plan.y.get(),
                                                                         plan.convolution.get(), plan.x.get(),
                                                                         kInputGradient, &plan.workspace)),
                  kind);
    case Part::weight_gradient:
      break;
  }
  return done(LLSA_CALL(cudnnGetConvolutionBackwardFilterWorkspaceSize(handle, plan.x.get(), plan.y.get(),
                                                                       plan.convolution.get(), plan.w.get(),
                                                                       kWeightGradient, &plan.workspace)),
              kind);
}

}  // namespace

struct ConvolutionPlans {
  std::map<std::array<std::int64_t, 14>, Plan> of_kind;
};

namespace {

Plan& plan_of(Context& ctx, const Kind& kind, cudnnHandle_t handle) {
  std::shared_ptr<ConvolutionPlans>& plans = Libraries::of(ctx).convolutions;
  if (!plans) plans = std::make_shared<ConvolutionPlans>();
  const auto found = plans->of_kind.find(kind.key());
  if (found != plans->of_kind.end()) return found->second;
  Plan plan;
  make_descriptors(plan, kind);
  plan.taken =
      describe(plan, kind) && measure_workspace(plan, kind, handle) && plan.workspace <= kMostWorkspace;
  return plans->of_kind.emplace(kind.key(), std::move(plan)).first->second;
}

/// call(handle, plan, workspace) for a convolution that the library takes. A refusal that comes only now is
/// remembered, too.
template <class Prepare, class Call>
bool run(Context& ctx, const Kind& kind, const llsa::cuda::Command& command, Prepare prepare, Call call) {
  if (!kind.askable()) return false;
  cudnnHandle_t handle = CudnnHandle::of(ctx);
  Plan& plan = plan_of(ctx, kind, handle);
  if (!plan.taken) return false;
  prepare();
  const Tensor workspace = ctx.empty(Shape{static_cast<std::int64_t>(plan.workspace)}, DType::u8);
  const Profiler::Span span(ctx.stream(), command.text);
  plan.taken = done(call(handle, plan, workspace.raw()), command, kind);
  return plan.taken;
}

bool conv2d(Context& ctx, const ConvGeometry& geometry, const Tensor& x, const Tensor& w, const Tensor& bias,
            const Tensor& y) {
  const Kind kind{Part::forward, x.dtype(), ctx.tf32() && x.dtype() == DType::f32, geometry, w.size(0)};
  const auto put_bias = [&] {
    if (bias.defined()) copy(ctx, bias.reshape({kind.outputs, 1, 1}).expand(y.shape()), y);
  };
  return run(ctx, kind, "cudnnConvolutionForward", put_bias,
             [&](cudnnHandle_t handle, const Plan& plan, void* workspace) {
               const float one = 1, keep = bias.defined() ? 1 : 0;
               const Tensor from = aligned(ctx, x), filter = aligned(ctx, w);
               return cudnnConvolutionForward(handle, &one, plan.x.get(), from.raw(), plan.w.get(),
                                              filter.raw(), plan.convolution.get(), kForward, workspace,
                                              plan.workspace, &keep, plan.y.get(), y.raw());
             });
}

bool conv2d_dx(Context& ctx, const ConvGeometry& geometry, const Tensor& dy, const Tensor& w,
               const Tensor& dx) {
  const Kind kind{Part::input_gradient, dy.dtype(), ctx.tf32() && dy.dtype() == DType::f32, geometry,
                  w.size(0)};
  return run(
      ctx, kind, "cudnnConvolutionBackwardData", [] {},
      [&](cudnnHandle_t handle, const Plan& plan, void* workspace) {
        const float one = 1, zero = 0;
        const Tensor from = aligned(ctx, dy), filter = aligned(ctx, w);
        return cudnnConvolutionBackwardData(handle, &one, plan.w.get(), filter.raw(), plan.y.get(),
                                            from.raw(), plan.convolution.get(), kInputGradient, workspace,
                                            plan.workspace, &zero, plan.x.get(), dx.raw());
      });
}

bool conv2d_dw(Context& ctx, const ConvGeometry& geometry, const Tensor& dy, const Tensor& x,
               const Tensor& dw) {
  const Kind kind{Part::weight_gradient, dy.dtype(), ctx.tf32() && dy.dtype() == DType::f32, geometry,
                  dw.size(0)};
  return run(
      ctx, kind, "cudnnConvolutionBackwardFilter", [] {},
      [&](cudnnHandle_t handle, const Plan& plan, void* workspace) {
        const float one = 1, zero = 0;
        const Tensor input = aligned(ctx, x), grad = aligned(ctx, dy);
        return cudnnConvolutionBackwardFilter(handle, &one, plan.x.get(), input.raw(), plan.y.get(),
                                              grad.raw(), plan.convolution.get(), kWeightGradient, workspace,
                                              plan.workspace, &zero, plan.w.get(), dw.raw());
      });
}

}  // namespace

constinit const ConvLibrary kConvLibrary = {.conv2d = conv2d, .conv2d_dx = conv2d_dx, .conv2d_dw = conv2d_dw};

}  // namespace llsa::kernels::cuda
