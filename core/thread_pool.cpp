// The pool. One 32-bit word, the gate, holds the state of the job and the number of workers inside it:
//
//   bits 16..31  epoch: odd while a job is open, even while there is none; +1 on opening and on closing
//   bits 0..15   number of workers inside the job
//
// A worker enters by compare-and-swap while the gate is open, takes chunks from the counter, and leaves by
// subtraction. The caller opens the gate, takes chunks as a worker does, closes the gate, and waits for the
// workers that are inside. It does not wait for a worker that is still asleep. The fields of the job are written
// while the gate is closed and nobody is inside. Opening publishes them (release), and entering reads them
// (acquire). Leaving publishes a worker's results.
#include "core/thread_pool.h"

#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <limits>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/machine.h"
#include "core/number.h"

namespace llsa {
namespace {

constexpr std::uint32_t kEpochStep = 1u << 16;
constexpr std::uint32_t kInside = kEpochStep - 1;
constexpr int kMaxThreads = 4096;
constexpr std::chrono::microseconds kIdleSpin{50};  // the usual gap between two kernels is shorter
constexpr std::chrono::microseconds kFinishSpin{100};

bool is_open(std::uint32_t gate) { return (gate & kEpochStep) != 0; }

static_assert(sizeof(std::atomic<std::uint32_t>) == sizeof(std::uint32_t), "a futex is the bare word");

/// Sleeps while `word` holds `value`. May return early.
void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t value) {
  syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), FUTEX_WAIT_PRIVATE, value, nullptr, nullptr, 0);
}

void futex_wake(std::atomic<std::uint32_t>& word, int count) {
  syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), FUTEX_WAKE_PRIVATE, count, nullptr, nullptr, 0);
}

void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// Spins until done() is true or the time is over, and returns the last done(). Reads the clock every 32 rounds.
template <class Done>
bool spin(std::chrono::microseconds time, Done&& done) {
  const auto end = std::chrono::steady_clock::now() + time;
  do {
    for (int i = 0; i < 32; ++i) {
      if (done()) return true;
      relax();
    }
  } while (std::chrono::steady_clock::now() < end);
  return done();
}

int resolve_threads(int threads) {
  if (threads < 0 || threads > kMaxThreads) {
    throw ValueError(
        cat("[threads] expected 1 to ", kMaxThreads, ", or 0 for all processors, got ", threads));
  }
  if (threads != 0) return threads;
  const char* text = std::getenv("LLSA_THREADS");
  if (text == nullptr || *text == '\0') return std::min(available_processors(), kMaxThreads);
  const auto wanted = as_number<int>(text);
  if (!wanted || *wanted < 1 || *wanted > kMaxThreads) {
    throw ValueError(
        cat("[threads] LLSA_THREADS must be a number from 1 to ", kMaxThreads, ", got \"", text, "\""));
  }
  return *wanted;
}

thread_local bool in_chunk = false;

struct ChunkScope {
  ChunkScope() { in_chunk = true; }
  ~ChunkScope() { in_chunk = false; }
};

}  // namespace

struct ThreadPool::State {
  int threads = 1;
  std::vector<std::thread> workers;
  std::mutex turn;  // held by the thread whose job is running

  // The job.
  const FunctionRef<void(std::int64_t)>* body = nullptr;
  std::int64_t chunks = 0;
  std::mutex error_mutex;
  std::exception_ptr error;
  std::int64_t error_chunk = 0;

  // Each has a pair of cache lines of its own, because different threads write them at different times.
  alignas(128) std::atomic<std::uint32_t> gate{0};
  std::atomic<bool> caller_waits{false};
  alignas(128) std::atomic<std::int64_t> next{0};
  alignas(128) std::atomic<std::uint32_t> bell{0};  // +1 for every job, and when the pool stops
  std::atomic<int> sleepers{0};
  std::atomic<bool> stopping{false};

  void take_chunks() {
    const ChunkScope scope;
    for (;;) {
      const std::int64_t chunk = next.fetch_add(1, std::memory_order_relaxed);
      if (chunk >= chunks) return;
      try {
        (*body)(chunk);
      } catch (...) {
        next.store(chunks, std::memory_order_relaxed);  // every chunk below this one has begun already
        const std::lock_guard lock(error_mutex);
        if (!error || chunk < error_chunk) {
          error = std::current_exception();
          error_chunk = chunk;
        }
      }
    }
  }

