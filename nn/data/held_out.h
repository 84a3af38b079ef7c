// Images that are held out of training, so that a model can be measured on images that it has not seen.
//
// They are a folder of their own, or a share of the training images. An image belongs to the share when a
// hash of its content, read as a fraction of 1, is less than the share. So images that are added, renamed or
// moved later change nothing for the others, all copies of an image are on one side, and a larger share contains a
// smaller one.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "image_folder.h"

namespace llsa::nn {

/// The share that a text such as "5%" or "0.5%" stands for: 0.05, 0.005. Nothing for a text without "%", which
/// names a folder. Throws ValueError unless it is above 0 and at most 50 %.
std::optional<double> held_out_share(std::string_view text);

/// The hash of an image: 64 bits, of its content.
std::uint64_t image_hash(const ImageEntry& entry);

struct HeldOutSplit {
  std::shared_ptr<const ImageFolder> training;
  std::shared_ptr<const ImageFolder> held_out;  ///< null when nothing is held out
};

/// Splits off what `held_out` names: nothing (""), a share of `images`, or another folder. With `classes`, the other
/// folder is read with the training images' setting (ImageFolder::classes()), and its classes are matched to theirs
/// by name. Throws ValueError for a share of which no image is held out or none is left to train on, for a class that the
/// training images do not have, and for a held-out file that is also a training image (through a link, or
/// because one folder lies in the other); IoError as ImageFolder.
HeldOutSplit hold_out(const std::shared_ptr<const ImageFolder>& images, const std::string& held_out,
                      const DecodeOptions& decode, bool classes);

/// A sentence about held-out images that are copies of training images: a model that memorises its training images knows
/// them. Empty when there are none.
std::string copies_text(const ImageFolder& training, const ImageFolder& held_out);

}  // namespace llsa::nn
