// Runs a part of a test in a forked child: with another user, or with a limit on the size of files.
#pragma once

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <iostream>

#include "core/function_ref.h"

namespace llsa::test {

/// Exit code of body() in a child process, 100 when it threw, -1 when the child was killed. No thread of this
/// process runs in the child: body must not use a thread pool made outside.
inline int run_in_child(FunctionRef<int()> body) {
  const pid_t child = fork();
  if (child == 0) {
    int code = 100;
    try {
      code = body();
    } catch (...) {
    }
    _exit(code);
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/// As run_in_child, as a user whom the permissions of files bind: root's child becomes nobody. Where root may
/// not change its user, the body does not run: the case says that it was skipped, and this returns 0.
inline int run_as_ordinary_user(FunctionRef<int()> body) {
  constexpr int kRefused = 77;
  const int code = run_in_child([&] {
    const bool ordinary = geteuid() != 0 || (setgid(65534) == 0 && setuid(65534) == 0);
    return ordinary ? body() : kRefused;
  });
  if (code != kRefused) return code;
  std::cout << "skipped: root may not become another user here\n";
  return 0;
}

/// For a child: writing a file beyond `bytes` fails, as on a full disk.
inline void limit_file_size(unsigned long bytes) {
  signal(SIGXFSZ, SIG_IGN);
  const rlimit limit{bytes, bytes};
  setrlimit(RLIMIT_FSIZE, &limit);
}

}  // namespace llsa::test
