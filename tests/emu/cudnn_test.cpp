// What the stand-in for cuDNN refuses, as the library does: one mistake after the other in calls that are
// good without it.
#include <cuda_runtime_api.h>
#include <cudnn.h>
#include <doctest/doctest.h>

#include <vector>

#include "tests/kernels/cuda/device_buffer.h"

using llsa::test::cuda_check;
using llsa::test::DeviceBuffer;

namespace {

constexpr auto kGood = CUDNN_STATUS_SUCCESS, kBad = CUDNN_STATUS_BAD_PARAM;

/// y [2,4,6,5] of x [2,3,6,5] and w [4,3,3,3] in f32, with all that a test may spoil.
struct Convolution {
  Convolution() {
    CHECK(cudnnCreate(&handle) == kGood);
    CHECK(cudnnCreateTensorDescriptor(&x) == kGood);
    CHECK(cudnnCreateTensorDescriptor(&y) == kGood);
    CHECK(cudnnCreateFilterDescriptor(&w) == kGood);
    CHECK(cudnnCreateConvolutionDescriptor(&convolution) == kGood);
    CHECK(cudnnSetTensor4dDescriptor(x, CUDNN_TENSOR_NCHW, CUDNN_DATA_FLOAT, 2, 3, 6, 5) == kGood);
    CHECK(cudnnSetTensor4dDescriptor(y, CUDNN_TENSOR_NCHW, CUDNN_DATA_FLOAT, 2, 4, 6, 5) == kGood);
    CHECK(cudnnSetFilter4dDescriptor(w, CUDNN_DATA_FLOAT, CUDNN_TENSOR_NCHW, 4, 3, 3, 3) == kGood);
    set();
    CHECK(cudnnSetConvolutionMathType(convolution, CUDNN_FMA_MATH) == kGood);
    cuda_check(cudaStreamCreate(&stream));
    CHECK(cudnnSetStream(handle, stream) == kGood);
  }
  ~Convolution() {
    cudnnDestroyConvolutionDescriptor(convolution);
    cudnnDestroyFilterDescriptor(w);
    cudnnDestroyTensorDescriptor(y);
    cudnnDestroyTensorDescriptor(x);
    cudnnDestroy(handle);
    cudaStreamDestroy(stream);
  }
  Convolution(const Convolution&) = delete;
  Convolution& operator=(const Convolution&) = delete;

  void set(int padding = 1, int stride_of = 1, int dilation = 1,
           cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION,
           cudnnDataType_t compute = CUDNN_DATA_FLOAT) {
    CHECK(cudnnSetConvolution2dDescriptor(convolution, padding, padding, stride_of, stride_of, dilation,
                                          dilation, mode, compute) == kGood);
  }

  cudnnStatus_t ask() {
    std::size_t bytes = 0;
    return cudnnGetConvolutionForwardWorkspaceSize(handle, x, w, convolution, y, forward, &bytes);
  }
  cudnnStatus_t run() {
    return cudnnConvolutionForward(handle, &alpha, x, x_at, w, w_at, convolution, forward, workspace_at,
                                   workspace_bytes, &beta, y, y_at);
  }
  cudnnStatus_t run_input_gradient() {
    return cudnnConvolutionBackwardData(handle, &alpha, w, w_at, y, y_at, convolution, backward_data,
                                        workspace_at, workspace_bytes, &beta, x, x_data.data());
  }
  cudnnStatus_t run_weight_gradient() {
    return cudnnConvolutionBackwardFilter(handle, &alpha, x, x_at, y, y_at, convolution, backward_filter,
                                          workspace_at, workspace_bytes, &beta, w, w_data.data());
  }

  cudnnHandle_t handle{};
  cudnnTensorDescriptor_t x{}, y{};
  cudnnFilterDescriptor_t w{};
  cudnnConvolutionDescriptor_t convolution{};
  cudnnConvolutionFwdAlgo_t forward = CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;
  cudnnConvolutionBwdDataAlgo_t backward_data = CUDNN_CONVOLUTION_BWD_DATA_ALGO_1;
  cudnnConvolutionBwdFilterAlgo_t backward_filter = CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1;
  DeviceBuffer<float> x_data{std::vector<float>(200, 1)}, w_data{std::vector<float>(120, 2)};
  DeviceBuffer<float> y_data{std::vector<float>(260, 0)}, workspace{1024};
  const float *x_at = x_data.data(), *w_at = w_data.data();
  float* y_at = y_data.data();
  void* workspace_at = workspace.data();
  std::size_t workspace_bytes = 4096;
  float alpha = 1, beta = 0;
  cudaStream_t stream{};
};

template <class Spoil>
cudnnStatus_t ask_spoilt(Spoil spoil) {
  Convolution c;
  spoil(c);
  return c.ask();
}
template <class Spoil>
cudnnStatus_t run_spoilt(Spoil spoil) {
  Convolution c;
  spoil(c);
  return c.run();
}

}  // namespace

TEST_SUITE_BEGIN("emu/cudnn");

