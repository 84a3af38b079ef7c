// Devices, streams, memory and errors of the CUDA runtime, emulated or real.
#include "core/cuda/device.h"

#include <doctest/doctest.h>

#include <cstring>
#include <string>

#include "core/cuda/check.h"
#include "core/device_choice.h"
#include "core/error.h"
#include "tests/kernels/cuda/contexts.h"
#include "tests/support/text.h"

#ifdef SIMT_EMU
#include "tests/emu/emulator.h"
#endif

using namespace llsa;
using namespace llsa::test;

TEST_SUITE_BEGIN("kernels/cuda/device");

TEST_CASE("a device says what it is") {
  if (!cuda_device()) return;
  CHECK(cuda::compiled());
  const cuda::DeviceProperties properties = cuda::device_properties(0);
  CHECK(!properties.name.empty());
  CHECK(properties.major >= 8);
  CHECK(properties.processors > 0);
  CHECK(properties.memory > 0);
}

TEST_CASE("an index that is not there is an error that says which are") {
  if (!cuda_device()) return;
  for (const int index : {-1, cuda::device_count(), 1000}) {
    CAPTURE(index);
    CHECK_THROWS_AS(Context(Device{DeviceType::cuda, index}, 1), DeviceError);
  }
  const std::string message = failure_of<Error>([] { Context ctx(Device{DeviceType::cuda, 1000}, 1); });
  CHECK(contains(message, "cuda:1000 was asked for"));
  CHECK(contains(message, cuda::device_count() == 1 ? "there is only cuda:0" : "there are cuda:0 to cuda:"));
  CHECK(contains(message, "| use a device that is there"));
}

TEST_CASE("tensors of another device are refused") {
  if (!cuda_device()) return;
  Contexts both;
  const Tensor x = both.cpu.zeros({3}, DType::f32);
  CHECK_THROWS_AS(kernels::clone(both.gpu, x), DeviceError);
  CHECK_THROWS_AS(both.gpu.item(both.cpu.zeros({1}, DType::f32)), DeviceError);
  CHECK_THROWS_AS(kernels::clone(both.cpu, both.gpu.zeros({3}, DType::f32)), DeviceError);
}

TEST_CASE("item, zeros, upload and download") {
  if (!cuda_device()) return;
  Contexts both;
  CHECK(both.gpu.stream() != nullptr);
  CHECK(both.cpu.stream() == nullptr);
  const std::uint64_t before = both.gpu.synchronizations();
  const Tensor zero = both.gpu.zeros({3, 5}, DType::bf16);
  CHECK(both.gpu.synchronizations() == before);
  CHECK(both.gpu.item(zero.select(0, 1).select(0, 2)) == 0.0);
  CHECK(both.gpu.synchronizations() == before + 1);
  const std::vector<double> values = {1.5, -2, 1e300, 4};
  const Tensor x = kernels::from_vector(both.gpu, values, {2, 2});
  CHECK(kernels::to_vector<double>(both.gpu, x) == values);
  CHECK(kernels::to_vector<double>(both.gpu, x.transpose(0, 1)) == std::vector<double>{1.5, 1e300, -2, 4});
  CHECK(both.gpu.item(x.select(0, 1).select(0, 0)) == 1e300);
  CHECK_THROWS_AS(both.gpu.upload(values.data(), x.transpose(0, 1)), ShapeError);
  CHECK_THROWS_AS(both.gpu.item(x), ShapeError);
}

