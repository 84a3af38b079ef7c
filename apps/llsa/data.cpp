#include <unistd.h>

#include <cstdio>

#include "apps/llsa/commands.h"
#include "nn/data/shapes.h"

namespace llsa::apps {

int run_data_shapes(const DataShapesArgs& args) {
  nn::ShapesOptions options;
  options.out = args.out;
  options.count = args.count;
  options.size = args.size;
  options.seed = args.seed;
  options.replace = args.replace;
  const bool live = isatty(STDERR_FILENO) != 0;
  nn::Callbacks callbacks;
  if (live)
    callbacks.on_progress = [](std::int64_t done, std::int64_t total) {
      if (done % 200 == 0)
        std::fprintf(stderr, "\r%lld / %lld images", static_cast<long long>(done),
                     static_cast<long long>(total));
    };
  nn::write_shapes(options, callbacks);
  if (live) std::fprintf(stderr, "\r\033[K");
  std::printf("%lld images of %d x %d pixels in %zu classes: %s\n", static_cast<long long>(args.count),
              args.size, args.size, nn::shape_names().size(), args.out.c_str());
  return 0;
}

}  // namespace llsa::apps
