// The stages, their draws and the loss.
#include "nn/diffusion/cascade.h"

#include <array>
#include <string>

#include "autograd/elementwise.h"
#include "core/function_ref.h"
#include "kernels/copy.h"
#include "kernels/elementwise.h"
#include "kernels/random.h"
#include "kernels/reduce.h"
#include "nn/init.h"

namespace llsa::nn {
namespace {

// One stream of random numbers per purpose.
const std::uint64_t kIndexStream = name_stream("cascade index");
const std::uint64_t kDropStream = name_stream("cascade class drop");
std::uint64_t noise_stream(int stage) { return name_stream("cascade noise " + std::to_string(stage)); }

constexpr double kIndices = 1000.0;
constexpr std::array<double, kCascadeStages + 1> kTimes = {0, 175, 426, 719, 999};

Tensor mix(Context& ctx, double a, const Tensor& x, double b, const Tensor& y) {
  return kernels::add(ctx, kernels::affine(ctx, x, a, 0.0), kernels::affine(ctx, y, b, 0.0));
}

void require_images(const Tensor& x) {
  if (x.rank() != 4) throw ShapeError(cat("[cascade] expected images [b,c,height,width], got ", x.shape()));
}

// One batch for each stage s, of the samples begin_of(s) .. begin_of(s) + each - 1.
std::vector<FlowBatch> make_batches(Context& ctx, const Tensor& x, const Tensor& y, const Tensor& sample_ids,
                                    const CascadeOptions& options, std::int64_t each,
                                    FunctionRef<std::int64_t(int)> begin_of) {
  const int least = 1 << (kCascadeStages - 1);
  if (x.size(2) % least != 0 || x.size(3) % least != 0)
    throw ShapeError(cat("[cascade] expected sides that ", least, " divides, got ", x.shape()));
  // Levels are (index + 1) / 1000; half an index more than the index is safe to truncate.
  const Tensor level =
      kernels::noise_levels(ctx, sample_ids, NoiseLevel::uniform, options.seed, kIndexStream);
  const Tensor index = kernels::cast(ctx, kernels::affine(ctx, level, kIndices, -0.5), DType::i32);
  Tensor classes;
  if (y.defined())
    classes = kernels::drop_classes(ctx, y, sample_ids, options.class_drop, options.null_class, options.seed,
                                    kDropStream);
  std::vector<FlowBatch> stages;
  for (int s = 0; s < kCascadeStages; ++s) {
    const std::int64_t begin = begin_of(s), end = begin + each;
    const int factor = 1 << (kCascadeStages - 1 - s);
    const Tensor eps = kernels::random_normal_samples(
        ctx, Shape{each, x.size(1), x.size(2) / factor, x.size(3) / factor}, x.dtype(), options.seed,
        noise_stream(s), sample_ids.slice(0, begin, end));
    stages.push_back(make_stage_batch(ctx, s, x.slice(0, begin, end), eps, index.slice(0, begin, end)));
    if (classes.defined()) stages.back().y = classes.slice(0, begin, end);
  }
  return stages;
}

}  // namespace

CascadeStage cascade_stage(int stage) {
  if (stage < 0 || stage >= kCascadeStages)
    throw ValueError(cat("[cascade] expected a stage from 0 to ", kCascadeStages - 1, ", got ", stage));
  const double original = static_cast<double>(stage) / kCascadeStages;
  const auto s = static_cast<std::size_t>(stage);
  // The times of a stage end before the next stage's begin, but the last index of all has the last time.
  const double steps = stage + 1 < kCascadeStages ? kIndices : kIndices - 1;
  return {.start = original / (2.0 - original),
          .end = static_cast<double>(stage + 1) / kCascadeStages,
          .time = kTimes[s],
          .time_step = (kTimes[s + 1] - kTimes[s]) / steps};
}

Tensor halve(Context& ctx, const Tensor& x) {
  if (x.rank() != 4 || x.size(2) % 2 != 0 || x.size(3) % 2 != 0)
    throw ShapeError(cat("[halve] expected images [b,c,height,width] with even sides, got ", x.shape()));
  const Shape squares{x.size(0), x.size(1), x.size(2) / 2, 2, x.size(3) / 2, 2};
  return kernels::mean(ctx, kernels::contiguous(ctx, x).reshape(squares), {3, 5});
}

Tensor twice(Context& ctx, const Tensor& x) {
  if (x.rank() != 4) throw ShapeError(cat("[twice] expected images [b,c,height,width], got ", x.shape()));
  const std::int64_t b = x.size(0), c = x.size(1), h = x.size(2), w = x.size(3);
  const Tensor out = ctx.empty(Shape{b, c, 2 * h, 2 * w}, x.dtype());
  kernels::copy(ctx, kernels::contiguous(ctx, x).reshape(Shape{b, c, h, 1, w, 1}),
                out.reshape(Shape{b, c, h, 2, w, 2}));
  return out;
}

FlowBatch make_stage_batch(Context& ctx, int stage, const Tensor& x, const Tensor& eps, const Tensor& index) {
  const CascadeStage s = cascade_stage(stage);
  Tensor clean = x;
  for (int i = stage; i + 1 < kCascadeStages; ++i) clean = halve(ctx, clean);
  if (eps.shape() != clean.shape())
    throw ShapeError(cat("[cascade] expected noise of the shape of the images of stage ", stage, ", ",
                         clean.shape(), ", got ", eps.shape()));
  const Tensor end = mix(ctx, s.end, clean, 1.0 - s.end, eps);
  // The first stage starts from noise alone, so its sides may be odd.
  const Tensor start =
      stage == 0 ? eps : mix(ctx, s.start, twice(ctx, halve(ctx, clean)), 1.0 - s.start, eps);
  // In f64, so that each time is rounded once: a model sees the last bit of a large one.
  const Tensor i = kernels::cast(ctx, index, DType::f64);
  const Tensor t = kernels::cast(ctx, kernels::affine(ctx, i, s.time_step, s.time), DType::f32);
  const Tensor rest = kernels::cast(ctx, kernels::affine(ctx, i, -1.0 / kIndices, 1.0), DType::f32);
  // Flow matching between two images: its flow points from the clean one, x_end, to the other one.
  const auto pair = kernels::flow_mix(ctx, end, start, rest, 1.0);
  return {pair.x_t, kernels::affine(ctx, pair.target, -1.0, 0.0), t, Tensor()};
}

std::vector<FlowBatch> make_cascade_batch(Context& ctx, const Tensor& x, const Tensor& y,
                                          const Tensor& sample_ids, const CascadeOptions& options) {
  require_images(x);
  const std::int64_t b = x.size(0), each = b / kCascadeStages;
  if (b < 1 || b % kCascadeStages != 0)
    throw ShapeError(
        cat("[cascade] expected a batch that is spread evenly over ", kCascadeStages, " stages, got ", b),
        cat("take a multiple of ", kCascadeStages));
  return make_batches(ctx, x, y, sample_ids, options, each, [each](int stage) { return stage * each; });
}

std::vector<FlowBatch> make_full_cascade_batch(Context& ctx, const Tensor& x, const Tensor& y,
                                               const Tensor& sample_ids, const CascadeOptions& options) {
  require_images(x);
  return make_batches(ctx, x, y, sample_ids, options, x.size(0), [](int) { return std::int64_t{0}; });
}

Var cascade_loss(Context& ctx, const Denoiser& model, const std::vector<FlowBatch>& stages) {
  if (stages.empty()) throw ValueError("[cascade] expected a batch for at least one stage, got none");
  std::int64_t samples = 0;
  for (const FlowBatch& stage : stages) samples += stage.x_t.size(0);
  Var loss;
  for (const FlowBatch& stage : stages) {
    const double share = static_cast<double>(stage.x_t.size(0)) / static_cast<double>(samples);
    const Var part = affine(flow_loss(ctx, model, stage), share, 0.0);
    loss = loss.defined() ? loss + part : part;
  }
  return loss;
}

Objective cascade_objective(Context& ctx, const Denoiser& model, Loader& loader, CascadeOptions options) {
  options.null_class = model.null_class();
  const Batch batch = loader.make_batch();
  return {[&loader, batch] { loader.next(batch); },
          [&ctx, model, batch, options] {
            return cascade_loss(ctx, model,
                                make_cascade_batch(ctx, batch.x, batch.y, batch.sample_ids, options));
          }};
}

}  // namespace llsa::nn
