#include <cstdio>

#include "apps/llsa/commands.h"
#include "apps/llsa/progress.h"
#include "nn/data/shapes.h"

namespace llsa::apps {

int run_data_shapes(const DataShapesArgs& args) {
  nn::ShapesOptions options;
  options.out = args.out;
  options.count = args.count;
  options.size = args.size;
  options.seed = args.seed;
  options.replace = args.replace;
  {
    Counter counter("made");
    nn::write_shapes(options, counter.callbacks());
  }
  std::printf("%lld images of %d x %d pixels in %zu classes: %s\n", static_cast<long long>(args.count),
              args.size, args.size, nn::shape_names().size(), args.out.c_str());
  return 0;
}

}  // namespace llsa::apps