TEST_CASE("convolutions that do not fit together, or that there is no algorithm for") {
  CHECK(ask_spoilt([](Convolution&) {}) == kGood);
  const auto array = [](cudnnTensorDescriptor_t of, int n, int c, int h, int w,
                        cudnnDataType_t type = CUDNN_DATA_FLOAT) {
    return cudnnSetTensor4dDescriptor(of, CUDNN_TENSOR_NCHW, type, n, c, h, w);
  };
  CHECK(ask_spoilt([&](Convolution& c) { array(c.x, 2, 2, 6, 5); }) == kBad);
  CHECK(ask_spoilt([&](Convolution& c) { array(c.y, 1, 4, 6, 5); }) == kBad);
  CHECK(ask_spoilt([&](Convolution& c) { array(c.y, 2, 3, 6, 5); }) == kBad);
  CHECK(ask_spoilt([&](Convolution& c) { array(c.y, 2, 4, 5, 5); }) == kBad);
  CHECK(ask_spoilt([&](Convolution& c) { array(c.y, 2, 4, 6, 6); }) == kBad);
  CHECK(ask_spoilt([&](Convolution& c) { array(c.x, 2, 3, 6, 5, CUDNN_DATA_BFLOAT16); }) == kBad);
  CHECK(ask_spoilt([](Convolution& c) { c.set(0); }) == kBad);
  CHECK(ask_spoilt([](Convolution& c) { c.set(1, 2); }) == kBad);
  CHECK(ask_spoilt([](Convolution& c) { c.set(1, 1, 2); }) == kBad);
  CHECK(ask_spoilt([](Convolution& c) { c.set(1, 1, 1, CUDNN_CONVOLUTION); }) == kBad);
  CHECK(ask_spoilt([](Convolution& c) { c.set(1, 1, 1, CUDNN_CROSS_CORRELATION, CUDNN_DATA_BFLOAT16); }) ==
        kBad);
  for (const auto math : {CUDNN_TENSOR_OP_MATH, CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION})
    CHECK(ask_spoilt([&](Convolution& c) { cudnnSetConvolutionMathType(c.convolution, math); }) == kBad);
  CHECK(ask_spoilt([](Convolution& c) { c.forward = CUDNN_CONVOLUTION_FWD_ALGO_GEMM; }) == kBad);
  CHECK(ask_spoilt([&](Convolution& c) {
          c.set(3);
          array(c.y, 2, 4, 10, 9);
        }) == CUDNN_STATUS_NOT_SUPPORTED_PADDING);

  Convolution c;
  CHECK(array(c.x, 0, 3, 6, 5) == kBad);
  CHECK(array(c.x, 2, 3, 6, 5, CUDNN_DATA_DOUBLE) == CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE);
  CHECK(cudnnSetTensor4dDescriptor(c.x, CUDNN_TENSOR_NHWC, CUDNN_DATA_FLOAT, 2, 3, 6, 5) == kBad);
  CHECK(cudnnSetFilter4dDescriptor(c.w, CUDNN_DATA_FLOAT, CUDNN_TENSOR_NHWC, 4, 3, 3, 3) == kBad);
  CHECK(c.ask() == kGood);  // what was refused has changed nothing
}

TEST_CASE("calls of a convolution that the library refuses") {
  Convolution good;
  CHECK(good.run() == kGood);
  const auto numbers = good.y_data.get();
  CHECK(numbers[0] == 2 * 3 * 2 * 2);      // a corner
  CHECK(numbers[5 + 1] == 2 * 3 * 3 * 3);  // inside
  CHECK(numbers[2 * 4 * 6 * 5] == 0);      // beyond the end
  CHECK(good.run_input_gradient() == kGood);
  CHECK(good.run_weight_gradient() == kGood);

  CHECK(run_spoilt([](Convolution&) {}) == kGood);
  CHECK(run_spoilt([](Convolution& c) { ++c.x_at; }) == CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER);
  CHECK(run_spoilt([](Convolution& c) { ++c.w_at; }) == CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER);
  CHECK(run_spoilt([](Convolution& c) { ++c.y_at; }) == CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER);
  CHECK(run_spoilt([](Convolution& c) { c.w_at = nullptr; }) == CUDNN_STATUS_BAD_PARAM_NULL_POINTER);
  CHECK(run_spoilt([](Convolution& c) { c.workspace_bytes = 3 * 9 * 4 - 1; }) ==
        CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT);
  CHECK(run_spoilt([](Convolution& c) { c.workspace_at = nullptr; }) ==
        CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT);
  CHECK(run_spoilt([](Convolution& c) { c.alpha = 2; }) == kBad);
  CHECK(run_spoilt([](Convolution& c) { c.forward = CUDNN_CONVOLUTION_FWD_ALGO_GEMM; }) == kBad);
  CHECK(run_spoilt([](Convolution& c) { c.set(0); }) == kBad);
  CHECK(run_spoilt([](Convolution& c) {
          c.set(1, 4);
          CHECK(cudnnSetTensor4dDescriptor(c.y, CUDNN_TENSOR_NCHW, CUDNN_DATA_FLOAT, 2, 4, 2, 2) == kGood);
          CHECK(c.ask() == kGood);
        }) == CUDNN_STATUS_NOT_SUPPORTED_SHAPE);

  good.workspace_bytes = 2 * 4 * 3 * 9 * 4 - 1;
  CHECK(good.run_input_gradient() == kGood);  // it takes none
  CHECK(good.run_weight_gradient() == CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT);
  good.backward_data = CUDNN_CONVOLUTION_BWD_DATA_ALGO_0;
  CHECK(good.run_input_gradient() == kBad);
  good.workspace_bytes = 4096;
  good.backward_filter = CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0;
  CHECK(good.run_weight_gradient() == kBad);

  cudaStream_t gone{};
  cuda_check(cudaStreamCreate(&gone));
  Convolution late;
  CHECK(cudnnSetStream(late.handle, gone) == kGood);
  cuda_check(cudaStreamDestroy(gone));
  CHECK(late.run() == CUDNN_STATUS_BAD_PARAM_STREAM_MISMATCH);
  CHECK(cudnnSetStream(late.handle, gone) == kBad);
}

TEST_SUITE_END();
