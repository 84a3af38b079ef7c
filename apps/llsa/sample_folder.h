// The folder of `llsa sample --each`: a PNG for every image, a table of them, and the settings with which they are drawn.
//
//   000000.png, 000001.png, ..
//   labels.csv                    file,class,seed
//   sample.json                   checkpoint, guidance, steps, ..: a later call with --resume has to have the same ones
//
// `class` is the name of the class, or its number if the name is unknown; it is empty for a model without classes. A name
// with a comma, a quote or a line end stands in quotes, as in RFC 4180. Every picture is written before its row, so the
// table never names a picture that does not exist.
#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "nn/json.h"

namespace llsa::apps {

/// What to do with the images of an earlier call.
enum class Earlier { refuse, replace, resume };

/// What the rows of a table say. Image i has the class classes[i % size].
struct SampleLabels {
  std::vector<std::string> classes;
  std::uint64_t seed = 0;
  std::string row(std::int64_t image) const;
};

class SampleFolder {
 public:
  /// Makes the folder if there is none. Throws IoError, naming them, if the folder holds images that may not stay or be
  /// replaced: under `refuse` any images, under `replace` and `resume` those that no earlier call drew. Throws ValueError
  /// under `resume` if the earlier call drew other classes, had another seed, or had another value of a setting; it names
  /// both values. If "weights", a key before "checkpoint", is equal, "checkpoint" may differ: it is only their place.
  SampleFolder(std::string path, SampleLabels labels, Earlier earlier, const nn::JsonWriter& settings = {});

  /// How many images, from the first on, exist already.
  std::int64_t done() const { return done_; }
  /// Writes the next images, [n,3,H,W].
  void add(const Tensor& images);

 private:
  std::string path_;
  SampleLabels labels_;
  std::int64_t done_ = 0;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> table_;
};

}  // namespace llsa::apps
