// Words in messages: "did you mean ..", the nearest of some known words, and lists of them.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace llsa {

/// Letters to insert, remove or replace to make one of the other.
std::size_t edit_distance(std::string_view a, std::string_view b);

/// The candidate with the smallest edit distance to the word, or "" when none is near (more than a third of
/// the letters would change). A candidate that begins with the word counts as one and a half letters away at most.
std::string closest(const std::string& word, const std::vector<std::string>& candidates);

/// The hint of an error about an unknown word: did you mean "closest"? Empty when none is near.
std::string did_you_mean(const std::string& word, const std::vector<std::string>& candidates);

/// "a, b, c"; of more than `most` words the first ones and the number of the others.
std::string listed(const std::vector<std::string>& words, std::size_t most = 10);

}  // namespace llsa