  void work_if_open() {
    std::uint32_t seen = gate.load(std::memory_order_relaxed);
    while (is_open(seen)) {
      if (!gate.compare_exchange_weak(seen, seen + 1, std::memory_order_acquire, std::memory_order_relaxed))
        continue;
      take_chunks();
      seen = gate.fetch_sub(1, std::memory_order_seq_cst) - 1;
      if (!is_open(seen) && (seen & kInside) == 0 && caller_waits.load(std::memory_order_seq_cst))
        futex_wake(gate, 1);
      return;
    }
  }

  void worker() {
    std::uint32_t heard = 0;
    for (;;) {
      const auto rung = [&] { return bell.load(std::memory_order_acquire) != heard; };
      if (!spin(kIdleSpin, rung)) {
        sleepers.fetch_add(1, std::memory_order_seq_cst);
        while (!rung()) futex_wait(bell, heard);
        sleepers.fetch_sub(1, std::memory_order_relaxed);
      }
      heard = bell.load(std::memory_order_acquire);
      if (stopping.load(std::memory_order_relaxed)) return;
      work_if_open();
    }
  }

  void ring(int wanted) {
    bell.fetch_add(1, std::memory_order_seq_cst);
    if (sleepers.load(std::memory_order_seq_cst) > 0) futex_wake(bell, wanted);
  }

  void wait_until_empty() {
    const auto empty = [&] { return (gate.load(std::memory_order_acquire) & kInside) == 0; };
    if (empty() || spin(kFinishSpin, empty)) return;
    caller_waits.store(true, std::memory_order_seq_cst);
    for (;;) {
      const std::uint32_t seen = gate.load(std::memory_order_seq_cst);
      if ((seen & kInside) == 0) break;
      futex_wait(gate, seen);
    }
    caller_waits.store(false, std::memory_order_relaxed);
  }

  void run(std::int64_t count, const FunctionRef<void(std::int64_t)>& function) {
    const std::lock_guard lock(turn);
    body = &function;
    chunks = count;
    next.store(0, std::memory_order_relaxed);
    gate.fetch_add(kEpochStep, std::memory_order_release);
    ring(static_cast<int>(std::min<std::int64_t>(count - 1, threads - 1)));
    take_chunks();
    gate.fetch_add(kEpochStep, std::memory_order_acq_rel);
    wait_until_empty();
    if (error) std::rethrow_exception(std::exchange(error, nullptr));
  }

  void stop() {
    stopping.store(true, std::memory_order_relaxed);
    ring(std::numeric_limits<int>::max());
    for (std::thread& thread : workers) thread.join();
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  state_->threads = resolve_threads(threads);
  state_->workers.reserve(static_cast<std::size_t>(state_->threads - 1));
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all,
                  &before);  // signals are for the program's own threads; workers inherit this mask
  try {
    for (int i = 1; i < state_->threads; ++i)
      state_->workers.emplace_back([state = state_.get()] { state->worker(); });
  } catch (const std::system_error& error) {
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    const std::size_t started = state_->workers.size() + 1;
    state_->stop();
    throw Error(
        cat("[threads] only ", started, " of ", state_->threads, " threads could be started: ", error.what()),
        "ask for fewer threads");
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

ThreadPool::~ThreadPool() { state_->stop(); }

int ThreadPool::threads() const { return state_->threads; }

void ThreadPool::parallel_for(std::int64_t chunks, FunctionRef<void(std::int64_t)> body) {
  if (chunks <= 1 || state_->threads == 1 || in_chunk) {
    for (std::int64_t chunk = 0; chunk < chunks; ++chunk) body(chunk);
    return;
  }
  state_->run(chunks, body);
}

void ThreadPool::parallel_ranges(std::int64_t n, std::int64_t grain,
                                 FunctionRef<void(std::int64_t, std::int64_t)> body) {
  if (grain < 1) throw ValueError(cat("[threads] grain must be at least 1, got ", grain));
  if (n <= 0) return;
  parallel_for((n - 1) / grain + 1, [&](std::int64_t chunk) {
    const std::int64_t begin = chunk * grain;
    body(begin, std::min(n - begin, grain) + begin);
  });
}

}  // namespace llsa
