// Device memory for tests, through the CUDA runtime: the real one or the emulated one.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdio>
#include <string>
#include <vector>

#include "../../../core/error.h"

namespace llsa::test {

inline void cuda_check(cudaError_t error) {
  if (error != cudaSuccess) throw CudaError(cudaGetErrorString(error));
}

/// Whether there is a device to test on; prints why not.
inline bool has_device() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess && count > 0) return true;
  std::printf("skipped: no CUDA device: %s\n", cudaGetErrorString(error));
  return false;
}

/// n elements of device memory.
template <class T>
class DeviceBuffer {
 public:
  explicit DeviceBuffer(std::size_t n) : n_(n) {
    cuda_check(cudaMalloc(reinterpret_cast<void**>(&data_), n * sizeof(T)));
  }
  explicit DeviceBuffer(const std::vector<T>& values) : DeviceBuffer(values.size()) { set(values); }
  DeviceBuffer(std::size_t n, int byte) : DeviceBuffer(n) {
    cuda_check(cudaMemset(data_, byte, n * sizeof(T)));
  }
  ~DeviceBuffer() { cudaFree(data_); }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  T* data() { return data_; }
  std::size_t size() const { return n_; }

  void set(const std::vector<T>& values) {
    cuda_check(cudaMemcpy(data_, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice));
  }
  std::vector<T> get() const {
    std::vector<T> values(n_);
    cuda_check(cudaMemcpy(static_cast<void*>(values.data()), data_, n_ * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
  }

 private:
  T* data_ = nullptr;
  std::size_t n_;
};

}  // namespace llsa::test
