// What a user is told when something goes wrong on a CUDA device, or goes on otherwise than expected: failed
// launches and library calls with their text, place and hint; a GPU that is passed over; kernels that are
// slower than the ones for tensor cores.
#include <cuda_runtime_api.h>
#include <doctest/doctest.h>

#include <cstdio>
#include <fstream>
#include <iostream>
#include <regex>
#include <string>
#include <utility>
#include <vector>

#include "apps/llsa/commands.h"
#include "core/cuda/check.h"
#include "core/device_choice.h"
#include "kernels/attention.h"
#include "kernels/backend.h"
#include "kernels/copy.h"
#include "kernels/cuda/llsa/llsa.h"
#include "kernels/cuda/product_plan.h"
#include "kernels/elementwise.h"
#include "kernels/matmul.h"
#include "nn/data/shapes.h"
#include "nn/dit_config.h"
#include "nn/train.h"
#include "tests/kernels/cuda/conformance.h"
#include "tests/kernels/cuda/contexts.h"
#include "tests/kernels/cuda/device_buffer.h"
#include "tests/support/captured_output.h"
#include "tests/support/files.h"
#include "tests/support/text.h"

#ifdef SIMT_EMU
#include "tests/emu/emulator.h"
#endif

using namespace llsa;
using namespace llsa::kernels;
using namespace llsa::test;

namespace {

/// The message with "FILE:" for the place that it names, which has to be in this file, at a line that holds
/// the given text, or at most two lines further, where the call goes on.
std::string without_line(const std::string& message, const std::string& file, const std::string& text) {
  static const std::regex place("([a-z_/]+\\.[a-z]+):([0-9]+)");
  std::smatch found;
  REQUIRE(std::regex_search(message, found, place));
  CHECK(found[1] == file);
  const int line = std::stoi(found[2]);
  std::ifstream source(LLSA_SOURCE_DIR "/" + file);
  std::string near;
  int at = 0;
  for (std::string read; at < line && std::getline(source, read);)
    if (++at > line - 3) near += read + "\n";
  CAPTURE(near);
  CHECK(at == line);
  CHECK(contains(near, text));
  return found.prefix().str() + file + ":" + found.suffix().str();
}

const std::string kBroken =
    " | the device no longer serves this process: start the program again, from its last checkpoint; with "
    "CUDA_LAUNCH_BLOCKING=1 in the environment the failing command is named";
const std::string kEarlier =
    " | what failed may be an earlier command: with CUDA_LAUNCH_BLOCKING=1 in the environment that one is "
    "named";
const std::string kMemory =
    " | reduce the batch or the image size, or end other programs that use this memory";

}  // namespace

TEST_SUITE_BEGIN("kernels/cuda/messages");

TEST_CASE("a place is told from the root of the repository") {
  CHECK(contains(llsa::cuda::Place::here().str(), "tests/kernels/cuda/messages_test.cpp:"));
  CHECK(llsa::cuda::Place::here().str().find("tests/") == 0);
  CHECK(llsa::cuda::Place{LLSA_SOURCE_DIR "/kernels/cuda/copy.cu", 7}.str() == "kernels/cuda/copy.cu:7");
  CHECK(llsa::cuda::Place{"/elsewhere/core/x.cpp", 8}.str() == "/elsewhere/core/x.cpp:8");
  CHECK(llsa::cuda::Place{}.str() == "?:0");
}

