// A report on a folder of images before a run: formats, sizes, damage that only decoding finds, copies, and
// images as the model will see them.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "../../core/thread_pool.h"
#include "../callbacks.h"
#include "image_folder.h"

namespace llsa::nn {

struct DataReport {
  std::map<std::string, std::int64_t> formats;  ///< images by format
  std::int64_t smallest[2] = {0, 0};            ///< height and width of the image with the fewest pixels
  std::int64_t largest[2] = {0, 0};
  std::int64_t median_side = 0;      ///< of the shorter sides
  std::int64_t enlarged = 0;         ///< images that do not cover the wanted size
  std::vector<std::int64_t> usable;  ///< indices of the images that can be decoded and resized
  std::vector<SkippedFile> damaged;  ///< all others: training skips them
  /// Indices of files that are equal byte by byte, two or more in each group.
  std::vector<std::vector<std::int64_t>> copies;
  std::int64_t copies_across_classes = 0;  ///< groups whose images are of more than one class
};

/// Decodes and resizes every image of the folder as training at height x width does. A file that disappears meanwhile is
/// one of the damaged ones. Progress is counted in images; should_stop is never called.
DataReport report_on(ThreadPool& pool, const ImageFolder& folder, int height, int width,
                     const Callbacks& callbacks = {});

/// Chooses at most `count` of the given images, equally many of each class as far as there are enough. The images of a
/// class stay together, in random order (Philox, seed 0).
std::vector<std::int64_t> choose_images(const ImageFolder& folder, const std::vector<std::int64_t>& usable,
                                        std::int64_t count);

}  // namespace llsa::nn
