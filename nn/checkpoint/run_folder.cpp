#include "nn/checkpoint/run_folder.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <limits>

#include "core/atomic_file.h"
#include "core/error.h"
#include "core/text_file.h"
#include "nn/checkpoint/checksums.h"
#include "nn/checkpoint/diffusers.h"
#include "nn/checkpoint/training_state.h"
#include "nn/json.h"

namespace llsa::nn {
namespace {

namespace fs = std::filesystem;

constexpr const char* kStepPrefix = "step_";

std::string step_name(std::int64_t step) {
  char digits[32];
  std::snprintf(digits, sizeof digits, "%s%09lld", kStepPrefix, static_cast<long long>(step));
  return digits;
}

// The step in "step_000000500", or -1.
std::int64_t parse_step(const std::string& name) {
  const std::string prefix = kStepPrefix;
  if (name.size() < prefix.size() + 9 || name.size() > prefix.size() + 18 || name.rfind(prefix, 0) != 0)
    return -1;
  const std::string digits = name.substr(prefix.size());
  if (digits.find_first_not_of("0123456789") != std::string::npos) return -1;
  return std::stoll(digits);
}

// All folders of checkpoints, by rising step, complete or damaged.
std::vector<CheckpointPath> step_folders(const std::string& root) {
  std::vector<CheckpointPath> found;
  std::error_code error;
  for (fs::directory_iterator it(fs::path(root) / "checkpoints", error), end; !error && it != end;
       it.increment(error))
    if (const std::int64_t step = parse_step(it->path().filename().string()); step >= 0)
      found.push_back({step, it->path().string()});
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.step < b.step; });
  return found;
}

bool is_checkpoint(const std::string& path) { return is_diffusers_model(path) || has_training_state(path); }

void remove_file(const std::string& path) {
  std::error_code error;
  fs::remove(path, error);
  if (error) throw IoError(cat("cannot remove ", path, ": ", error.message()));
}

}  // namespace

std::string RunFolder::sample_path(std::int64_t step) const {
  return root_ + "/samples/" + step_name(step) + ".png";
}

std::string RunFolder::checkpoint_path(std::int64_t step) const {
  return root_ + "/checkpoints/" + step_name(step);
}

void RunFolder::prepare() {
  make_folder(root_ + "/checkpoints");
  make_folder(root_ + "/samples");
  lock_ = std::make_shared<const FileLock>(lock_path());
  if (!lock_->held())
    throw IoError(cat("another process trains in ", root_), "wait until it has ended, or give another --out");
  remove_stale_temporaries(root_);
  remove_stale_temporaries(root_ + "/checkpoints");
  remove_stale_temporaries(root_ + "/samples");
  const std::string probe = root_ + "/.writable";
  write_file_atomically(probe, "");
  std::error_code ignored;
  fs::remove(probe, ignored);
  if (!best()) remove_file(best_path());
}

bool RunFolder::holds_run() const {
  if (latest()) return true;
  std::vector<std::string> traces;
  for (const CheckpointPath& folder : step_folders(root_)) traces.push_back(folder.path);
  if (traces.empty() && path_exists(new_path())) return false;
  for (const std::string& path : {config_path(), log_path(), best_path()})
    if (path_exists(path)) traces.push_back(path);
  if (traces.empty()) return false;
  throw IoError(cat(root_, " has no whole checkpoint, but ", traces.front(), ", as a run leaves it"),
                "bring its checkpoints back; or give another --out, or remove the folder, to begin anew");
}

void RunFolder::mark_new() const { write_file_atomically(new_path(), ""); }

std::vector<CheckpointPath> RunFolder::checkpoints() const {
  std::vector<CheckpointPath> found = step_folders(root_);
  std::erase_if(found, [](const CheckpointPath& folder) { return !is_checkpoint(folder.path); });
  return found;
}

std::optional<CheckpointPath> RunFolder::latest() const {
  const auto found = checkpoints();
  return found.empty() ? std::nullopt : std::optional(found.back());
}

std::string RunFolder::save(std::int64_t step, const std::function<void(const std::string&)>& fill) const {
  const std::string target = checkpoint_path(step);
  AtomicDirectory directory(target);
  fill(directory.temporary());
  write_checksums(directory.temporary());
  directory.commit();
  std::error_code ignored;
  fs::remove(new_path(), ignored);
  return target;
}

void RunFolder::mark_best(const BestCheckpoint& best) const {
  write_file_atomically(best_path(), JsonWriter()
                                         .add("step", best.step)
                                         .add("held_out_loss", best.held_out_loss)
                                         .add("images", best.images)
                                         .pretty());
}

std::optional<BestCheckpoint> RunFolder::best() const {
  const std::string path = best_path();
  if (!path_exists(path)) return std::nullopt;
  JsonObject json(read_text_file(path), path);
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  constexpr double kLargest = std::numeric_limits<double>::max();
  const BestCheckpoint best{json.integer("step", 0, 0, kMost),
                            json.number("held_out_loss", kLargest, 0, kLargest), json.string("images", "")};
  json.finish();
  return is_checkpoint(checkpoint_path(best.step)) ? std::optional(best) : std::nullopt;
}

void RunFolder::unmark_best() const { remove_file(best_path()); }

void RunFolder::prune(std::int64_t keep) const {
  const auto found = checkpoints();
  const auto marked = best();
  for (std::size_t i = 0; i + static_cast<std::size_t>(keep) < found.size(); ++i) {
    if (marked && marked->step == found[i].step) continue;
    // The folder is first renamed to a temporary name, because a half-deleted folder must not look like a
    // checkpoint.
    const fs::path path = found[i].path;
    const fs::path doomed = path.parent_path() / cat(".", path.filename().string(), ".tmp-", getpid(), "-0");
    std::error_code error;
    fs::rename(path, doomed, error);
    if (!error) fs::remove_all(doomed, error);
    if (error) throw IoError(cat("cannot remove the old checkpoint ", path.string(), ": ", error.message()));
  }
}

CheckpointPath checkpoint_to_resume(const RunFolder& run) {
  const auto latest = run.latest();
  const auto folders = step_folders(run.root());
  if (latest && folders.back().step == latest->step) return *latest;
  if (latest)
    throw IoError(cat(folders.back().path, " is damaged: it holds no checkpoint"),
                  way_around(folders.back().path));
  throw IoError(cat(run.root(), " has no checkpoint to resume from"),
                "leave out --resume to start a run there; --resume auto does what fits");
}

std::int64_t step_in_name(const std::string& checkpoint) {
  return parse_step(fs::path(checkpoint).filename().string());
}

std::string way_around(const std::string& checkpoint) {
  const fs::path path = fs::absolute(checkpoint).lexically_normal();
  const std::int64_t own = parse_step(path.filename().string());
  std::optional<CheckpointPath> before;
  for (const CheckpointPath& other : RunFolder(path.parent_path().parent_path().string()).checkpoints())
    if (other.step < own) before = other;
  if (!before) return "";
  return cat("move ", checkpoint, " away to go on from step ", before->step, ", the checkpoint before it");
}

std::string resolve_checkpoint(const std::string& path) {
  if (is_diffusers_model(path)) return path;
  if (const auto latest = RunFolder(path).latest()) return latest->path;
  if (!path_exists(path))
    throw IoError(cat(path, " does not exist"), "give the folder of a run or of a checkpoint");
  throw IoError(cat(path,
                    " is neither a checkpoint (no denoiser/config.json, no weights beside a config.json) nor "
                    "a run with "
                    "one (no checkpoints/step_*)"),
                "a run has its first checkpoint after --save-every steps");
}

}  // namespace llsa::nn
