// Stream capture and graphs of the emulated runtime: a list of commands, run again in their order.
//
// A capture takes one stream. It is lost, as on a device, by a call that waits for the stream, by one that is
// unsafe beside a capture (cudaMalloc, cudaFree, cudaMemcpy, ..) unless the thread has exchanged its mode,
// and by waiting for an event from outside; until its end everything else in it then fails with
// cudaErrorStreamCaptureInvalidated. Stricter than a device: copies between device and pageable memory, and
// what is not emulated (forks into other streams, graphs in graphs, cudaMallocAsync), lose it too.
#include <algorithm>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "tests/emu/cuda_objects.h"

namespace llsa::emu {
namespace {

using Commands = std::vector<std::function<cudaError_t()>>;

struct Capture {
  std::thread::id thread;
  cudaStreamCaptureMode mode;
  bool lost = false;
  Commands commands;
};

struct Captures {
  std::mutex mutex;
  std::map<cudaStream_t, Capture> of;
  std::set<Commands*> graphs, executables;
};

Captures& captures() {
  static Captures c;
  return c;
}

thread_local cudaStreamCaptureMode thread_mode = cudaStreamCaptureModeGlobal;

bool is_default(cudaStream_t stream) {
  return stream == nullptr || stream == cudaStreamLegacy || stream == cudaStreamPerThread;
}

}  // namespace

bool is_capturing(cudaStream_t stream) {
  const std::lock_guard lock(captures().mutex);
  return captures().of.contains(stream);
}

cudaError_t outside_capture(cudaStream_t stream, cudaError_t error) {
  const std::lock_guard lock(captures().mutex);
  const auto found = captures().of.find(stream);
  if (found == captures().of.end()) return cudaSuccess;
  return std::exchange(found->second.lost, true) ? cudaErrorStreamCaptureInvalidated : error;
}

cudaError_t safe_beside_capture() {
  if (thread_mode == cudaStreamCaptureModeRelaxed) return cudaSuccess;
  const std::lock_guard lock(captures().mutex);
  for (auto& [stream, capture] : captures().of) {
    const bool mine =
        capture.thread == std::this_thread::get_id() && capture.mode != cudaStreamCaptureModeRelaxed;
    const bool global =
        capture.mode == cudaStreamCaptureModeGlobal && thread_mode == cudaStreamCaptureModeGlobal;
    if (!mine && !global) continue;
    capture.lost = true;
    return cudaErrorStreamCaptureUnsupported;
  }
  return cudaSuccess;
}

cudaError_t enqueue(cudaStream_t stream, std::function<cudaError_t()> work) {
  {
    const std::lock_guard lock(captures().mutex);
    if (const auto found = captures().of.find(stream); found != captures().of.end()) {
      if (found->second.lost) return cudaErrorStreamCaptureInvalidated;
      found->second.commands.push_back(std::move(work));
      return cudaSuccess;
    }
  }
  return work();
}

const char* capture_error_name(cudaError_t error) {
  switch (error) {
    case cudaErrorIllegalState:
      return "cudaErrorIllegalState";
    case cudaErrorStreamCaptureUnsupported:
      return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureInvalidated:
      return "cudaErrorStreamCaptureInvalidated";
    case cudaErrorStreamCaptureIsolation:
      return "cudaErrorStreamCaptureIsolation";
    case cudaErrorCapturedEvent:
      return "cudaErrorCapturedEvent";
    case cudaErrorStreamCaptureWrongThread:
      return "cudaErrorStreamCaptureWrongThread";
    default:
      return nullptr;
  }
}

const char* capture_error_string(cudaError_t error) {
  switch (error) {
    case cudaErrorIllegalState:
      return "the operation cannot be performed in the present state";
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated:
      return "operation failed due to a previous error during capture";
    case cudaErrorStreamCaptureIsolation:
      return "dependency created on uncaptured work in another stream";
    case cudaErrorCapturedEvent:
      return "operation not permitted on an event last recorded in a capturing stream";
    case cudaErrorStreamCaptureWrongThread:
      return "attempt to terminate a thread-local capture sequence from another thread";
    default:
      return nullptr;
  }
}

}  // namespace llsa::emu

using llsa::emu::captures;
using llsa::emu::Commands;

extern "C" {

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  if (llsa::emu::is_default(stream)) return cudaErrorStreamCaptureUnsupported;
  if (!llsa::emu::is_stream(stream)) return cudaErrorInvalidResourceHandle;
  const std::lock_guard lock(captures().mutex);
  const bool begun =
      captures()
          .of.try_emplace(stream, llsa::emu::Capture{std::this_thread::get_id(), mode, false, {}})
          .second;
  return begun ? cudaSuccess : cudaErrorIllegalState;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  const std::lock_guard lock(captures().mutex);
  const auto found = captures().of.find(stream);
  if (found == captures().of.end()) return cudaErrorIllegalState;
  llsa::emu::Capture& capture = found->second;
  if (capture.mode != cudaStreamCaptureModeRelaxed && capture.thread != std::this_thread::get_id())
    return cudaErrorStreamCaptureWrongThread;
  const bool lost = capture.lost;
  if (!lost) {
    auto* const commands = new Commands(std::move(capture.commands));
    captures().graphs.insert(commands);
    *graph = reinterpret_cast<cudaGraph_t>(commands);
  }
  captures().of.erase(found);
  return lost ? cudaErrorStreamCaptureInvalidated : cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  if (!llsa::emu::is_stream(stream)) return cudaErrorInvalidResourceHandle;
  const std::lock_guard lock(captures().mutex);
  const auto found = captures().of.find(stream);
  *status = found == captures().of.end() ? cudaStreamCaptureStatusNone
            : found->second.lost         ? cudaStreamCaptureStatusInvalidated
                                         : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  std::swap(*mode, llsa::emu::thread_mode);
  return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, std::size_t* count) {
  const std::lock_guard lock(captures().mutex);
  auto* const commands = reinterpret_cast<Commands*>(graph);
  if (nodes != nullptr || !captures().graphs.contains(commands)) return cudaErrorInvalidValue;
  *count = commands->size();
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* executable, cudaGraph_t graph,
                                          unsigned long long) {
  const std::lock_guard lock(captures().mutex);
  auto* const commands = reinterpret_cast<Commands*>(graph);
  if (!captures().graphs.contains(commands)) return cudaErrorInvalidValue;
  auto* const copy = new Commands(*commands);
  captures().executables.insert(copy);
  *executable = reinterpret_cast<cudaGraphExec_t>(copy);
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  if (!llsa::emu::is_stream(stream)) return cudaErrorInvalidResourceHandle;
  if (const cudaError_t error = llsa::emu::outside_capture(stream); error != cudaSuccess) return error;
  auto* const commands = reinterpret_cast<Commands*>(executable);
  {
    const std::lock_guard lock(captures().mutex);
    if (!captures().executables.contains(commands)) return cudaErrorInvalidValue;
  }
  for (const auto& command : *commands)
    if (const cudaError_t error = command(); error != cudaSuccess) return error;
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  const std::lock_guard lock(captures().mutex);
  auto* const commands = reinterpret_cast<Commands*>(graph);
  if (captures().graphs.erase(commands) == 0) return cudaErrorInvalidValue;
  delete commands;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  const std::lock_guard lock(captures().mutex);
  auto* const commands = reinterpret_cast<Commands*>(executable);
  if (captures().executables.erase(commands) == 0) return cudaErrorInvalidValue;
  delete commands;
  return cudaSuccess;
}

}  // extern "C"
