// Reading checks the names and shapes of all tensors first, then copies them into a buffer of its own.
#include "nn/parameter_file.h"

#include <utility>
#include <vector>

#include "core/closest.h"
#include "core/safetensors.h"
#include "kernels/copy.h"
#include "kernels/elementwise.h"
#include "kernels/make.h"

namespace llsa::nn {
namespace {

using TensorMap = std::map<std::string, Tensor>;

void check_names(const Parameters& params, const TensorMap& tensors, const std::string& path,
                 const std::string& prefix) {
  std::vector<std::string> missing, unknown, misshapen;
  for (const Parameter& parameter : params.all()) {
    const auto found = tensors.find(prefix + parameter.name);
    if (found == tensors.end()) {
      missing.push_back(parameter.name);
    } else if (!(found->second.shape() == parameter.shape)) {
      misshapen.push_back(
          cat(parameter.name, " (file ", found->second.shape(), ", model ", parameter.shape, ")"));
    }
  }
  for (const auto& [name, tensor] : tensors) {
    if (name.rfind(prefix, 0) == 0 && !params.contains(name.substr(prefix.size()))) unknown.push_back(name);
  }
  if (missing.empty() && unknown.empty() && misshapen.empty()) return;
  std::string message = cat(path, " does not fit the model:");
  if (!missing.empty()) message += cat(" missing ", listed(missing), ";");
  if (!unknown.empty()) message += cat(" unknown ", listed(unknown), ";");
  if (!misshapen.empty()) message += cat(" wrong shape ", listed(misshapen), ";");
  message.pop_back();
  throw IoError(message, "the model has to be made as the one whose weights the file holds");
}

// Copies one tensor of a file into its place and checks that every value is finite.
void read_tensor(Context& ctx, const Tensor& from, const Tensor& into, const std::string& name,
                 const std::string& path) {
  if (!is_floating(from.dtype())) {
    throw IoError(cat(path, ": ", name, " has dtype ", name_of(from.dtype()), ", expected a floating one"));
  }
  kernels::copy(ctx, from_host(ctx, from), into);
  if (ctx.item(kernels::all_finite(ctx, into)) == 0) {
    throw IoError(cat(path, ": ", name, " has a value that is not finite"),
                  "the file comes from a run that had diverged");
  }
}

}  // namespace

void save(const Parameters& params, const std::string& path) {
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const Parameter& parameter : params.all())
    tensors.emplace_back(parameter.name, to_host(params.context(), params.view(params.flat(), parameter)));
  write_safetensors(path, tensors);
}

void load(Parameters& params, const std::string& path) {
  params.load(read_weights(params, SafetensorsFile(path).tensors(), path));
}

Tensor read_weights(const Parameters& params, const TensorMap& tensors, const std::string& path,
                    const std::string& prefix) {
  check_names(params, tensors, path, prefix);
  Tensor flat = params.zeros_like_flat();
  for (const Parameter& parameter : params.all())
    read_tensor(params.context(), tensors.at(prefix + parameter.name), params.view(flat, parameter),
                prefix + parameter.name, path);
  return flat;
}

}  // namespace llsa::nn