TEST_CASE("a kernel is told by its name, without what it returns and takes") {
  if (!cuda_device()) return;
  const auto message = [](const char* kernel, cudaError_t status, std::size_t bytes) {
    return failure_of<CudaError>([&] {
      llsa::cuda::launch_failed(status, kernel, dim3(4, 3, 2), dim3(64), bytes, {"a.cu", 9});
    });
  };
  const std::string rest =
      " failed at a.cu:9 with grid (4, 3, 2), block (64, 1, 1), 16 bytes of shared memory: invalid argument "
      "(cudaErrorInvalidValue)";
  const std::pair<const char*, const char*> names[] = {
      {"_ZN4llsa7kernels4cuda52_GLOBAL__N__0b24c25e_19_llsa_mma_forward_cu_2ebb4dd76attendILi128EEEvNS1_"
       "11AttendedSetI13__nv_bfloat16EEifNS1_8HeadRowsIS5_EEPf",
       "llsa::kernels::cuda::(anonymous namespace)::attend<128>"},
      {"_ZN4llsa7kernels4cuda12fold_columnsINS1_7FoldSumEdddEEvNS1_9FoldShapeEPKT1_T0_PT2_",
       "llsa::kernels::cuda::fold_columns<llsa::kernels::cuda::FoldSum, double, double, double>"},
      {"_Z3sumPFvPfEi", "sum"},
      {"plain_c_name", "plain_c_name"},
      {"", "a kernel"},
  };
  for (const auto& [mangled, readable] : names)
    CHECK(message(mangled, cudaErrorInvalidValue, 16) == cat("[launch] ", readable, rest));
  const std::string large = message("k", cudaErrorInvalidValue, std::size_t{1} << 30);
  CHECK(contains(large, ", 1073741824 bytes of shared memory: invalid argument"));
  CHECK(contains(large, " | this GPU has "));
  CHECK(contains(large, " bytes of shared memory for a block: use smaller heads or blocks"));
  CHECK(contains(message("k", cudaErrorIllegalAddress, std::size_t{1} << 30), kBroken));
}

TEST_CASE("a launch that the device refuses names its line") {
  if (!cuda_device()) return;
  DeviceBuffer<unsigned> out(256);
  const std::string threads =
      failure_of<CudaError>([&] { run_dynamic_shared(1025, 4, out.data(), nullptr); });
  const std::string memory =
      failure_of<CudaError>([&] { run_dynamic_shared(256, std::size_t{1} << 20, out.data(), nullptr); });
  for (const std::string& message : {threads, memory}) {
    CAPTURE(message);
    CHECK(message.find("[launch] ") == 0);
    without_line(message, "tests/kernels/cuda/conformance.cu", "simt::launch(dynamic_shared_kernel");
#if !defined(SIMT_EMU) && CUDART_VERSION >= 12040  // before that the runtime does not tell a kernel's name
    CHECK(contains(message, "dynamic_shared_kernel failed at "));
#endif
  }
  CHECK(contains(memory, "1048576 bytes of "));
}

TEST_CASE("every status of cuBLASLt has a hint, and a product that is named") {
  if (!cuda_device()) return;
  Contexts both;
  const Tensor a = both.gpu.zeros({5, 7}, DType::bf16), b = both.gpu.zeros({7, 3}, DType::bf16),
               out = both.gpu.zeros({5, 3}, DType::bf16);
  const kernels::cuda::Kind kind(both.gpu, {a, b, out});
  const auto message = [&](cublasStatus_t status) {
    return without_line(failure_of<CudaError>([&] { kernels::cuda::check(status, "cublasLtMatmul", &kind); }),
                        "tests/kernels/cuda/messages_test.cpp", "cublasLtMatmul");
  };
  const std::string begin =
      "[matmul] cublasLtMatmul failed at tests/kernels/cuda/messages_test.cpp: for bf16 [5,7] times [7,3]: ";
  const std::pair<cublasStatus_t, std::string> cases[] = {
      {CUBLAS_STATUS_NOT_INITIALIZED,
       "(CUBLAS_STATUS_NOT_INITIALIZED) | cuBLASLt could not start: is the NVIDIA driver older than it, or "
       "the device's memory full? (nvidia-smi shows both)"},
      {CUBLAS_STATUS_ALLOC_FAILED, "(CUBLAS_STATUS_ALLOC_FAILED)" + kMemory},
      {CUBLAS_STATUS_ARCH_MISMATCH,
       "(CUBLAS_STATUS_ARCH_MISMATCH) | the installed cuBLAS has no kernels for this GPU: install that of a "
       "newer CUDA toolkit"},
      {CUBLAS_STATUS_NOT_SUPPORTED,
       "(CUBLAS_STATUS_NOT_SUPPORTED) | the installed cuBLAS has no algorithm for this on this GPU: use "
       "another dtype, or the cuBLAS of a newer CUDA toolkit"},
      {CUBLAS_STATUS_EXECUTION_FAILED, "(CUBLAS_STATUS_EXECUTION_FAILED)" + kEarlier},
      {CUBLAS_STATUS_INTERNAL_ERROR,
       "(CUBLAS_STATUS_INTERNAL_ERROR) | with CUBLASLT_LOG_LEVEL=1 in the environment the library says more"},
  };
  for (const auto& [status, end] : cases) {
    const std::string text = message(status);
    CAPTURE(text);
    CHECK(text.find(begin) == 0);
    CHECK(text.size() > begin.size() + end.size());  // the library's own words in between
    CHECK(text.ends_with(end));
  }
  CHECK_NOTHROW(kernels::cuda::check(CUBLAS_STATUS_SUCCESS, "cublasLtMatmul", &kind));
}