TEST_CASE("copies between contexts") {
  if (!cuda_device()) return;
  Contexts both;
  Context other(Device{DeviceType::cuda, 0}, 1);
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  const Tensor x = kernels::from_vector(both.cpu, values, {2, 3});
  const Tensor y = kernels::transfer(both.cpu, x.transpose(0, 1), both.gpu);
  CHECK(y.device().is_cuda());
  CHECK(kernels::to_vector<float>(both.gpu, y) == std::vector<float>{1, 4, 2, 5, 3, 6});
  CHECK(kernels::to_vector<float>(both.cpu, kernels::transfer(both.gpu, y.transpose(0, 1), both.cpu)) ==
        values);
  CHECK(kernels::transfer(both.gpu, y, both.gpu).raw() == y.raw());
  const Tensor z = kernels::transfer(both.gpu, y.transpose(0, 1), other);  // one device, two streams
  CHECK(z.raw() != y.raw());
  CHECK(kernels::to_vector<float>(other, z) == values);
  CHECK(kernels::transfer(both.cpu, x, both.cpu).raw() == x.raw());
  const Tensor strided = both.gpu.zeros({2, 6}, DType::f32).slice(1, 1, 4);
  kernels::copy_from_host(both.gpu, values.data(), strided);
  CHECK(kernels::to_vector<float>(both.gpu, strided) == values);
}

TEST_CASE("the allocator counts and reuses as the CPU's does") {
  if (!cuda_device()) return;
  Context gpu(Device{DeviceType::cuda, 0}, 1);
  Allocator& allocator = *gpu.allocator();
  CHECK(allocator.allocate(0) == nullptr);
  void* const a = allocator.allocate(100);
  CHECK(reinterpret_cast<std::uintptr_t>(a) % 256 == 0);
  CHECK(allocator.stats().active == 128);
  CHECK(allocator.stats().cache_hits == 0);
  allocator.deallocate(a, 100);
  CHECK(allocator.stats().active == 0);
  CHECK(allocator.stats().cached == 128);
  void* const b = allocator.allocate(120);
  CHECK(b == a);
  CHECK(allocator.stats().cache_hits == 1);
  CHECK(allocator.stats().peak == 128);
  allocator.deallocate(b, 120);
  allocator.release_cache();
  CHECK(allocator.stats().cached == 0);
  allocator.reset_peak();
  CHECK(allocator.stats().peak == 0);
  CHECK(allocator.device() == Device{DeviceType::cuda, 0});
}

TEST_CASE("memory runs out with an error that says what is held, and work goes on") {
  if (!cuda_device()) return;
  Context gpu(Device{DeviceType::cuda, 0}, 1, 1 << 20);
  const Tensor kept = gpu.zeros({1000}, DType::f32);
  static_cast<void>(gpu.empty({1 << 19}, DType::u8));  // now in the cache
  const std::string message = failure_of<Error>([&] { static_cast<void>(gpu.empty({1 << 20}, DType::f32)); });
  CHECK(contains(message, "out of memory on cuda:0"));
  CHECK(contains(message, cat("asked for ", 4 << 20, " bytes")));
  CHECK(contains(message, "limit 1048576 bytes"));
  CHECK(contains(message, "reduce the batch"));
  CHECK_THROWS_AS(static_cast<void>(gpu.empty({1 << 20}, DType::f32)), OutOfMemoryError);
  const Tensor smaller = gpu.zeros({240000}, DType::f32);  // fits once the cache has been given back
  CHECK(gpu.item(smaller.slice(0, 7, 8)) == 0.0);
  CHECK(gpu.item(kept.slice(0, 7, 8)) == 0.0);
  Context unlimited(Device{DeviceType::cuda, 0}, 1);
  CHECK_THROWS_AS(static_cast<void>(unlimited.empty({std::int64_t{1} << 50}, DType::f32)), OutOfMemoryError);
}

TEST_CASE("tensors may outlive their context") {
  if (!cuda_device()) return;
  Tensor x;
  {
    Context gpu(Device{DeviceType::cuda, 0}, 1);
    x = gpu.zeros({1000}, DType::f32);
  }
  CHECK(x.numel() == 1000);
}

