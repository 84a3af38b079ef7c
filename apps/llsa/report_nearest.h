// Is a model copying? The training images that are nearest to its samples, by two distances.
//
// * Pixels: both images are made smaller, to at most 16 pixels a side, and the distance is the root of the mean squared
//   difference of their channels, each from 0 to 1.
// * Features: the Euclidean distance of the random features of nn/eval/frechet.h, each divided by its standard deviation
//   over the training images. It compares texture and colours rather than positions.
//
// The training images themselves set the scale: `usual` is the median, over as many training images as there are samples,
// of the distance to the nearest other training image.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "core/context.h"
#include "nn/data/image_folder.h"

namespace llsa::apps {

inline constexpr std::array kDistanceNames = {"small pixels", "random features"};

struct Neighbour {
  std::string path;  ///< of the training image, below the folder
  nn::Image image;   ///< at the size of the samples
  double distance = 0;
};

/// Of one sample: the nearest training image by each distance.
using Neighbours = std::array<Neighbour, kDistanceNames.size()>;

struct NearestImages {
  std::vector<Neighbours> of_samples;
  std::array<double, kDistanceNames.size()> usual =
      {};                     ///< median distance of training images to the nearest other
  std::int64_t searched = 0;  ///< training images
};

/// Searches at most `most` images of the folder, which are chosen by Philox, at the size of the samples, cropped at the
/// centre. With `mirrored` their mirror images count, too. Files that cannot be decoded are left out. Throws ValueError
/// unless two images are left.
NearestImages find_nearest(Context& ctx, const nn::ImageFolder& folder, const std::vector<nn::Image>& samples,
                           bool mirrored, std::int64_t most);

}  // namespace llsa::apps
