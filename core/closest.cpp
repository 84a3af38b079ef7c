// Edit distance (Wagner and Fischer, 1974) with one row of memory.
#include "core/closest.h"

#include <algorithm>
#include <numeric>

namespace llsa {

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replace = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({replace, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

std::string closest(const std::string& word, const std::vector<std::string>& candidates) {
  constexpr std::size_t kBeginning = 3;  // letters that tell what was meant
  std::string best;
  std::size_t least = 2 * std::max<std::size_t>(1, word.size() / 3) + 2;  // in halves of a letter
  for (const auto& candidate : candidates) {
    const bool begun = word.size() >= kBeginning && candidate.starts_with(word);
    const std::size_t edits = 2 * edit_distance(word, candidate);
    const std::size_t distance = begun ? std::min<std::size_t>(edits, 3) : edits;
    if (distance < least) {
      least = distance;
      best = candidate;
    }
  }
  return best;
}

std::string did_you_mean(const std::string& word, const std::vector<std::string>& candidates) {
  const std::string near = closest(word, candidates);
  return near.empty() ? "" : "did you mean \"" + near + "\"?";
}

std::string listed(const std::vector<std::string>& words, std::size_t most) {
  std::string text;
  for (std::size_t i = 0; i < std::min(most, words.size()); ++i) text += (i ? ", " : "") + words[i];
  return words.size() > most ? text + " and " + std::to_string(words.size() - most) + " more" : text;
}

}  // namespace llsa
