// The names of a model's classes: lookup by name or by position, and matching with the classes of another model.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace llsa::nn {

/// The number of the class that a user asks for, from 0 to classes - 1. `names` may be empty if they are unknown.
///
/// An exact name comes first. "#2" is the class at position 2. A number alone is a position, too, unless some class
/// is named by a number: then "2" is taken as a name only. Throws ValueError that lists the classes.
std::int32_t find_class(const std::vector<std::string>& names, int classes, const std::string& wanted);

/// Where the classes of a new model are found in the class table of an earlier one.
struct ClassMatch {
  std::vector<std::int64_t> rows;  ///< for each class its row in the earlier table; -1 = a new row
  std::string note;                ///< a sentence for the user; empty when both have the same classes
};

/// Matches by name. If one side has no names: by position if both have equally many classes, otherwise not at all.
ClassMatch match_classes(const std::vector<std::string>& names, std::int64_t classes,
                         const std::vector<std::string>& earlier_names, std::int64_t earlier_classes);

}  // namespace llsa::nn
