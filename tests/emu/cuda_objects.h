// What the emulated runtime has created and not yet destroyed, its clock, and whether what comes next runs or
// is captured.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <functional>

namespace llsa::emu {

/// Whether work may be given to this stream: a default stream, or one that cudaStreamCreate made.
bool is_stream(cudaStream_t stream);

/// Bytes of shared memory that a block may have (set_shared_memory).
std::size_t shared_memory_of_block();

/// The error that every call returns at present (break_device), or cudaSuccess.
cudaError_t device_error();
/// The status that this call shall return instead of doing anything (fail_next), once; 0: none.
int requested_failure(const char* function);

/// Lets events recorded from now on say that so much more time has passed on the device.
void advance_device_clock(double milliseconds);

/// Runs the work, or, while the stream is being captured, keeps it for the replays of the graph. The stream
/// exists. Returns what the work returned, or why it cannot be captured.
cudaError_t enqueue(cudaStream_t stream, std::function<cudaError_t()> work);

/// Whether the stream is being captured.
bool is_capturing(cudaStream_t stream);
/// For a call that a captured stream does not take: cudaSuccess for another stream, else the error; the
/// capture is lost then.
cudaError_t outside_capture(cudaStream_t stream, cudaError_t error = cudaErrorStreamCaptureUnsupported);
/// For a call that is "potentially unsafe" beside a capture (cudaThreadExchangeStreamCaptureMode):
/// cudaSuccess if the calling thread may make it, else the error; the capture is lost then.
cudaError_t safe_beside_capture();

/// cudaGetErrorName and cudaGetErrorString for the errors of captures; null for others.
const char* capture_error_name(cudaError_t error);
const char* capture_error_string(cudaError_t error);

}  // namespace llsa::emu
