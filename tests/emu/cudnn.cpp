// The part of cuDNN that kernels/cuda/cudnn.cpp and cudnn_conv.cpp call, on the emulated device: plain loops
// over NCHW tensors, sums in f64.
//
// It is strict where the library is (descriptors that fit together, addresses, workspaces) and where the
// library is not, but we are: it takes one algorithm for each operation, the one that adds in fixed order,
// and rounds f32 operands to TF32 wherever the math type allows it. It refuses paddings as large as the
// kernel when it is asked, and strides beyond the kernel only when it is run, so that both ways back to
// im2col are walked.
#include <cuda_bf16.h>
#include <cudnn.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <vector>

#include "tests/emu/cuda_objects.h"

namespace {

struct Handle {
  cudaStream_t stream = nullptr;
};

struct Array {
  cudnnDataType_t type = CUDNN_DATA_DOUBLE;
  std::array<int, 4> extents = {};  // n c h w, or k c h w

  std::int64_t count() const { return std::int64_t{extents[0]} * extents[1] * extents[2] * extents[3]; }
};

struct Convolution {
  std::array<int, 2> padding = {}, stride = {}, dilation = {};
  cudnnConvolutionMode_t mode = CUDNN_CONVOLUTION;
  cudnnDataType_t compute = CUDNN_DATA_DOUBLE;
  cudnnMathType_t math = CUDNN_DEFAULT_MATH;
};

/// The three operands with their descriptors.
struct Problem {
  Array x, w, y;
  Convolution convolution;
};

/// What a test wants the call to return instead of doing anything.
cudnnStatus_t requested(const char* function) {
  return static_cast<cudnnStatus_t>(llsa::emu::requested_failure(function));
}

template <class To, class From>
To* real(From* opaque) {
  return reinterpret_cast<To*>(opaque);
}

cudnnStatus_t set_array(Array& array, cudnnTensorFormat_t format, cudnnDataType_t type,
                        std::array<int, 4> extents) {
  if (format != CUDNN_TENSOR_NCHW) return CUDNN_STATUS_BAD_PARAM;
  if (*std::min_element(extents.begin(), extents.end()) < 1) return CUDNN_STATUS_BAD_PARAM;
  if (type != CUDNN_DATA_FLOAT && type != CUDNN_DATA_BFLOAT16) return CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE;
  array = {type, extents};
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t consistent(const Problem& p) {
  const Convolution& c = p.convolution;
  bool good = p.x.type == p.w.type && p.x.type == p.y.type && c.compute == CUDNN_DATA_FLOAT &&
              c.mode == CUDNN_CROSS_CORRELATION && p.x.extents[1] == p.w.extents[1] &&
              p.y.extents[0] == p.x.extents[0] && p.y.extents[1] == p.w.extents[0];
  for (std::size_t axis = 0; axis < 2; ++axis) {
    const int room = p.x.extents[2 + axis] + 2 * c.padding[axis] - p.w.extents[2 + axis];
    good = good && c.dilation[axis] == 1 && c.stride[axis] >= 1 && c.padding[axis] >= 0 && room >= 0 &&
           p.y.extents[2 + axis] == room / c.stride[axis] + 1;
  }
  const bool rounds = c.math == CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION ||
                      (p.x.type == CUDNN_DATA_BFLOAT16) != (c.math == CUDNN_TENSOR_OP_MATH);
  if (!good || rounds) return CUDNN_STATUS_BAD_PARAM;
  for (std::size_t axis = 0; axis < 2; ++axis)
    if (c.padding[axis] >= p.w.extents[2 + axis]) return CUDNN_STATUS_NOT_SUPPORTED_PADDING;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t answer_size(const Problem& p, bool algorithm, std::size_t bytes, std::size_t* size) {
  if (!algorithm) return CUDNN_STATUS_BAD_PARAM;
  if (const cudnnStatus_t status = consistent(p); status != CUDNN_STATUS_SUCCESS) return status;
  *size = bytes;
  return CUDNN_STATUS_SUCCESS;
}

double load(cudnnDataType_t type, const void* data, std::int64_t at) {
  if (type == CUDNN_DATA_FLOAT) return static_cast<double>(static_cast<const float*>(data)[at]);
  return static_cast<double>(__bfloat162float(static_cast<const __nv_bfloat16*>(data)[at]));
}

/// All elements, as the products see them.
std::vector<double> operand(const Array& array, const void* data, cudnnMathType_t math) {
  std::vector<double> values(static_cast<std::size_t>(array.count()));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = load(array.type, data, static_cast<std::int64_t>(i));
    if (array.type != CUDNN_DATA_FLOAT || math == CUDNN_FMA_MATH) continue;
    auto f = static_cast<float>(values[i]);  // TF32: 10 bits of mantissa
    std::uint32_t bits;
    std::memcpy(&bits, &f, sizeof bits);
    bits = (bits + 0x1000u) & ~0x1fffu;
    std::memcpy(&f, &bits, sizeof bits);
    values[i] = static_cast<double>(f);
  }
  return values;
}

/// data = values + beta data
void store(const Array& array, void* data, const std::vector<double>& values, float beta) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto at = static_cast<std::int64_t>(i);
    const double value = beta == 0.0f ? values[i] : values[i] + load(array.type, data, at);
    if (array.type == CUDNN_DATA_FLOAT)
      static_cast<float*>(data)[at] = static_cast<float>(value);
    else
      static_cast<__nv_bfloat16*>(data)[at] = __float2bfloat16(static_cast<float>(value));
  }
}

