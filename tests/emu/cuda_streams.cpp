// The emulated runtime's streams and events.
#include <cuda_runtime.h>

#include <chrono>
#include <mutex>
#include <set>

#include "tests/emu/cuda_objects.h"
#include "tests/emu/device_state.h"

namespace llsa::emu {
namespace {

struct Event {
  bool recorded = false;
  bool captured = false;  // last recorded in a stream that was being captured
  Clock::time_point time;
};

bool is_event(cudaEvent_t event) {
  Device& d = device();
  const std::lock_guard lock(d.mutex);
  return d.events.contains(event);
}

Event& real(cudaEvent_t event) { return *reinterpret_cast<Event*>(event); }

// A handle of a new object, which then is one of these.
template <class Object, class Handle>
cudaError_t create(std::set<const void*>& existing, Handle* handle) {
  const std::lock_guard lock(device().mutex);
  *handle = reinterpret_cast<Handle>(new Object);
  existing.insert(*handle);
  return cudaSuccess;
}

template <class Object, class Handle>
cudaError_t destroy(std::set<const void*>& existing, Handle handle) {
  const std::lock_guard lock(device().mutex);
  if (existing.erase(handle) == 0) return result(cudaErrorInvalidResourceHandle);
  delete reinterpret_cast<Object*>(handle);
  return cudaSuccess;
}

// What waiting for an event, or asking for it, returns.
cudaError_t look_at(cudaEvent_t event) {
  if (!is_event(event)) return result(cudaErrorInvalidResourceHandle);
  if (real(event).captured) return result(cudaErrorCapturedEvent);
  return result(safe_beside_capture());
}

}  // namespace

bool is_stream(cudaStream_t stream) {
  if (stream == nullptr || stream == cudaStreamLegacy || stream == cudaStreamPerThread) return true;
  Device& d = device();
  const std::lock_guard lock(d.mutex);
  return d.streams.contains(stream);
}

cudaError_t on(cudaStream_t stream) {
  return result(is_stream(stream) ? cudaSuccess : cudaErrorInvalidResourceHandle);
}

cudaError_t beside(cudaStream_t stream) {
  if (!is_stream(stream)) return result(cudaErrorInvalidResourceHandle);
  const cudaError_t error = outside_capture(stream);
  return result(error == cudaSuccess ? safe_beside_capture() : error);
}

}  // namespace llsa::emu

using llsa::emu::device;
using llsa::emu::result;

extern "C" {

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  return llsa::emu::create<char>(device().streams, stream);
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, 0); }
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
  return cudaStreamCreateWithFlags(stream, flags);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  return llsa::emu::destroy<char>(device().streams, stream);
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) { return llsa::emu::beside(stream); }
cudaError_t cudaStreamQuery(cudaStream_t stream) { return llsa::emu::beside(stream); }

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  return llsa::emu::create<llsa::emu::Event>(device().events, event);
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  return llsa::emu::destroy<llsa::emu::Event>(device().events, event);
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (const cudaError_t error = llsa::emu::on(stream); error != cudaSuccess) return error;
  if (!llsa::emu::is_event(event)) return result(cudaErrorInvalidResourceHandle);
  const bool captured = llsa::emu::is_capturing(stream);
  auto& d = device();
  const std::lock_guard lock(d.mutex);
  llsa::emu::real(event) = {true, captured, llsa::emu::Clock::now() + d.ahead};
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) { return llsa::emu::look_at(event); }
cudaError_t cudaEventQuery(cudaEvent_t event) { return llsa::emu::look_at(event); }
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (const cudaError_t error = llsa::emu::on(stream); error != cudaSuccess) return error;
  if (!llsa::emu::is_event(event)) return result(cudaErrorInvalidResourceHandle);
  const bool captured = llsa::emu::real(event).captured, capturing = llsa::emu::is_capturing(stream);
  if (captured && !capturing) return result(cudaErrorCapturedEvent);  // would be a fork: not emulated
  if (capturing && !captured)
    return result(llsa::emu::outside_capture(stream, cudaErrorStreamCaptureIsolation));
  return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  if (!llsa::emu::is_event(start) || !llsa::emu::is_event(end)) return result(cudaErrorInvalidResourceHandle);
  const auto& a = llsa::emu::real(start);
  const auto& b = llsa::emu::real(end);
  if (a.captured || b.captured) return result(cudaErrorCapturedEvent);
  if (!a.recorded || !b.recorded) return result(cudaErrorInvalidResourceHandle);
  *milliseconds = std::chrono::duration<float, std::milli>(b.time - a.time).count();
  return cudaSuccess;
}

}  // extern "C"
