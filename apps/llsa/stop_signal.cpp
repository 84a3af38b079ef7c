#include "apps/llsa/stop_signal.h"

#include <signal.h>
#include <time.h>

#include <atomic>
#include <cstdint>

namespace llsa::apps {
namespace {

static_assert(std::atomic<std::int64_t>::is_always_lock_free, "a signal handler takes no locks");
std::atomic<std::int64_t> requested_at{0};  // ns; 0 = not yet

std::int64_t now() {
  timespec time = {};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return std::int64_t{1'000'000'000} * time.tv_sec + time.tv_nsec;
}

extern "C" void on_stop_signal(int number) {
  constexpr std::int64_t kSecond = 1'000'000'000;
  std::int64_t first = 0;
  const std::int64_t at = now();
  if (requested_at.compare_exchange_strong(first, at)) return;
  if (number != SIGINT || at - first < kSecond) return;
  signal(SIGINT, SIG_DFL);
  raise(SIGINT);
}

}  // namespace

void listen_for_stop() {
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGXCPU}) {
    struct sigaction action = {}, before = {};
    if (number == SIGHUP && sigaction(number, nullptr, &before) == 0 && before.sa_handler == SIG_IGN)
      continue;
    action.sa_handler = on_stop_signal;
    action.sa_flags = SA_RESTART;
    sigaction(number, &action, nullptr);
  }
  signal(SIGPIPE, SIG_IGN);
}

bool stop_requested() { return requested_at != 0; }

}  // namespace llsa::apps
