// Workers claim batch numbers ("tickets") in order. Each prepares its batch alone and puts it into a map,
// from where next() takes the batches in order. One mutex guards all of this; decoding happens outside of it.
// restore() starts a new generation: a worker that finishes a batch of an older generation drops it.
#include "nn/data/loader.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <map>
#include <mutex>
#include <system_error>
#include <thread>
#include <unordered_map>
#include <utility>

#include "core/error.h"
#include "core/machine.h"
#include "core/philox.h"
#include "core/text_file.h"
#include "nn/data/batch_upload.h"
#include "nn/data/transform.h"

namespace llsa::nn {

namespace {

constexpr std::uint64_t kShuffleStream = 0x7368756666000000u;  // "shuff" + epoch
constexpr std::size_t kOrdersKept = 4;                         // epochs whose order is held at a time

void require(bool ok, const std::string& message) {
  if (!ok) throw ValueError("[loader] " + message);
}

/// A batch on its way from a worker to next().
struct Prepared {
  std::vector<float> x;
  std::vector<std::int32_t> y;
  std::vector<std::int64_t> ids;
  std::exception_ptr error;
};

/// A cache of decoded images by index, resized to what the crop needs. It does not replace images when it is
/// full: every epoch visits every image once, so no image is a better choice than another.
class ImageStore {
 public:
  ImageStore(std::shared_ptr<const ImageFolder> folder, const LoaderOptions& options)
      : folder_(std::move(folder)), options_(options) {}

  /// The image, or the next one that can be decoded; `index` becomes its number.
  std::shared_ptr<const Image> load(std::int64_t& index) {
    for (std::int64_t tries = 0; tries < folder_->size(); ++tries, index = (index + 1) % folder_->size()) {
      if (auto image = find(index)) return image;
      if (has_failed(index)) continue;
      try {
        return keep(index, std::make_shared<const Image>(
                               resize_to_cover(folder_->load(index), options_.height, options_.width)));
      } catch (const IoError& error) {
        if (!path_exists(folder_->root()))
          throw IoError(cat("[loader] the folder ", folder_->root(), " is gone: ", error.what()),
                        "bring it back, and go on with --resume");
        record(index, error.what());
      } catch (const ShapeError& error) {
        record(index, error.what());
      }
    }
    const auto failed = failures();
    throw IoError(cat("[loader] none of the ", folder_->size(), " images in ", folder_->root(),
                      " can be decoded; the first: ", failed.empty() ? std::string("?") : failed[0].reason));
  }

  std::vector<SkippedFile> failures() const {
    const std::lock_guard lock(mutex_);
    return failures_;
  }

 private:
  std::shared_ptr<const Image> find(std::int64_t index) const {
    const std::lock_guard lock(mutex_);
    const auto found = images_.find(index);
    return found == images_.end() ? nullptr : found->second;
  }

  bool has_failed(std::int64_t index) const {
    const std::lock_guard lock(mutex_);
    return failed_.count(index) != 0;
  }

  std::shared_ptr<const Image> keep(std::int64_t index, std::shared_ptr<const Image> image) {
    const std::size_t bytes = image->pixels.size() + sizeof(Image) + 64;  // 64: nodes of the map
    const std::lock_guard lock(mutex_);
    if (bytes <= options_.cache_bytes - bytes_ && images_.emplace(index, image).second) bytes_ += bytes;
    return image;
  }

  void record(std::int64_t index, const std::string& reason) {
    const std::lock_guard lock(mutex_);
    if (!failed_.emplace(index, true).second) return;  // another worker found it too
    failures_.push_back({folder_->entry(index).path, reason});
  }

  std::shared_ptr<const ImageFolder> folder_;
  LoaderOptions options_;
  mutable std::mutex mutex_;
  std::unordered_map<std::int64_t, std::shared_ptr<const Image>> images_;
  std::size_t bytes_ = 0;
  std::unordered_map<std::int64_t, bool> failed_;
  std::vector<SkippedFile> failures_;
};

/// The orders of the last few epochs.
class OrderStore {
 public:
  using Order = std::shared_ptr<const std::vector<std::uint32_t>>;

  Order get(std::int64_t size, std::uint64_t seed, std::int64_t epoch) {
    const std::lock_guard lock(mutex_);
    Order& order = orders_[epoch];
    if (!order) order = std::make_shared<const std::vector<std::uint32_t>>(epoch_order(size, seed, epoch));
    const Order result = order;
    while (orders_.size() > kOrdersKept)
      orders_.erase(orders_.begin()->first == epoch ? std::prev(orders_.end()) : orders_.begin());
    return result;
  }

 private:
  std::mutex mutex_;
  std::map<std::int64_t, Order> orders_;
};

}  // namespace

std::vector<std::uint32_t> epoch_order(std::int64_t size, std::uint64_t seed, std::int64_t epoch) {
  return random_order<std::uint32_t>({seed, kShuffleStream + static_cast<std::uint64_t>(epoch)}, size);
}

struct Loader::Impl {
  Impl(Context& context, std::shared_ptr<const ImageFolder> images, const LoaderOptions& o)
      : ctx(context), folder(std::move(images)), options(o), store(folder, o) {}

