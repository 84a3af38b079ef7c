#include "apps/bench/paper.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "apps/bench/inputs.h"
#include "apps/bench/paper_key_value.h"
#include "apps/bench/plot.h"
#include "apps/llsa/progress.h"
#include "autograd/table/definitions.h"
#include "kernels/copy.h"
#include "kernels/elementwise.h"
#include "kernels/pool.h"
#include "kernels/random.h"

namespace llsa::apps {
namespace {

constexpr std::int64_t kFirstTokens = 1024;
constexpr int kAuto = -1;  // levels

int baseline_picks(std::int64_t tokens) { return tokens <= std::int64_t{128} * 128 ? 20 : 32; }

enum class Kind : std::uint8_t { full, llsa, vsa, sla };

struct Variant {
  Kind kind = Kind::full;
  int block = 16;
  int levels = 0;  // of LLSA

  std::string name() const {
    if (kind == Kind::llsa) return levels == kAuto ? "LLSA auto" : cat("LLSA L=", levels);
    return kind == Kind::full ? "full" : kind == Kind::vsa ? "VSA" : "SLA";
  }
  std::string key() const {
    if (kind == Kind::full) return "full";
    const std::string what = kind == Kind::vsa   ? "vsa"
                             : kind == Kind::sla ? "sla"
                             : levels == kAuto   ? "llsa_auto"
                                                 : cat("llsa_l", levels);
    return cat("b", block, "_", what);
  }
  /// With the block size, for messages.
  std::string title() const { return kind == Kind::full ? name() : cat(name(), ", B = ", block); }

  LlsaOptions llsa() const {
    LlsaOptions options;
    options.block = block;
    options.topk = {kPaperPicks};
    options.levels = levels;
    return options;
  }
  /// Throws ValueError where N and B have no such levels.
  LlsaPlan plan(std::int64_t tokens) const {
    if (kind == Kind::vsa || kind == Kind::sla)
      return kernels::picked_blocks_plan(tokens, block, baseline_picks(tokens));
    return kernels::llsa_plan(tokens, llsa());
  }
  Var apply(const Vars& x) const {
    const int picks = baseline_picks(x[0].size(2));
    switch (kind) {
      case Kind::llsa:
        return llsa_attention(x[0], x[1], x[2], llsa());
      case Kind::vsa:
        return vsa_attention(x[0], x[1], x[2], {}, {block, picks});
      case Kind::sla:
        return sla_attention(x[0], x[1], x[2], x[3], x[4], {block, picks});
      default:
        return full_attention(x[0], x[1], x[2]);
    }
  }
};

std::vector<Variant> variants_of(const std::vector<int>& blocks) {
  std::vector<Variant> all = {Variant{}};
  for (const int block : blocks) {
    for (const int levels : {1, 2, 3, kAuto}) all.push_back({Kind::llsa, block, levels});
    all.push_back({Kind::vsa, block});
    all.push_back({Kind::sla, block});
  }
  return all;
}

/// q, k and v, the projection of SLA, and the gradient that training begins with.
struct Problem {
  std::vector<Tensor> inputs;
  Tensor d_o;
};

Problem make_problem(Context& ctx, std::int64_t heads, std::int64_t tokens, std::int64_t d, DType dtype) {
  const AttentionInputs in = make_inputs(ctx, InputKind::randn, 1, heads, tokens, d, dtype, kPaperSeed);
  const Tensor weight = kernels::affine(ctx, kernels::random_normal(ctx, {d, d}, dtype, kPaperSeed, 4),
                                        1 / std::sqrt(static_cast<double>(d)), 0.0);
  return {{in.q, in.k, in.v, weight, kernels::random_normal(ctx, {d}, dtype, kPaperSeed, 5)}, in.d_o};
}

Vars leaves(Context& ctx, const Variant& variant, const std::vector<Tensor>& inputs, bool requires_grad) {
  Vars all;
  const std::size_t count = variant.kind == Kind::sla ? 5 : 3;
  for (std::size_t i = 0; i < count; ++i) all.emplace_back(ctx, inputs[i], requires_grad);
  return all;
}

/// One call: of the op alone, or with its gradients.
void call(Context& ctx, const Variant& variant, const Problem& problem, bool training) {
  const Var out = variant.apply(leaves(ctx, variant, problem.inputs, training));
  if (training) backward(out, problem.d_o);
}

class PaperBench {
 public:
  PaperBench(const BenchRequest& request, const PaperOptions& options)
      : request_(request),
        options_(options),
        ctx_(request.ctx),
        timer_(request.ctx, request.flush_bytes),
        variants_(variants_of(options.blocks)),
        sizes_(options.tokens) {
    if (sizes_.empty())
      for (std::int64_t n = std::min(kFirstTokens, request.max_tokens); n <= request.max_tokens; n *= 2)
        sizes_.push_back(n);
  }

