#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <exception>

#include "apps/llsa/commands.h"
#include "apps/llsa/processes.h"

namespace {

// A program may be started with standard input, output or error closed. The next file that it opened would then take
// their place, and what is printed would land in that file.
void open_standard_descriptors() {
  for (int descriptor = 0; descriptor <= STDERR_FILENO; ++descriptor)
    if (fcntl(descriptor, F_GETFD) < 0)
      static_cast<void>(open("/dev/null", O_RDWR));  // takes the lowest free one
}

}  // namespace

// The one place where errors become text and exit codes: 0 done, 1 failed, 2 wrong command line, 3 stopped
// (stop_signal.h).
int main(int argc, char** argv) {
  open_standard_descriptors();
  std::signal(SIGXFSZ, SIG_IGN);  // so that a file-size limit is an ordinary write error
  const auto fail = [](const std::exception& error, int code) {
    std::fflush(stdout);
    if (!llsa::apps::has_the_word()) return code;
    std::fprintf(stderr, "error: %s%s\n", llsa::apps::process_name().c_str(), error.what());
    const auto* ours = dynamic_cast<const llsa::Error*>(&error);
    if (ours != nullptr && !ours->hint().empty()) std::fprintf(stderr, "hint: %s\n", ours->hint().c_str());
    llsa::apps::end_processes(code);
    return code;
  };
  try {
    const int code = llsa::apps::run_command_line(argc, argv);
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0)
      throw llsa::IoError("standard output could not be written", "is its disk full, or its reader gone?");
    return code;
  } catch (const llsa::apps::UsageError& error) {
    return fail(error, 2);
  } catch (const std::exception& error) {
    return fail(error, 1);
  }
}
