// One block at work: its threads are fibers of one OS thread, which take turns at the points where they
// have to wait.
//
// Who can run is a bit per lane. Barriers and collectives take the bit of a lane that waits and give the
// bits of all back when the last one has come. When no bit is left, bulk copies land; when there is none of
// those either, the block is deadlocked.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "../../core/function_ref.h"
#include "async.h"
#include "emulator.h"
#include "fiber.h"
#include "runtime.h"
#include "shared.h"

namespace llsa::emu {

constexpr unsigned kWarp = 32;
constexpr unsigned kMaxThreads = 1024;
constexpr unsigned kMaxWarps = kMaxThreads / kWarp;
constexpr int kNamedBarriers = 16;

/// A set of the block's lanes that can be walked in the three orders.
class LaneSet {
 public:
  bool empty() const { return warps_ == 0; }
  bool contains(unsigned lane) const { return lanes_[lane / kWarp] >> (lane % kWarp) & 1; }
  void clear() { *this = {}; }
  void add(unsigned warp, std::uint32_t lanes);
  void add(unsigned lane) { add(lane / kWarp, 1u << (lane % kWarp)); }
  void remove(unsigned lane);
  void move_to(LaneSet& other);

  /// The lane whose turn it is after `current` (-1 at the start); the set must not be empty.
  unsigned next(int current, Order order, std::uint64_t& random) const;

 private:
  std::array<std::uint32_t, kMaxWarps> lanes_{};
  std::uint32_t warps_ = 0;  // those with a lane
};

/// What a lane waits in.
struct Wait {
  const char* what = nullptr;
  Place place;
};

class Block {
 public:
  /// Runs one block to its end. Throws KernelError.
  void run(dim3 block, std::size_t shared_bytes, const Settings& settings, std::uint64_t number,
           FunctionRef<void()> body);

  std::uint64_t switches() const { return switches_; }

  // The rest is called from within a lane; see runtime.h.
  unsigned lane() const { return static_cast<unsigned>(current_) % kWarp; }
  SharedMemory& shared() { return shared_; }
  CopyQueue& copies() { return lanes_[static_cast<std::size_t>(current_)].copies; }
  void warp_collective(std::uint32_t mask, Collective compute, void* operand, Wait wait);
  void warp_barrier(std::uint32_t mask, Place place);
  int barrier(int id, unsigned threads, bool predicate, Wait wait);
  void mbarrier_wait(unsigned address, unsigned parity, Place place);
  void mbarrier_arrive(unsigned address, unsigned bytes, Place place);
  void mbarrier_init(unsigned address, unsigned count, Place place);
  void add_bulk_copy(const BulkCopy& copy);
  unsigned threads() const { return threads_; }

 private:
  struct Lane {
    Wait wait;
    bool ended = false;
    CopyQueue copies;
  };
  /// A collective that some lanes of a warp have come to. There is one per mask: lanes of disjoint masks
  /// may be in different ones at the same time.
  struct Meeting {
    std::uint32_t mask = 0, arrived = 0;
    Collective compute = nullptr;
    Wait wait;
    char order[2] = {};  // addresses for release and acquire, in turn
    unsigned round = 0;
  };
  struct Warp {
    std::uint32_t alive = 0;
    std::vector<Meeting> meetings;
    std::array<void*, kWarp> operands{};
  };
  struct Barrier {
    unsigned arrived = 0, threads = 0;
    int predicates = 0;
    std::array<int, 2> result{};
    unsigned round = 0;
    Wait wait;
    LaneSet waiting;
    char order[2] = {};
  };
  struct MbarrierWait {
    unsigned address, lane;
  };

  static void lane_entry();
  void prepare(dim3 block, std::size_t shared_bytes, std::uint64_t number);
  void lane_ended();
  /// After a failure: the next lane that has to unwind its stack, or -1.
  int abandon_next();
  Meeting& meeting(Warp& warp, std::uint32_t mask);
  void check_meeting(const Warp& warp, const Meeting& meeting, Collective compute, const Wait& wait) const;
  void release(Barrier& barrier);
  Mbarrier& mbarrier(unsigned address, Place place);
  void end_phase_if_complete(unsigned address, Mbarrier& barrier);
  bool land_bulk_copies();

  /// The calling lane cannot go on until somebody makes it ready.
  void wait_here(const Wait& wait);
  /// The next lane's turn; the calling one's comes again if it is ready.
  void give_turn();
  /// The next lane, or -1 in a deadlock.
  int choose_next();
  void go_to(int lane, bool ends);
  std::string describe() const;

  FiberPool fibers_;
  SharedMemory shared_;
  std::vector<Lane> lanes_;
  std::array<Warp, kMaxWarps> warps_;
  std::array<Barrier, kNamedBarriers> barriers_;
  std::vector<BulkCopy> bulk_;
  std::vector<MbarrierWait> mbarrier_waits_;

  Settings settings_;
  Fiber main_;
  LaneSet ready_;
  unsigned threads_ = 0, alive_ = 0;
  int current_ = -1;  // the running lane, -1: the OS thread itself
  dim3 shape_;
  std::uint64_t random_ = 1, switches_ = 0;
  const FunctionRef<void()>* body_ = nullptr;
  bool failed_ = false;
  std::string error_;
  char started_ = 0, ended_ = 0;  // addresses for release and acquire
};

/// The block that the calling lane belongs to.
Block& this_block();

/// Sets the block that this OS thread runs; the scheduler's to call.
void set_this_block(Block* block);

}  // namespace llsa::emu