/// f(y index, x index, w index) for every product of the convolution.
template <class F>
void for_all_products(const Problem& p, F f) {
  const Convolution& c = p.convolution;
  const auto [images, outputs, out_h, out_w] = p.y.extents;
  const int channels = p.w.extents[1], kernel_h = p.w.extents[2], kernel_w = p.w.extents[3];
  const int height = p.x.extents[2], width = p.x.extents[3];
  std::size_t at = 0;
  for (int image = 0; image < images; ++image)
    for (int output = 0; output < outputs; ++output)
      for (int oy = 0; oy < out_h; ++oy)
        for (int ox = 0; ox < out_w; ++ox, ++at)
          for (int channel = 0; channel < channels; ++channel)
            for (int i = 0; i < kernel_h; ++i)
              for (int j = 0; j < kernel_w; ++j) {
                const int row = oy * c.stride[0] + i - c.padding[0],
                          col = ox * c.stride[1] + j - c.padding[1];
                if (row < 0 || row >= height || col < 0 || col >= width) continue;
                f(at, static_cast<std::size_t>(((image * channels + channel) * height + row) * width + col),
                  static_cast<std::size_t>(((output * channels + channel) * kernel_h + i) * kernel_w + j));
              }
}

/// What every operation wants before it begins. The workspace is overwritten.
cudnnStatus_t begin(cudnnHandle_t handle, const Problem& p, std::size_t wanted, void* workspace,
                    std::size_t bytes, const void* alpha, std::initializer_list<const void*> operands) {
  cudaStream_t stream = real<Handle>(handle)->stream;
  if (stream == nullptr || !llsa::emu::is_stream(stream)) return CUDNN_STATUS_BAD_PARAM_STREAM_MISMATCH;
  if (const cudnnStatus_t status = consistent(p); status != CUDNN_STATUS_SUCCESS) return status;
  for (const void* const pointer : operands) {
    if (pointer == nullptr) return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
    if (reinterpret_cast<std::uintptr_t>(pointer) % 16 != 0) return CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER;
  }
  if (bytes < wanted || (wanted > 0 && workspace == nullptr)) return CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT;
  if (*static_cast<const float*>(alpha) != 1.0f) return CUDNN_STATUS_BAD_PARAM;
  for (std::size_t axis = 0; axis < 2; ++axis)
    if (p.convolution.stride[axis] > p.w.extents[2 + axis]) return CUDNN_STATUS_NOT_SUPPORTED_SHAPE;
  if (wanted > 0) std::memset(workspace, 0xFF, wanted);
  return CUDNN_STATUS_SUCCESS;
}