#ifdef SIMT_EMU

TEST_CASE("a launch that fails names line, sizes, status and what to do, and the next one works") {
  Contexts both;
  const Tensor x = both.gpu.zeros({1000}, DType::f32);
  emu::fail_next("launch", cudaErrorNoKernelImageForDevice);
  const std::string fill = failure_of<CudaError>([&] { kernels::fill(both.gpu, x, 1.0); });
  CHECK(without_line(fill, "kernels/cuda/copy.cu", "launch_threads(ctx, fill_strided<D>") ==
        "[launch] a kernel failed at kernels/cuda/copy.cu: with grid (4, 1, 1), block (256, 1, 1), 0 bytes "
        "of shared memory: no kernel image is available for execution on the device "
        "(cudaErrorNoKernelImageForDevice) | the program was not compiled for this GPU and driver: build it "
        "there with CUDA_ARCHS=native");
  kernels::fill(both.gpu, x, 1.0);
  CHECK(to_vector<float>(both.gpu, x) == std::vector<float>(1000, 1.0f));

  const Tensor q = both.gpu.zeros({1, 2, 40, 64}, DType::bf16);
  emu::fail_next("launch", cudaErrorLaunchOutOfResources);
  const std::string attend = failure_of<CudaError>([&] { full_attention(both.gpu, q, q, q); });
  const std::string told =
      without_line(attend, "kernels/cuda/llsa/mma/forward.cu", "simt::launch(attend<Fine>,");
  CHECK(
      contains(told, "[launch] a kernel failed at kernels/cuda/llsa/mma/forward.cu: with grid (1, 2, 1), "));
  CHECK(contains(told,
                 "too many resources requested for launch (cudaErrorLaunchOutOfResources) | this GPU has "
                 "fewer registers or less shared memory than the kernel needs"));

  emu::fail_next("launch", cudaErrorIllegalAddress, cudaErrorIllegalAddress);
  const std::string broken = failure_of<CudaError>([&] { kernels::fill(both.gpu, x, 2.0); });
  emu::break_device(cudaSuccess);
  CHECK(contains(broken, "an illegal memory access was encountered (cudaErrorIllegalAddress)" + kBroken));
}

