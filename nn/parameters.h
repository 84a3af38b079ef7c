// The parameters of a model: one flat buffer of values, one of gradients, and named views of both.
//
// What an optimiser, an average or a checkpoint does to a model it does to flat buffers: one pass over memory
// whatever the number of parameters. The master values are f32 (f64 for a model in f64). A model in bf16
// computes with a flat bf16 copy, refreshed by refresh() after the master values have changed; its gradients
// are still summed in f32.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "../autograd/var.h"
#include "../core/context.h"
#include "../core/tensor.h"
#include "init.h"

namespace llsa::nn {

/// One parameter as a model declares it.
struct ParameterSpec {
  std::string name;
  Shape shape;
  Init init;
  /// Placed right behind its predecessor without padding, so that both can be used as one tensor
  /// (ParameterStore::joined).
  bool adjacent = false;
};

/// A parameter in its store.
struct Parameter {
  std::string name;
  Shape shape;
  std::int64_t offset = 0;  ///< in elements, from the start of the flat buffers
  Var var;                  ///< leaf over the compute copy; its gradient is the view of the flat gradient
};

/// Owns the values and gradients. Not copyable: Vars are views of it.
class ParameterStore {
 public:
  /// Allocates, and initialises every parameter from Philox numbers keyed by (seed, its name), so a
  /// parameter's start does not depend on which others there are. `dtype` (f32, bf16, f64) is what the model
  /// computes with. Throws ValueError for a duplicate or empty name, DTypeError for another dtype.
  ParameterStore(Context& ctx, const std::vector<ParameterSpec>& specs, std::uint64_t seed,
                 DType dtype = DType::f32);
  ParameterStore(const ParameterStore&) = delete;
  ParameterStore& operator=(const ParameterStore&) = delete;

  Context& context() const { return ctx_; }
  DType dtype() const { return dtype_; }
  /// In declaration order, which is the order in memory.
  const std::vector<Parameter>& all() const { return parameters_; }
  bool contains(const std::string& name) const { return index_.count(name) != 0; }
  /// Throws ValueError naming the closest existing name.
  const Parameter& find(const std::string& name) const;
  const Var& at(const std::string& name) const { return find(name).var; }
  /// Sum of the parameters' elements, without padding.
  std::int64_t parameter_count() const { return parameter_count_; }

  /// One leaf of the given shape over parameters that lie one behind the other; its gradient is theirs.
  /// Throws ValueError if they are not adjacent, ShapeError if the shape has another number of elements.
  Var joined(const std::vector<std::string>& names, const Shape& shape) const;

  /// Flat master values, f32 or f64 [flat_size]; padding is zero.
  const Tensor& flat() const { return flat_; }
  /// Flat gradients, same size and dtype as flat().
  const Tensor& flat_grad() const { return flat_grad_; }
  std::int64_t flat_size() const { return flat_.numel(); }
  /// What a bf16 model computes with: flat() rounded. Undefined for other models, which compute with flat().
  Tensor low() const { return compute_.dtype() == flat_.dtype() ? Tensor() : compute_; }
  /// View of any flat buffer of this layout (master, gradient, EMA, moments) in the shape of one parameter.
  Tensor view(const Tensor& flat, const Parameter& parameter) const;
  /// A new zero-filled buffer of this layout, in the dtype of flat().
  Tensor zeros_like_flat() const;

  void zero_grad();
  /// To be called after writing to flat() alone: brings the compute copy up to date (bf16; nothing to do
  /// otherwise). An optimiser writes both in one pass.
  void refresh();
  /// Copies a whole flat buffer of this layout into the master values, and refreshes.
  void load(const Tensor& flat);

 private:
  Context& ctx_;
  DType dtype_;
  std::vector<Parameter> parameters_;
  std::unordered_map<std::string, std::size_t> index_;
  std::int64_t parameter_count_ = 0;
  Tensor flat_;
  Tensor flat_grad_;
  Tensor compute_;
};

/// Until restore(), or the end of its life, the store holds other weights (those of an EMA, say).
class ScopedWeights {
 public:
  ScopedWeights(ParameterStore& store, const Tensor& flat);
  ~ScopedWeights();
  ScopedWeights(const ScopedWeights&) = delete;
  ScopedWeights& operator=(const ScopedWeights&) = delete;

  /// Puts the own weights back. Left to the destructor, a device that fails meanwhile goes unnoticed.
  void restore();

 private:
  ParameterStore& store_;
  Tensor own_;
};

}  // namespace llsa::nn
