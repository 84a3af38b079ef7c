// Finds the files of a model in a checkpoint directory of the diffusers layout, or in a part of such a directory that was
// copied alone.
//
//   DIR with denoiser/config.json          such a directory; denoiser_ema/ is read if it exists
//   DIR with config.json and weights       the folder `denoiser` alone
//   NAME.safetensors, or its index         weights with a config.json beside them
//
// Weights are one file or, with an index NAME.safetensors.index.json, several. If a folder holds only one file of
// weights, its name does not matter (diffusion_pytorch_model.fp16.safetensors is called a "variant").
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "../../core/tensor.h"

namespace llsa::nn {

struct ModelFiles {
  std::string config;     ///< config.json
  std::string weights;    ///< a file of tensors, or the index of several
  std::string scheduler;  ///< scheduler_config.json; empty when there is none
  std::string classes;    ///< names of the classes; empty when there is none
  std::string directory;  ///< the checkpoint that they belong to, which may have checksums of them
  std::vector<std::string> notes = {};  ///< what was chosen among several, one sentence each
};

/// True when `path` is one of the places above. Does not check whether its files are complete.
bool is_diffusers_model(const std::string& path);

/// Finds the files. `average` names a further average, which our checkpoints keep in denoiser_ema_NAME/; empty = the
/// first one. Throws IoError, saying what was looked for, if the path is none of these places, if there are no weights
/// or no such average, if there are several files of weights and none has the usual name, and for a damaged file
/// (checksums.h).
ModelFiles find_model_files(const std::string& path, const std::string& average = {});

/// The names of the further averages in a directory, sorted.
std::vector<std::string> diffusers_averages(const std::string& directory);
inline constexpr const char* kFurtherAverage = "denoiser_ema_";

/// All tensors of the weights, under the names that the model gives them. The prefixes "module.", "_orig_mod.",
/// "model." and "denoiser.", which other programs add to all names, are removed. The heads of teacher networks
/// (repa_layer.*) are left out: they are not part of the model. Throws IoError for a file that cannot be read, or an
/// index that does not fit its files.
std::map<std::string, Tensor> read_model_tensors(const ModelFiles& files);

/// The end of the name of a class table [classes + 1,C], whose last row stands for "no class".
inline constexpr const char* kClassTable = "class_embedder.embedding_table.weight";

/// The names of a model's classes; empty if no file has them. Throws IoError, and ValueError for another
/// number of names.
std::vector<std::string> read_class_names(const ModelFiles& files, std::int64_t classes);

}  // namespace llsa::nn
