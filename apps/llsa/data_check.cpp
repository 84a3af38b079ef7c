#include <algorithm>
#include <cstdio>
#include <exception>
#include <filesystem>

#include "apps/llsa/commands.h"
#include "apps/llsa/model_flags.h"
#include "apps/llsa/output.h"
#include "apps/llsa/progress.h"
#include "core/context.h"
#include "nn/data/data_report.h"
#include "nn/data/file_format.h"
#include "nn/data/grid.h"
#include "nn/data/transform.h"
#include "nn/json.h"
#include "nn/train_options.h"

namespace llsa::apps {
namespace {

constexpr std::size_t kShown = 20;         // lines of each list
constexpr std::int64_t kOnSheet = 64;      // images
constexpr std::size_t kClassesInRows = 8;  // with more classes, a class does not begin a new row

struct Size {
  int height = 0, width = 0;
};

nn::TrainOptions options_of(const DataCheckArgs& args) {
  nn::TrainOptions options;
  options.data = args.data;
  apply_settings(options, args.settings);
  return options;
}

// A sheet in the folder of the images would be one of the images in the next run.
void require_apart(const std::string& sheet, const std::string& data) {
  namespace fs = std::filesystem;
  const fs::path file = fs::weakly_canonical(fs::absolute(sheet)), folder = fs::canonical(data);
  if (std::mismatch(folder.begin(), folder.end(), file.begin(), file.end()).first == folder.end())
    throw UsageError(
        cat("--contact-sheet ", sheet, " lies in ", data, ", where it would become a training image"),
        "give a file outside of the folder");
}

void write_sheet(const std::string& path, const nn::ImageFolder& folder, const nn::DataReport& report,
                 Size size) {
  Context ctx;
  auto chosen = nn::choose_images(folder, report.usable, kOnSheet);
  std::vector<nn::SkippedFile> gone;  // since they were checked
  const Tensor images = nn::load_images(ctx, folder, chosen, size.height, size.width, &gone);
  for (const nn::SkippedFile& file : gone) {
    print_note(cat("not on the sheet: ", file.path, ": ", file.reason));
    std::erase_if(chosen, [&](std::int64_t i) { return folder.entry(i).path == file.path; });
  }
  if (chosen.empty()) return;
  std::vector<std::int32_t> classes;
  if (folder.class_names().size() <= kClassesInRows)
    for (const std::int64_t i : chosen) classes.push_back(folder.entry(i).label);
  nn::write_png(path, nn::make_grid(images, classes));
  std::fprintf(stderr, "images as the model will see them: %s\n", path.c_str());
}

void print_list(const char* what, const std::vector<std::string>& lines) {
  if (lines.empty()) return;
  std::printf("%s: %zu\n", what, lines.size());
  for (std::size_t i = 0; i < std::min(kShown, lines.size()); ++i) std::printf("    %s\n", lines[i].c_str());
  if (lines.size() > kShown) std::printf("    and %zu more\n", lines.size() - kShown);
}

std::vector<std::string> with_reasons(const std::vector<nn::SkippedFile>& files) {
  std::vector<std::string> lines;
  for (const nn::SkippedFile& file : files) lines.push_back(file.path + ": " + file.reason);
  return lines;
}

std::vector<std::string> unread(const nn::ImageFolder& folder) {
  std::vector<std::string> lines;
  for (const nn::UnreadFormat& format : folder.unread_formats())
    lines.push_back(cat(format.count, " ", format.format, ", the first is ", format.first, ": ",
                        nn::unread_format_hint(format.format)));
  return lines;
}

// "a.png = b.png".
std::vector<std::string> copies(const nn::ImageFolder& folder, const nn::DataReport& report) {
  std::vector<std::string> lines;
  for (const auto& group : report.copies) {
    std::string line;
    for (const std::int64_t i : group) line += (line.empty() ? "" : " = ") + folder.entry(i).path;
    lines.push_back(line);
  }
  return lines;
}

void print_report(const nn::ImageFolder& folder, const nn::DataReport& report, Size size) {
  std::printf("%s: %zu usable images\n", folder.root().c_str(), report.usable.size());
  for (const auto& [format, count] : report.formats)
    std::printf("  %-9s %lld\n", format.c_str(), static_cast<long long>(count));
  if (!report.usable.empty())
    std::printf(
        "sizes: %lld x %lld to %lld x %lld, the shorter side %lld in the median; %lld of them are enlarged "
        "to cover %d x %d\n",
        static_cast<long long>(report.smallest[0]), static_cast<long long>(report.smallest[1]),
        static_cast<long long>(report.largest[0]), static_cast<long long>(report.largest[1]),
        static_cast<long long>(report.median_side), static_cast<long long>(report.enlarged), size.height,
        size.width);
  std::printf("classes: %s\n", folder.class_names().empty()
                                   ? "none"
                                   : cat(folder.class_names().size(), ": ", folder.class_summary()).c_str());
  print_list("labels from", folder.label_tables());
  if (folder.rotated_files() > 0)
    std::printf("%s: %lld\n",
                folder.decode().exif ? "turned by their EXIF orientation"
                                     : "with an EXIF orientation that is ignored",
                static_cast<long long>(folder.rotated_files()));
  print_list("groups of equal files", copies(folder, report));
  if (report.copies_across_classes > 0)
    std::printf("  %lld of these groups have images of more than one class\n",
                static_cast<long long>(report.copies_across_classes));
  print_list("damaged", with_reasons(report.damaged));
  print_list("left out", with_reasons(folder.skipped()));
  print_list("formats that are not read", unread(folder));
  print_list("folders of runs and of drawn images", folder.not_data());
  print_list("left by other programs", folder.litter());
  std::printf("files that are no images: %lld\n", static_cast<long long>(folder.other_files()));
}

void print_json(const nn::ImageFolder& folder, const nn::DataReport& report) {
  nn::JsonWriter formats, classes, unread;
  for (const auto& [format, count] : report.formats) formats.add(format, count);
  const std::vector<std::int64_t> counts = folder.class_counts();
  for (std::size_t i = 0; i < folder.class_names().size(); ++i)
    classes.add(folder.class_names()[i], counts[i]);
  for (const nn::UnreadFormat& format : folder.unread_formats()) unread.add(format.format, format.count);
  const nn::JsonWriter json =
      nn::JsonWriter()
          .add("data", folder.root())
          .add("usable", static_cast<std::int64_t>(report.usable.size()))
          .add("formats", formats)
          .add("smallest", std::vector<std::int64_t>(std::begin(report.smallest), std::end(report.smallest)))
          .add("largest", std::vector<std::int64_t>(std::begin(report.largest), std::end(report.largest)))
          .add("median_side", report.median_side)
          .add("enlarged", report.enlarged)
          .add("classes", classes)
          .add("label_tables", folder.label_tables())
          .add("rotated", folder.rotated_files())
          .add("copies", copies(folder, report))
          .add("copies_across_classes", report.copies_across_classes)
          .add("damaged", with_reasons(report.damaged))
          .add("left_out", with_reasons(folder.skipped()))
          .add("unread_formats", unread)
          .add("not_data", folder.not_data())
          .add("litter", folder.litter())
          .add("other_files", folder.other_files());
  std::printf("%s\n", json.line().c_str());
}

}  // namespace

int run_data_check(const DataCheckArgs& args) {
  const nn::TrainOptions options = options_of(args);
  Size size{options.model.height, options.model.width};
  if (!args.size.empty()) {
    const auto [height, width] = parse_size(args.size);
    nn::check_sides(height, width, 1);
    size = {static_cast<int>(height), static_cast<int>(width)};
  }
  // If it is not clear which classes are meant, the report covers all images, and the error follows it.
  std::exception_ptr unclear;
  const nn::ImageFolder folder = [&] {
    try {
      return nn::ImageFolder(args.data, decode_options(options), nn::classes_from_name(options.classes));
    } catch (const ValueError&) {
      unclear = std::current_exception();
      return nn::ImageFolder(args.data, decode_options(options), nn::Classes::none);
    }
  }();
  if (!args.contact_sheet.empty()) require_apart(args.contact_sheet, args.data);
  check_output(args.contact_sheet);
  Context ctx(args.threads);
  const nn::DataReport report = [&] {
    Counter counter("checked");
    return nn::report_on(ctx.pool(), folder, size.height, size.width, counter.callbacks());
  }();
  if (args.json)
    print_json(folder, report);
  else
    print_report(folder, report, size);
  if (!args.contact_sheet.empty() && !report.usable.empty())
    write_sheet(args.contact_sheet, folder, report, size);
  if (unclear) std::rethrow_exception(unclear);
  return 0;
}

}  // namespace llsa::apps
