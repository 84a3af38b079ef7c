// Signals that ask a run to save and end: SIGINT, SIGTERM, SIGHUP, and what batch systems send before they end a job,
// SIGUSR1, SIGUSR2 and SIGXCPU.
//
// However often they come, the run saves once and ends by itself. A SIGINT that comes a second or more after the first
// signal, such as a second Ctrl-C, ends the program at once. An earlier one does not, because `timeout` and batch systems
// send two signals within milliseconds.
#pragma once

namespace llsa::apps {

/// From now on these signals ask the run to end. Under nohup SIGHUP stays ignored. SIGPIPE is ignored, so that a run does
/// not end with the program that reads its output.
void listen_for_stop();
/// Whether one of them has come.
bool stop_requested();

/// Exit code of a run that one of them ended before its last step, with its state saved.
constexpr int kStoppedCode = 3;

}  // namespace llsa::apps