TEST_CASE("a failed call of cuBLASLt carries its text, place, product and hint") {
  Contexts both;
  const Tensor x = both.gpu.zeros({2, 3}, DType::f32), y = both.gpu.zeros({3, 4}, DType::f32);
  const auto message = [&](const char* function, int status, int device_error = 0) {
    emu::fail_next(function, status, device_error);
    const std::string text = failure_of<CudaError>([&] { matmul(both.gpu, x, y); });
    emu::break_device(cudaSuccess);
    CHECK(contains(text, std::string("[matmul] ") + function));
    return text;
  };
  const std::string lt = "kernels/cuda/cublaslt.cpp", plan = "kernels/cuda/product_plan.cpp";
  CHECK(without_line(message("cublasLtCreate", CUBLAS_STATUS_NOT_INITIALIZED), lt, "cublasLtCreate(") ==
        "[matmul] cublasLtCreate(&impl_->library.handle) failed at kernels/cuda/cublaslt.cpp:: the library "
        "was not initialized (CUBLAS_STATUS_NOT_INITIALIZED) | cuBLASLt could not start: is the NVIDIA "
        "driver older than it, or the device's memory full? (nvidia-smi shows both)");
  const std::string layout = without_line(message("cublasLtMatrixLayoutCreate", CUBLAS_STATUS_ALLOC_FAILED),
                                          plan, "LLSA_CALL(cublasLtMatrixLayoutCreate(");
  CHECK(contains(layout,
                 "cublasLtMatrixLayoutCreate(&layout.handle, type, static_cast<std::uint64_t>(rows), "));
  CHECK(contains(layout,
                 " failed at kernels/cuda/product_plan.cpp: for f32 [2,3] times [3,4]: the resource "
                 "allocation failed (CUBLAS_STATUS_ALLOC_FAILED)" +
                     kMemory));
  CHECK(contains(message("cublasLtMatmulAlgoGetHeuristic", CUBLAS_STATUS_NOT_SUPPORTED),
                 "(CUBLAS_STATUS_NOT_SUPPORTED) | the installed cuBLAS has no algorithm for this"));
  CHECK(without_line(message("cublasLtMatmulAlgoGetHeuristic", CUBLAS_STATUS_ARCH_MISMATCH), plan,
                     "cublasLtMatmulAlgoGetHeuristic") ==
        "[matmul] cublasLtMatmulAlgoGetHeuristic failed at kernels/cuda/product_plan.cpp: for f32 [2,3] "
        "times [3,4]: the device has another architecture (CUBLAS_STATUS_ARCH_MISMATCH) | the installed "
        "cuBLAS has no kernels for this GPU: install that of a newer CUDA toolkit");
  const std::string product =
      "[matmul] cublasLtMatmul failed at kernels/cuda/cublaslt.cpp: for f32 [2,3] times [3,4]: the work "
      "could not be put into the stream (CUBLAS_STATUS_EXECUTION_FAILED)";
  CHECK(without_line(message("cublasLtMatmul", CUBLAS_STATUS_EXECUTION_FAILED), lt, "\"cublasLtMatmul\"") ==
        product + kEarlier);
  CHECK(without_line(message("cublasLtMatmul", CUBLAS_STATUS_EXECUTION_FAILED, cudaErrorIllegalAddress), lt,
                     "\"cublasLtMatmul\"") ==
        product + "; the device reports: an illegal memory access was encountered (cudaErrorIllegalAddress)" +
            kBroken);
  CHECK(to_vector<float>(both.gpu, matmul(both.gpu, x, y)) == std::vector<float>(8, 0.0f));
}

