// One row of the table is a variant at one size: LLSA with pooling and selection; LLSA over the picks of an earlier
// run; LLSA over the same picks as index tables alone, where the device keeps bit words beside them; or a kind of
// full attention. Three sets of inputs take turns, and the variants of a size are timed in turns, too.
//
//   FLOPs   2 products forward and 5 backward over the attended pairs, and the scores of the selection where
//           it is included; our kernels make 7 backward, since dQ and dK with dV both need the scores and dP
//   bytes   each input and each output once: q, k, v, o, lse forward; q, k, v, o, dO, lse, dq, dk, dv
//   backward memory  the allocator's peak during a call, over what lay there before it
#include "apps/bench/attention_device.h"

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apps/llsa/progress.h"
#include "kernels/copy.h"

namespace llsa::apps {
namespace {

constexpr std::size_t kSets = 3;
const char* const kLlsa = "LLSA";
const char* const kGiven = "LLSA, indices given";
const char* const kRows = "LLSA, indices given without words";

/// The name of a variant in a figure's.
std::string short_name(const std::string& variant) {
  return variant == kGiven ? "llsa_given" : variant == kRows ? "llsa_rows" : variant;
}

struct Work {
  double flops = 0, bytes = 0;
};

/// A measured pass: forward, or forward with backward.
struct Pass {
  Timing timing;
  Work work;
};

struct Row {
  std::string variant;
  bool llsa = false;
  std::optional<Pass> forward, both;
  double peak = 0;
};

/// Forward and forward with backward of one variant, on set i.
struct Contestant {
  std::string variant;
  bool llsa = false;
  std::function<void(std::size_t, bool)> run;
  Work forward, both;
  bool timed_forward = true, timed_both = true;
  double peak = 0;
};

double input_bytes(const AttentionSize& c, DType dtype) {
  return static_cast<double>(c.batch * c.heads * c.tokens * c.head_dim) * static_cast<double>(size_of(dtype));
}
double lse_bytes(const AttentionSize& c) { return 4.0 * static_cast<double>(c.batch * c.heads * c.tokens); }

class Bench {
 public:
  Bench(const BenchRequest& request, const DeviceBenchOptions& options)
      : request_(request), options_(options), ctx_(request.ctx), timer_(request.ctx, request.flush_bytes) {}

  Figures run() {
    const std::int64_t head_dim = options_.sizes.empty() ? 64 : options_.sizes.front().head_dim;
    variants_ = full_variants(ctx_, request_.dtype, head_dim);
    const AttentionErrors errors =
        check_attention(ctx_, request_.dtype, variants_, head_dim, options_.problems, options_.repetitions);
    print_line(
        text("correct against the CPU: o %.1e, gradients %.1e, lse %.1e; selection: what was left out is "
             "better by %.1e of the largest score at most; %d repetitions, the same bits each time",
             errors.o, errors.gradients, errors.lse, errors.selection, options_.repetitions));
    add("correctness", nn::JsonWriter()
                           .add("repetitions_of_same_bits", options_.repetitions)
                           .add("o", errors.o)
                           .add("gradients", errors.gradients)
                           .add("lse", errors.lse)
                           .add("selection_gap", errors.selection));
    if (!options_.sizes.empty()) probe(options_.sizes.front());
    print_header();
    for (const AttentionSize& size : options_.sizes) measure_or_leave_out(size);
    print_goals();
    if (left_out_.empty())
      print_line("\nNothing was left out.");
    else
      print_line("\nLeft out:\n");
    for (const std::string& what : left_out_) print_line("* " + what);
    add("left_out", nn::JsonWriter().add("sizes", left_out_));
    return figures_;
  }

 private:
  void add(const std::string& name, const nn::JsonWriter& figure) { figures_.emplace_back(name, figure); }

  Work forward_work(const AttentionSize& c, double flops) const {
    return {flops, 4 * input_bytes(c, request_.dtype) + lse_bytes(c)};
  }
  Work both_work(const AttentionSize& c, double flops) const {
    return {flops, 12 * input_bytes(c, request_.dtype) + 2 * lse_bytes(c)};
  }
  kernels::AttentionFlops full_flops(const AttentionSize& c) const {
    return kernels::full_attention_flops(c.batch * c.heads, c.tokens, c.tokens, c.head_dim);
  }

  // Seconds per FLOP of each kind of full attention, to foresee what a call on more tokens takes.
  void probe(const AttentionSize& like) {
    AttentionSize size = like;
    size.batch = 1;
    size.tokens = std::min(options_.probe_tokens, request_.max_tokens);
    const AttentionInputs in =
        make_inputs(ctx_, InputKind::randn, 1, size.heads, size.tokens, size.head_dim, request_.dtype, 1);
    const auto flops = full_flops(size);
    for (const FullVariant& variant : variants_) {
      const auto seconds = [&](bool backward) {
        const auto call = [&](int) { run_full(ctx_, variant, in, backward); };
        timer_.run(call, 1);
        return timer_.run(call, 1).front();
      };
      PassTimes& cost = cost_[variant.name];
      cost.forward = seconds(false) / flops.forward;
      if (variant.backward) cost.both = seconds(true) / (flops.forward + flops.backward);
    }
  }

