// The folder of `llsa sample --each`: a PNG for every image, and a table of them.
//
//   000000.png, 000001.png, ..
//   labels.csv                    file,class,seed
//
// Class is the name of the class, or its number if nobody knows its name, empty for a model without classes. A name with a
// comma, a quote or a line end stands in quotes, as in RFC 4180. Files are written as images are drawn, and every picture
// before its row, so that the table never names a picture that is not there.
#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "core/tensor.h"

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
  /// Makes the folder if there is none. Throws IoError, naming them, where it holds images: under `refuse` any, under
  /// `replace` and `resume` those that no earlier call drew; ValueError under `resume` where the earlier call drew other
  /// classes or with another seed.
  SampleFolder(std::string path, SampleLabels labels, Earlier earlier);

  /// Images that are there, the first ones.
  std::int64_t done() const { return done_; }
  /// Writes the images after those, [n,3,H,W].
  void add(const Tensor& images);

 private:
  std::string path_;
  SampleLabels labels_;
  std::int64_t done_ = 0;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> table_;
};

}  // namespace llsa::apps
