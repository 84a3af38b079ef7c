#include "nn/checkpoint/tuning_file.h"

#include <cstdio>
#include <filesystem>

#include "core/atomic_file.h"
#include "core/error.h"
#include "core/text_file.h"
#include "kernels/matmul.h"
#include "nn/init.h"
#include "nn/json.h"

namespace llsa::nn {
namespace {

namespace fs = std::filesystem;

std::string check_of(const kernels::ProductChoices& choices) {
  std::string all = choices.machine;
  for (const auto& [kind, algorithm] : choices.algorithms) all += cat('\n', kind, '\n', algorithm);
  char digits[17];
  std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(name_stream(all)));
  return digits;
}

kernels::ProductChoices parse(const std::string& text) {
  JsonObject json(text, "tuning");
  kernels::ProductChoices choices;
  choices.machine = json.string("machine", "");
  JsonObject products = json.object("products");
  for (const auto& entry : products.entries())
    choices.algorithms.emplace(entry.first, products.string(entry.first, ""));
  const std::string check = json.string("check", "missing"), expected = check_of(choices);
  json.finish();
  if (check != expected) throw ValueError(cat("its check is ", check, ", its content gives ", expected));
  return choices;
}

}  // namespace

void TuningFile::remove() {
  std::error_code error;
  fs::remove(path_, error);
  if (error) throw IoError(cat("cannot remove ", path_, ": ", error.message()));
}

std::string TuningFile::restore(Context& ctx) {
  if (!path_exists(path_)) return "";
  const std::string text = read_text_file(path_);
  try {
    const kernels::ProductChoices stored = parse(text);
    if (!kernels::restore_product_choices(ctx, stored))
      return cat("left out ", path_, ": its algorithms were chosen on ", stored.machine, ", this is ",
                 kernels::product_choices(ctx).machine, "; the last bits of the results will differ");
    count_ = stored.algorithms.size();
    return "";
  } catch (const ValueError& error) {
    throw ValueError(cat(path_, " is damaged: ", error.what()),
                     "bring it back from a copy, or remove it: the run then chooses anew, and the last bits "
                     "of its results may differ from here on");
  }
}

void TuningFile::save(Context& ctx) {
  const kernels::ProductChoices choices = kernels::product_choices(ctx);
  if (choices.algorithms.size() == count_) return;
  JsonWriter products;
  for (const auto& [kind, algorithm] : choices.algorithms) products.add(kind, algorithm);
  JsonWriter json;
  json.add("machine", choices.machine).add("products", products).add("check", check_of(choices));
  write_file_atomically(path_, json.pretty());
  count_ = choices.algorithms.size();
}

}  // namespace llsa::nn
