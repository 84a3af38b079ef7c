// CUDA devices in a build without CUDA: there are none, and using one throws DeviceError.
#include "core/cuda/device.h"
#include "core/cuda/graph.h"
#include "core/cuda/ranges.h"
#include "core/cuda/stopwatch.h"

#include "core/error.h"

namespace llsa::cuda {
namespace {

constexpr const char* kReason = "this build has no CUDA";
constexpr const char* kHint = "build with a CUDA toolkit, or use the device cpu";

[[noreturn]] void absent() { throw DeviceError(cat("[device] ", kReason), kHint); }

}  // namespace

bool compiled() { return false; }
int device_count() { return 0; }
DeviceObstacle device_obstacle(int) { return {kReason, kHint, true}; }
DeviceProperties device_properties(int) { absent(); }

void download(int, const void*, void*, std::size_t) { absent(); }

Stream::Stream(int index) : index_(index) { absent(); }
Stream::Stream(int index, void*) : index_(index) { absent(); }
Stream::~Stream() = default;
void* Stream::handle() const { absent(); }
void Stream::synchronize() const { absent(); }
bool Stream::capturing() const { absent(); }
void Stream::upload(const void*, void*, std::size_t) const { absent(); }
void Stream::download(const void*, void*, std::size_t) const { absent(); }
void Stream::copy(const void*, void*, std::size_t) const { absent(); }
void Stream::fill(void*, unsigned char, std::size_t) const { absent(); }

Event::Event() = default;
Event::~Event() = default;
void Event::record(const Stream&) { absent(); }
void Event::block(const Stream&) const { absent(); }
void Event::synchronize() const { absent(); }

PinnedBuffer::PinnedBuffer(std::size_t bytes) : bytes_(bytes) { absent(); }
PinnedBuffer::~PinnedBuffer() = default;

Graph::Graph(Context&, FunctionRef<void()>) { absent(); }
Graph::~Graph() = default;
void Graph::launch() { absent(); }

struct Stopwatch::Impl {};
Stopwatch::Stopwatch(void*, std::size_t) { absent(); }
Stopwatch::~Stopwatch() = default;
void Stopwatch::start() { absent(); }
void Stopwatch::stop() { absent(); }
std::vector<double> Stopwatch::seconds() { absent(); }
void Stopwatch::forget() { absent(); }

bool has_ranges() { return false; }
void push_range(const char*) {}
void pop_range() {}

// NOLINTNEXTLINE(performance-unnecessary-value-param): the signature of builds with CUDA
std::shared_ptr<Allocator> make_allocator(std::shared_ptr<Stream>, std::size_t) { absent(); }

}  // namespace llsa::cuda