/// Has the handle's stream do the work: at once, or in the replays of a graph.
template <class Work>
cudnnStatus_t enqueue(cudnnHandle_t handle, Work work) {
  const cudaError_t error = llsa::emu::enqueue(real<Handle>(handle)->stream, [work] {
    work();
    return cudaSuccess;
  });
  return error == cudaSuccess ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_EXECUTION_FAILED;
}

std::size_t forward_bytes(const Problem& p) {
  return sizeof(int) * static_cast<std::size_t>(p.w.count() / p.w.extents[0]);
}
std::size_t weight_bytes(const Problem& p) {
  return 2 * sizeof(float) * static_cast<std::size_t>(p.w.count());
}

}  // namespace

extern "C" {

const char* cudnnGetErrorString(cudnnStatus_t status) {
  switch (status) {
    case CUDNN_STATUS_SUCCESS:
      return "CUDNN_STATUS_SUCCESS";
    case CUDNN_STATUS_NOT_INITIALIZED:
      return "CUDNN_STATUS_NOT_INITIALIZED";
    case CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED:
      return "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED";
    case CUDNN_STATUS_EXECUTION_FAILED:
      return "CUDNN_STATUS_EXECUTION_FAILED";
    default:
      return CUDNN_STATUS_CATEGORY(status) == CUDNN_STATUS_BAD_PARAM ? "CUDNN_STATUS_BAD_PARAM"
                                                                     : "CUDNN_STATUS_NOT_SUPPORTED";
  }
}
void cudnnGetLastErrorString(char* message, std::size_t size) {
  if (size > 0) message[0] = '\0';
}

cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) {
  if (const cudnnStatus_t status = requested("cudnnCreate"); status != CUDNN_STATUS_SUCCESS) return status;
  *handle = reinterpret_cast<cudnnHandle_t>(new Handle);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) {
  delete real<Handle>(handle);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
  if (const cudnnStatus_t status = requested("cudnnSetStream"); status != CUDNN_STATUS_SUCCESS) return status;
  if (!llsa::emu::is_stream(stream)) return CUDNN_STATUS_BAD_PARAM;
  real<Handle>(handle)->stream = stream;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnCreateTensorDescriptor(cudnnTensorDescriptor_t* descriptor) {
  *descriptor = reinterpret_cast<cudnnTensorDescriptor_t>(new Array);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroyTensorDescriptor(cudnnTensorDescriptor_t descriptor) {
  delete real<Array>(descriptor);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetTensor4dDescriptor(cudnnTensorDescriptor_t descriptor, cudnnTensorFormat_t format,
                                         cudnnDataType_t type, int n, int c, int h, int w) {
  return set_array(*real<Array>(descriptor), format, type, {n, c, h, w});
}
cudnnStatus_t cudnnCreateFilterDescriptor(cudnnFilterDescriptor_t* descriptor) {
  if (const cudnnStatus_t status = requested("cudnnCreateFilterDescriptor"); status != CUDNN_STATUS_SUCCESS)
    return status;
  *descriptor = reinterpret_cast<cudnnFilterDescriptor_t>(new Array);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroyFilterDescriptor(cudnnFilterDescriptor_t descriptor) {
  delete real<Array>(descriptor);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetFilter4dDescriptor(cudnnFilterDescriptor_t descriptor, cudnnDataType_t type,
                                         cudnnTensorFormat_t format, int k, int c, int h, int w) {
  return set_array(*real<Array>(descriptor), format, type, {k, c, h, w});
}
cudnnStatus_t cudnnCreateConvolutionDescriptor(cudnnConvolutionDescriptor_t* descriptor) {
  *descriptor = reinterpret_cast<cudnnConvolutionDescriptor_t>(new Convolution);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroyConvolutionDescriptor(cudnnConvolutionDescriptor_t descriptor) {
  delete real<Convolution>(descriptor);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetConvolution2dDescriptor(cudnnConvolutionDescriptor_t descriptor, int pad_h, int pad_w,
                                              int stride_h, int stride_w, int dilation_h, int dilation_w,
                                              cudnnConvolutionMode_t mode, cudnnDataType_t compute) {
  Convolution& convolution = *real<Convolution>(descriptor);
  convolution.padding = {pad_h, pad_w};
  convolution.stride = {stride_h, stride_w};
  convolution.dilation = {dilation_h, dilation_w};
  convolution.mode = mode;
  convolution.compute = compute;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetConvolutionMathType(cudnnConvolutionDescriptor_t descriptor, cudnnMathType_t math) {
  if (const cudnnStatus_t status = requested("cudnnSetConvolutionMathType"); status != CUDNN_STATUS_SUCCESS)
    return status;
  real<Convolution>(descriptor)->math = math;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetConvolutionForwardWorkspaceSize(cudnnHandle_t, cudnnTensorDescriptor_t x,
                                                      cudnnFilterDescriptor_t w,
                                                      cudnnConvolutionDescriptor_t convolution,
                                                      cudnnTensorDescriptor_t y,
                                                      cudnnConvolutionFwdAlgo_t algorithm,
                                                      std::size_t* size) {
  const Problem p{*real<Array>(x), *real<Array>(w), *real<Array>(y), *real<Convolution>(convolution)};
  return answer_size(p, algorithm == CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM, forward_bytes(p),
                     size);
}
cudnnStatus_t cudnnConvolutionForward(cudnnHandle_t handle, const void* alpha, cudnnTensorDescriptor_t x_desc,
                                      const void* x, cudnnFilterDescriptor_t w_desc, const void* w,
                                      cudnnConvolutionDescriptor_t convolution,
                                      cudnnConvolutionFwdAlgo_t algorithm, void* workspace, std::size_t bytes,
                                      const void* beta, cudnnTensorDescriptor_t y_desc, void* y) {
  if (const cudnnStatus_t status = requested("cudnnConvolutionForward"); status != CUDNN_STATUS_SUCCESS)
    return status;
  const Problem p{*real<Array>(x_desc), *real<Array>(w_desc), *real<Array>(y_desc),
                  *real<Convolution>(convolution)};
  if (algorithm != CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM) return CUDNN_STATUS_BAD_PARAM;
  const cudnnStatus_t status = begin(handle, p, forward_bytes(p), workspace, bytes, alpha, {x, w, y});
  if (status != CUDNN_STATUS_SUCCESS) return status;
  return enqueue(handle, [p, x, w, y, added = *static_cast<const float*>(beta)] {
    const auto xs = operand(p.x, x, p.convolution.math), ws = operand(p.w, w, p.convolution.math);
    std::vector<double> ys(static_cast<std::size_t>(p.y.count()));
    for_all_products(p, [&](std::size_t yi, std::size_t xi, std::size_t wi) { ys[yi] += xs[xi] * ws[wi]; });
    store(p.y, y, ys, added);
  });
}

cudnnStatus_t cudnnGetConvolutionBackwardDataWorkspaceSize(cudnnHandle_t, cudnnFilterDescriptor_t w,
                                                           cudnnTensorDescriptor_t dy,
                                                           cudnnConvolutionDescriptor_t convolution,
                                                           cudnnTensorDescriptor_t dx,
                                                           cudnnConvolutionBwdDataAlgo_t algorithm,
                                                           std::size_t* size) {
  const Problem p{*real<Array>(dx), *real<Array>(w), *real<Array>(dy), *real<Convolution>(convolution)};
  return answer_size(p, algorithm == CUDNN_CONVOLUTION_BWD_DATA_ALGO_1, 0, size);
}
cudnnStatus_t cudnnConvolutionBackwardData(cudnnHandle_t handle, const void* alpha,
                                           cudnnFilterDescriptor_t w_desc, const void* w,
                                           cudnnTensorDescriptor_t dy_desc, const void* dy,
                                           cudnnConvolutionDescriptor_t convolution,
                                           cudnnConvolutionBwdDataAlgo_t algorithm, void* workspace,
                                           std::size_t bytes, const void* beta,
                                           cudnnTensorDescriptor_t dx_desc, void* dx) {
  if (const cudnnStatus_t status = requested("cudnnConvolutionBackwardData"); status != CUDNN_STATUS_SUCCESS)
    return status;
  const Problem p{*real<Array>(dx_desc), *real<Array>(w_desc), *real<Array>(dy_desc),
                  *real<Convolution>(convolution)};
  if (algorithm != CUDNN_CONVOLUTION_BWD_DATA_ALGO_1) return CUDNN_STATUS_BAD_PARAM;
  const cudnnStatus_t status = begin(handle, p, 0, workspace, bytes, alpha, {w, dy, dx});
  if (status != CUDNN_STATUS_SUCCESS) return status;
  return enqueue(handle, [p, w, dy, dx, added = *static_cast<const float*>(beta)] {
    const auto ys = operand(p.y, dy, p.convolution.math), ws = operand(p.w, w, p.convolution.math);
    std::vector<double> xs(static_cast<std::size_t>(p.x.count()));
    for_all_products(p, [&](std::size_t yi, std::size_t xi, std::size_t wi) { xs[xi] += ys[yi] * ws[wi]; });
    store(p.x, dx, xs, added);
  });
}

cudnnStatus_t cudnnGetConvolutionBackwardFilterWorkspaceSize(cudnnHandle_t, cudnnTensorDescriptor_t x,
                                                             cudnnTensorDescriptor_t dy,
                                                             cudnnConvolutionDescriptor_t convolution,
                                                             cudnnFilterDescriptor_t dw,
                                                             cudnnConvolutionBwdFilterAlgo_t algorithm,
                                                             std::size_t* size) {
  const Problem p{*real<Array>(x), *real<Array>(dw), *real<Array>(dy), *real<Convolution>(convolution)};
  return answer_size(p, algorithm == CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1, weight_bytes(p), size);
}
cudnnStatus_t cudnnConvolutionBackwardFilter(cudnnHandle_t handle, const void* alpha,
                                             cudnnTensorDescriptor_t x_desc, const void* x,
                                             cudnnTensorDescriptor_t dy_desc, const void* dy,
                                             cudnnConvolutionDescriptor_t convolution,
                                             cudnnConvolutionBwdFilterAlgo_t algorithm, void* workspace,
                                             std::size_t bytes, const void* beta,
                                             cudnnFilterDescriptor_t dw_desc, void* dw) {
  if (const cudnnStatus_t status = requested("cudnnConvolutionBackwardFilter");
      status != CUDNN_STATUS_SUCCESS)
    return status;
  const Problem p{*real<Array>(x_desc), *real<Array>(dw_desc), *real<Array>(dy_desc),
                  *real<Convolution>(convolution)};
  if (algorithm != CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1) return CUDNN_STATUS_BAD_PARAM;
  const cudnnStatus_t status = begin(handle, p, weight_bytes(p), workspace, bytes, alpha, {x, dy, dw});
  if (status != CUDNN_STATUS_SUCCESS) return status;
  return enqueue(handle, [p, x, dy, dw, added = *static_cast<const float*>(beta)] {
    const auto xs = operand(p.x, x, p.convolution.math), ys = operand(p.y, dy, p.convolution.math);
    std::vector<double> ws(static_cast<std::size_t>(p.w.count()));
    for_all_products(p, [&](std::size_t yi, std::size_t xi, std::size_t wi) { ws[wi] += ys[yi] * xs[xi]; });
    store(p.w, dw, ws, added);
  });
}

}  // extern "C"