  ~Impl() {
    {
      const std::lock_guard lock(mutex);
      stop = true;
    }
    work_available.notify_all();
    for (auto& worker : workers) worker.join();
  }

  Context& ctx;
  const std::shared_ptr<const ImageFolder> folder;
  const LoaderOptions options;
  ImageStore store;
  OrderStore orders;

  mutable std::mutex mutex;
  std::condition_variable work_available;   // for workers: a ticket may be claimed, or stop
  std::condition_variable batch_available;  // for next(): something was put into `ready`
  std::map<std::int64_t, Prepared> ready;   // by ticket
  std::int64_t first_draw = 0;              // draw at which ticket 0 begins
  std::int64_t claimed = 0;                 // tickets handed to workers
  std::int64_t delivered = 0;               // tickets handed out by next()
  std::uint64_t generation = 0;
  bool stop = false;
  double waited = 0;  // seconds

  std::unique_ptr<BatchUpload> upload;  // null on the CPU
  std::vector<std::thread> workers;

  /// Which of the batches of all processes together is this one's number `ticket`.
  std::int64_t position(std::int64_t ticket) const {
    const std::int64_t all = options.micro_batches, own = (all - options.rank - 1) / options.world + 1;
    return ticket / own * all + ticket % own * options.world;
  }
  std::int64_t first_draw_of(std::int64_t ticket) const {
    return first_draw + (position(ticket) + options.rank) * options.batch;
  }

  Prepared prepare(std::int64_t begin) noexcept {
    Prepared batch;
    try {
      const std::size_t pixels =
          std::size_t{3} * static_cast<std::size_t>(options.height) * static_cast<std::size_t>(options.width);
      batch.x.resize(static_cast<std::size_t>(options.batch) * pixels);
      TransformOptions transform;
      transform.height = options.height;
      transform.width = options.width;
      transform.random_crop = options.random_crop;
      transform.flip = options.flip;
      OrderStore::Order order;
      std::int64_t order_epoch = -1;
      for (std::int64_t j = 0; j < options.batch; ++j) {
        const std::int64_t draw = begin + j;
        const std::int64_t epoch = draw / folder->size();
        if (epoch != order_epoch) order = orders.get(folder->size(), options.seed, order_epoch = epoch);
        std::int64_t index = (*order)[static_cast<std::size_t>(draw % folder->size())];
        const auto image = store.load(index);
        crop_to_floats(*image, transform, options.seed, draw,
                       batch.x.data() + static_cast<std::size_t>(j) * pixels);
        batch.y.push_back(folder->entry(index).label);
        batch.ids.push_back(draw);
      }
    } catch (...) {
      batch.error = std::current_exception();
    }
    return batch;
  }

  void work() {
    std::unique_lock lock(mutex);
    for (;;) {
      work_available.wait(lock, [&] { return stop || claimed < delivered + options.prefetch; });
      if (stop) return;
      const std::int64_t ticket = claimed++;
      const std::int64_t begin = first_draw_of(ticket);
      const std::uint64_t started_in = generation;
      lock.unlock();
      Prepared batch = prepare(begin);
      lock.lock();
      if (started_in != generation) continue;
      ready.emplace(ticket, std::move(batch));
      batch_available.notify_one();
    }
  }