TEST_CASE("a failed call says which, where and why") {
  if (!cuda_device()) return;
  const std::string message = failure_of<Error>([] { LLSA_CUDA_CHECK(cudaSetDevice(12345)); });
  CHECK(contains(message, "cudaSetDevice(12345) failed at tests/kernels/cuda/device_test.cpp:"));
  CHECK(contains(message, "cudaErrorInvalidDevice"));
  const std::string sticky = failure_of<Error>([] {
    cuda::check(cudaErrorIllegalAddress, {"launch", {"kernels/cuda/copy.cu", 7}});
  });
  CHECK(contains(sticky, "launch failed at kernels/cuda/copy.cu:7"));
  CHECK(contains(sticky, "from its last checkpoint"));
  CHECK(contains(sticky, "CUDA_LAUNCH_BLOCKING=1"));
  CHECK(contains(cuda::hint_for(cudaErrorLaunchFailure), "from its last checkpoint"));
  CHECK(contains(cuda::hint_for(cudaErrorNoKernelImageForDevice), "CUDA_ARCHS=native"));
  CHECK(contains(cuda::hint_for(cudaErrorDevicesUnavailable), "another process"));
  CHECK(contains(cuda::hint_for(cudaErrorMemoryAllocation), "reduce the batch"));
  for (const int error : {226, 721, 911})  // as new versions of CUDA have them
    CHECK(contains(cuda::hint_for(static_cast<cudaError_t>(error)), "from its last checkpoint"));
  CHECK(contains(cuda::hint_for(cudaErrorInvalidDeviceFunction), "CUDA_ARCHS=native"));
  CHECK(contains(cuda::hint_for(cudaErrorLaunchOutOfResources), "dtype f32"));
  CHECK(contains(cuda::hint_for(cudaErrorSystemNotReady), "nvidia-fabricmanager"));
  CHECK(contains(cuda::hint_for(cudaErrorSystemDriverMismatch), "restart the machine"));
  CHECK(cuda::hint_for(cudaErrorInvalidDevice).empty());
  CHECK_NOTHROW(LLSA_CUDA_CHECK(cudaGetLastError()));
}

TEST_CASE("streams, events and pinned memory") {
  if (!cuda_device()) return;
  const cuda::Stream stream(0), other(0);
  const auto allocator = cuda::make_allocator(std::make_shared<cuda::Stream>(0));
  const cuda::PinnedBuffer from(64), to(64);
  std::memset(from.data(), 7, 64);
  std::memset(to.data(), 0, 64);
  auto* const device = static_cast<std::byte*>(allocator->allocate(128));
  cuda::Event end;
  stream.upload(from.data(), device, 64);
  end.record(stream);
  end.block(other);
  other.copy(device, device + 64, 32);
  other.fill(device + 96, 9, 32);
  other.download(device + 64, to.data(), 64);
  end.synchronize();
  CHECK(to.data()[0] == std::byte{7});
  CHECK(to.data()[31] == std::byte{7});
  CHECK(to.data()[63] == std::byte{9});
  allocator->deallocate(device, 128);
}