  Figures run() {
    check_variants();
    // Fig. 4 goes first, since it is short: a budget of time would be spent on Fig. 3.
    KeyValueFigure key_value(request_, options_, timer_, figures_, left_out_);
    key_value.begin();
    for (const std::int64_t tokens : sizes_) key_value.measure(tokens);
    print_line(
        text("Fig. 3: %s, %s; LLSA with K = %d, VSA and SLA with K = 20 up to 128^2 tokens and 32 beyond; "
             "pooling and selection included; medians",
             shape_text(options_.heads, options_.head_dim).c_str(),
             std::string(name_of(request_.dtype)).c_str(), kPaperPicks));
    print_line(
        "                          |  inference                    |  training (forward and backward)");
    print_line(" tokens    B  attention   |        ms    tok/s  x full    |        ms    tok/s  x full");
    for (const std::int64_t tokens : sizes_) measure(tokens);
    print_growth();
    for (const std::string& what : left_out_) print_line(cat("left out: ", what));
    figures_.emplace_back("left_out", nn::JsonWriter().add("sizes", left_out_));
    draw(key_value.plot());
    return std::move(figures_);
  }

 private:
  using Passes = std::array<std::optional<Timing>, 2>;  // inference, training
  static constexpr const char* kPassNames[2] = {"inference", "training"};

  // ---- correctness --------------------------------------------------------------------------------------

  /// In f64 on the host, with the picks of the variant itself: VSA and SLA by the definitions of the op table, LLSA
  /// and full attention by the CPU's kernels.
  Vars exact(Context& host, const Variant& variant, const LlsaPlan& plan, const Problem& problem,
             const Vars& x) {
    const Tensor &q = problem.inputs[0], &k = problem.inputs[1];
    if (plan.levels == 0) return {full_attention(x[0], x[1], x[2])};
    kernels::LlsaIndices picks;
    if (variant.kind == Kind::vsa)
      picks = kernels::llsa_select(ctx_, std::vector{kernels::mean_pool(ctx_, q, plan.block)},
                                   std::vector{kernels::mean_pool(ctx_, k, plan.block)}, plan);
    else
      picks = kernels::llsa_select(ctx_, q, k, plan);
    for (Tensor& level : picks.level) level = kernels::transfer(ctx_, level, host);
    if (variant.kind == Kind::llsa) return {llsa_attend(x[0], x[1], x[2], picks, plan)};
    OpSample sample;
    sample.context = &host;
    sample.constants = picks.level;
    sample.plan = plan;
    return variant.kind == Kind::vsa ? definitions::vsa_attention(sample, x)
                                     : definitions::sla_attention(sample, x);
  }

  LlsaPlan plan_to_check(const Variant& variant) const {
    for (std::size_t i = 0; i + 1 < options_.check_tokens.size(); ++i) {
      try {
        return variant.plan(options_.check_tokens[i]);
      } catch (const ValueError&) {  // too few tokens for its levels
      }
    }
    return variant.plan(options_.check_tokens.back());
  }