  /// The batch of ticket `delivered`. A failed batch stays in the map, so the next call throws it again.
  Prepared take() {
    const auto start = std::chrono::steady_clock::now();
    Prepared batch;
    std::unique_lock lock(mutex);
    if (options.workers == 0) {
      batch = prepare(first_draw_of(delivered));
    } else {
      batch_available.wait(lock, [&] { return ready.count(delivered) != 0; });
      const auto found = ready.find(delivered);
      if (found->second.error) std::rethrow_exception(found->second.error);
      batch = std::move(found->second);
      ready.erase(found);
    }
    if (batch.error) std::rethrow_exception(batch.error);
    ++delivered;
    waited += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    lock.unlock();
    work_available.notify_one();
    return batch;
  }
};

Loader::Loader(Context& ctx, std::shared_ptr<const ImageFolder> folder, const LoaderOptions& given) {
  LoaderOptions options = given;
  if (options.micro_batches == 0) options.micro_batches = options.world;
  require(folder != nullptr, "no folder");
  require(folder->size() < (std::int64_t{1} << 32), "takes fewer than 2^32 images");
  require(options.batch >= 1 && options.batch <= (1 << 24),
          cat("batch ", options.batch, ", expected 1 to 2^24"));
  require(options.height >= 1 && options.width >= 1,
          cat("size ", options.height, " x ", options.width, ", expected at least 1 x 1"));
  require(options.workers >= 0 && options.workers <= 256,
          cat(options.workers, " workers, expected 0 to 256"));
  require(options.prefetch >= 1, cat("prefetch ", options.prefetch, ", expected at least 1"));
  require(options.world >= 1 && options.rank >= 0 && options.rank < options.world,
          cat("rank ", options.rank, " of ", options.world, ", expected 0 <= rank < world"));
  require(options.micro_batches >= options.world,
          cat(options.micro_batches, " micro-batches, expected at least one for each of ", options.world,
              " processes"));
  const Shape batch_shape({options.batch, 3, options.height, options.width});  // throws when it overflows
  require(batch_shape.numel() > 0, "an empty batch");
  // Every worker prepares one batch while up to `prefetch` wait and one is in use.
  const double held =
      4.0 * static_cast<double>(batch_shape.numel()) * (options.prefetch + options.workers + 1);
  if (held > static_cast<double>(available_memory())) {
    throw OutOfMemoryError(
        cat("[loader] batches ", batch_shape, " held ready take ", std::llround(held / (1 << 20)),
            " MiB, this process may use ", available_memory() >> 20, " MiB"),
        "use a smaller batch or smaller images");
  }
  impl_ = std::make_unique<Impl>(ctx, std::move(folder), options);
  if (ctx.device().is_cuda())
    impl_->upload = std::make_unique<BatchUpload>(ctx, options.batch, batch_shape.numel() / options.batch);
  try {
    for (int w = 0; w < options.workers; ++w)
      impl_->workers.emplace_back([impl = impl_.get()] { impl->work(); });
  } catch (const std::system_error& error) {
    throw Error(cat("[loader] only ", impl_->workers.size(), " of ", options.workers,
                    " workers could be started: ", error.what()),
                "ask for fewer workers");
  }
}

Loader::~Loader() = default;

Batch Loader::make_batch() const {
  const LoaderOptions& options = impl_->options;
  return {impl_->ctx.empty({options.batch, 3, options.height, options.width}, DType::f32),
          impl_->ctx.empty({options.batch}, DType::i32), impl_->ctx.empty({options.batch}, DType::i64)};
}

Batch Loader::next() {
  const Batch batch = make_batch();
  next(batch);
  return batch;
}

void Loader::next(const Batch& into) {
  const LoaderOptions& options = impl_->options;
  const auto fits = [](const Tensor& tensor, const Shape& shape, DType dtype) {
    return tensor.defined() && tensor.shape() == shape && tensor.dtype() == dtype && tensor.is_contiguous();
  };
  const Shape images({options.batch, 3, options.height, options.width}), one_each({options.batch});
  if (!fits(into.x, images, DType::f32) || !fits(into.y, one_each, DType::i32) ||
      !fits(into.sample_ids, one_each, DType::i64))
    throw ShapeError(cat("[loader] expected contiguous tensors x ", images, " f32, y ", one_each,
                         " i32, sample_ids ", one_each, " i64"),
                     "make them by make_batch()");
  const Prepared prepared = impl_->take();
  if (impl_->upload)
    return impl_->upload->send(prepared.x.data(), prepared.y.data(), prepared.ids.data(), into.x, into.y,
                               into.sample_ids);
  impl_->ctx.upload(prepared.x.data(), into.x);
  impl_->ctx.upload(prepared.y.data(), into.y);
  impl_->ctx.upload(prepared.ids.data(), into.sample_ids);
}

LoaderState Loader::state() const {
  const std::lock_guard lock(impl_->mutex);
  const std::int64_t draw = impl_->first_draw + impl_->position(impl_->delivered) * impl_->options.batch;
  const std::int64_t size = impl_->folder->size();
  return {impl_->options.seed, draw / size, draw % size, impl_->folder->fingerprint()};
}

void Loader::restore(const LoaderState& state) {
  const std::int64_t size = impl_->folder->size();
  require(state.seed == impl_->options.seed,
          cat("the saved seed is ", state.seed, ", this run has ", impl_->options.seed));
  require(impl_->folder->matches(state.fingerprint),
          cat("the images in ", impl_->folder->root(),
              " are not those of the saved run (files or classes were added, removed, renamed or changed)"));
  require(state.epoch >= 0 && state.epoch < (std::int64_t{1} << 62) / size && state.cursor >= 0 &&
              state.cursor < size,
          cat("saved position: epoch ", state.epoch, ", image ", state.cursor, " of ", size));
  {
    const std::lock_guard lock(impl_->mutex);
    ++impl_->generation;
    impl_->ready.clear();
    impl_->first_draw = state.epoch * size + state.cursor;
    impl_->claimed = impl_->delivered = 0;
  }
  impl_->work_available.notify_all();
}

double Loader::wait_seconds() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->waited;
}

std::vector<SkippedFile> Loader::failures() const { return impl_->store.failures(); }

}  // namespace llsa::nn
