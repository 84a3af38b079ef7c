// A launch: checks what a device would refuse, then lets OS threads take blocks from a counter.
#include <atomic>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/emu/block.h"
#include "tests/emu/cuda_objects.h"
#include "tests/emu/kernel_api.h"
#include "tests/emu/sanitizers.h"

namespace llsa::emu {
namespace {

Settings settings_of_environment() {
  const char* const order = std::getenv("SIMT_ORDER");
  Settings s = order ? parse_order(order) : Settings{};
  if (const char* const threads = std::getenv("SIMT_THREADS")) s.threads = std::stoi(threads);
  return s;
}

std::mutex mutex;  // of what is below
Settings& current() {
  static Settings s = settings_of_environment();  // at the first use, so that a mistake in it can be caught
  return s;
}
Statistics counts;
std::vector<std::unique_ptr<Block>> idle;  // with their stacks, for the next launch

std::unique_ptr<Block> take_block() {
  {
    const std::lock_guard lock(mutex);
    if (!idle.empty()) {
      auto block = std::move(idle.back());
      idle.pop_back();
      return block;
    }
  }
  return std::make_unique<Block>();
}

std::uint64_t count(dim3 d) { return static_cast<std::uint64_t>(d.x) * d.y * d.z; }

void check_launch(dim3 grid, dim3 block, std::size_t shared_bytes, const simt::LaunchStream& to) {
  const auto shape = [](dim3 d) { return cat("(", d.x, ", ", d.y, ", ", d.z, ")"); };
  const auto refuse = [&](const std::string& why) {
    throw KernelError(cat("[launch] at ", to.place.str(), ": ", why));
  };
  if (count(grid) == 0 || grid.x > 0x7fffffff || grid.y > 0xffff || grid.z > 0xffff)
    refuse(cat("grid ", shape(grid), " is empty or exceeds (2147483647, 65535, 65535)"));
  if (count(block) == 0 || count(block) > kMaxThreads || block.z > 64)
    refuse(cat("block ", shape(block), " is empty or exceeds 1024 threads, 64 of them in z"));
  if (const std::size_t most = shared_memory_of_block(); shared_bytes > most)
    refuse(cat(shared_bytes, " bytes of dynamic shared memory exceed ", most));
  if (!is_stream(to.stream)) refuse("the stream was not created, or was destroyed");
}

// What one OS thread does in a launch: blocks, until there are none or one has failed.
class Worker {
 public:
  Worker(dim3 grid, dim3 block, std::size_t shared_bytes, const Settings& settings, FunctionRef<void()> body)
      : grid_(grid), shape_(block), shared_bytes_(shared_bytes), settings_(settings), body_(body) {}

  void operator()() {
    auto block = take_block();
    const std::uint64_t switches = block->switches();
    blockDim = shape_;
    gridDim = grid_;
    set_this_block(block.get());
    try {
      while (run_next(*block)) {
      }
    } catch (const KernelError& e) {
      const std::lock_guard lock(mutex);
      if (error_.empty()) error_ = e.what();
      next_ = count(grid_);
    }
    set_this_block(nullptr);
    const std::lock_guard lock(mutex);
    counts.switches += block->switches() - switches;
    idle.push_back(std::move(block));
  }

  void throw_error() const {
    if (!error_.empty()) throw KernelError(error_);
  }

 private:
  bool run_next(Block& block) {
    const std::uint64_t blocks = count(grid_), taken = next_++;
    if (taken >= blocks) return false;
    const std::uint64_t number = settings_.order == Order::forward ? taken : blocks - 1 - taken;
    blockIdx = {static_cast<unsigned>(number % grid_.x), static_cast<unsigned>(number / grid_.x % grid_.y),
                static_cast<unsigned>(number / grid_.x / grid_.y)};
    block.run(shape_, shared_bytes_, settings_, number, body_);
    return true;
  }

  dim3 grid_, shape_;
  std::size_t shared_bytes_;
  Settings settings_;
  FunctionRef<void()> body_;
  std::atomic<std::uint64_t> next_ = 0;
  std::string error_;
};

int threads_for(const Settings& settings, std::uint64_t blocks) {
  int threads = settings.threads;
  if (threads <= 0) threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  if (LLSA_EMU_TSAN) threads = std::min(threads, 2);  // a fiber costs it a millisecond to make
  return static_cast<int>(std::min<std::uint64_t>(static_cast<std::uint64_t>(threads), blocks));
}

void run_now(dim3 grid, dim3 block, std::size_t shared_bytes, FunctionRef<void()> body) {
  const Settings now = settings();
  Worker worker(grid, block, shared_bytes, now, body);
  std::vector<std::thread> threads;
  for (int t = 1; t < threads_for(now, count(grid)); ++t) threads.emplace_back(std::ref(worker));
  worker();
  for (std::thread& t : threads) t.join();
  {
    const std::lock_guard lock(mutex);
    ++counts.launches;
    counts.blocks += count(grid);
  }
  worker.throw_error();
}

}  // namespace

Settings parse_order(const std::string& text) {
  Settings s;
  if (text == "fwd") return s;
  if (text == "rev") {
    s.order = Order::reverse;
    return s;
  }
  char* end = nullptr;
  if (text.compare(0, 4, "rnd:") == 0 && text.size() > 4) s.seed = std::strtoull(text.c_str() + 4, &end, 10);
  if (!end || *end) throw ValueError(cat("[emulator] order \"", text, "\""), "use fwd, rev or rnd:SEED");
  s.order = Order::random;
  return s;
}

Settings settings() {
  const std::lock_guard lock(mutex);
  return current();
}

void set_settings(const Settings& settings) {
  const std::lock_guard lock(mutex);
  current() = settings;
}

Statistics statistics() {
  const std::lock_guard lock(mutex);
  return counts;
}

void run_grid(dim3 grid, dim3 block, std::size_t shared_bytes, simt::LaunchStream to,
              std::function<void()> body) {
  check_launch(grid, block, shared_bytes, to);
  auto error = static_cast<cudaError_t>(requested_failure("launch"));
  if (error == cudaSuccess) error = device_error();
  if (error == cudaSuccess)
    error = enqueue(to.stream, [=, body = std::move(body)] {
      run_now(grid, block, shared_bytes, body);
      return cudaSuccess;
    });
  if (error != cudaSuccess) cuda::launch_failed(error, "", grid, block, shared_bytes, to.place);
}

void fence() {
#if LLSA_EMU_TSAN
  static char everything;
  release(&everything);
  acquire(&everything);
#endif
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

}  // namespace llsa::emu
