#include "tests/emu/async.h"

#include "tests/emu/block.h"
#include "tests/emu/ptx_api.h"
#include "tests/emu/sanitizers.h"

namespace llsa::emu {

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

void cp_async(unsigned to, const void* from, unsigned bytes, unsigned source_bytes, Place place) {
  unsigned char* const p = shared_pointer(to, bytes, bytes, "cp.async", place);
  if (source_bytes > bytes)
    fail("cp.async at %s:%d: %u source bytes for %u", place.file, place.line, source_bytes, bytes);
  if (source_bytes > 0 && reinterpret_cast<std::uintptr_t>(from) % bytes)
    fail("cp.async at %s:%d: source %p is no multiple of %u", place.file, place.line, from, bytes);
  // The source is touched here, so that AddressSanitizer names the line that issued the copy.
  for (unsigned i = 0; i < source_bytes; ++i) (void)static_cast<const volatile unsigned char*>(from)[i];
  for (unsigned i = 0; i < bytes; ++i) (void)static_cast<volatile unsigned char*>(p)[i];
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
  for (unsigned i = 0; i < bytes; ++i) (void)static_cast<const volatile unsigned char*>(from)[i];
  for (unsigned i = 0; i < bytes; ++i) (void)static_cast<volatile unsigned char*>(p)[i];
  this_block().add_bulk_copy({p, from, bytes, barrier, place});
}

}  // namespace llsa::emu
