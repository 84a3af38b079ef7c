// What a graph keeps alive for its backward.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "var.h"

namespace llsa {

struct SavedRow {
  std::string op;  ///< "leaf": values of leaves that require a gradient
  std::int64_t nodes = 0;
  std::int64_t tensors = 0;  ///< saved ones, shared or not
  std::size_t bytes = 0;  ///< of those whose storage no older node keeps: rows add up to what the graph holds
};

/// One row per op below `out`, largest first; rows add up to the bytes that the graph keeps alive.
std::vector<SavedRow> saved_report(const Var& out);

/// The rows as a table for people.
std::string format_saved_report(const std::vector<SavedRow>& rows);

}  // namespace llsa
