// A checkpoint directory in the diffusers layout: averaged weights and configuration, readable by
// other programs.
//
//   model_index.json
//   denoiser/config.json
//   denoiser/diffusion_pytorch_model.safetensors     F32, metadata {"format": "pt"}
//   scheduler/scheduler_config.json                  noise_rescale; of a PixelFlow the number of stages
//   classes.json                                     names of the classes, if any; other readers ignore it
//   denoiser_ema_0.999/                              beside denoiser, further averages; other readers ignore them
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "../../core/context.h"
#include "../../core/tensor.h"
#include "../image_model.h"
#include "model_files.h"

namespace llsa::nn {

/// What such a directory says about its model, without the weights.
struct DiffusersModel {
  ModelKind kind = ModelKind::dit;
  DitConfig config;                      ///< of a PixelFlow: its last stage
  double noise_scale = 1.0;              ///< s, the deviation of the noise that a Dit was trained with
  std::vector<std::string> class_names;  ///< empty when unknown
  std::vector<std::string> notes;        ///< what was ignored or assumed, one sentence each
  std::string path = {};                 ///< the checkpoint
};

/// Reads the configuration files of a checkpoint, which is any place that model_files.h describes. Throws IoError for a
/// missing or unreadable file, ValueError for content that this model cannot honour; both name the file.
DiffusersModel read_diffusers_model(const std::string& path);

/// Path of the weights inside a directory that write_diffusers_model() wrote, or of a further average with this name
/// ("0.999").
std::string diffusers_weights_path(const std::string& directory, const std::string& average = {});

/// Writes all files below an existing empty directory. `flat` holds the weights, in the layout of the model's
/// parameters. A PixelFlow has no noise scale.
void write_diffusers_model(const std::string& directory, const ImageModel& model, const Tensor& flat,
                           double noise_scale, const std::vector<std::string>& class_names);

/// Adds another average to what write_diffusers_model() has written. `name` is the limit of its decay, "0.999".
void write_diffusers_average(const std::string& directory, const ImageModel& model, const Tensor& flat,
                             const std::string& name);

/// The weights of a checkpoint, as read_weights() (nn/parameter_file.h) reads them. VSA's to_gate_compress and SLA's
/// proj_l may be missing and are then zero; a note of read_diffusers_model() says so. `average` names a further average
/// (model_files.h).
Tensor read_diffusers_weights(const Parameters& store, const std::string& path,
                              const std::string& average = {});

/// A model with the weights of a checkpoint that read_diffusers_model() has read. The context must outlive it.
std::unique_ptr<ImageModel> load_diffusers_model(Context& ctx, const DiffusersModel& about,
                                                 DType dtype = DType::f32, const std::string& average = {});
/// The same of the checkpoint at `path`, or of the latest one of a run folder.
std::unique_ptr<ImageModel> load_diffusers_model(Context& ctx, const std::string& path,
                                                 DType dtype = DType::f32, const std::string& average = {});

}  // namespace llsa::nn
