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
// `evaluated_step` becomes that of the last of them that reports an evaluation.
std::string lines_until(const std::string& text, const std::string& path, std::int64_t step,
                        std::int64_t& evaluated_step) {
  std::string kept;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = text.find('\n', begin);
    if (end == std::string::npos) break;
    const std::string line = text.substr(begin, end - begin);
    try {
      JsonObject json(line, path);
      const std::int64_t line_step = json.integer("step", -1, 0, step);
      if (line_step < 0) break;
      if (json.has("held_out_loss") || json.has("score") || json.has("fid")) evaluated_step = line_step;
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
  write_file_atomically(
      path, exists && step > 0 ? lines_until(read_text_file(path), path, step, evaluated_step_) : "");
  descriptor_ = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  if (descriptor_ < 0) throw IoError(cat("cannot open ", path, ": ", std::strerror(errno)));
}

TrainLog::~TrainLog() { ::close(descriptor_); }

void TrainLog::write(const StepReport& report) {
  append(JsonWriter()
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
             .line());
}

void TrainLog::write(const EvaluationReport& report) {
  JsonWriter line;
  line.add("step", report.step);
  if (report.held_out_loss) line.add("held_out_loss", *report.held_out_loss);
  if (report.score && report.score->over_real)
    line.add("score", report.score->value).add("score_over_real", *report.score->over_real);
  else if (report.score)
    line.add("fid", report.score->value);
  append(line.line());
  evaluated_step_ = report.step;
}

void TrainLog::append(const std::string& text) {
  const std::string line = text + '\n';
  for (std::size_t done = 0; done < line.size();) {
    const ssize_t n = ::write(descriptor_, line.data() + done, line.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw IoError(cat("cannot write ", path_, ": ", std::strerror(errno)));
    done += static_cast<std::size_t>(n);
  }
}

}  // namespace llsa::nn