  void check_variants() {
    const bool narrow = request_.dtype == DType::bf16;
    const double most_o = narrow ? 1e-2 : 1e-5, most_gradient = narrow ? 2e-2 : 3e-5;
    Context host(ctx_.pool().threads());
    double worst_o = 0, worst_gradient = 0;
    for (const Variant& variant : variants_) {
      const LlsaPlan plan = plan_to_check(variant);
      const Problem problem = make_problem(ctx_, 2, plan.tokens, options_.head_dim, request_.dtype);
      const auto wide = [&](const Tensor& x) {
        return kernels::cast(host, kernels::transfer(ctx_, x, host), DType::f64);
      };
      std::vector<Tensor> wide_inputs;
      for (const Tensor& x : problem.inputs) wide_inputs.push_back(wide(x));
      const Vars x = leaves(ctx_, variant, problem.inputs, true),
                 y = leaves(host, variant, wide_inputs, true);
      const Var out = variant.apply(x), expected = exact(host, variant, plan, problem, y).front();
      const double error = relative_l2(ctx_, out.value(), host, expected.value());
      require_correct(cat("o of ", variant.title(), " at ", plan.tokens, " tokens"), error, most_o);
      worst_o = std::max(worst_o, error);
      backward(out, problem.d_o);
      backward(expected, wide(problem.d_o));
      for (std::size_t i = 0; i < x.size(); ++i) {
        const double wrong = relative_l2(ctx_, x[i].grad(), host, y[i].grad());
        require_correct(cat("gradient ", i, " of ", variant.title(), " at ", plan.tokens, " tokens"), wrong,
                        most_gradient);
        worst_gradient = std::max(worst_gradient, wrong);
      }
    }
    print_line(text("correct: all variants against f64 with the same picks: o %.1e, gradients %.1e", worst_o,
                    worst_gradient));
    figures_.emplace_back("correctness", nn::JsonWriter().add("o", worst_o).add("gradients", worst_gradient));
  }

  // ---- Fig. 3 -------------------------------------------------------------------------------------------

  void leave_out(const std::string& what, std::int64_t tokens, const std::string& why) {
    left_out_.push_back(left_out_text(what, tokens, why));
  }

  /// Seconds that a call of full attention will take, from the size before; 0 if that is not known.
  double full_seconds(std::int64_t tokens, std::size_t pass) const {
    const auto& points = times_[pass].find("full");
    if (points == times_[pass].end() || points->second.empty()) return 0;
    const auto& [before, timing] = points->second.back();
    return timing.median * std::pow(static_cast<double>(tokens) / static_cast<double>(before), 2);
  }

  /// Whether the variant can be timed; names it among what is left out if not. The call is its warm-up.
  bool fits(const Variant& variant, const Problem& problem, std::int64_t tokens, std::size_t pass) {
    const std::string name = cat(variant.title(), ", ", kPassNames[pass]);
    if (variant.kind == Kind::full) {
      const double seconds = full_seconds(tokens, pass);
      const bool late = 5 * seconds > request_.budget.left();
      if (late || seconds > options_.longest_call) {
        leave_out(name, tokens,
                  text("a call would take about %.1f s", seconds) +
                      (late ? ", and there is no time left for five" : ""));
        return false;
      }
    }
    try {
      call(ctx_, variant, problem, pass == 1);
      return true;
    } catch (const OutOfMemoryError& error) {
      leave_out(name, tokens, error.what());
      ctx_.allocator()->release_cache();
      return false;
    }
  }