TEST_CASE("a failed call of cuDNN carries its text, place, convolution and hint") {
  // cudnn.h may be absent; these are the numbers of cuDNN 9.
  constexpr int kNotInitialized = 1001, kBadParam = 2000, kDeviceAllocationFailed = 4004,
                kExecutionFailed = 5000;
  const ConvGeometry g{.batch = 2,
                       .channels = 3,
                       .height = 8,
                       .width = 7,
                       .kernel = {3, 3},
                       .stride = {1, 1},
                       .padding = {1, 1},
                       .out_height = 8,
                       .out_width = 7};
  Contexts both;
  const Tensor x = both.gpu.zeros({2, 3, 8, 7}, DType::f32), w = both.gpu.zeros({4, 3, 3, 3}, DType::f32),
               y = both.gpu.empty({2, 4, 8, 7}, DType::f32), dx = both.gpu.empty({2, 3, 8, 7}, DType::f32);
  const ConvLibrary& library = backend(both.gpu).conv_library;
  const auto run = [&](Context& gpu) { return library.conv2d(gpu, g, x, w, Tensor(), y); };
  {
    Context other(Device{DeviceType::cuda, 0}, 1);
    if (library.conv2d == nullptr || !run(other)) {
      std::cout << "skipped: this build has no cuDNN\n";
      return;
    }
  }
  const auto message = [&](const char* function, int status, int device_error = 0) {
    emu::fail_next(function, status, device_error);
    const std::string text = failure_of<CudaError>([&] { run(both.gpu); });
    emu::break_device(cudaSuccess);
    return text;
  };
  const std::string conv = "kernels/cuda/cudnn_conv.cpp", handle = "kernels/cuda/cudnn.cpp";
  const std::string problem = " for f32 x [2,3,8,7], w [4,3,3,3], stride 1 1, padding 1 1: ";
  const std::string more =
      " | with CUDNN_LOGLEVEL_DBG=1 and CUDNN_LOGDEST_DBG=stderr in the environment the library says more";
  CHECK(without_line(message("cudnnCreate", kNotInitialized), handle, "cudnnCreate(") ==
        "[cudnn] cudnnCreate(&handle_) failed at kernels/cuda/cudnn.cpp:: CUDNN_STATUS_NOT_INITIALIZED | "
        "cuDNN could not start: is the NVIDIA driver older than it, or the device's memory full? (nvidia-smi "
        "shows both)");
  CHECK(without_line(message("cudnnSetStream", kBadParam), handle, "cudnnSetStream(") ==
        "[cudnn] cudnnSetStream(handle_, stream) failed at kernels/cuda/cudnn.cpp:: CUDNN_STATUS_BAD_PARAM" +
            more);
  CHECK(without_line(message("cudnnCreateFilterDescriptor", kDeviceAllocationFailed), conv,
                     "cudnnCreateFilterDescriptor") ==
        "[conv2d] cudnnCreateFilterDescriptor failed at kernels/cuda/cudnn_conv.cpp:" + problem +
            "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED" + kMemory);
  CHECK(contains(message("cudnnSetConvolutionMathType", kBadParam),
                 "[conv2d] cudnnSetConvolutionMathType(plan.convolution.get(), math) failed at "));
  const std::string product =
      "[conv2d] cudnnConvolutionForward failed at kernels/cuda/cudnn_conv.cpp:" + problem +
      "CUDNN_STATUS_EXECUTION_FAILED";
  CHECK(without_line(message("cudnnConvolutionForward", kExecutionFailed), conv, "cudnnConvolutionForward") ==
        product + kEarlier);
  CHECK(without_line(message("cudnnConvolutionForward", kExecutionFailed, cudaErrorIllegalAddress), conv,
                     "cudnnConvolutionForward") ==
        product + "; the device reports: an illegal memory access was encountered (cudaErrorIllegalAddress)" +
            kBroken);
  emu::fail_next("cudnnConvolutionBackwardData", kExecutionFailed);
  CHECK(contains(failure_of<CudaError>([&] { library.conv2d_dx(both.gpu, g, y, w, dx); }),
                 "[conv2d input gradient] cudnnConvolutionBackwardData failed at "));
  CHECK(run(both.gpu));
}

namespace {

/// A tiny training run of one step into a folder; returns what it says.
std::string messages_of_training(const std::string& device, const std::string& dtype, int head_dim,
                                 const TempDir& dir = TempDir()) {
  nn::ShapesOptions shapes;
  shapes.out = dir / "shapes";
  shapes.count = 4;
  shapes.size = 8;
  nn::write_shapes(shapes);
  nn::TrainOptions options;
  options.data = shapes.out;
  options.device = device;
  options.dtype = dtype;
  options.model.height = options.model.width = 8;
  options.model.heads = 1;
  options.model.head_dim = head_dim;
  options.model.layers = 1;
  options.model.attention = nn::AttentionKind::llsa;
  options.model.llsa.block = 16;
  options.model.llsa.topk = {2};
  options.model.llsa.levels = 1;
  options.steps = options.batch = 1;
  options.sample_every = options.save_every = 0;
  options.threads = 1;
  std::string messages;
  nn::TrainCallbacks callbacks;
  callbacks.on_message = [&](const std::string& text) { messages += text + "\n"; };
  nn::train(options, dir / "run", false, callbacks);
  return messages;
}

/// A device that is too old for the kernels, for a scope.
struct OldDevice {
  OldDevice() { emu::set_compute_capability(7); }
  ~OldDevice() { emu::set_compute_capability(9); }
  OldDevice(const OldDevice&) = delete;
  OldDevice& operator=(const OldDevice&) = delete;
};

}  // namespace

