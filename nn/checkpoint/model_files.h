// Where the files of a model are: in a checkpoint directory of the diffusers layout, or in a part of one that people pass
// around.
//
//   DIR with denoiser/config.json          such a directory; where denoiser_ema/ is beside it, that is taken
//   DIR with config.json and weights       the folder `denoiser` alone
//   NAME.safetensors, or its index         weights with a config.json beside them
//
// Weights are one file or, with an index NAME.safetensors.index.json, several. Where a folder holds one file of weights,
// its name does not matter (diffusion_pytorch_model.fp16.safetensors is a "variant").
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

/// True when `path` is one of the places above. Whether its files are whole is another question.
bool is_diffusers_model(const std::string& path);

/// Throws IoError that says what was looked for when the path is none of these places, when there are no weights, or
/// when several files of weights are there and none has the usual name; also for a file that is damaged (checksums.h). `average` names a further average that our
/// checkpoints have beside the first one, in denoiser_ema_NAME/; one that is not there is an IoError, too.
ModelFiles find_model_files(const std::string& path, const std::string& average = {});

/// The names of those averages in a directory, sorted.
std::vector<std::string> diffusers_averages(const std::string& directory);
inline constexpr const char* kFurtherAverage = "denoiser_ema_";

/// All tensors of the weights, under the names that the model gives them: "module.", "_orig_mod.", "model." and
/// "denoiser.", which other programs put before all names, are taken away, and the heads of teacher networks
/// (repa_layer.*), which are no part of the model, are left out. Throws IoError for a file that cannot be read, or an
/// index that does not fit its files.
std::map<std::string, Tensor> read_model_tensors(const ModelFiles& files);

/// The end of the name of a class table [classes + 1,C], whose last row stands for "no class".
inline constexpr const char* kClassTable = "class_embedder.embedding_table.weight";

/// The names of a model's classes; none where there is no file of them. Throws IoError, and ValueError for another
/// number of names.
std::vector<std::string> read_class_names(const ModelFiles& files, std::int64_t classes);

}  // namespace llsa::nn
