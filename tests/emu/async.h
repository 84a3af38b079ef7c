// Copies into shared memory that are under way: cp.async of each lane, bulk copies of the block, and
// mbarriers.
//
// They land as late as the program allows: cp.async when the lane that issued it waits for its group, a
// bulk copy when nobody in the block can do anything else. Until then the destination is NaN and, under
// AddressSanitizer, poisoned.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "runtime.h"

namespace llsa::emu {

/// The cp.async copies of one lane.
class CopyQueue {
 public:
  CopyQueue();

  void reset();
  void add(unsigned char* to, const void* from, unsigned bytes, unsigned source_bytes, Place place);
  void commit() { groups_.push_back(copies_.size()); }
  /// Lets copies land until at most `pending` committed groups are under way.
  void wait(std::size_t pending);

  std::size_t in_flight() const { return copies_.size() - landed_; }
  Place first_in_flight() const { return copies_[landed_].place; }

 private:
  struct Copy {
    unsigned char* to;
    const void* from;
    unsigned bytes, source_bytes;  // the rest is filled with zeros
    Place place;
  };

  std::vector<Copy> copies_;
  std::vector<std::size_t> groups_;  // one past the last copy of each committed group
  std::size_t landed_ = 0;
};

/// An mbarrier as it lies in shared memory: a phase ends when all arrivals and all announced bytes have
/// come.
struct Mbarrier {
  std::uint16_t expected;    // arrivals per phase
  std::uint16_t pending;     // arrivals missing in this phase
  std::int32_t bytes : 31;   // announced and not landed, or landed before they were announced
  std::uint32_t parity : 1;  // of the phase under way
};
static_assert(sizeof(Mbarrier) == 8);

/// A bulk copy under way.
struct BulkCopy {
  unsigned char* to;
  const void* from;
  unsigned bytes;
  unsigned barrier;  // address of its mbarrier
  Place place;
};

}  // namespace llsa::emu
