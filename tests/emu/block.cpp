#include "tests/emu/block.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <map>

#include "tests/emu/kernel_api.h"
#include "tests/emu/sanitizers.h"

namespace llsa::emu {
namespace {

thread_local Block* running_block = nullptr;

/// Unwinds the stack of a lane in a block where another one has failed.
struct Abandoned {};

std::uint32_t bit_of(unsigned lane) { return 1u << (lane % kWarp); }

std::string at(const Wait& wait) {
  return cat(wait.what, " at ", wait.place.file ? wait.place.file : "?", ":", wait.place.line);
}

void compute_nothing(void* const*, std::uint32_t) {}

}  // namespace

Block& this_block() { return *running_block; }
void set_this_block(Block* block) { running_block = block; }

void fail(const char* format, ...) {
  char text[1024];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  throw KernelError(text);
}

// ---- a block from start to end ------------------------------------------------------------------------

void Block::prepare(dim3 block, std::size_t shared_bytes, std::uint64_t number) {
  shape_ = block;
  threads_ = alive_ = block.x * block.y * block.z;
  fibers_.reserve(threads_);
  if (lanes_.size() < threads_) lanes_.resize(threads_);
  shared_.reset(shared_bytes);
  bulk_.clear();
  bulk_.reserve(1024);  // grown by one lane and used by another, memory would be a race to ThreadSanitizer
  mbarrier_waits_.clear();
  mbarrier_waits_.reserve(kMaxThreads);
  ready_.clear();
  for (unsigned i = 0; i < threads_; ++i) {
    fibers_.prime(i, lane_entry);
    lanes_[i].wait = {};
    lanes_[i].ended = false;
    lanes_[i].copies.reset();
    ready_.add(i);
  }
  for (unsigned w = 0; w * kWarp < threads_; ++w) {
    const unsigned n = std::min(kWarp, threads_ - w * kWarp);
    warps_[w].alive = n == kWarp ? ~0u : (1u << n) - 1;
    warps_[w].meetings.clear();
    warps_[w].meetings.reserve(64);
  }
  for (Barrier& b : barriers_) {
    b.arrived = 0;
    b.predicates = 0;
    b.waiting.clear();
  }
  random_ = (settings_.seed + 1) * 0x9e3779b97f4a7c15u + (number + 1) * 0xbf58476d1ce4e5b9u;
  current_ = -1;
  failed_ = false;
}

void Block::run(dim3 block, std::size_t shared_bytes, const Settings& settings, std::uint64_t number,
                FunctionRef<void()> body) {
  settings_ = settings;
  body_ = &body;
  prepare(block, shared_bytes, number);
  adopt_thread(main_);
  emu::release(&started_);
  go_to(choose_next(), false);
  acquire(&ended_);
  if (failed_) throw KernelError(error_);
}

void Block::lane_entry() {
  fiber_started();
  Block& block = this_block();
  acquire(&block.started_);
  try {
    if (!block.failed_) {
      (*block.body_)();
      block.lane_ended();
    }
  } catch (const Abandoned&) {
  } catch (const std::exception& e) {
    block.error_ = cat(e.what(), " [block (", blockIdx.x, ",", blockIdx.y, ",", blockIdx.z, ") thread (",
                       threadIdx.x, ",", threadIdx.y, ",", threadIdx.z, ")]", block.describe());
    block.failed_ = true;
  }
  emu::release(&block.ended_);
  block.go_to(block.failed_ ? block.abandon_next() : block.alive_ > 0 ? block.choose_next() : -1, true);
  __builtin_unreachable();
}

int Block::abandon_next() {
  lanes_[static_cast<std::size_t>(current_)].ended = true;
  for (unsigned i = 0; i < threads_; ++i)
    if (!lanes_[i].ended) return static_cast<int>(i);
  return -1;
}

void Block::lane_ended() {
  const auto me = static_cast<unsigned>(current_);
  Lane& lane = lanes_[me];
  if (const std::size_t n = lane.copies.in_flight(); n > 0) {
    const Place first = lane.copies.first_in_flight();
    fail("thread ends with %zu cp.async under way, the first issued at %s:%d; wait for all before the end", n,
         first.file, first.line);
  }
  for (const Barrier& b : barriers_)
    if (b.arrived > 0 && b.threads == 0) fail("thread ends while others wait in %s", at(b.wait).c_str());
  Warp& warp = warps_[me / kWarp];
  for (const Meeting& m : warp.meetings)
    if (m.arrived && (m.mask & bit_of(me)))
      fail("thread ends while others wait for it in %s", at(m.wait).c_str());
  if (alive_ == 1 && !bulk_.empty())
    fail("block ends with a bulk copy that nobody waited for, issued at %s:%d", bulk_[0].place.file,
         bulk_[0].place.line);
  lane.ended = true;
  warp.alive &= ~bit_of(me);
  --alive_;
  ready_.remove(me);
  if (alive_ > 0 && ready_.empty() && !land_bulk_copies())
    fail("deadlock: the last thread that could run has ended");
}

std::string Block::describe() const {
  std::map<std::string, std::string> threads_of;              // state -> "0-31, 40"
  std::map<std::string, std::pair<unsigned, unsigned>> last;  // the range that is still growing
  const auto flush = [&](const std::string& state) {
    const auto [from, to] = last[state];
    std::string& list = threads_of[state];
    list += cat(list.empty() ? "" : ", ", from);
    if (to > from) list += cat("-", to);
  };
  for (unsigned i = 0; i < threads_; ++i) {
    const Lane& lane = lanes_[i];
    const bool here = static_cast<int>(i) == current_;
    const std::string state = lane.ended            ? "ended"
                              : !ready_.contains(i) ? "waits in " + at(lane.wait)
                              : here                ? "here"
                                                    : "can run";
    const auto found = last.find(state);
    if (found != last.end() && found->second.second + 1 == i) {
      found->second.second = i;
      continue;
    }
    if (found != last.end()) flush(state);
    last[state] = {i, i};
  }
  std::string text;
  for (const auto& entry : last) {
    flush(entry.first);
    text += cat("\n  threads ", threads_of[entry.first], ": ", entry.first);
  }
  return text;
}

// ---- turns --------------------------------------------------------------------------------------------

void Block::go_to(int lane, bool ends) {
  if (lane == current_) return;
  ++switches_;
  Fiber& from = current_ < 0 ? main_ : fibers_[static_cast<std::size_t>(current_)];
  current_ = lane;
  if (lane >= 0) {
    const auto i = static_cast<unsigned>(lane);
    threadIdx = {i % shape_.x, i / shape_.x % shape_.y, i / (shape_.x * shape_.y)};
  }
  switch_fiber(from, lane < 0 ? main_ : fibers_[static_cast<std::size_t>(lane)], ends);
  if (failed_ && current_ >= 0) throw Abandoned{};
}

int Block::choose_next() {
  if (ready_.empty() && !land_bulk_copies()) return -1;
  return static_cast<int>(ready_.next(current_, settings_.order, random_));
}

void Block::give_turn() {
  const int next = choose_next();
  if (next < 0) fail("deadlock: no thread of the block can run");
  go_to(next, false);
}

void Block::wait_here(const Wait& wait) {
  lanes_[static_cast<std::size_t>(current_)].wait = wait;
  ready_.remove(static_cast<unsigned>(current_));
  give_turn();
}

// ---- collectives of a warp ----------------------------------------------------------------------------

Block::Meeting& Block::meeting(Warp& warp, std::uint32_t mask) {
  for (Meeting& m : warp.meetings)
    if (m.mask == mask) return m;
  Meeting m;
  m.mask = mask;
  if (warp.meetings.size() < warp.meetings.capacity()) return warp.meetings.emplace_back(m);
  // There are more of them than lanes, and a lane waits in one at most: some are over.
  return *std::find_if(warp.meetings.begin(), warp.meetings.end(),
                       [](const Meeting& old) { return old.arrived == 0; }) = m;
}

void Block::check_meeting(const Warp& warp, const Meeting& meeting, Collective compute,
                          const Wait& wait) const {
  const auto me = static_cast<unsigned>(current_);
  const std::uint32_t mask = meeting.mask;
  if (!(mask & bit_of(me)))
    fail("%s: the calling lane %u is not in the mask 0x%08x", at(wait).c_str(), me % kWarp, mask);
  if (const std::uint32_t gone = mask & ~warp.alive)
    fail("%s: lanes 0x%08x of the mask 0x%08x have ended or never were", at(wait).c_str(), gone, mask);
  if (meeting.arrived) {
    if (meeting.compute != compute || !(meeting.wait.place == wait.place))
      fail("divergent collective: %s, but lanes 0x%08x are in %s", at(wait).c_str(), meeting.arrived,
           at(meeting.wait).c_str());
    return;
  }
  for (const Meeting& other : warp.meetings)
    if (&other != &meeting && (other.mask & bit_of(me)) && (other.arrived & mask))
      fail(
          "divergent collective: %s with mask 0x%08x, but lanes 0x%08x wait for this one in %s with mask "
          "0x%08x",
          at(wait).c_str(), mask, other.arrived, at(other.wait).c_str(), other.mask);
}

void Block::warp_collective(std::uint32_t mask, Collective compute, void* operand, Wait wait) {
  const auto me = static_cast<unsigned>(current_);
  Warp& warp = warps_[me / kWarp];
  Meeting& m = meeting(warp, mask);
  check_meeting(warp, m, compute, wait);
  if (!m.arrived) {
    m.compute = compute;
    m.wait = wait;
  }
  m.arrived |= bit_of(me);
  warp.operands[me % kWarp] = operand;
  if (m.arrived != mask) return wait_here(wait);
  compute(warp.operands.data(), mask);
  m.arrived = 0;
  ++m.round;
  ready_.add(me / kWarp, mask);
  if (settings_.order == Order::random) give_turn();
}

void Block::warp_barrier(std::uint32_t mask, Place place) {
  // Two addresses in turn: who is late to leave one round must not see what arrives in the next.
  Meeting& m = meeting(warps_[static_cast<unsigned>(current_) / kWarp], mask);
  char* const order = &m.order[m.round & 1];
  emu::release(order);
  warp_collective(mask, compute_nothing, nullptr, {"__syncwarp", place});
  acquire(order);
}

// ---- barriers of the block ----------------------------------------------------------------------------

void Block::release(Barrier& b) {
  b.result[b.round & 1] = b.predicates;
  ++b.round;
  b.arrived = 0;
  b.predicates = 0;
  b.waiting.move_to(ready_);
}

int Block::barrier(int id, unsigned threads, bool predicate, Wait wait) {
  if (id < 0 || id >= kNamedBarriers) fail("%s: there is no barrier %d", at(wait).c_str(), id);
  if (threads % kWarp || threads > threads_)
    fail("%s: %u threads are not whole warps of this block", at(wait).c_str(), threads);
  Barrier& b = barriers_[static_cast<std::size_t>(id)];
  const unsigned round = b.round & 1;
  if (b.arrived == 0) {
    b.threads = threads;
    b.wait = wait;
  } else if (b.threads != threads || (threads == 0 && !(b.wait.place == wait.place))) {
    fail("divergent barrier: %s, but other threads wait in %s", at(wait).c_str(), at(b.wait).c_str());
  }
  if (threads == 0 && alive_ != threads_) fail("%s after threads of the block have ended", at(wait).c_str());
  emu::release(&b.order[round]);
  ++b.arrived;
  b.predicates += predicate ? 1 : 0;
  if (b.arrived == (threads ? threads : threads_)) {
    release(b);
    if (settings_.order != Order::forward) give_turn();
  } else {
    b.waiting.add(static_cast<unsigned>(current_));
    wait_here(wait);
  }
  acquire(&b.order[round]);
  return b.result[round];
}

// ---- entry points -------------------------------------------------------------------------------------

unsigned lane_id() { return this_block().lane(); }

void warp_collective(std::uint32_t mask, Collective compute, void* operand, const char* what, Place place) {
  this_block().warp_collective(mask, compute, operand, {what, place});
}

void warp_barrier(std::uint32_t mask, Place place) { this_block().warp_barrier(mask, place); }

int block_barrier(int id, int threads, bool predicate, const char* what, Place place) {
  return this_block().barrier(id, static_cast<unsigned>(threads), predicate, {what, place});
}

unsigned char* dynamic_shared() { return this_block().shared().dynamic(); }

void* static_shared(const void* key, std::size_t bytes, std::size_t alignment) {
  return this_block().shared().array(key, bytes, alignment);
}

unsigned shared_address(const void* p) { return this_block().shared().address(p); }

unsigned char* shared_pointer(unsigned address, std::size_t bytes, std::size_t alignment, const char* what,
                              Place place) {
  const SharedMemory& shared = this_block().shared();
  if (address % alignment)
    fail("%s at %s:%d: shared address 0x%x is no multiple of %zu", what, place.file, place.line, address,
         alignment);
  if (!shared.contains(address, bytes))
    fail("%s at %s:%d: shared address 0x%x is outside the block's memory", what, place.file, place.line,
         address);
  return shared.at(address);
}

}  // namespace llsa::emu
