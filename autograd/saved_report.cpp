// Walks a graph without touching it and adds up saved tensors by op.

#include "autograd/saved_report.h"

#include <algorithm>
#include <iomanip>
#include <map>
#include <unordered_set>

#include "autograd/node.h"

namespace llsa {

std::vector<SavedRow> saved_report(const Var& out) {
  std::vector<const Node*> nodes;
  std::unordered_set<const Node*> seen;
  if (out.requires_grad()) nodes.push_back(out.node().get());
  for (std::size_t i = 0; i < nodes.size(); ++i)
    for (const Edge& edge : nodes[i]->inputs)
      if (edge.node && seen.insert(edge.node.get()).second) nodes.push_back(edge.node.get());
  std::sort(nodes.begin(), nodes.end(), [](const Node* a, const Node* b) {
    return a->sequence != b->sequence ? a->sequence < b->sequence : std::less<>()(a, b);
  });

  std::map<std::string, SavedRow> by_op;
  std::unordered_set<const Storage*> counted;
  for (const Node* node : nodes) {
    SavedRow& row = by_op[node->op];
    row.op = node->op;
    ++row.nodes;
    for (const Tensor& tensor : node->saved) {
      if (!tensor.defined()) continue;
      ++row.tensors;
      if (counted.insert(tensor.storage().get()).second) row.bytes += tensor.storage()->bytes();
    }
  }
  std::vector<SavedRow> rows;
  for (auto& [op, row] : by_op) rows.push_back(std::move(row));
  std::stable_sort(rows.begin(), rows.end(),
                   [](const SavedRow& a, const SavedRow& b) { return a.bytes > b.bytes; });
  return rows;
}

std::string format_saved_report(const std::vector<SavedRow>& rows) {
  TextStream text;
  text << std::left << std::setw(22) << "op" << std::right << std::setw(8) << "nodes" << std::setw(9)
       << "tensors" << std::setw(12) << "MiB" << '\n';
  SavedRow total;
  total.op = "total";
  const auto line = [&text](const SavedRow& row) {
    text << std::left << std::setw(22) << row.op << std::right << std::setw(8) << row.nodes << std::setw(9)
         << row.tensors << std::setw(12) << std::fixed << std::setprecision(3)
         << static_cast<double>(row.bytes) / (1024.0 * 1024.0) << '\n';
  };
  for (const SavedRow& row : rows) {
    line(row);
    total.nodes += row.nodes;
    total.tensors += row.tensors;
    total.bytes += row.bytes;
  }
  line(total);
  return text.str();
}

}  // namespace llsa
