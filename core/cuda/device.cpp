#include "core/cuda/device.h"

#include <algorithm>

#include "core/cuda/check.h"
#include "core/error.h"
#include "core/profiler.h"

namespace llsa::cuda {
namespace {

cudaStream_t raw(void* handle) { return static_cast<cudaStream_t>(handle); }
cudaEvent_t raw_event(void* handle) { return static_cast<cudaEvent_t>(handle); }

// The oldest compute capability with bf16 arithmetic and asynchronous copies.
constexpr int kLeastMajor = 8;

void require_device(int index) {
  const DeviceObstacle obstacle = device_obstacle(index);
  if (!obstacle.reason.empty())
    throw DeviceError(cat("[device] cuda:", index, " was asked for, ", obstacle.reason), obstacle.hint);
}

}  // namespace

bool compiled() { return true; }

int device_count() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  static_cast<void>(cudaGetLastError());
  return 0;
}

DeviceObstacle device_obstacle(int index) {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  static_cast<void>(cudaGetLastError());  // reported below; the next call must not report it again
  if (status == cudaErrorInsufficientDriver) {
    int driver = 0, runtime = 0;
    static_cast<void>(cudaDriverGetVersion(&driver));
    static_cast<void>(cudaRuntimeGetVersion(&runtime));
    const auto version = [](int v) { return cat(v / 1000, ".", v % 1000 / 10); };
    return {driver == 0 ? "there is no NVIDIA driver"
                        : cat("the NVIDIA driver serves CUDA ", version(driver), " and this program needs ",
                              version(runtime)),
            "install or update the NVIDIA driver, or use the device cpu", driver == 0};
  }
  if (status == cudaErrorNoDevice || (status == cudaSuccess && count == 0))
    return {"there is no CUDA device",
            "use the device cpu; a GPU that nvidia-smi lists may be hidden by CUDA_VISIBLE_DEVICES", true};
  check(status, "cudaGetDeviceCount");
  if (index < 0 || index >= count)
    return {count == 1 ? "there is only cuda:0" : cat("there are cuda:0 to cuda:", count - 1),
            "use a device that is there, or the device cpu"};
  int major = 0, minor = 0;
  LLSA_CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index));
  LLSA_CUDA_CHECK(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, index));
  if (major < kLeastMajor)
    return {cat("it has compute capability ", major, ".", minor, ", the kernels need ", kLeastMajor,
                ".0 or later (Ampere)"),
            "use a newer GPU, or the device cpu"};
  return {};
}

DeviceProperties device_properties(int index) {
  require_device(index);
  cudaDeviceProp properties;
  LLSA_CUDA_CHECK(cudaGetDeviceProperties(&properties, index));
  return {properties.name, properties.major, properties.minor, properties.multiProcessorCount,
          properties.totalGlobalMem};
}

void download(int index, const void* device, void* host, std::size_t bytes) {
  LLSA_CUDA_CHECK(cudaSetDevice(index));
  LLSA_CUDA_CHECK(cudaDeviceSynchronize());
  LLSA_CUDA_CHECK(cudaMemcpy(host, device, bytes, cudaMemcpyDeviceToHost));
}

Stream::Stream(int index, void* handle) : index_(index), handle_(handle) {
  require_device(index);
  LLSA_CUDA_CHECK(cudaSetDevice(index));
  int direct = 0;
  LLSA_CUDA_CHECK(cudaDeviceGetAttribute(&direct, cudaDevAttrPageableMemoryAccessUsesHostPageTables, index));
  reads_host_memory_ = direct != 0;
}

Stream::Stream(int index) : Stream(index, nullptr) {
  cudaStream_t stream = nullptr;
  LLSA_CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  handle_ = stream;
  owned_ = true;
}

Stream::~Stream() {
  if (!owned_) return;
  static_cast<void>(cudaSetDevice(index_));
  static_cast<void>(cudaStreamSynchronize(raw(handle_)));
  static_cast<void>(cudaStreamDestroy(raw(handle_)));
}

void* Stream::handle() const {
  LLSA_CUDA_CHECK(cudaSetDevice(index_));
  return handle_;
}

void Stream::synchronize() const { LLSA_CUDA_CHECK(cudaStreamSynchronize(raw(handle()))); }

bool Stream::capturing() const {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  LLSA_CUDA_CHECK(cudaStreamIsCapturing(raw(handle()), &status));
  return status != cudaStreamCaptureStatusNone;
}

void Stream::upload(const void* host, void* device, std::size_t bytes) const {
  if (bytes == 0) return;
  const Profiler::Span span(handle(), "upload");
  LLSA_CUDA_CHECK(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, raw(handle())));
}

void Stream::download(const void* device, void* host, std::size_t bytes) const {
  if (bytes == 0) return;
  {
    const Profiler::Span span(handle(), "download");
    LLSA_CUDA_CHECK(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, raw(handle())));
  }
  synchronize();
}

void Stream::copy(const void* from, void* to, std::size_t bytes) const {
  if (bytes == 0) return;
  const Profiler::Span span(handle(), "memcpy");
  LLSA_CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, raw(handle())));
}

void Stream::fill(void* device, unsigned char value, std::size_t bytes) const {
  if (bytes == 0) return;
  const Profiler::Span span(handle(), "memset");
  LLSA_CUDA_CHECK(cudaMemsetAsync(device, value, bytes, raw(handle())));
}

Event::Event() = default;

Event::~Event() {
  if (handle_ != nullptr) static_cast<void>(cudaEventDestroy(raw_event(handle_)));
}

void Event::record(const Stream& stream) {
  cudaStream_t in =
      raw(stream.handle());  // also makes its device the current one, to which the event will belong
  if (handle_ == nullptr) {
    cudaEvent_t event = nullptr;
    LLSA_CUDA_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    handle_ = event;
  }
  LLSA_CUDA_CHECK(cudaEventRecord(raw_event(handle_), in));
}

void Event::block(const Stream& stream) const {
  if (handle_ == nullptr) return;
  LLSA_CUDA_CHECK(cudaStreamWaitEvent(raw(stream.handle()), raw_event(handle_), 0));
}

void Event::synchronize() const {
  if (handle_ != nullptr) LLSA_CUDA_CHECK(cudaEventSynchronize(raw_event(handle_)));
}

PinnedBuffer::PinnedBuffer(std::size_t bytes) : bytes_(bytes) {
  if (bytes != 0) LLSA_CUDA_CHECK(cudaHostAlloc(&data_, bytes, cudaHostAllocDefault));
}

PinnedBuffer::~PinnedBuffer() { static_cast<void>(cudaFreeHost(data_)); }

}  // namespace llsa::cuda
