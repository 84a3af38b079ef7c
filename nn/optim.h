// Optimisers over the flat buffers of a model's parameters: AdamW and Sgd, with clipping by the global
// gradient norm, parameters that do not decay, frozen parameters, and the average in the same pass.
//
//   AdamW adam(params, {.weight_decay = 0.1, .clip = 1.0, .decays = is_matrix});
//   for (...) {
//     backward(loss);        // adds to the gradients; call it several times to accumulate
//     adam.step(1e-3);       // updates, then sets the gradients to zero
//   }
//
// With f = min(1, clip / (|gradient| + 1e-6)), or 1 without clipping, in step n:
//
//   AdamW   g = f gradient;   m = b1 m + (1 - b1) g;   v = b2 v + (1 - b2) g^2
//           w = w (1 - lr wd) - lr (m / (1 - b1^n)) / (sqrt(v / (1 - b2^n)) + eps)
//   Sgd     g = f gradient + wd w;   v = momentum v + g;   w = w - lr v
//
// AdamW: Loshchilov and Hutter, 2019. A gradient that is not finite leaves weights, moments, average and step
// number as they are, and so does every later step, so that its cause can still be looked for.
//
// Norm, learning rate, step number and the flag of a gradient that is not finite live in tensors, the same
// ones in every step. So a step does not wait for the device, and update() may be captured in a graph. One
// pass over memory updates all parameters; where some decay and others do not, or some are frozen, it is one
// launch for each run of parameters that are treated alike.
//
// Where processes share the parameters (Parameters::share), an optimiser keeps and updates the slice of its process, and
// every process then gets all new weights. The buffers of an optimiser are slices then.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "../core/context.h"
#include "../kernels/optim.h"
#include "ema.h"
#include "parameters.h"

namespace llsa::nn {

/// Says which parameters a rule applies to; an empty one stands for all.
using ParameterFilter = std::function<bool(const Parameter&)>;

/// A weight with two axes or more: what decays while biases, norms and other vectors do not. Pass it as
/// `decays` of an optimiser.
inline bool is_matrix(const Parameter& parameter) { return parameter.shape.rank() > 1; }

/// What all optimisers have in common.
class Optimizer {
 public:
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  /// One update of the weights, and of the average when there is one. Then the gradients are zero.
  void step(double learning_rate, Ema* ema = nullptr) {
    prepare(learning_rate);
    update(ema);
  }
  /// The two halves of step(): what comes from the host, and the work on the device. The second is the same
  /// launches on the same addresses each time, as long as no parameter is frozen or unfrozen. `gradient` is this
  /// process's slice of a gradient to use in place of that of the parameters; it becomes zero, too. Collective where the
  /// parameters are shared.
  void prepare(double learning_rate);
  void update(Ema* ema = nullptr, const Tensor& gradient = {});

  /// f64 [1]: norm of the gradient of the last step, before clipping (0 before the first).
  const Tensor& gradient_norm() const { return clip_.norm; }
  /// i32 [1]: 1 when the last step was skipped: its gradient, or an earlier one, was not finite.
  const Tensor& skipped() const { return clip_.skip; }
  /// i64 [1]: updates done; calls of step() minus skipped ones.
  const Tensor& updates() const { return step_; }
  /// Calls of step(), and updates before them if restored.
  std::int64_t calls() const { return calls_; }
  /// How many steps were skipped so far. Waits for the device.
  std::int64_t count_skipped() const;

  /// What a saved state has to hold: the buffers that the optimiser keeps from step to step, each with a name. They are
  /// this process's slices of flat buffers.
  virtual std::vector<std::pair<std::string, Tensor>> buffers() const = 0;
  /// Continues from a saved state: copies flat buffers, of which buffers() are slices, in the same order. Throws ShapeError for another number of tensors or another layout, ValueError for a negative number of updates.
  void restore(const std::vector<Tensor>& saved, std::int64_t updates);

 protected:
  /// Elements [begin, end) of the own slices of the flat buffers, which are treated alike.
  struct Run {
    std::int64_t begin, end;
    bool frozen, decays;

    Tensor of(const Tensor& slice) const { return slice.defined() ? slice.slice(0, begin, end) : slice; }
  };

  /// Lays the parameters out. Throws ValueError for a negative clip norm.
  Optimizer(Parameters& params, double clip, ParameterFilter decays);

  /// Updates the weights of a run, and the part of the average that belongs to it. `gradient` is the own slice.
  virtual void update_run(const Run& run, const Tensor& gradient, Ema* ema, const Tensor& decay) = 0;
  /// The own slices of the weights and of their bf16 copy.
  Tensor weights() const { return params_.slices().of(params_.flat()); }
  Tensor low() const { return params_.slices().of(params_.low()); }

  Parameters& params_;
  Tensor lr_, step_;
  kernels::ClipResult clip_;

 private:
  std::vector<Run> runs() const;
  void measure(const std::vector<Run>& runs, const Tensor& gradient);

  double max_norm_;
  ParameterFilter decays_;
  std::int64_t calls_ = 0;
};

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 1e-2;
  double clip = 0.0;            ///< largest gradient norm; 0 = no clipping
  ParameterFilter decays = {};  ///< to which parameters the weight decay applies; empty = to all
};

class AdamW : public Optimizer {
 public:
  /// The parameters must outlive the optimiser.
  explicit AdamW(Parameters& params, const AdamWOptions& options = {});

  /// First and second moment: the own slices.
  const Tensor& first_moment() const { return m_; }
  const Tensor& second_moment() const { return v_; }
  std::vector<std::pair<std::string, Tensor>> buffers() const override {
    return {{"adam_m", m_}, {"adam_v", v_}};
  }

 private:
  void update_run(const Run& run, const Tensor& gradient, Ema* ema, const Tensor& decay) override;

  kernels::AdamWOptions options_;
  Tensor m_, v_;
};

struct SgdOptions {
  double momentum = 0.0, weight_decay = 0.0;
  double clip = 0.0;            ///< largest gradient norm; 0 = no clipping
  ParameterFilter decays = {};  ///< to which parameters the weight decay applies; empty = to all
};

/// Stochastic gradient descent. Without momentum it keeps no state.
class Sgd : public Optimizer {
 public:
  /// The parameters must outlive the optimiser.
  explicit Sgd(Parameters& params, const SgdOptions& options = {});

  /// The velocity v, the own slice; undefined without momentum.
  const Tensor& velocity() const { return v_; }
  std::vector<std::pair<std::string, Tensor>> buffers() const override {
    if (!v_.defined()) return {};
    return {{"sgd_v", v_}};
  }

 private:
  void update_run(const Run& run, const Tensor& gradient, Ema* ema, const Tensor& decay) override;

  kernels::SgdOptions options_;
  Tensor v_;
};

}  // namespace llsa::nn
