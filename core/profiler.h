// How long every op takes and, on a CUDA device, every kernel launch and every call of a library.
//
//     Profiler profiler(ctx);
//     for (int i = 0; i < 10; ++i) {
//       const Profiler::Running running(profiler);
//       step();
//     }
//     const Profile profile = profiler.read();
//
// An op is a call of the backend (kernels/backend/entry.h). Its time is read from the clock of the host on the CPU,
// and from events on both sides of each launch on a CUDA device, after one wait for all of them. While no profiler
// runs in the calling thread, an op and a launch look at one pointer and do nothing else.
//
// A replay of a CUDA graph is a single command, so nothing within it is seen. What is being captured is not timed.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "function_ref.h"

namespace llsa {

class Context;
class Tensor;

/// Seconds, and what the code states about its work: 0 where it states nothing.
struct ProfiledWork {
  std::int64_t calls = 0;
  double seconds = 0, bytes = 0, flops = 0;
};

/// How the table shows a kernel or a call of a library.
struct KernelText {
  std::string name;
  std::string place = {};      ///< where it is launched: "kernels/cuda/norm.cu:210"
  std::string resources = {};  ///< what the runtime says about registers, shared memory and blocks
};

/// "attend<64, 16>" of a mangled name: without namespaces and parameters.
std::string kernel_name(const char* mangled);

struct ProfiledKernel {
  KernelText text;
  ProfiledWork work;
};

struct ProfiledOp {
  std::string name;  ///< of the function that called the backend; "outside of ops" for the remaining launches
  ProfiledWork work;                         ///< without the ops that it calls itself
  std::vector<ProfiledKernel> kernels = {};  ///< on a CUDA device
};

struct Profile {
  std::vector<ProfiledOp> ops;  ///< the longest first, and so are the kernels of an op
  double seconds = 0;           ///< while the profiler ran
  std::int64_t runs = 0;        ///< how often it was running
  std::int64_t spans = 0;       ///< pieces of work that were timed
  double span_seconds = 0;      ///< what timing one of them costs, measured on empty ones

  /// The part of `seconds` that lies in no op.
  double elsewhere() const;
};

/// Bytes of the elements that a tensor has in memory: axes of stride 0 count once. 0 for an undefined one.
double bytes_of(const Tensor& x);
double bytes_of(const std::vector<Tensor>& list);
/// Other arguments of an op have none.
template <class T>
constexpr double bytes_of(const T&) {
  return 0;
}

class Profiler {
 public:
  /// Measures what it costs itself. With `ranges`, ops are NVTX ranges, too, which other profilers show. Throws
  /// DeviceError if there are ranges to be made, and the build has no NVTX.
  explicit Profiler(Context& ctx, bool ranges = false);
  ~Profiler();
  Profiler(const Profiler&) = delete;
  Profiler& operator=(const Profiler&) = delete;

  /// The one that runs in the calling thread, or null.
  static Profiler* active() { return active_; }

  /// What the calling thread does on the context during its life is timed. One profiler at a time runs in a thread.
  class Running {
   public:
    explicit Running(Profiler& profiler);
    ~Running();
    Running(const Running&) = delete;
    Running& operator=(const Running&) = delete;

   private:
    Profiler& profiler_;
  };

  /// A call of an op, while a profiler is active. bytes: those of its arguments; they count unless add_work()
  /// states others.
  class Call {
   public:
    Call(const char* name, double bytes) : profiler_(*active_) { profiler_.begin_call(name, bytes); }
    ~Call() { profiler_.end_call(); }
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

   private:
    Profiler& profiler_;
  };

  /// Work that is put into a CUDA stream while this exists: a launch or a call of a library.
  class Span {
   public:
    /// `key` tells kernels apart. `describe` is asked when a key comes for the first time in an op.
    Span(void* stream, const void* key, FunctionRef<KernelText()> describe)
        : profiler_(active_ != nullptr && active_->begin_span(stream, key, describe) ? active_ : nullptr) {}
    Span(void* stream, const char* name) : Span(stream, name, [name] { return KernelText{name}; }) {}
    ~Span() {
      if (profiler_ != nullptr) profiler_->end_span();
    }
    Span(const Span&) = delete;
    Span& operator=(const Span&) = delete;

   private:
    Profiler* profiler_;
  };

  /// States what the calling op, and the span that is open in it, computes and moves.
  static void add_work(double flops, double bytes = 0) {
    if (active_ != nullptr) active_->add(flops, bytes);
  }

  /// Everything since the profiler was made or cleared. Waits for the device. Throws CudaError.
  Profile read();
  void clear();

 private:
  struct Impl;

  void begin_call(const char* name, double bytes);
  void end_call();
  bool begin_span(void* stream, const void* key, FunctionRef<KernelText()> describe);
  void end_span();
  void add(double flops, double bytes);
  double measure_span();

  inline static constinit thread_local Profiler* active_ = nullptr;
  std::unique_ptr<Impl> impl_;
};

}  // namespace llsa
