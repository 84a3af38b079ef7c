#include "nn/train_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <limits>
#include <utility>

#include "core/atomic_file.h"
#include "core/error.h"
#include "core/text_file.h"
#include "nn/json.h"

namespace llsa::nn {
namespace {

struct KeptLines {
  std::string text;
  std::int64_t evaluated_step = -1;  // of the last line that reports an evaluation
  int damaged = 0;                   // lines that are torn, or are not JSON objects with a step
  bool torn = false;                 // the text does not end with a line end
};

// The lines of a log up to a step.
KeptLines lines_until(const std::string& text, const std::string& path, std::int64_t step) {
  KeptLines kept;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = text.find('\n', begin);
    kept.torn = end == std::string::npos;
    if (kept.torn) {
      ++kept.damaged;
      break;
    }
    const std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    try {
      JsonObject json(line, path);
      const std::int64_t line_step = json.integer("step", -1, 0, std::numeric_limits<std::int64_t>::max());
      if (line_step < 0) {
        ++kept.damaged;
      } else if (line_step <= step) {
        if (json.has("held_out_loss") || json.has("score") || json.has("fid"))
          kept.evaluated_step = line_step;
        kept.text += line + '\n';
      }
    } catch (const ValueError&) {
      ++kept.damaged;
    }
  }
  return kept;
}

}  // namespace

TrainLog::TrainLog(const std::string& path, std::int64_t step,
                   std::function<void(const std::string&)> on_message)
    : path_(path), on_message_(std::move(on_message)) {
  KeptLines kept;
  if (step > 0 && path_exists(path)) kept = lines_until(read_text_file(path, kLongestLog), path, step);
  evaluated_step_ = kept.evaluated_step;
  write_file_atomically(path, kept.text);
  descriptor_ = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  if (descriptor_ < 0) throw IoError(cat("cannot open ", path, ": ", std::strerror(errno)));
  if (kept.damaged == 0) return;
  const std::string note =
      cat("removed from the log what is no line of it: ", kept.damaged,
          kept.damaged == 1 ? " line" : " lines", kept.torn ? ", the last one written in part" : "");
  on_message_(note);
  write(step, {note});
}

TrainLog::~TrainLog() { ::close(descriptor_); }

void TrainLog::write(const StepReport& report) {
  JsonWriter line;
  line.add("step", report.step)
      .add("loss", report.loss)
      .add("gradient_norm", report.gradient_norm)
      .add("learning_rate", report.learning_rate)
      .add("tokens_per_second", report.tokens_per_second)
      .add("data_wait", report.data_wait);
  if (report.rank_wait) line.add("rank_wait", *report.rank_wait);
  line.add("memory_active", static_cast<std::int64_t>(report.memory.active))
      .add("memory_cached", static_cast<std::int64_t>(report.memory.cached))
      .add("memory_reserved", static_cast<std::int64_t>(report.memory.reserved))
      .add("memory_peak", static_cast<std::int64_t>(report.memory.peak));
  append(line.line());
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

void TrainLog::write(std::int64_t step, const std::vector<std::string>& notes) {
  if (!notes.empty()) append(JsonWriter().add("step", step).add("notes", notes).line());
}

void TrainLog::write_machine(std::int64_t step, const std::string& machine) {
  append(JsonWriter().add("step", step).add("machine", machine).line());
}

void TrainLog::append(const std::string& text) {
  const std::string line = text + '\n';
  const off_t end = ::lseek(descriptor_, 0, SEEK_END);
  for (std::size_t done = 0; done < line.size();) {
    const ssize_t n = ::write(descriptor_, line.data() + done, line.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const std::string reason = std::strerror(errno);
      // The part that was written is cut off, so that the next line does not follow it. If that fails, too, a
      // resumed run removes both lines.
      static_cast<void>(::ftruncate(descriptor_, end));
      if (!failing_) on_message_(cat("warning: cannot write ", path_, ": ", reason));
      failing_ = true;
      return;
    }
    done += static_cast<std::size_t>(n);
  }
  failing_ = false;
}

}  // namespace llsa::nn
