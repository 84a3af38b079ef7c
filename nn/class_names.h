// The classes of a model as people name them: looked up by name or by position.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace llsa::nn {

/// The number of the class that a user asks for, from 0 to classes - 1. `names` may be empty, when nobody knows them.
///
/// An exact name comes first. "#2" is the class at position 2. A number alone is a position, too, unless some class is
/// named by a number: there, "2" could only be meant as a name. Throws ValueError that lists the classes.
std::int32_t find_class(const std::vector<std::string>& names, int classes, const std::string& wanted);

}  // namespace llsa::nn
