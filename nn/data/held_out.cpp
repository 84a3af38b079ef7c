#include "nn/data/held_out.h"

#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/number.h"
#include "core/philox.h"
#include "nn/init.h"

namespace llsa::nn {
namespace {

// What names a file whatever its path is.
using FileId = std::pair<dev_t, ino_t>;

std::optional<FileId> file_id(const ImageFolder& folder, const ImageEntry& entry) {
  struct stat info = {};
  if (::stat((folder.root() + "/" + entry.path).c_str(), &info) != 0) return std::nullopt;  // gone meanwhile
  return FileId{info.st_dev, info.st_ino};
}

// A model that is trained on a held-out image under another name has seen it.
void require_apart(const ImageFolder& training, const ImageFolder& held_out) {
  std::map<FileId, const ImageEntry*> files;
  for (const ImageEntry& entry : held_out.entries())
    if (const auto id = file_id(held_out, entry)) files.emplace(*id, &entry);
  for (const ImageEntry& entry : training.entries()) {
    const auto id = file_id(training, entry);
    const auto found = id ? files.find(*id) : files.end();
    if (found == files.end()) continue;
    throw ValueError(
        cat("[held out] the held-out image ", held_out.root(), "/", found->second->path,
            " is also a training image, ", training.root(), "/", entry.path),
        "keep held-out and training images in folders apart, without links from one to the other");
  }
}

HeldOutSplit split_by_hash(const ImageFolder& images, double share) {
  std::vector<ImageEntry> training, held_out;
  for (const ImageEntry& entry : images.entries()) {
    const double fraction = static_cast<double>(image_hash(entry) >> 11) * 0x1p-53;
    (fraction < share ? held_out : training).push_back(entry);
  }
  if (held_out.empty() || training.empty())
    throw ValueError(cat("[held out] expected images on both sides, ", 100 * share, " % of the ",
                         images.size(), " images in ", images.root(), " came to ", held_out.size(),
                         " held out and ", training.size(), " left to train on"),
                     "take another share, add images, or hold out a folder of its own");
  return {
      std::make_shared<const ImageFolder>(images.with_entries(std::move(training), images.class_names())),
      std::make_shared<const ImageFolder>(images.with_entries(std::move(held_out), images.class_names()))};
}

// The images of a held-out folder with the labels of the training images.
ImageFolder relabelled(const ImageFolder& held_out, const ImageFolder& training) {
  const std::vector<std::string>& known = training.class_names();
  if (held_out.class_names().empty() && !known.empty())
    throw ValueError(cat("[held out] ", training.root(), " has ", known.size(), " class folders, ",
                         held_out.root(), " has none"),
                     "sort the held-out images into folders of the same names");
  std::vector<std::int32_t> labels;
  for (const std::string& name : held_out.class_names()) {
    const auto found = std::find(known.begin(), known.end(), name);
    if (found == known.end())
      throw ValueError(cat("[held out] expected the classes of ", training.root(), ", ", held_out.root(),
                           " has the class '", name, "', which is not among them"),
                       "rename the folder, or move it away");
    labels.push_back(static_cast<std::int32_t>(found - known.begin()));
  }
  std::vector<ImageEntry> entries = held_out.entries();
  if (!labels.empty())
    for (ImageEntry& entry : entries) entry.label = labels[static_cast<std::size_t>(entry.label)];
  return held_out.with_entries(std::move(entries), known);
}

ImageFolder scan(const std::string& folder, const DecodeOptions& decode, Classes classes) {
  try {
    return ImageFolder(folder, decode, classes);
  } catch (const IoError& error) {
    throw IoError(cat("held-out images: ", error.what()),
                  "give a folder of images, or a share of the training images such as 5%");
  }
}

}  // namespace

std::optional<double> held_out_share(std::string_view text) {
  if (text.empty() || text.back() != '%') return std::nullopt;
  const auto percent = as_number<double>(text.substr(0, text.size() - 1));
  if (!percent || !(*percent > 0 && *percent <= 50))
    throw ValueError(cat("[held out] expected a share above 0% and at most 50%, got '", text, "'"),
                     "give a share such as 5%; a folder whose name ends in % is given as NAME%/");
  return *percent / 100;
}

std::uint64_t image_hash(const ImageEntry& entry) {
  // Philox mixes all bits of the content's hash into all bits of the result.
  const auto words = Philox{name_stream("held out"), entry.content}.words(0);
  return static_cast<std::uint64_t>(words[0]) << 32 | words[1];
}

HeldOutSplit hold_out(const std::shared_ptr<const ImageFolder>& images, const std::string& held_out,
                      const DecodeOptions& decode, bool classes) {
  if (held_out.empty()) return {images, nullptr};
  HeldOutSplit split;
  if (const auto share = held_out_share(held_out)) {
    split = split_by_hash(*images, *share);
  } else {
    const ImageFolder folder = scan(held_out, decode, classes ? images->classes() : Classes::none);
    split = {images, std::make_shared<const ImageFolder>(classes ? relabelled(folder, *images) : folder)};
  }
  require_apart(*split.training, *split.held_out);
  return split;
}

std::string copies_text(const ImageFolder& training, const ImageFolder& held_out) {
  std::unordered_map<std::uint64_t, const ImageEntry*> of_content;
  for (const ImageEntry& entry : training.entries()) of_content.emplace(entry.content, &entry);
  std::int64_t count = 0;
  std::string first;
  for (const ImageEntry& entry : held_out.entries()) {
    const auto found = of_content.find(entry.content);
    if (found == of_content.end() || ++count > 1) continue;
    first =
        cat(held_out.root(), "/", entry.path, " is a copy of ", training.root(), "/", found->second->path);
  }
  return count == 0 ? ""
                    : cat(count, " of ", held_out.size(),
                          " held-out images are training images, too: ", first, count > 1 ? ", ..." : "");
}

}  // namespace llsa::nn
