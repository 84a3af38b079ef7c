// Batches of training images, prepared by worker threads ahead of time.
//
// Every epoch is a permutation of the folder, a Philox shuffle keyed by (seed, epoch). Epochs follow one
// another without a gap, so a batch may span two of them, and no batch is short. A sample's global id is its
// draw s = epoch * size + position. A step has M micro-batches, and i of step t takes the draws
//
//   (t * M + i) * batch + j,   j = 0 .. batch - 1
//
// Of `world` processes, rank r gets the micro-batches i = r, r + world, .. < M. So together they see what one process sees.
// Labels, crops and flips depend on (folder, seed, s) alone, never on the workers.
//
// A file that cannot be decoded is replaced, each time it is drawn, by the next one of the folder that can.
// failures() lists it. If the whole folder has disappeared, that is an error: cached images are not used in its place.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "../../core/context.h"
#include "../../core/tensor.h"
#include "image_folder.h"

namespace llsa::nn {

struct LoaderOptions {
  std::int64_t batch = 8;
  std::uint64_t seed = 0;
  int workers = 2;   ///< threads; 0 prepares each batch inside next()
  int prefetch = 4;  ///< batches held ready at most, >= 1
  int rank = 0;
  int world = 1;
  std::int64_t micro_batches = 0;  ///< M, of all processes together, at least `world`; 0 = `world`
  int height = 0;
  int width = 0;
  bool random_crop = false;
  bool flip = false;
  std::size_t cache_bytes = std::size_t{512} << 20;  ///< resized 8-bit images kept in memory, 0 = none
};

struct Batch {
  Tensor x;           ///< f32 [b,3,H,W] in [-1, 1]
  Tensor y;           ///< i32 [b]
  Tensor sample_ids;  ///< i64 [b], the global draws: unique in a run
};

/// Where the next batch of all ranks together begins. Batches that were only prefetched do not count.
struct LoaderState {
  std::uint64_t seed = 0;
  std::int64_t epoch = 0;
  std::int64_t cursor = 0;        ///< position in the epoch, in [0, size)
  std::uint64_t fingerprint = 0;  ///< of the folder

  friend bool operator==(const LoaderState&, const LoaderState&) = default;
};

/// The order of one epoch: indices 0 .. size - 1, shuffled.
std::vector<std::uint32_t> epoch_order(std::int64_t size, std::uint64_t seed, std::int64_t epoch);

class Loader {
 public:
  /// Starts the workers. Throws ValueError for options outside their range. The context must outlive the
  /// loader.
  Loader(Context& ctx, std::shared_ptr<const ImageFolder> folder, const LoaderOptions& options);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  /// The next batch; waits until it is ready. Throws what failed while it was prepared (IoError when no file
  /// of the folder can be decoded, or the folder is gone), and again on every later call.
  Batch next();
  /// The same, into tensors of make_batch(), where a captured step finds its batch. On a CUDA device the copy
  /// runs beside earlier work, and the host does not wait for it (batch_upload.h). Throws ShapeError for
  /// other tensors.
  void next(const Batch& into);
  /// Uninitialised tensors of a batch's shapes.
  Batch make_batch() const;

  LoaderState state() const;
  /// Continues from a state, bit for bit. Throws ValueError when seed or folder differ, or the position is
  /// outside.
  void restore(const LoaderState& state);

  /// Seconds that next() has spent waiting, all calls together.
  double wait_seconds() const;
  /// Files that could not be decoded so far, each once, in the order of their discovery.
  std::vector<SkippedFile> failures() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace llsa::nn
