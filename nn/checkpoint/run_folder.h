// The folder of a training run: where its files are, which checkpoints it has, how they are saved and
// removed.
//
//   config.json                        the effective configuration
//   tuning.json                        algorithms of matrix products, where they were timed (tuning_file.h)
//   .lock                              locked by the process that trains here
//   .new                               exists until the run has its first checkpoint
//   log.jsonl                          one object per logged step, evaluation, note or start
//   best.json                          which checkpoint has the lowest held-out loss, where that is computed
//   samples/step_000001000.png         sample grids
//   checkpoints/step_000001000/        the diffusers layout (diffusers.h), averaged weights, and
//     training_state/config.json       the configuration at that time
//     training_state/images.list       the images that were trained on (data/image_list.h)
//     training_state/                  what resuming needs (training_state.h)
//     checksums.xxh64                  checksums of all its files (checksums.h)
//
// That is what train() writes. A training loop of your own may keep other files in its checkpoints; one with
// a training state, or in the diffusers layout, is found again.
//
// A checkpoint is built under a temporary name and renamed when every byte is on the disk, so one that has
// its final name is whole, whenever the program was killed.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "../../core/file_lock.h"

namespace llsa::nn {

struct CheckpointPath {
  std::int64_t step = 0;
  std::string path;
};

/// The checkpoint with the lowest held-out loss.
struct BestCheckpoint {
  std::int64_t step = 0;
  double held_out_loss = 0;
  std::string images;  ///< which images these were: their ImageFolder::fingerprint() as text
};

class RunFolder {
 public:
  explicit RunFolder(std::string root) : root_(std::move(root)) {}

  const std::string& root() const { return root_; }
  std::string config_path() const { return root_ + "/config.json"; }
  std::string tuning_path() const { return root_ + "/tuning.json"; }
  std::string log_path() const { return root_ + "/log.jsonl"; }
  std::string best_path() const { return root_ + "/best.json"; }
  std::string lock_path() const { return root_ + "/.lock"; }
  std::string new_path() const { return root_ + "/.new"; }
  std::string sample_path(std::int64_t step) const;
  std::string checkpoint_path(std::int64_t step) const;

  /// Makes the folder and its sub-folders, locks the folder for this process as long as this object lives,
  /// and checks that a file can be written. Removes what a killed run left half-written, and the mark of a
  /// best checkpoint that is not there any more. Throws IoError naming the path and the reason, also when
  /// another process has locked the folder.
  void prepare();
  /// Whether a process has locked the folder, which it does while it trains there.
  bool locked() const { return FileLock::is_taken(lock_path()); }

  /// Whether there is a run to resume: true with a checkpoint; false in a folder without a run, and if a run
  /// ended before its first checkpoint. Throws IoError if a run here has lost its checkpoints: it must not be
  /// begun anew by mistake.
  bool holds_run() const;
  /// Notes, in the file .new, that the run that begins here has no checkpoint yet. save() removes the note.
  void mark_new() const;

  /// Complete checkpoints, by rising step. None when the folder does not exist.
  std::vector<CheckpointPath> checkpoints() const;
  std::optional<CheckpointPath> latest() const;

  /// Saves a checkpoint and returns its path. `fill` is called with the path of an empty temporary folder,
  /// which is renamed when it returns; an earlier checkpoint of the same step is replaced. If fill throws,
  /// nothing of the new checkpoint remains.
  std::string save(std::int64_t step, const std::function<void(const std::string&)>& fill) const;

  /// Marks the checkpoint of best.step as the best, in best.json. Throws IoError.
  void mark_best(const BestCheckpoint& best) const;
  /// What is marked; nothing when there is no mark, or no checkpoint of that step. Throws IoError, and
  /// ValueError for a damaged mark.
  std::optional<BestCheckpoint> best() const;

  /// Removes the mark: the next checkpoint that is evaluated will be the best.
  void unmark_best() const;

  /// Removes all checkpoints but the last `keep` and the best.
  void prune(std::int64_t keep) const;

 private:
  std::string root_;
  std::shared_ptr<const FileLock> lock_;
};

/// The latest checkpoint of a run. Throws IoError when there is none, or a later one that is damaged.
CheckpointPath checkpoint_to_resume(const RunFolder& run);

/// The step in the name of a checkpoint, as in "step_000001000"; -1 for another name.
std::int64_t step_in_name(const std::string& checkpoint);

/// A hint for a damaged checkpoint: how to resume from the one before it in its run; empty if there is none.
std::string way_around(const std::string& checkpoint);

/// `path` itself if it is a checkpoint, or the latest checkpoint if it is a run folder. Throws IoError that
/// says what was looked for if it is neither.
std::string resolve_checkpoint(const std::string& path);

}  // namespace llsa::nn