  void measure_or_leave_out(const AttentionSize& size) {
    const std::string name = size.shape() + " " + size.options();
    if (size.tokens > request_.max_tokens) {
      left_out_.push_back(cat(name, ": more than --max-tokens ", request_.max_tokens));
      return;
    }
    for (const InputKind kind : {InputKind::randn, InputKind::structured}) {
      if (request_.budget.spent()) {
        left_out_.push_back(cat(name, ", ", name_of(kind), ": the time was up"));
        continue;
      }
      try {
        measure(size, kind);
      } catch (const OutOfMemoryError& error) {
        left_out_.push_back(cat(name, ", ", name_of(kind), ": ", error.what()));
        ctx_.allocator()->release_cache();
      }
    }
  }

  void measure(const AttentionSize& size, InputKind kind) {
    const auto plan = size.plan();
    std::array<AttentionInputs, kSets> sets;
    std::array<std::shared_ptr<const kernels::LlsaState>, kSets> selected;
    std::array<kernels::LlsaIndices, kSets> indices;
    for (std::size_t i = 0; i < kSets; ++i) {
      sets[i] =
          make_inputs(ctx_, kind, size.batch, size.heads, size.tokens, size.head_dim, request_.dtype, 20 + i);
      selected[i] = kernels::llsa_attention(ctx_, sets[i].q, sets[i].k, sets[i].v, size.llsa()).state;
      indices[i] = kernels::llsa_indices(*selected[i]);
    }
    const auto tensors_in = [](const auto& state) { return kernels::tensors_of(*state).size(); };
    const bool has_words =
        tensors_in(selected[0]) >
        tensors_in(kernels::llsa_attend(ctx_, sets[0].q, sets[0].k, sets[0].v, indices[0], plan).state);
    ctx_.allocator()->release_cache();  // of what making the inputs needed

    std::vector<Contestant> contestants;
    const auto flops = kernels::llsa_flops(plan, size.batch * size.heads, size.head_dim);
    contestants.push_back(
        {kLlsa, true,
         [&](std::size_t set, bool backward) { run_llsa(ctx_, sets[set], size.llsa(), backward); },
         forward_work(size, flops.selection + flops.forward),
         both_work(size, flops.selection + flops.forward + flops.backward)});
    const auto add_given = [&](const char* variant, const std::function<void(std::size_t, bool)>& run) {
      contestants.push_back({variant, true, run, forward_work(size, flops.forward),
                             both_work(size, flops.forward + flops.backward)});
    };
    add_given(kGiven,
              [&](std::size_t set, bool backward) { run_llsa(ctx_, sets[set], *selected[set], backward); });
    if (has_words)
      add_given(kRows, [&](std::size_t set, bool backward) {
        run_llsa(ctx_, sets[set], indices[set], plan, backward);
      });
    if (size.beside_full && full_.find(size.shape()) == full_.end()) add_full(size, sets, contestants);

    const std::vector<Row> measured = time(contestants);
    for (const Row& row : measured)
      if (!row.llsa) full_[size.shape()].push_back(row);
    for (const Row& row : measured) report(size, kind, row);
    if (kind == InputKind::randn) measured_.emplace(size.key(), measured.front());
  }

  // Full attention takes the same time on any input: once per shape is enough.
  void add_full(const AttentionSize& size, const std::array<AttentionInputs, kSets>& sets,
                std::vector<Contestant>& contestants) {
    const auto flops = full_flops(size);
    for (const FullVariant& variant : variants_) {
      Contestant c{variant.name, false,
                   [this, &variant, &sets](std::size_t set, bool backward) {
                     run_full(ctx_, variant, sets[set], backward);
                   },
                   forward_work(size, flops.forward), both_work(size, flops.forward + flops.backward)};
      const PassTimes& cost = cost_[variant.name];
      c.timed_forward = foreseen(size, variant, "forward", cost.forward * c.forward.flops);
      c.timed_both = static_cast<bool>(variant.backward) && size.tokens <= kLongestFullBackward &&
                     foreseen(size, variant, "forward and backward", cost.both * c.both.flops);
      c.timed_both = c.timed_both && fits(size, c, true);
      c.timed_forward = c.timed_forward && (c.timed_both || fits(size, c, false));
      if (c.timed_forward || c.timed_both) contestants.push_back(c);
    }
  }