TEST_CASE("training in bf16 says once that its attention is slower than it could be, and why") {
  const std::string slow =
      "LLSA attention runs on the plain kernels, which are slower: head dimension 8 is not one of 32, 64, "
      "128\n";
  const std::string told = messages_of_training("cuda", "bf16", 8);
  CAPTURE(told);
  const std::size_t at = told.find(slow);
  CHECK(at != std::string::npos);
  CHECK(told.find("plain kernels", at + slow.size()) == std::string::npos);
  CHECK(!contains(messages_of_training("cuda", "bf16", 32), "plain kernels"));
  CHECK(!contains(messages_of_training("cuda", "f32", 8), "plain kernels"));
  CHECK(!contains(messages_of_training("cpu", "bf16", 8), "plain kernels"));
}

TEST_CASE("drawing images says the same, before it begins") {
  const TempDir dir;
  messages_of_training("cuda", "bf16", 8, dir);
  const auto told = [&](const std::string& device, const std::string& dtype, const std::string& size = "") {
    apps::SampleArgs args;
    args.model = dir / "run";
    args.out = dir / "grid.png";
    args.count = args.steps = 1;
    args.device = device;
    args.dtype = dtype;
    args.size = size;
    CapturedOutput errors(stderr);
    apps::run_sample(args);
    return errors.text();
  };
  const std::string slow =
      "note: LLSA attention runs on the plain kernels, which are slower: head dimension 8 is not one of 32, "
      "64, 128\n";
  CHECK(told("cuda", "bf16") == slow);
  CHECK(told("cuda", "bf16", "8x16") == slow);
  CHECK(told("cuda", "f32").empty());
  CHECK(told("cpu", "bf16").empty());
  const OldDevice old;
  CHECK(told("auto", "bf16") ==
        "note: device cpu: the GPU was passed over: it has compute capability 7.0, the kernels need 8.0 or "
        "later (Ampere); use a newer GPU, or the device cpu\n");
}

TEST_CASE("training on auto says why a GPU was passed over") {
  {
    const OldDevice old;
    const std::string told = messages_of_training("auto", "f32", 8);
    CHECK(contains(told, "computing on cpu in f32"));
    CHECK(contains(told,
                   "\ndevice cpu: the GPU was passed over: it has compute capability 7.0, the kernels need "
                   "8.0 or later (Ampere); use a newer GPU, or the device cpu\n"));
  }
  CHECK(!contains(messages_of_training("auto", "f32", 8), "passed over"));
  CHECK(!contains(messages_of_training("cpu", "f32", 8), "passed over"));
}

#endif

TEST_CASE("what is said about tensor cores is what decides") {
  if (!cuda_device()) return;
  Context gpu(Device{DeviceType::cuda, 0}, 1);
  const std::vector<Tensor> no_index;
  int plain = 0, fast = 0;
  for (const DType dtype : {DType::bf16, DType::f32})
    for (const std::int64_t d : {16, 32, 48, 64, 128, 256})
      for (const int block : {8, 16, 32, 64, 128}) {
        const LlsaPlan plan = llsa_plan(256, {.block = block, .topk = {2}, .levels = 1});
        const Tensor x = gpu.zeros({1, 1, 256, d}, dtype);
        const bool fits = kernels::cuda::fits_mma({plan, x, {x, x}, {x, x}, no_index}, x);
        CAPTURE(d);
        CAPTURE(block);
        CHECK(fits == attend_obstacle(plan, d, dtype).empty());
        ++(fits ? fast : plain);
      }
  CHECK(fast == 9);
  CHECK(plain == 51);
}

TEST_SUITE_END();
