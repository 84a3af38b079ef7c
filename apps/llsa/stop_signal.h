// SIGINT and SIGTERM: the first one asks a run to save and end, the second one ends the program at once.
#pragma once

namespace llsa::apps {

void listen_for_stop();
/// Whether the first one has come.
bool stop_requested();

}  // namespace llsa::apps
