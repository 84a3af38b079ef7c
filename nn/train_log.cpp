#include "nn/train_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/atomic_file.h"
#include "core/error.h"
#include "core/text_file.h"
#include "nn/json.h"

namespace llsa::nn {
namespace {

// The lines of a log up to a step, or up to the first line that is not a JSON object with a step.
std::string lines_until(const std::string& text, const std::string& path, std::int64_t step) {
  std::string kept;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = text.find('\n', begin);
    if (end == std::string::npos) break;
    const std::string line = text.substr(begin, end - begin);
    try {
      JsonObject json(line, path);
      if (json.integer("step", -1, 0, step) < 0) break;
    } catch (const ValueError&) {
      break;
    }
    kept += line + '\n';
    begin = end + 1;
  }
  return kept;
}

}  // namespace

TrainLog::TrainLog(const std::string& path, std::int64_t step) : path_(path) {
  const bool exists = path_exists(path);
  write_file_atomically(path, exists && step > 0 ? lines_until(read_text_file(path), path, step) : "");
  descriptor_ = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  if (descriptor_ < 0) throw IoError(cat("cannot open ", path, ": ", std::strerror(errno)));
}

TrainLog::~TrainLog() { ::close(descriptor_); }

void TrainLog::write(const StepReport& report) {
  const std::string line = JsonWriter()
                               .add("step", report.step)
                               .add("loss", report.loss)
                               .add("gradient_norm", report.gradient_norm)
                               .add("learning_rate", report.learning_rate)
                               .add("tokens_per_second", report.tokens_per_second)
                               .add("data_wait", report.data_wait)
                               .add("memory_active", static_cast<std::int64_t>(report.memory.active))
                               .add("memory_cached", static_cast<std::int64_t>(report.memory.cached))
                               .add("memory_reserved", static_cast<std::int64_t>(report.memory.reserved))
                               .add("memory_peak", static_cast<std::int64_t>(report.memory.peak))
                               .line() +
                           '\n';
  for (std::size_t done = 0; done < line.size();) {
    const ssize_t n = ::write(descriptor_, line.data() + done, line.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw IoError(cat("cannot write ", path_, ": ", std::strerror(errno)));
    done += static_cast<std::size_t>(n);
  }
}

}  // namespace llsa::nn
