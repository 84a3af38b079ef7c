// Parameters as a safetensors file, one tensor for each, under its name.
#pragma once

#include <map>
#include <string>

#include "../core/tensor.h"
#include "parameters.h"

namespace llsa::nn {

/// Writes the master values (f32, or f64 for a model in f64) of all parameters, frozen or not. The file
/// appears whole or not at all. Throws IoError.
void save(const Parameters& params, const std::string& path);

/// Reads the values of all parameters; another floating dtype is converted. Throws IoError for a file that
/// cannot be read or does not fit: one message lists the missing, the unknown and the wrongly shaped tensors.
/// A value that is not finite is an IoError, too. After an error the parameters are as they were.
void load(Parameters& params, const std::string& path);

/// The values of all parameters from the tensors of a file, as a flat buffer in the layout of `params`, which
/// stay as they are. A tensor's name is `prefix` + the name of its parameter; names with another prefix are
/// passed over. `path` stands in messages. Throws as load().
Tensor read_weights(const Parameters& params, const std::map<std::string, Tensor>& tensors,
                    const std::string& path, const std::string& prefix = "");

}  // namespace llsa::nn
