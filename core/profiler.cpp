#include "core/profiler.h"

#include <cxxabi.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <map>
#include <string_view>
#include <utility>

#include "core/context.h"
#include "core/cuda/ranges.h"
#include "core/cuda/stopwatch.h"
#include "core/error.h"

namespace llsa {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kTrials = 200;
const char* const kOutside = "outside of ops";

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

bool is_longer(const ProfiledWork& a, const ProfiledWork& b) { return a.seconds > b.seconds; }

}  // namespace

std::string kernel_name(const char* mangled) {
  const std::unique_ptr<char, decltype(&std::free)> text(
      abi::__cxa_demangle(mangled, nullptr, nullptr, nullptr), std::free);
  std::string name = text ? text.get() : mangled;
  for (const std::string_view part : {"(anonymous namespace)::", "llsa::kernels::cuda::", "llsa::", "(int)"})
    for (std::size_t at; (at = name.find(part)) != std::string::npos;) name.erase(at, part.size());
  std::size_t begin = 0;
  int depth = 0;
  for (std::size_t i = 0; i < name.size(); ++i) {
    const char c = name[i];
    depth += (c == '<') - (c == '>');
    if (depth == 0 && c == '(') name.resize(i);
    if (depth == 0 && (c == ' ' || c == ':')) begin = i + 1;
  }
  return name.substr(begin);
}

double bytes_of(const Tensor& x) {
  if (!x.defined()) return 0;
  auto bytes = static_cast<double>(size_of(x.dtype()));
  for (int axis = 0; axis < x.rank(); ++axis)
    if (x.stride(axis) != 0 || x.size(axis) == 0) bytes *= static_cast<double>(x.size(axis));
  return bytes;
}

double bytes_of(const std::vector<Tensor>& list) {
  double bytes = 0;
  for (const Tensor& x : list) bytes += bytes_of(x);
  return bytes;
}

double Profile::elsewhere() const {
  double inside = 0;
  for (const ProfiledOp& op : ops) inside += op.work.seconds;
  return seconds - inside;
}

struct Profiler::Impl {
  struct Op {
    ProfiledWork work;
    std::map<const void*, ProfiledKernel> kernels;
  };
  struct OpenCall {
    Op* op;
    Clock::time_point start;
    double inner;              // seconds of the calls within
    double arguments, stated;  // bytes
  };

  explicit Impl(Context& context) : ctx(context) {
    if (!ctx.device().is_cuda()) return;
    stream = ctx.stream();
    launches = std::make_unique<cuda::Stopwatch>(stream);
    whole = std::make_unique<cuda::Stopwatch>(stream);
  }

  Context& ctx;
  bool ranges = false;
  double span_seconds = 0;

  // On a CUDA device. Stopwatches give their times in the order of the spans.
  void* stream = nullptr;
  std::unique_ptr<cuda::Stopwatch> launches, whole;
  std::vector<ProfiledKernel*> spans;
  bool in_span = false;

  std::map<std::string, Op, std::less<>> ops;  // whose elements stay where they are
  std::vector<OpenCall> open;
  std::int64_t runs = 0, timed = 0;
  double seconds = 0;
  Clock::time_point start;

  Op& op(const char* name) {
    const auto found = ops.find(name);
    return found != ops.end() ? found->second : ops[name];
  }
};

Profiler::Profiler(Context& ctx, bool ranges) : impl_(std::make_unique<Impl>(ctx)) {
  if (ranges && !cuda::has_ranges())
    throw DeviceError("[profiler] NVTX ranges were asked for, and this build has no NVTX",
                      "build with a CUDA toolkit, whose headers include nvtx3, or leave --nvtx out");
  impl_->span_seconds = measure_span();
  impl_->ranges = ranges;
}

Profiler::~Profiler() = default;

// A call on the CPU, a pair of events on a CUDA device, with nothing in between.
double Profiler::measure_span() {
  double seconds = 0;
  for (int round = 0; round < 2; ++round) {  // the first makes the events
    {
      const Running running(*this);
      for (int i = 0; i < kTrials; ++i) {
        if (impl_->whole) {
          const Span span(impl_->stream, "empty");
        } else {
          const Call call("empty", 0);
        }
      }
    }
    seconds = read().seconds / kTrials;
    clear();
  }
  return seconds;
}

Profiler::Running::Running(Profiler& profiler) : profiler_(profiler) {
  if (active_ != nullptr) throw Error("[profiler] another profiler is running in this thread");
  Impl& impl = *profiler.impl_;
  if (impl.whole) impl.whole->start();
  impl.start = Clock::now();
  active_ = &profiler;
}

