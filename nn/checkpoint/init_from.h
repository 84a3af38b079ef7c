// Fine-tuning: a new model starts from the weights of an earlier one.
#pragma once

#include <string>
#include <vector>

#include "../image_model.h"

namespace llsa::nn {

/// Starts a model from a checkpoint of the same kind of model (DiT or PixelFlow). Resolution, kind of attention and classes
/// may differ; everything else has to fit:
///
/// * The rows of the class table are matched by the names of the classes (match_classes() in class_names.h); `class_names`
///   are those of `model`. Other rows keep their initial values. The row for "no class" is carried over. A model without
///   classes starts as the checkpoint behaves for "no class".
/// * The position embedding is resized, or keeps its initial values if the checkpoint has none.
/// * VSA's to_gate_compress and SLA's proj_l start at zero if the checkpoint has none, and are left out if this model has
///   none.
///
/// Returns one sentence for each thing that was adapted. Throws IoError, and ValueError for another kind of model.
std::vector<std::string> init_from_diffusers_model(ImageModel& model, const std::string& path,
                                                   const std::vector<std::string>& class_names);

}  // namespace llsa::nn
