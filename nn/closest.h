// "Did you mean ..": the nearest of some known words.
#pragma once

#include <string>
#include <vector>

namespace llsa::nn {

/// The candidate with the smallest edit distance to the word, or "" when none is near (more than a third of
/// the letters would change).
std::string closest(const std::string& word, const std::vector<std::string>& candidates);

}  // namespace llsa::nn