  void measure(std::int64_t tokens) {
    if (request_.budget.spent()) {
      leave_out("Fig. 3", tokens, "the time was up");
      return;
    }
    std::map<std::string, int> levels;  // by key: of the variants that have a plan here
    for (const Variant& variant : variants_) {
      try {
        levels[variant.key()] = variant.plan(tokens).levels;
      } catch (const ValueError& error) {
        leave_out(variant.title(), tokens, error.what());
      }
    }
    const Problem problem = make_problem(ctx_, options_.heads, tokens, options_.head_dim, request_.dtype);
    std::map<std::string, Passes> rows;
    for (std::size_t pass = 0; pass < 2; ++pass) {
      std::vector<TimedCall> calls;
      std::vector<std::string> keys;
      for (const Variant& variant : variants_) {
        const std::string key = variant.key();
        if (levels.count(key) == 0 || !same_as(variant, levels[key]).empty()) continue;
        if (!fits(variant, problem, tokens, pass)) continue;
        keys.push_back(key);
        calls.emplace_back([&, variant, pass](int) { call(ctx_, variant, problem, pass == 1); });
      }
      const std::vector<Timing> timings = time_interleaved(timer_, calls, options_.limits);
      for (std::size_t i = 0; i < keys.size(); ++i) rows[keys[i]][pass] = timings[i];
    }
    for (const Variant& variant : variants_) {
      const std::string key = variant.key();
      if (levels.count(key) == 0) continue;
      const std::string same = same_as(variant, levels[key]);
      if (!same.empty()) rows[key] = rows[same];
      report(variant, tokens, levels[key], rows[key], rows["full"]);
    }
  }

  /// The key of the variant that computes the same as LLSA auto where it resolves to `levels`; otherwise empty.
  static std::string same_as(const Variant& variant, int levels) {
    if (variant.kind != Kind::llsa || variant.levels != kAuto || levels > 3) return {};
    return levels == 0 ? Variant{}.key() : Variant{Kind::llsa, variant.block, levels}.key();
  }

  void report(const Variant& variant, std::int64_t tokens, int levels, const Passes& row,
              const Passes& full) {
    const bool is_auto = variant.kind == Kind::llsa && variant.levels == kAuto;
    const std::string name = is_auto ? cat("auto: L=", levels) : variant.name();
    const std::string block = variant.kind == Kind::full ? "-" : cat(variant.block);
    std::string line =
        text("%7lld  %3s  %-10s  ", static_cast<long long>(tokens), block.c_str(), name.c_str());
    nn::JsonWriter json;
    if (is_auto) json.add("levels", levels);
    bool any = false;
    for (std::size_t pass = 0; pass < 2; ++pass) {
      if (!row[pass]) {
        line += text("| %9s %8s %7s    ", "-", "-", "-");
        continue;
      }
      any = true;
      const Timing& timing = *row[pass];
      const std::string what = kPassNames[pass];
      const double rate = static_cast<double>(tokens) / timing.median;
      line += text("| %9.2f %8s", 1e3 * timing.median, count_text(rate).c_str());
      json.add(what + "_ms", 1e3 * timing.median)
          .add(what + "_p20_ms", 1e3 * timing.p20)
          .add(what + "_p80_ms", 1e3 * timing.p80)
          .add(what + "_tokens_per_second", rate);
      if (full[pass]) {
        const double faster = full[pass]->median / timing.median;
        line += text(" %7.2f    ", faster);
        json.add(what + "_times_faster_than_full", faster);
      } else {
        line += text(" %7s    ", "-");
      }
      times_[pass][variant.key()].emplace_back(tokens, timing);
    }
    if (!any) {  // named among what is left out, unless it is the copy of another
      if (is_auto) leave_out(variant.title(), tokens, "it is full attention there, which is left out");
      return;
    }
    print_line(line);
    figures_.emplace_back(cat(variant.key(), "_", tokens), json);
  }

  std::optional<double> exponent_of(const std::string& key, std::size_t pass) const {
    const auto found = times_[pass].find(key);
    if (found == times_[pass].end()) return std::nullopt;
    std::vector<std::pair<double, double>> points;
    for (const auto& [tokens, timing] : found->second)
      points.emplace_back(static_cast<double>(tokens), timing.median);
    return growth_exponent(points);
  }