#ifdef SIMT_EMU
TEST_CASE("no device, no driver, an old driver, an old device, and what auto says of them") {
  std::string passed_over;
  const auto message = [&] {
    const DeviceChoice choice = choose_device("auto");
    CHECK(choice.device == Device{});
    passed_over = passed_over_text(choice);
    CHECK(cudaGetLastError() == cudaSuccess);  // nothing is left for the next call to report
    return failure_of<Error>([] { Context ctx(device_from_name("cuda"), 1); });
  };
  emu::set_device_count(0);
  CHECK(cuda::device_count() == 0);
  const std::string no_device = message();
  CHECK(passed_over.empty());
  emu::set_device_count(1);
  CHECK(contains(no_device, "cuda:0 was asked for, there is no CUDA device"));
  CHECK(contains(no_device, "| use the device cpu"));
  CHECK(contains(no_device, "CUDA_VISIBLE_DEVICES"));

  emu::set_driver_version(0);
  CHECK(cuda::device_count() == 0);
  const std::string no_driver = message();
  CHECK(passed_over.empty());
  emu::set_driver_version(11020);
  const std::string old_driver = message();
  emu::set_driver_version(CUDART_VERSION);
  CHECK(contains(passed_over,
                 "device cpu: the GPU was passed over: the NVIDIA driver serves CUDA 11.2 and this program "
                 "needs "));
  CHECK(contains(passed_over, "; install or update the NVIDIA driver"));
  CHECK(contains(no_driver, "cuda:0 was asked for, there is no NVIDIA driver"));
  CHECK(contains(old_driver, "the NVIDIA driver serves CUDA 11.2 and this program needs "));
  for (const std::string& text : {no_driver, old_driver}) {
    CHECK(contains(text, "| install or update the NVIDIA driver"));
    CHECK(contains(text, "use the device cpu"));
  }

  emu::set_compute_capability(7);
  CHECK(cuda::device_count() == 1);
  const std::string old_device = message();
  emu::set_compute_capability(9);
  CHECK(contains(old_device,
                 "cuda:0 was asked for, it has compute capability 7.0, the kernels need 8.0 or later"));
  CHECK(contains(old_device, "| use a newer GPU, or the device cpu"));
  CHECK(passed_over ==
        "device cpu: the GPU was passed over: it has compute capability 7.0, the kernels need 8.0 or later "
        "(Ampere); use a newer GPU, or the device cpu");

  emu::break_device(cudaErrorIllegalAddress);
  passed_over = passed_over_text(choose_device("auto"));
  emu::break_device(cudaSuccess);
  CHECK(contains(passed_over,
                 "device cpu: the GPU was passed over: [cuda] cudaGetDeviceCount failed at "
                 "core/cuda/device.cpp:"));
  CHECK(contains(passed_over, "(cudaErrorIllegalAddress); the device no longer serves this process"));

  CHECK(choose_device("auto").device == Device{DeviceType::cuda, 0});
  CHECK(choose_device("auto").passed_over.empty());
}

TEST_CASE("a device that an earlier kernel has broken: errors with a hint, and an orderly end") {
  Context healthy(Device{DeviceType::cuda, 0}, 1);
  std::string read, waited, again;
  {
    Context gpu(Device{DeviceType::cuda, 0}, 1);
    const Tensor x = gpu.zeros({100}, DType::f32);
    emu::break_device(cudaErrorIllegalAddress);
    read = failure_of<Error>([&] { gpu.item(x.slice(0, 0, 1)); });
    waited = failure_of<Error>([&] { gpu.synchronize(); });
    again = failure_of<Error>([] { Context ctx(Device{DeviceType::cuda, 0}, 1); });
  }  // stream and memory go: nothing is thrown
  emu::break_device(cudaSuccess);
  for (const std::string& text : {read, waited, again}) {
    CAPTURE(text);
    CHECK(contains(text, "an illegal memory access was encountered (cudaErrorIllegalAddress)"));
    CHECK(contains(text, "| the device no longer serves this process: start the program again"));
    CHECK(contains(text, "from its last checkpoint"));
  }
  CHECK(healthy.item(healthy.zeros({1}, DType::f32)) == 0.0);
}

TEST_CASE("a device that is full") {
  Context gpu(Device{DeviceType::cuda, 0}, 1);
  emu::set_device_memory(emu::device_bytes_in_use() + 100000);
  const std::string message = failure_of<Error>([&] { static_cast<void>(gpu.empty({50000}, DType::f32)); });
  CHECK(contains(message, "asked for 200000 bytes, 0 active, 0 cached"));
  CHECK(contains(message, "the device has"));
  {
    const Tensor a = gpu.zeros({10000}, DType::f32);
    const Tensor b = gpu.zeros({5000}, DType::f32);
  }
  CHECK_NOTHROW(gpu.zeros({20000}, DType::f32));  // once the cache has been given back
  emu::set_device_memory(0);
}
#endif

TEST_SUITE_END();
