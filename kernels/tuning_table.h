// The choice of algorithms for matrix products, as the backends provide it.
#pragma once

#include <map>
#include <string>

#include "../core/context.h"

namespace llsa::kernels {

/// How the products of a context are computed. The texts are the backend's own; they hold no spaces at their
/// ends, no line ends and nothing but ASCII.
struct ProductChoices {
  std::string machine;                            ///< device, library and version that they are good for
  std::map<std::string, std::string> algorithms;  ///< kind of product -> its algorithm
};

struct TuningBackend {
  /// Whether the kinds of products that are new from now on are timed.
  void (*tune)(Context& ctx, bool on);
  /// The machine; all choices that were restored, or made since the context first tuned or restored any.
  ProductChoices (*choices)(Context& ctx);
  /// Takes choices over; false, with nothing done, when they are another machine's.
  bool (*restore)(Context& ctx, const ProductChoices& choices);
};

}  // namespace llsa::kernels