  void print_growth() {
    print_line("growth: time ~ N^p over the larger half of the sizes, p for inference and for training");
    for (const Variant& variant : variants_) {
      std::string line = text("  %-18s", variant.title().c_str());
      nn::JsonWriter json;
      for (std::size_t pass = 0; pass < 2; ++pass) {
        const std::optional<double> exponent = exponent_of(variant.key(), pass);
        line += exponent ? text("  %5.2f", *exponent) : std::string("  fewer than two sizes");
        if (exponent)
          json.add(kPassNames[pass], *exponent);
        else
          json.add_null(kPassNames[pass]);
      }
      print_line(line);
      figures_.emplace_back(cat("growth_", variant.key()), json);
    }
  }

  // ---- plots --------------------------------------------------------------------------------------------

  std::vector<PlotSeries> time_series(int block, std::size_t pass) const {
    std::vector<PlotSeries> all;
    for (const Variant& variant : variants_) {
      if (variant.kind != Kind::full && variant.block != block) continue;
      const auto found = times_[pass].find(variant.key());
      if (found == times_[pass].end()) continue;
      PlotSeries series{variant.name(), {}};
      for (const auto& [tokens, timing] : found->second)
        series.points.push_back(
            {static_cast<double>(tokens), 1e3 * timing.median, 1e3 * (timing.p80 - timing.p20) / 2});
      all.push_back(std::move(series));
    }
    return all;
  }

  void draw(const Plot& key_value) {
    if (request_.plots.empty()) return;
    std::vector<std::pair<std::string, Plot>> plots;
    for (const int block : options_.blocks)
      for (std::size_t pass = 0; pass < 2; ++pass)
        plots.emplace_back(cat("attention_b", block, "_", kPassNames[pass]),
                           Plot{cat("Attention alone, ", kPassNames[pass], ", B = ", block,
                                    setting_text(ctx_, options_.heads, options_.head_dim, request_.dtype)),
                                "tokens", "time of a call (ms)", true, true, time_series(block, pass)});
    plots.emplace_back("key_value_backward", key_value);
    bool pictures = true, any = false;
    for (const auto& [name, plot] : plots) {
      const bool empty = std::all_of(plot.series.begin(), plot.series.end(),
                                     [](const PlotSeries& series) { return series.points.empty(); });
      if (empty) {
        print_line(cat("no plot ", name, ": nothing was measured for it"));
        continue;
      }
      pictures = write_plot(plot, request_.plots, name) && pictures;
      any = true;
    }
    if (any && pictures)
      print_line(cat("plots, as SVG and PNG with data and scripts: ", request_.plots));
    else if (any)
      print_line(
          cat("gnuplot is not installed, so there are no pictures; data and scripts: ", request_.plots));
  }

  const BenchRequest& request_;
  const PaperOptions& options_;
  Context& ctx_;
  CallTimer timer_;
  std::vector<Variant> variants_;
  std::vector<std::int64_t> sizes_;
  Figures figures_;
  std::vector<std::string> left_out_;
  std::map<std::string, std::vector<std::pair<std::int64_t, Timing>>> times_[2];  // by pass and key
};

}  // namespace

std::optional<double> growth_exponent(const std::vector<std::pair<double, double>>& points) {
  if (points.size() < 2) return std::nullopt;
  const std::size_t used = std::max<std::size_t>(2, (points.size() + 1) / 2);
  double x = 0, y = 0, xx = 0, xy = 0;
  for (std::size_t i = points.size() - used; i < points.size(); ++i) {
    const double a = std::log(points[i].first), b = std::log(points[i].second);
    x += a;
    y += b;
    xx += a * a;
    xy += a * b;
  }
  const double n = static_cast<double>(used);
  return (n * xy - x * y) / (n * xx - x * x);
}

Figures bench_paper(const BenchRequest& request, const PaperOptions& options) {
  return PaperBench(request, options).run();
}

Figures bench_paper(const BenchRequest& request) { return bench_paper(request, {}); }

}  // namespace llsa::apps