  // The allocator's peak during a call, over what lay there before.
  double peak_of(const Contestant& c, bool backward) {
    const auto before = static_cast<double>(ctx_.allocator()->stats().active);
    ctx_.allocator()->reset_peak();
    c.run(0, backward);
    return static_cast<double>(ctx_.allocator()->stats().peak) - before;
  }

  // A library may decline a shape, or want more memory than there is: that is no reason to lose the size.
  bool fits(const AttentionSize& size, Contestant& c, bool backward) {
    std::string why;
    try {
      c.peak = peak_of(c, backward);
      return true;
    } catch (const OutOfMemoryError& error) {
      why = error.what();
    } catch (const DeviceError& error) {
      why = error.what();
    }
    ctx_.allocator()->release_cache();
    left_out_.push_back(cat(c.variant, " attention, ", backward ? "forward and backward" : "forward", ", at ",
                            size.shape(), ": ", why));
    return false;
  }

  bool foreseen(const AttentionSize& size, const FullVariant& variant, const char* pass, double seconds) {
    if (seconds <= options_.longest_call) return true;
    left_out_.push_back(cat(variant.name, " attention, ", pass, ", at ", size.shape(),
                            text(": a call would take about %.1f s", seconds)));
    return false;
  }

  std::vector<Row> time(const std::vector<Contestant>& contestants) {
    std::vector<Row> rows;
    std::vector<TimedCall> calls;
    for (const Contestant& c : contestants) {
      Row row;
      row.variant = c.variant;
      row.llsa = c.llsa;
      row.peak = c.llsa ? peak_of(c, c.timed_both) : c.peak;
      rows.push_back(row);
      for (const bool backward : {false, true})
        if (backward ? c.timed_both : c.timed_forward)
          calls.emplace_back([&c, backward](int i) { c.run(static_cast<std::size_t>(i) % kSets, backward); });
    }
    const std::vector<Timing> timings = time_interleaved(timer_, calls, options_.limits);
    std::size_t next = 0;
    for (std::size_t i = 0; i < contestants.size(); ++i) {
      if (contestants[i].timed_forward) rows[i].forward = Pass{timings[next++], contestants[i].forward};
      if (contestants[i].timed_both) rows[i].both = Pass{timings[next++], contestants[i].both};
    }
    return rows;
  }

  static void print_header() {
    print_line(
        "\n| (b, H, N) | LLSA | keys | input | what | forward ms | p20, p80 | Mtok/s | TFLOP/s | of product "
        "| "
        "GB/s | of copy | with backward ms | p20, p80 | Mtok/s | TFLOP/s | of product | GB/s | of copy | "
        "predicted ms, measured over it | faster than full attention | peak memory |");
    print_line("|---|---|--:|---|---|--:|---|--:|--:|--:|--:|--:|--:|---|--:|--:|--:|--:|--:|---|---|--:|");
  }

  std::string columns(const AttentionSize& size, const std::optional<Pass>& pass) const {
    if (!pass) return " | | | | | | |";
    const Timing& t = pass->timing;
    const double rate = pass->work.flops / t.median / 1e9, bytes = pass->work.bytes / t.median / 1e9;
    const auto share = [](double part, double whole) {
      return whole > 0 ? text("%.0f %%", 100 * part / whole) : std::string();
    };
    return text(" %.3f | %.3f, %.3f | %.2f | %.1f | ", 1e3 * t.median, 1e3 * t.p20, 1e3 * t.p80,
                static_cast<double>(size.batch * size.tokens) / t.median / 1e6, 1e-3 * rate) +
           share(rate, request_.ceilings.matmul) + text(" | %.0f | ", bytes) +
           share(bytes, request_.ceilings.copy) + " |";
  }

  // "full x51 x44": how many times the row's time another variant takes, forward and with backward.
  std::string faster(const AttentionSize& size, const Row& row, nn::JsonWriter& json) const {
    std::string line;
    const auto found = full_.find(size.shape());
    if (!row.llsa || found == full_.end()) return line;
    for (const Row& full : found->second) {
      line += (line.empty() ? "" : ", ") + full.variant;
      const auto ratio = [&](const std::optional<Pass>& ours, const std::optional<Pass>& theirs,
                             const char* pass) {
        if (!ours || !theirs) {
          line += " -";
          return;
        }
        const double times = theirs->timing.median / ours->timing.median;
        line += text(" x%.3g", times);
        json.add(cat("times_faster_than_", full.variant, "_", pass), times);
      };
      ratio(row.forward, full.forward, "forward");
      ratio(row.both, full.both, "forward_backward");
    }
    return line;
  }

