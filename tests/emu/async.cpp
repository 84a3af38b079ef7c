#include "tests/emu/async.h"

#include "tests/emu/block.h"
#include "tests/emu/ptx_api.h"
#include "tests/emu/sanitizers.h"

namespace llsa::emu {
namespace {

/// Lets AddressSanitizer judge an access to these bytes, in the name of the line that issued it.
void touch(const void* p, std::size_t bytes) {
  for (std::size_t i = 0; i < bytes; ++i) (void)static_cast<const volatile unsigned char*>(p)[i];
}

constexpr unsigned kMaxArrivals = 0x7fff;

}  // namespace

CopyQueue::CopyQueue() {
  copies_.reserve(1024);  // growth inside a lane would be a race to ThreadSanitizer
  groups_.reserve(256);
}

void CopyQueue::reset() {
  copies_.clear();
  groups_.clear();
  landed_ = 0;
}

void CopyQueue::add(unsigned char* to, const void* from, unsigned bytes, unsigned source_bytes, Place place) {
  raw_fill(to, 0xff, bytes);
  poison(to, bytes);
  copies_.push_back({to, from, bytes, source_bytes, place});
}

void CopyQueue::wait(std::size_t pending) {
  if (groups_.size() <= pending) return;
  const std::size_t until = groups_[groups_.size() - pending - 1];
  for (; landed_ < until; ++landed_) {
    const Copy& c = copies_[landed_];
    unpoison(c.to, c.bytes);
    note_read(c.from, c.source_bytes);
    note_write(c.to, c.bytes);
    raw_copy(c.to, c.from, c.source_bytes);
    raw_fill(c.to + c.source_bytes, 0, c.bytes - c.source_bytes);
  }
  // Forget what has landed.
  copies_.erase(copies_.begin(), copies_.begin() + static_cast<std::ptrdiff_t>(landed_));
  groups_.erase(groups_.begin(), groups_.end() - static_cast<std::ptrdiff_t>(pending));
  for (std::size_t& end : groups_) end -= landed_;
  landed_ = 0;
}

// ---- mbarriers and bulk copies of a block -------------------------------------------------------------

Mbarrier& Block::mbarrier(unsigned address, Place place) {
  auto& b = *reinterpret_cast<Mbarrier*>(shared_pointer(address, sizeof(Mbarrier), 8, "mbarrier", place));
  if (b.expected > kMaxArrivals)  // the NaN of fresh shared memory
    fail("mbarrier at %s:%d was not initialised", place.file, place.line);
  return b;
}

void Block::mbarrier_init(unsigned address, unsigned count, Place place) {
  if (count < 1 || count > kMaxArrivals)
    fail("mbarrier.init at %s:%d: count %u", place.file, place.line, count);
  const auto arrivals = static_cast<std::uint16_t>(count);
  unsigned char* const p = shared_pointer(address, sizeof(Mbarrier), 8, "mbarrier.init", place);
  *reinterpret_cast<Mbarrier*>(p) = {arrivals, arrivals, 0, 0};
}

void Block::end_phase_if_complete(unsigned address, Mbarrier& barrier) {
  if (barrier.pending > 0 || barrier.bytes != 0) return;
  barrier.parity ^= 1;
  barrier.pending = barrier.expected;
  std::erase_if(mbarrier_waits_, [&](const MbarrierWait& w) {
    if (w.address != address) return false;
    ready_.add(w.lane);
    return true;
  });
}

void Block::mbarrier_arrive(unsigned address, unsigned bytes, Place place) {
  Mbarrier& b = mbarrier(address, place);
  if (b.pending == 0)
    fail("mbarrier.arrive at %s:%d: more arrivals than the %u of a phase", place.file, place.line,
         b.expected);
  emu::release(reinterpret_cast<char*>(&b) + b.parity);
  b.bytes += static_cast<std::int32_t>(bytes);
  --b.pending;
  end_phase_if_complete(address, b);
}

void Block::mbarrier_wait(unsigned address, unsigned parity, Place place) {
  Mbarrier& b = mbarrier(address, place);
  while (b.parity == parity) {
    mbarrier_waits_.push_back({address, static_cast<unsigned>(current_)});
    wait_here({"mbarrier.try_wait", place});
  }
  acquire(reinterpret_cast<char*>(&b) + parity);
}

void Block::add_bulk_copy(const BulkCopy& copy) {
  Mbarrier& b = mbarrier(copy.barrier, copy.place);
  note_read(copy.from, copy.bytes);
  note_write(copy.to, copy.bytes);
  raw_fill(copy.to, 0xff, copy.bytes);
  poison(copy.to, copy.bytes);
  bulk_.push_back(copy);
  emu::release(reinterpret_cast<char*>(&b) + b.parity);  // whoever waits for the bytes sees them
}

bool Block::land_bulk_copies() {
  if (bulk_.empty()) return false;
  for (const BulkCopy& copy : bulk_) {
    unpoison(copy.to, copy.bytes);
    raw_copy(copy.to, copy.from, copy.bytes);
    Mbarrier& b = *reinterpret_cast<Mbarrier*>(shared_.at(copy.barrier));
    b.bytes -= static_cast<std::int32_t>(copy.bytes);
    end_phase_if_complete(copy.barrier, b);
  }
  bulk_.clear();
  return !ready_.empty();
}

// ---- entry points -------------------------------------------------------------------------------------

void cp_async(unsigned to, const void* from, unsigned bytes, unsigned source_bytes, Place place) {
  unsigned char* const p = shared_pointer(to, bytes, bytes, "cp.async", place);
  if (source_bytes > bytes)
    fail("cp.async at %s:%d: %u source bytes for %u", place.file, place.line, source_bytes, bytes);
  if (source_bytes > 0 && reinterpret_cast<std::uintptr_t>(from) % bytes)
    fail("cp.async at %s:%d: source %p is no multiple of %u", place.file, place.line, from, bytes);
  touch(from, source_bytes);
  touch(p, bytes);
  this_block().copies().add(p, from, bytes, source_bytes, place);
}

void cp_async_commit() { this_block().copies().commit(); }
void cp_async_wait(unsigned pending) { this_block().copies().wait(pending); }

void mbarrier_init(unsigned address, unsigned count, Place place) {
  this_block().mbarrier_init(address, count, place);
}
void mbarrier_arrive(unsigned address, unsigned bytes, Place place) {
  this_block().mbarrier_arrive(address, bytes, place);
}
void mbarrier_wait(unsigned address, unsigned parity, Place place) {
  this_block().mbarrier_wait(address, parity, place);
}

void bulk_copy(unsigned to, const void* from, unsigned bytes, unsigned barrier, Place place) {
  unsigned char* const p = shared_pointer(to, bytes, 16, "cp.async.bulk", place);
  if (bytes == 0 || bytes % 16 || reinterpret_cast<std::uintptr_t>(from) % 16)
    fail("cp.async.bulk at %s:%d: %u bytes from %p are no multiples of 16", place.file, place.line, bytes,
         from);
  touch(from, bytes);
  touch(p, bytes);
  this_block().add_bulk_copy({p, from, bytes, barrier, place});
}

}  // namespace llsa::emu
