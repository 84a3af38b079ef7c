// The parameters of a model. Layers declare them, and everything that trains, averages or saves a model works
// on all of them at once.
//
//   Context ctx;
//   Parameters params(ctx, /*seed=*/0);
//   Linear layer(params, "layer", 2, 128);       // declares layer.weight and layer.bias
//   std::cout << params;                         // a table of names and shapes
//
// A declared parameter can be used at once. All values then move into one flat buffer, and all gradients into
// another, as soon as somebody asks for these buffers: an optimiser, an average, save(), load(). An optimiser
// so makes one pass over memory, however many parameters there are. The leaves stay what they were, because a
// Var is a handle: it is pointed at the new place. No parameter can be declared after that.
//
// The master values are f32 (f64 for a model in f64). A model in bf16 computes with a bf16 copy of them, and
// still sums its gradients in f32.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "../autograd/var.h"
#include "../core/context.h"
#include "../core/tensor.h"
#include "init.h"
#include "slices.h"

namespace llsa::nn {

/// A parameter as a layer declares it.
struct ParameterSpec {
  std::string name;
  Shape shape;
  Init init;
};

/// A declared parameter.
struct Parameter {
  std::string name;
  Shape shape;
  std::int64_t offset = 0;  ///< in elements, from the start of the flat buffers
  Var var;                  ///< leaf that holds the value a model computes with, and the gradient
  bool frozen = false;      ///< gets no gradient and is left alone by optimisers; saved all the same
};

/// Owns values and gradients. It cannot be copied or moved: layers and optimisers refer to it. It belongs to
/// one thread at a time.
class Parameters {
 public:
  /// No parameters yet. `dtype` (f32, bf16, f64) is what the model computes with. The context must outlive
  /// this object. Throws DTypeError for another dtype.
  explicit Parameters(Context& ctx, std::uint64_t seed = 0, DType dtype = DType::f32);
  Parameters(const Parameters&) = delete;
  Parameters& operator=(const Parameters&) = delete;

  /// Adds a parameter and returns its leaf. Its first values are Philox numbers keyed by (seed, name), so
  /// they do not depend on which other parameters there are. Throws ValueError for a name that is empty or
  /// taken, and once the flat buffers are laid out.
  Var declare(const std::string& name, const Shape& shape, const Init& init);
  /// Adds several parameters that lie one behind the other in memory, without padding, and returns one leaf
  /// of `shape` over all of them: the projections to q, k and v become one product. Each part keeps its own
  /// name, shape and first values. Throws also ShapeError if `shape` has another number of elements.
  Var declare_joined(const std::vector<ParameterSpec>& parts, const Shape& shape);

  Context& context() const { return ctx_; }
  DType dtype() const { return dtype_; }
  /// In the order of declaration, which is the order in memory.
  const std::vector<Parameter>& all() const { return parameters_; }
  auto begin() const { return parameters_.begin(); }
  auto end() const { return parameters_.end(); }
  bool contains(const std::string& name) const { return index_.count(name) != 0; }
  /// Throws ValueError naming the closest existing name.
  const Parameter& find(const std::string& name) const;
  const Var& at(const std::string& name) const { return find(name).var; }
  /// Sum of the parameters' elements, without padding.
  std::int64_t parameter_count() const { return parameter_count_; }

  /// Moves all parameters into the flat buffers, once. Everything below does this when it is first called;
  /// call it yourself before you store an address, as a captured graph does.
  void lay_out() const;
  /// Flat master values, f32 or f64 [flat_size]. Every parameter starts at a multiple of 64 bytes, unless it
  /// was joined to its predecessor; the padding between holds zeros.
  const Tensor& flat() const { return flat_buffers().values; }
  /// Flat gradients, same size and dtype as flat().
  const Tensor& flat_grad() const { return flat_buffers().gradient; }
  std::int64_t flat_size() const;
  /// What a bf16 model computes with: flat() rounded. Undefined for other models, which compute with flat().
  Tensor low() const;
  /// View of any flat buffer of this layout (values, gradient, average, moments) in the shape of one
  /// parameter.
  Tensor view(const Tensor& flat, const Parameter& parameter) const;
  /// A new zero-filled buffer of this layout, in the dtype of flat().
  Tensor zeros_like_flat() const;

  /// Divides the flat buffers among the processes of a run, which must outlive this object. Optimisers and averages that are
  /// made afterwards keep and update the slice of this process alone; weights and gradients stay whole. All processes
  /// then have to do the same.
  void share(Communicator& ranks);
  /// The slices of the processes; without share() there is one, which is everything.
  const Slices& slices() const;

  /// Freezes, or trains again, all parameters below a name: "encoder" stands for encoder.weight, encoder.0.bias,
  /// .., but not for encoder2.weight; a whole name stands for that parameter, "" for all. A frozen parameter
  /// starts with a gradient of zero and does not require one. Throws ValueError if no parameter is meant,
  /// naming the closest name.
  void freeze(const std::string& name) { set_frozen(name, true); }
  void unfreeze(const std::string& name) { set_frozen(name, false); }

  void zero_grad();
  /// Call this after you wrote to flat(): it brings the bf16 copy up to date, if there is one.
  void refresh();
  /// Copies a whole flat buffer of this layout into the master values, and refreshes.
  void load(const Tensor& flat);

 private:
  /// The memory of all parameters, or of one declaration before they are laid out.
  struct Buffers {
    Tensor values;    // master values
    Tensor compute;   // a bf16 copy, or `values` itself
    Tensor gradient;  // in the dtype of `values`
  };
  struct Joined {
    Var var;
    std::int64_t offset;
  };
  struct Piece {
    std::int64_t offset;
    Buffers buffers;
  };

  const Buffers& flat_buffers() const {
    lay_out();
    return flat_;
  }
  Buffers make_buffers(std::int64_t size) const;
  void round_values(const Buffers& buffers) const;
  Var make_leaf(const Buffers& buffers, const Shape& shape, std::int64_t offset) const;
  void move_leaf(Var leaf, std::int64_t offset) const;
  void set_frozen(const std::string& name, bool frozen);

  Context& ctx_;
  std::uint64_t seed_;
  DType dtype_;
  std::vector<Parameter> parameters_;
  std::vector<Joined> joined_;
  std::unordered_map<std::string, std::size_t> index_;
  std::int64_t parameter_count_ = 0;
  std::int64_t end_ = 0;               // of the last parameter, in elements
  mutable std::vector<Piece> pieces_;  // one for each declaration; none once laid out
  mutable Buffers flat_;               // undefined before that
  mutable std::optional<Slices> slices_;
};

/// A table of names, shapes and numbers of elements.
std::ostream& operator<<(std::ostream& out, const Parameters& params);

/// Until restore(), or the end of this object's life, the parameters hold other values, such as those of an
/// average.
class ScopedWeights {
 public:
  ScopedWeights(Parameters& parameters, const Tensor& flat);
  ~ScopedWeights();
  ScopedWeights(const ScopedWeights&) = delete;
  ScopedWeights& operator=(const ScopedWeights&) = delete;

  /// Puts the own values back. The destructor does so, too, but hides the error of a device that failed
  /// meanwhile.
  void restore();

 private:
  Parameters& parameters_;
  Tensor own_;
};

}  // namespace llsa::nn
