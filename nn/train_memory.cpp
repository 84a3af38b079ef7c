// The activations of a micro-batch are counted tensor by tensor.
//
// A block keeps, counted in tensors of [b,N,C]: its input; the input of qkv; qkv (3); q, k, v (3); the result of the
// attention; the result of its projection; the input of the MLP's norm; the input of the MLP; the values before and after
// gelu (4 each); the MLP's result. These are 21 in all. A block that is recomputed keeps the first two.
#include "nn/train_memory.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <utility>
#include <vector>

#include "core/dtype.h"
#include "core/error.h"
#include "core/size_class.h"
#include "nn/data/loader.h"
#include "nn/diffusion/cascade.h"
#include "nn/ema.h"
#include "nn/pixelflow.h"

namespace llsa::nn {
namespace {

constexpr double kWide = 4;  // bytes of f32 and i32
constexpr double kPartialSums =
    1 << 25;  // at most, of the gradient of a weight on the CPU, by groups of rows
constexpr double kGroupRows = 256, kMostGroups = 32;
constexpr double kInceptionWeights = 97'500'000;  // bytes of the network (eval/inception.h)
constexpr double kInceptionImage = 15'600'000;    // bytes of a pass, per image
constexpr double kStatisticsBatch = 16;           // real images at a time

/// Bytes of a tensor, as the allocator counts them.
double tensor(double elements, double size) {
  const double bytes = elements * size;
  if (bytes < 1 || bytes > 0x1p61) return bytes;
  return static_cast<double>(SizeClass::of(static_cast<std::size_t>(bytes)).bytes);
}

/// Sizes of the model at one resolution, as numbers that cannot overflow.
struct Sizes {
  double b, n, c, h, d, e;  ///< images, tokens, channels, heads, head dimension, bytes of an element
};

/// Bytes that an attention keeps in addition to q, k, v and its result.
double attention_activations(const DitConfig& config, const Sizes& s) {
  const double lse = tensor(s.b * s.h * s.n, kWide), tokens = tensor(s.b * s.n * s.c, s.e);
  if (config.attention == AttentionKind::full) return lse;
  const LlsaPlan plan = config.plan();
  if (plan.levels == 0) return lse;
  const auto count = [&](int level) {
    return static_cast<double>(plan.count[static_cast<std::size_t>(level)]);
  };
  double bytes = lse;
  for (int l = 1; l <= plan.levels; ++l)
    bytes += tensor(s.b * s.h * count(l) * plan.width[static_cast<std::size_t>(l) - 1], kWide);
  if (config.attention == AttentionKind::llsa) {
    for (int l = 1; l <= plan.enriched; ++l)
      bytes += 2 * tensor(s.b * s.h * count(l) * s.d, s.e);  // keys, values
    return bytes;
  }
  bytes += tokens;  // the sum of the two parts
  if (config.attention == AttentionKind::vsa) {
    bytes +=
        4 * tensor(s.b * count(1) * s.c, s.e) + tensor(s.b * s.h * count(1), kWide);  // between the means
    return config.vsa_gate ? bytes + 2 * tokens : bytes;                              // means repeated, gate
  }
  if (plan.width[0] == plan.count[1]) return bytes + tokens;  // nothing is left for the linear part
  const double with_ones = tensor(s.b * s.h * s.n * (s.d + 1), kWide);
  bytes += 3 * tensor(s.b * s.n * s.c, kWide) + 2 * with_ones;  // softmax of q and k, quotient; v, sums
  return s.e < kWide ? bytes + tokens : bytes;
}

Sizes sizes_of(const DitConfig& config, double images, double element) {
  const double heads = config.heads, dim = config.head_dim;
  return {images, static_cast<double>(config.tokens()), heads * dim, heads, dim, element};
}

bool uses_inception(const TrainOptions& options) {
  return options.eval_every > 0 && options.eval_samples > 0 && !options.inception.empty();
}

struct Activations {
  double kept = 0;   ///< until backward
  double block = 0;  ///< the part of one block
};

Activations activations(const DitConfig& config, std::int64_t batch, double element, bool recompute) {
  const Sizes s = sizes_of(config, static_cast<double>(batch), element);
  const double tokens = tensor(s.b * s.n * s.c, s.e), row = tensor(s.b * s.n, kWide);
  Activations out;
  out.block = 10 * tokens + tensor(3 * s.b * s.n * s.c, s.e) + 2 * tensor(4 * s.b * s.n * s.c, s.e) +
              4 * row + attention_activations(config, s);
  if (config.qk_norm) out.block += 2 * tensor(s.b * s.h * s.n, kWide);
  const double layers = config.layers;
  out.kept = recompute ? 2 * layers * tokens + out.block : layers * out.block;
  out.kept += (recompute ? 1 : 2) * tokens + 2 * row;  // around the first norm and the last one
  out.kept += tensor(s.b * s.n * config.patch * config.patch * config.in_channels, s.e);
  out.kept += layers * tensor(11 * s.b * s.c, s.e);  // shifts, scales, gates, and what makes them
  return out;
}

/// What a pass without a graph holds at most: in the MLP the two inputs of the block, the input of the MLP and that of its
/// norm, and the values before and after gelu (4 each); or in the attention the inputs of block and qkv, q, k, v, the result
/// and what attention_activations() counts, with the copies in f32 that kernels of attention make: their number was measured
/// on the CPU.
double pass(const DitConfig& config, double images, double element) {
  const Sizes s = sizes_of(config, images, element);
  const double tokens = tensor(s.b * s.n * s.c, s.e);
  const double mlp = 4 * tokens + 2 * tensor(4 * s.b * s.n * s.c, s.e);
  const double copies = s.e < kWide ? 5.5 : config.attention == AttentionKind::full ? 0 : 2.75;
  const double attention =
      6 * tokens + attention_activations(config, s) + copies * tensor(s.b * s.n * s.c, kWide);
  return std::max(mlp, attention) +
         tensor(13.0 * config.layers * s.b * s.c, s.e);  // shifts, scales, gates, and what makes them
}

double evaluation_memory(const TrainOptions& options, double own_weights, double element) {
  const DitConfig& model = options.model;
  const double pixels = 3.0 * model.height * model.width;
  const auto batch = static_cast<double>(options.batch);
  double most = 0;
  // `images` at a time, of `count` that stay. With guidance each is in the batch twice.
  const auto add = [&](double images, double count, bool guided) {
    const double n = guided ? 2 * images : images;
    most = std::max(most, pass(model, n, element) + tensor(batch * pixels, kWide) +
                              tensor(count * pixels, kWide) + 2 * tensor((images + n) * pixels, kWide));
  };
  const bool guided = model.classes > 0 && options.guidance != 1.0;
  if (options.sample_every > 0) {
    const auto count = static_cast<double>(options.sample_count);
    add(std::min(batch, count), count, guided);
  }
  if (options.eval_every > 0 && options.eval_samples > 0) {
    const double images = std::min(batch, static_cast<double>(options.eval_samples));
    add(images, images, guided);
  }
  if (options.eval_every > 0 && !options.held_out.empty()) add(batch, 0, false);
  if (uses_inception(options)) most = std::max(most, kInceptionImage * std::max(batch, kStatisticsBatch));
  return most > 0 ? own_weights + most : 0;
}

/// Whether a run fits. With `least` the estimated parts are not counted.
bool fits(const TrainMemory& m, Device device, double room, double host_room, bool least) {
  const double model = m.model() - (least ? m.working + m.beyond_step() : 0);
  return device.is_cpu() ? model + m.loader() <= room : model <= room && m.loader() <= host_room;
}

}  // namespace

TrainMemory train_memory(const TrainOptions& options, std::int64_t parameters, std::int64_t files,
                         Device device, int processes) {
  const bool narrow = options.dtype == "bf16";
  const double element = narrow ? 2 : kWide, p = static_cast<double>(parameters);
  const double batch = static_cast<double>(options.batch);
  TrainMemory m;
  m.weights = tensor(p, kWide) + (narrow ? tensor(p, element) : 0);
  const double slice = tensor(p / processes, kWide);
  m.gradients =
      tensor(p, kWide) + (options.accumulate > 1 ? slice : 0) + (processes > 1 ? tensor(p, kWide) : 0);
  m.moments = 2 * slice;
  m.averages = static_cast<double>(1 + ema_decays(options.ema_also).size()) * slice;

  double block = 0;
  if (options.model_kind() == ModelKind::dit) {
    const Activations all = activations(options.model, options.batch, element, options.recompute);
    m.activations = all.kept;
    block = all.block;
  } else {
    const PixelFlowConfig pixelflow = PixelFlowConfig::of_last_stage(options.model);
    for (int s = 0; s < kCascadeStages; ++s) {
      DitConfig stage = options.model;
      stage.height = stage.width = static_cast<int>(pixelflow.side(s));
      if (s + 1 < kCascadeStages) stage.attention = AttentionKind::full;
      const Activations all = activations(stage, std::max<std::int64_t>(1, options.batch / kCascadeStages),
                                          element, options.recompute);
      m.activations += all.kept - (options.recompute ? all.block : 0);
      block = all.block;
    }
    if (options.recompute) m.activations += block;  // one block at a time
  }

  const double pixels = 3.0 * options.model.height * options.model.width;
  const double image = tensor(batch * pixels, kWide);
  m.images = 5 * image;
  m.working = 5 * block / 21;
  if (device.is_cpu()) {
    const double rows = batch * static_cast<double>(options.model.tokens()), c = options.model.channels();
    const double groups = std::min(kMostGroups, std::ceil(rows / kGroupRows));
    m.working += std::min(kPartialSums, groups * 4 * c * c * kWide);
  }
  m.network = uses_inception(options) ? kInceptionWeights : 0;
  // The own weights; with several processes also the average, which is in parts otherwise.
  m.evaluation = evaluation_memory(options, (processes > 1 ? 2 : 1) * tensor(p, kWide), element);
  m.prepared = static_cast<double>(LoaderOptions().prefetch + options.workers + 1) * batch * pixels * kWide;
  m.cache = std::min(static_cast<double>(options.cache_mb) * 0x1p20, static_cast<double>(files) * pixels);
  return m;
}

std::string memory_table(const TrainMemory& m, Device device) {
  const std::string host = device.is_cpu() ? "" : ", in host memory";
  const std::pair<std::string, double> rows[] = {
      {"weights", m.weights},
      {"gradients", m.gradients},
      {"moments of AdamW", m.moments},
      {"averages of the weights", m.averages},
      {"activations", m.activations},
      {"images and noise", m.images},
      {"backward and kernels, estimated", m.working},
      {"Inception network", m.network},
      {"grids and evaluations, beyond a step, estimated", m.beyond_step()},
      {"batches held ready" + host, m.prepared},
      {"decoded images" + host, m.cache},
      {"all", m.model() + m.loader()}};
  std::string table = "memory of the training";
  for (const auto& [what, bytes] : rows) {
    if (bytes == 0) continue;
    const std::string text = bytes_text(bytes);
    table += "\n  " + what + std::string(60 - what.size() - text.size(), ' ') + text;
  }
  return table;
}

void require_memory(const TrainOptions& options, std::int64_t parameters, std::int64_t files, Device device,
                    double room, double host_room, int processes) {
  const auto memory_of = [&](const TrainOptions& o) {
    return train_memory(o, parameters, files, device, processes);
  };
  const TrainMemory memory = memory_of(options);
  if (fits(memory, device, room, host_room, true)) return;

  std::vector<std::string> ways;
  const auto try_out = [&](TrainOptions other, const std::string& flags) {
    // The largest batch that fits and keeps the number of images per step.
    const std::int64_t unit = options.model_kind() == ModelKind::pixelflow ? kCascadeStages : 1;
    for (std::int64_t parts = 1; parts * unit <= options.batch; ++parts) {
      if (options.batch % (parts * unit) != 0 || (parts == 1 && flags.empty())) continue;
      other.batch = options.batch / parts;
      other.accumulate = std::max<std::int64_t>(1, options.accumulate) * parts;
      if (!fits(memory_of(other), device, room, host_room, false)) continue;
      std::string way = flags;
      if (parts > 1)
        way += cat(flags.empty() ? "" : " ", "--batch ", other.batch, " --accumulate ", other.accumulate);
      if (std::find(ways.begin(), ways.end(), way) == ways.end()) ways.push_back(way);
      return;
    }
  };
  TrainOptions other = options;
  try_out(other, "");
  other.recompute = true;
  if (!options.recompute) try_out(other, "--recompute true");
  if (memory.cache > 0) {
    other = options;
    other.cache_mb = 0;
    try_out(other, "--cache-mb 0");
    other.recompute = true;
    if (ways.empty()) try_out(other, options.recompute ? "--cache-mb 0" : "--recompute true --cache-mb 0");
  }
  std::string hint;
  for (const std::string& way : ways) hint += (hint.empty() ? "what fits: " : "; or ") + way;
  const std::string free = device.is_cpu() ? bytes_text(room) + " are free"
                                           : cat(bytes_text(room), " of the GPU and ", bytes_text(host_room),
                                                 " of the host are free");
  throw OutOfMemoryError(cat("this training does not fit: ", free, "\n", memory_table(memory, device)),
                         hint.empty() ? "take a smaller model or smaller images" : hint);
}

std::string bytes_text(double bytes) {
  constexpr std::array kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  for (; bytes >= 1024 && unit + 1 < kUnits.size(); ++unit) bytes /= 1024;
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, bytes < 10 && unit > 0 ? "%.1f %s" : "%.0f %s", bytes, kUnits[unit]);
  return buffer;
}

}  // namespace llsa::nn
