#include "nn/data/data_report.h"

#include <algorithm>
#include <set>
#include <unordered_map>

#include "core/error.h"
#include "nn/data/loader.h"
#include "nn/data/transform.h"

namespace llsa::nn {

namespace {

constexpr std::int64_t kPart = 256;  // images between two reports of progress

struct Look {
  ImageInfo info;
  std::string failure;
};

std::string full_path(const ImageFolder& folder, std::int64_t index) {
  return join_path(folder.root(), folder.entry(index).path);
}

Look look_at(const ImageFolder& folder, std::int64_t index, int height, int width) {
  Look look;
  try {
    look.info = probe_image(full_path(folder, index), folder.decode());
    resize_to_cover(folder.load(index), height, width);
  } catch (const Error& error) {
    look.failure = error.what();
  }
  return look;
}

void add_sizes(DataReport& report, const std::vector<Look>& looks, int height, int width) {
  std::vector<std::int64_t> sides;
  std::int64_t least = 0, most = 0;
  for (const std::int64_t i : report.usable) {
    const ImageInfo& info = looks[static_cast<std::size_t>(i)].info;
    const std::int64_t pixels = std::int64_t{info.height} * info.width;
    sides.push_back(std::min(info.height, info.width));
    report.enlarged += info.height < height || info.width < width;
    const auto keep = [&](std::int64_t(&sides_of)[2], std::int64_t& record) {
      record = pixels;
      sides_of[0] = info.height;
      sides_of[1] = info.width;
    };
    if (least == 0 || pixels < least) keep(report.smallest, least);
    if (pixels > most) keep(report.largest, most);
  }
  if (sides.empty()) return;
  const auto middle = sides.begin() + static_cast<std::ptrdiff_t>(sides.size() / 2);
  std::nth_element(sides.begin(), middle, sides.end());
  report.median_side = *middle;
}

// The looks of files that have disappeared since they were decoded become failures.
void add_copies(DataReport& report, const ImageFolder& folder, std::vector<Look>& looks) {
  std::unordered_map<std::uint64_t, std::vector<std::int64_t>> by_content;
  for (std::int64_t i = 0; i < folder.size(); ++i) by_content[folder.entry(i).content].push_back(i);
  for (const auto& [content, group] : by_content) {
    if (group.size() < 2) continue;
    std::vector<std::uint8_t> first;
    std::vector<std::int64_t> copies;
    for (const std::int64_t i : group) {
      try {
        std::vector<std::uint8_t> bytes = ByteSource(full_path(folder, i)).read_all();
        if (copies.empty()) first = bytes;
        if (bytes == first)
          copies.push_back(i);  // equal hashes do not prove it: large files are hashed in part
      } catch (const IoError& error) {
        std::string& failure = looks[static_cast<std::size_t>(i)].failure;
        if (failure.empty()) failure = cat("gone since it was decoded: ", error.what());
      }
    }
    if (copies.size() < 2) continue;
    std::set<std::int32_t> labels;
    for (const std::int64_t i : copies) labels.insert(folder.entry(i).label);
    report.copies_across_classes += labels.size() > 1;
    report.copies.push_back(std::move(copies));
  }
  std::sort(report.copies.begin(), report.copies.end());
}

}  // namespace

DataReport report_on(ThreadPool& pool, const ImageFolder& folder, int height, int width,
                     const Callbacks& callbacks) {
  std::vector<Look> looks(static_cast<std::size_t>(folder.size()));
  for (std::int64_t begin = 0; begin < folder.size(); begin += kPart) {
    const std::int64_t count = std::min(kPart, folder.size() - begin);
    pool.parallel_for(count, [&](std::int64_t i) {
      looks[static_cast<std::size_t>(begin + i)] = look_at(folder, begin + i, height, width);
    });
    if (callbacks.on_progress) callbacks.on_progress(begin + count, folder.size());
  }
  DataReport report;
  add_copies(report, folder, looks);
  for (std::int64_t i = 0; i < folder.size(); ++i) {
    const Look& look = looks[static_cast<std::size_t>(i)];
    if (look.failure.empty()) {
      report.usable.push_back(i);
      ++report.formats[look.info.format];
    } else {
      report.damaged.push_back({folder.entry(i).path, look.failure});
    }
  }
  add_sizes(report, looks, height, width);
  return report;
}

std::vector<std::int64_t> choose_images(const ImageFolder& folder, const std::vector<std::int64_t>& usable,
                                        std::int64_t count) {
  const auto label = [&](std::int64_t i) { return folder.entry(i).label; };
  std::vector<std::vector<std::int64_t>> of_class(std::max<std::size_t>(1, folder.class_names().size()));
  for (const std::uint32_t at : epoch_order(static_cast<std::int64_t>(usable.size()), 0, 0))
    of_class[static_cast<std::size_t>(label(usable[at]))].push_back(usable[at]);
  std::vector<std::int64_t> chosen;
  for (std::size_t turn = 0, size = 1; size > 0; ++turn) {  // one of each class in each turn
    size = 0;
    for (const auto& images : of_class)
      if (turn < images.size() && static_cast<std::int64_t>(chosen.size()) < count)
        chosen.push_back(images[turn]), ++size;
  }
  std::stable_sort(chosen.begin(), chosen.end(),
                   [&](std::int64_t a, std::int64_t b) { return label(a) < label(b); });
  return chosen;
}

}  // namespace llsa::nn
