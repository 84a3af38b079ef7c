// Which algorithm computes a matrix product, where a library offers several.
//
// A kind of product is its dtype, sizes, layouts, alignments, and what is done to it on the way to memory.
// Its first product settles how all of its products are computed in that context: by the algorithm that the
// library believes to be the fastest, or, while the context tunes, by the fastest of the first eight, which
// are timed. Algorithms add in different orders, hence give different last bits: who wants the same bits
// again in another process, without trusting its clock, takes the choices along.
//
// Only CUDA contexts have a choice; on the CPU nothing is ever timed or stored.
#pragma once

#include "tuning_table.h"

namespace llsa::kernels {

/// Whether the kinds of products that are new from now on are timed; off at first. Such a product waits for
/// the device, unless its stream is being captured into a graph: it is then not timed. Throws DeviceError.
void tune_products(Context& ctx, bool on);

/// Every choice since the context first tuned or had choices restored, timed or not, and the restored ones.
ProductChoices product_choices(Context& ctx);

/// The kinds named there that the context has not met yet will be computed as stored. False, with nothing
/// done, when the choices are another machine's. Throws ValueError, with nothing done, for a text that is no
/// algorithm; a kind's first product throws CudaError when the library refuses the one stored for it.
bool restore_product_choices(Context& ctx, const ProductChoices& choices);

}  // namespace llsa::kernels
