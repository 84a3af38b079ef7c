#include "apps/llsa/stop_signal.h"

#include <csignal>

namespace llsa::apps {
namespace {

volatile std::sig_atomic_t requested = 0;

extern "C" void on_stop_signal(int signal) {
  requested = 1;
  std::signal(signal, SIG_DFL);
}

}  // namespace

void listen_for_stop() {
  std::signal(SIGINT, on_stop_signal);
  std::signal(SIGTERM, on_stop_signal);
}

bool stop_requested() { return requested != 0; }

}  // namespace llsa::apps
