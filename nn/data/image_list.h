// The list of the images that a run trains on. Its checkpoints hold it, so that a run that is resumed on other images can say
// which ones were added, removed or changed.
//
// Every image has a record "HASH LABEL PATH" that ends with a zero byte, because a path may hold any other byte: the hash of
// its content and its label as decimal numbers, and its path below the root. The records are in byte order of the paths.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "image_folder.h"

namespace llsa::nn {

std::string image_list(const std::vector<ImageEntry>& entries);

/// The images of such a list; nothing if the text is none.
std::optional<std::vector<ImageEntry>> parse_image_list(std::string_view text);

/// "2 images added (a.png, b.png), 0 removed, 1 changed (c.png)", with the first few paths of each kind. A changed image has
/// another content or label under the same path. Both lists are in byte order of the paths.
std::string image_changes(const std::vector<ImageEntry>& before, const std::vector<ImageEntry>& now);

}  // namespace llsa::nn