  void report(const AttentionSize& size, InputKind kind, const Row& row) {
    nn::JsonWriter json;
    json.add("variant", row.variant).add("input", name_of(kind));
    json.add("batch", size.batch).add("heads", size.heads).add("tokens", size.tokens);
    json.add("head_dim", size.head_dim).add("keys", row.llsa ? size.plan().keys_per_query() : size.tokens);
    if (row.llsa) json.add("block", size.block).add("topk", size.topk).add("levels", size.levels);
    for (const auto& [name, pass] : {std::pair("forward", &row.forward), std::pair("both", &row.both)})
      if (*pass) json.add(name, figure(size, **pass));
    json.add("peak_bytes", row.peak);
    std::string predicted;
    if (row.variant == kLlsa && size.predicted.forward > 0) {
      const auto beside = [&](const char* name, const Pass& pass, double ms) {
        const double ratio = 1e3 * pass.timing.median / ms;
        json.add(cat("predicted_", name, "_ms"), ms).add(cat("measured_over_predicted_", name), ratio);
        predicted += text("%s%.3g x%.2f", predicted.empty() ? "" : ", ", ms, ratio);
      };
      beside("forward", *row.forward, size.predicted.forward);
      beside("both", *row.both, size.predicted.both);
    }
    const std::string ratios = faster(size, row, json);
    print_line(cat("| ", size.shape(), " | ", row.llsa ? size.options() : std::string(), " | ",
                   row.llsa ? size.plan().keys_per_query() : size.tokens, " | ", name_of(kind), " | ",
                   row.variant, " |", columns(size, row.forward), columns(size, row.both), " ", predicted,
                   " | ", ratios, " | ", bytes_text(row.peak), " |"));
    add(cat(row.llsa ? size.key() : cat("b", size.batch, "_h", size.heads, "_n", size.tokens), "_",
            name_of(kind), "_", short_name(row.variant)),
        json);
  }

  nn::JsonWriter figure(const AttentionSize& size, const Pass& pass) const {
    const Timing& t = pass.timing;
    const double rate = pass.work.flops / t.median / 1e9, bytes = pass.work.bytes / t.median / 1e9;
    nn::JsonWriter json;
    json.add("median_ms", 1e3 * t.median).add("p20_ms", 1e3 * t.p20).add("p80_ms", 1e3 * t.p80);
    json.add("calls", t.calls);
    json.add("tokens_per_second", static_cast<double>(size.batch * size.tokens) / t.median);
    json.add("gflops", rate).add("gb_per_second", bytes);
    if (request_.ceilings.matmul > 0) json.add("of_matmul", rate / request_.ceilings.matmul);
    if (request_.ceilings.copy > 0) json.add("of_copy", bytes / request_.ceilings.copy);
    return json;
  }

  // Of every size that has one, measured or left out.
  void print_goals() {
    nn::JsonWriter all;
    bool any = false;
    const auto print_goal = [&](const AttentionSize& size, const char* name, const std::optional<Pass>& pass,
                                double goal, double stretch) {
      if (goal <= 0) return;
      if (!any) {
        print_line("\n| goal (randn, pooling and selection included) | ms | measured | | stretch | |");
        print_line("|---|--:|--:|---|--:|---|");
      }
      any = true;
      const std::string what =
          text("| %s %s, %s | %.2f |", size.shape().c_str(), size.options().c_str(), name, goal);
      nn::JsonWriter json;
      json.add("goal_ms", goal).add("stretch_ms", stretch);
      if (pass) {
        const double ms = 1e3 * pass->timing.median;
        print_line(what + text(" %.3f | %s | %.2f | %s |", ms, ms <= goal ? "met" : "MISSED", stretch,
                               ms <= stretch ? "met" : "missed"));
        json.add("measured_ms", ms).add("met", ms <= goal).add("stretch_met", ms <= stretch);
      } else {
        print_line(what + text(" | not measured | %.2f | |", stretch));
        json.add_null("measured_ms").add("met", false).add("stretch_met", false);
      }
      all.add(cat(size.key(), " ", name), json);
    };
    for (const AttentionSize& size : options_.sizes) {
      const auto found = measured_.find(size.key());
      const Row row = found == measured_.end() ? Row{} : found->second;
      print_goal(size, "forward", row.forward, size.goal.forward, size.stretch.forward);
      print_goal(size, "forward and backward", row.both, size.goal.both, size.stretch.both);
    }
    if (any) add("goals", all);
  }

  const BenchRequest& request_;
  const DeviceBenchOptions& options_;
  Context& ctx_;
  CallTimer timer_;
  std::vector<FullVariant> variants_;
  std::map<std::string, PassTimes> cost_;         // seconds per FLOP, by variant
  std::map<std::string, std::vector<Row>> full_;  // by shape
  std::map<std::string, Row> measured_;           // LLSA on randn, by the size's key
  std::vector<std::string> left_out_;
  Figures figures_;
};

}  // namespace

Figures bench_attention_sizes(const BenchRequest& request, const DeviceBenchOptions& options) {
  return Bench(request, options).run();
}

}  // namespace llsa::apps
