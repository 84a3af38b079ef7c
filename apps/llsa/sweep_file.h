// The file of a sweep: variants of one training configuration, seeds, and plots of what comes out.
//
//   {
//     "base": {"data": "shapes", "held_out": "5%", "steps": 2000, "eval_every": 500},
//     "variants": {
//       "full": {"llsa_attention": "full"},
//       "llsa": {"llsa_attention": "llsa", "llsa_levels": 1},
//       "large": {"from": "llsa", "sample_size": 32}
//     },
//     "seeds": [0, 1],
//     "plots": {"speed": {"x": "tokens_per_second", "y": "held_out_loss"}}
//   }
//
// base and variants have the keys of a training configuration (docs/configuration.md); a variant's come on top of the
// base's. `from` names a variant whose averaged weights this one starts from, seed by seed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "nn/train_options.h"

namespace llsa::apps {

struct SweepVariant {
  std::string name;
  std::string from;          ///< the variant that it starts from; empty = new weights
  nn::TrainOptions options;  ///< but for seed and init_from
  /// The keys of the configuration that name a number, and their values.
  std::vector<std::pair<std::string, double>> numbers;
};

/// A column of the table. With several seeds, the table shows mean and spread.
struct SweepMeasure {
  const char* key;
  const char* title;
  int digits;  ///< behind the point
};
const std::vector<SweepMeasure>& sweep_measures();

/// Each variant is a point (x, y): measures, or numbers of the configuration. Variants that agree in `series`, a key
/// of the configuration, are joined by a line.
struct SweepPlot {
  std::string name, x, y, series;
};

struct Sweep {
  std::vector<SweepVariant> variants;  ///< in the order in which they can run: `from` comes before
  std::vector<std::int64_t> seeds;
  std::vector<SweepPlot> plots;
};

/// Throws ValueError, naming file, variant and key, for unknown keys, a variant or key that is named twice, names that
/// are no file names, a `from` that does not exist or goes in a circle, and whatever TrainOptions::parse refuses.
Sweep parse_sweep(const std::string& text, const std::string& where);

}  // namespace llsa::apps