// An event that cannot be recorded is a failure of the device, which the next command reports.
Profiler::Running::~Running() {
  active_ = nullptr;
  Impl& impl = *profiler_.impl_;
  if (!impl.whole) impl.seconds += seconds_since(impl.start);
  ++impl.runs;
  try {
    if (impl.whole) impl.whole->stop();
  } catch (const CudaError&) {
    impl.whole->forget();
  }
}

void Profiler::begin_call(const char* name, double bytes) {
  if (impl_->ranges) cuda::push_range(name);
  impl_->open.push_back({&impl_->op(name), Clock::now(), 0, bytes, 0});
}

void Profiler::end_call() {
  const Impl::OpenCall call = impl_->open.back();
  const double seconds = seconds_since(call.start);
  impl_->open.pop_back();
  ProfiledWork& work = call.op->work;
  ++work.calls;
  work.bytes += call.stated > 0 ? call.stated : call.arguments;
  if (!impl_->whole) {
    work.seconds += seconds - call.inner;
    ++impl_->timed;
  }
  if (!impl_->open.empty()) impl_->open.back().inner += seconds;
  if (impl_->ranges) cuda::pop_range();
}

bool Profiler::begin_span(void* stream, const void* key, FunctionRef<KernelText()> describe) {
  Impl& impl = *impl_;
  if (!impl.launches || impl.in_span || stream != impl.stream || impl.ctx.cuda_stream()->capturing())
    return false;
  Impl::Op& op = impl.open.empty() ? impl.op(kOutside) : *impl.open.back().op;
  const auto [place, fresh] = op.kernels.try_emplace(key);
  if (fresh) place->second.text = describe();
  impl.spans.push_back(&place->second);
  impl.in_span = true;
  ++impl.timed;
  impl.launches->start();
  return true;
}

void Profiler::end_span() {
  impl_->in_span = false;
  try {
    impl_->launches->stop();
  } catch (const CudaError&) {  // as in ~Running
    impl_->launches->forget();
  }
}

void Profiler::add(double flops, double bytes) {
  if (!impl_->open.empty()) {
    impl_->open.back().op->work.flops += flops;
    impl_->open.back().stated += bytes;
  }
  if (!impl_->in_span) return;
  ProfiledWork& work = impl_->spans.back()->work;
  work.flops += flops;
  work.bytes += bytes;
}

Profile Profiler::read() {
  Impl& impl = *impl_;
  if (impl.whole) {
    for (const double seconds : impl.whole->seconds()) impl.seconds += seconds;
    const std::vector<double> times = impl.launches->seconds();
    if (times.size() != impl.spans.size())
      throw CudaError(cat("[profiler] ", impl.spans.size(), " pieces of work were put into the stream, and ",
                          times.size(), " were timed"));
    for (std::size_t i = 0; i < times.size(); ++i) {
      impl.spans[i]->work.seconds += times[i];
      ++impl.spans[i]->work.calls;
    }
    impl.spans.clear();
  }
  Profile profile;
  profile.seconds = impl.seconds;
  profile.runs = impl.runs;
  profile.spans = impl.timed;
  profile.span_seconds = impl.span_seconds;
  for (const auto& [name, op] : impl.ops) {
    ProfiledOp row{name, op.work};
    std::map<std::string, ProfiledKernel> by_name;
    for (const auto& [key, kernel] : op.kernels) {
      ProfiledKernel& sum = by_name[kernel.text.name];
      sum.text = kernel.text;
      sum.work.calls += kernel.work.calls;
      sum.work.seconds += kernel.work.seconds;
      sum.work.bytes += kernel.work.bytes;
      sum.work.flops += kernel.work.flops;
      row.work.seconds += kernel.work.seconds;
    }
    for (const auto& [text, kernel] : by_name) row.kernels.push_back(kernel);
    std::sort(row.kernels.begin(), row.kernels.end(),
              [](const auto& a, const auto& b) { return is_longer(a.work, b.work); });
    profile.ops.push_back(std::move(row));
  }
  std::sort(profile.ops.begin(), profile.ops.end(),
            [](const auto& a, const auto& b) { return is_longer(a.work, b.work); });
  return profile;
}

void Profiler::clear() {
  Impl& impl = *impl_;
  if (impl.whole) {
    impl.whole->forget();
    impl.launches->forget();
  }
  impl.spans.clear();
  impl.ops.clear();
  impl.runs = impl.timed = 0;
  impl.seconds = 0;
}

}  // namespace llsa
