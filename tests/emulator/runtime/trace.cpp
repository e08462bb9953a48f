// The trace: where an access may go, what was there before, and who may have touched it meanwhile.
#include "trace.h"

#include <dlfcn.h>
#include <link.h>

#include <unordered_map>

#include "memory.h"
#include "order.h"
#include "requests.h"
#include "scheduler.h"

namespace emulator {

namespace {

constexpr uint32_t kFirstSegment = 2;  // 0 is never, 1 is the host

struct ThreadTrace {
  uint32_t segment = 0;  // 0: the next access starts one
  uint32_t fences = 0;
  bool unfenced = false;    // has written global memory since its last fence
  ClockRef known, pending;  // pending: seen by an atomic that no fence has followed yet
  ClockRef release;         // what its atomics release: all before its last fence
};

struct BlockTrace {
  uint32_t epoch = 0, published = 0, first_segment = 0;
  bool learned = false;  // since the last barrier some thread has learned of other blocks
  std::vector<ThreadTrace> threads;
  std::vector<uint32_t> warp_epochs;
  std::vector<WarpRequests> warps;
  std::vector<Cell> cells;  // per byte of shared memory
};

struct Image {
  uintptr_t base = 0, size = 0;
};

Image image_of_module() {
  Image image;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* data) {
        Dl_info self;
        dladdr(reinterpret_cast<void*>(&begin_trace), &self);
        if (reinterpret_cast<void*>(info->dlpi_addr) != self.dli_fbase) return 0;
        auto* found = static_cast<Image*>(data);
        found->base = info->dlpi_addr;
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const auto& segment = info->dlpi_phdr[i];
          if (segment.p_type == PT_LOAD) {
            found->size = std::max<uintptr_t>(found->size, segment.p_vaddr + segment.p_memsz);
          }
        }
        return 1;
      },
      &image);
  return image;
}

class Trace : public Observer {
 public:
  Trace() : image_(image_of_module()), segments_(kFirstSegment) {}

  void launch_starts(const LaunchRecord& record, const void* arguments, size_t size) override;
  void launch_ends() override {}
  void block_starts(Block& block) override;
  void block_ends(Block& block) override { flush(of(block)); }
  void block_barrier(Block& block) override;
  void warp_rendezvous(Warp& warp, unsigned lanes, bool orders_memory) override;
  void grid_barrier() override;
  void fence(Fiber& fiber) override;
  void atomic(Fiber& fiber, uintptr_t address, size_t size, const void* pc) override;

  void access(uintptr_t address, size_t size, bool write, bool declared, const void* pc);
  std::vector<LineTraffic> lines() const { return totals_.all(); }

 private:
  struct Access {
    Fiber& fiber;
    BlockTrace& block;
    ThreadTrace& thread;
    uintptr_t address;
    size_t size;
    bool write, atomic;
    const void* pc;
  };

  BlockTrace& of(const Block& block) { return blocks_[block.slot]; }
  static void flush(BlockTrace& block) {
    for (WarpRequests& warp : block.warps) warp.flush();
  }
  Stamp stamp(const Access& a);
  bool ordered(const Access& a, const Stamp& earlier);
  void shared_access(const Access& a);
  void global_access(const Access& a);
  void race(const char* kind, const Access& a, const Stamp& earlier, bool earlier_writes,
            const std::string& where);
  void check(const Access& a, Cell* first, Cell* last, const char* kind, const std::string& where);
  const void* pc_of(const Stamp& s) const {
    return reinterpret_cast<const void*>(image_.base + (s.pc & ~kAtomic));
  }

  const Image image_;
  std::vector<Segment> segments_;
  std::vector<BlockTrace> blocks_;                    // by slot
  std::unordered_map<uintptr_t, ClockRef> released_;  // by the address of the atomic
  RequestTotals totals_;
  uint32_t generation_ = 0;
  uintptr_t arguments_ = 0;
  size_t arguments_size_ = 0, dynamic_shared_ = 0;
};

std::unique_ptr<Trace> trace;

std::string name_of(const Fiber& fiber) {
  return "block " + std::to_string(fiber.block->number) + " thread " + std::to_string(fiber.rank);
}

void Trace::launch_starts(const LaunchRecord& record, const void* arguments, size_t size) {
  ++generation_;
  released_.clear();
  arguments_ = reinterpret_cast<uintptr_t>(arguments);
  arguments_size_ = size;
  dynamic_shared_ = record.dynamic_shared;
}

void Trace::block_starts(Block& block) {
  if (blocks_.size() <= block.slot) blocks_.resize(block.slot + 1);
  BlockTrace& b = of(block);
  b.epoch = b.published = 0;
  b.first_segment = uint32_t(segments_.size());
  b.learned = false;
  b.threads.assign(block.fibers.size(), ThreadTrace{});
  b.warp_epochs.assign(block.warps.size(), 0);
  b.warps.resize(block.warps.size());
  if (b.cells.empty()) b.cells.resize(shared_segment_size());
}

void Trace::block_barrier(Block& block) {
  BlockTrace& b = of(block);
  flush(b);
  ++b.epoch;
  bool unfenced = false;
  for (ThreadTrace& thread : b.threads) {
    thread.segment = 0;
    unfenced = unfenced || thread.unfenced;
  }
  // Every thread has fenced what it wrote: whoever passes on this barrier passes that on too.
  if (!unfenced) b.published = b.epoch;
  if (!b.learned) return;
  ClockRef known, pending;
  for (const ThreadTrace& thread : b.threads) {
    known = joined(known, thread.known);
    pending = joined(pending, thread.pending);
  }
  for (ThreadTrace& thread : b.threads) {
    thread.known = known;
    thread.pending = pending;
  }
  b.learned = false;
}

void Trace::warp_rendezvous(Warp& warp, unsigned lanes, bool orders_memory) {
  if (lanes != warp.alive) return;
  const Block& block = *warp.lanes[__builtin_ctz(lanes)]->block;
  BlockTrace& b = of(block);
  const size_t number = size_t(&warp - block.warps.data());
  b.warps[number].flush();
  if (!orders_memory) return;
  ++b.warp_epochs[number];
  ClockRef known, pending;
  for (int i = 0; i < 32; ++i) {
    if (!(lanes >> i & 1)) continue;
    known = joined(known, b.threads[warp.lanes[i]->rank].known);
    pending = joined(pending, b.threads[warp.lanes[i]->rank].pending);
  }
  for (int i = 0; i < 32; ++i) {
    if (!(lanes >> i & 1)) continue;
    ThreadTrace& thread = b.threads[warp.lanes[i]->rank];
    thread.segment = 0;
    thread.known = known;
    thread.pending = pending;
  }
}

void Trace::grid_barrier() {
  ++generation_;
  for (BlockTrace& block : blocks_) {
    flush(block);
    for (ThreadTrace& thread : block.threads) thread.segment = 0;
  }
}

void Trace::fence(Fiber& fiber) {
  BlockTrace& b = of(*fiber.block);
  ThreadTrace& thread = b.threads[fiber.rank];
  if (thread.pending) {
    thread.known = joined(thread.known, thread.pending);
    thread.pending = nullptr;
    b.learned = true;
  }
  auto release = thread.known ? std::make_shared<Clock>(*thread.known) : std::make_shared<Clock>();
  release->raise(Clock::kBlock, fiber.block->number, b.epoch);
  release->raise(Clock::kWarp, fiber.warp->number, b.warp_epochs[fiber.rank / 32]);
  release->raise(Clock::kThread, fiber.thread, ++thread.fences);
  thread.release = std::move(release);
  thread.unfenced = false;
  thread.segment = 0;
}

void Trace::atomic(Fiber& fiber, uintptr_t address, size_t size, const void* pc) {
  BlockTrace& b = of(*fiber.block);
  ThreadTrace& thread = b.threads[fiber.rank];
  const uintptr_t shared = reinterpret_cast<uintptr_t>(fiber.block->shared);
  const Access a{fiber, b, thread, address, size, true, true, pc};
  if (address - shared < shared_segment_size()) return shared_access(a);
  const bool unfenced = thread.unfenced;
  global_access(a);
  thread.unfenced = unfenced;  // an atomic needs no fence to be seen
  ClockRef& clock = released_[address];
  if (clock) {
    thread.pending = joined(thread.pending, clock);
    b.learned = true;
  }
  ClockRef release = thread.release;
  if (b.published) {
    auto block = std::make_shared<Clock>();
    block->raise(Clock::kBlock, fiber.block->number, b.published);
    release = joined(release, block);
  }
  clock = joined(clock, release);
}

Stamp Trace::stamp(const Access& a) {
  if (a.thread.segment == 0) {
    a.thread.segment = uint32_t(segments_.size());
    segments_.push_back({a.fiber.thread, a.fiber.warp->number, a.fiber.block->number, generation_,
                         a.block.epoch, a.block.warp_epochs[a.fiber.rank / 32], a.thread.fences});
  }
  const auto pc = uint32_t(reinterpret_cast<uintptr_t>(a.pc) - image_.base);
  return {a.thread.segment, a.atomic ? pc | kAtomic : pc};
}

bool Trace::ordered(const Access& a, const Stamp& earlier) {
  if (earlier.segment < kFirstSegment || earlier.segment == a.thread.segment) return true;
  if (a.atomic && (earlier.pc & kAtomic)) return true;
  const Segment& s = segments_[earlier.segment];
  if (s.generation != generation_ || s.thread == a.fiber.thread) return true;
  if (s.block == a.fiber.block->number) {
    if (s.block_epoch < a.block.epoch) return true;
    if (s.warp == a.fiber.warp->number && s.warp_epoch < a.block.warp_epochs[a.fiber.rank / 32]) {
      return true;
    }
  }
  return a.thread.known && a.thread.known->covers(s);
}

void Trace::race(const char* kind, const Access& a, const Stamp& earlier, bool earlier_writes,
                 const std::string& where) {
  const Segment& s = segments_[earlier.segment];
  std::string text = std::string(a.write ? "write" : "read") + " of " + where + " by " +
                     name_of(a.fiber) + " at {0} is not ordered after the " +
                     (earlier_writes ? "write" : "read") + " by block " + std::to_string(s.block) +
                     " thread " + std::to_string(s.thread % a.fiber.block->fibers.size()) +
                     " at {1}";
  if (a.thread.pending && a.thread.pending->covers(s)) {
    text += " (its atomic has seen that, but no __threadfence() followed the atomic)";
  }
  session().error(kind, text, {a.pc, pc_of(earlier)});
}

// Checks the cells against what is known of the running thread, then leaves its stamp in them.
void Trace::check(const Access& a, Cell* first, Cell* last, const char* kind,
                  const std::string& where) {
  const Stamp mine = stamp(a);
  for (Cell* cell = first; cell != last; ++cell) {
    const bool write_ordered = ordered(a, cell->write);
    if (!write_ordered) race(kind, a, cell->write, true, where);
    if (a.write) {
      if (write_ordered && !ordered(a, cell->read)) race(kind, a, cell->read, false, where);
      cell->write = mine;
      cell->read = {};
    } else {
      cell->read = mine;
    }
  }
}

void Trace::shared_access(const Access& a) {
  const size_t offset = a.address - reinterpret_cast<uintptr_t>(a.fiber.block->shared);
  const std::string_view what = a.write ? "write" : "read";
  const size_t dynamic = dynamic_shared_offset();
  if (dynamic != SIZE_MAX && offset >= dynamic && offset < dynamic + 48 * 1024 &&
      offset + a.size > dynamic + dynamic_shared_) {
    session().error("out_of_bounds",
                    std::string(what) + " of dynamic shared memory past its " +
                        std::to_string(dynamic_shared_) + " bytes at {0}",
                    {a.pc});
  }
  Cell* first = &a.block.cells[offset];
  Cell* last = first + a.size;
  for (Cell* cell = first; cell != last; ++cell) {
    // Stamps of an earlier block in the same place.
    if (cell->write.segment < a.block.first_segment) cell->write = {};
    if (cell->read.segment < a.block.first_segment) cell->read = {};
  }
  if ((!a.write || a.atomic) && first->write.segment == 0) {
    session().error("uninitialised_shared",
                    name_of(a.fiber) + " reads shared memory that nobody has written at {0}",
                    {a.pc});
  }
  check(a, first, last, "shared_race", "shared memory");
}

void Trace::global_access(const Access& a) {
  Buffer* buffer = buffer_of(a.address, a.size);
  if (!buffer) {
    session().error("out_of_bounds",
                    std::string(a.write ? "write" : "read") + " of " + std::to_string(a.size) +
                        " bytes " + describe(a.address) + " by " + name_of(a.fiber) + " at {0}",
                    {a.pc});
    abort_launch(cudaErrorIllegalAddress);
  }
  (a.write ? buffer->bytes_written : buffer->bytes_read) += a.size;
  const size_t sector = a.address / kSector - buffer->base / kSector;
  const size_t last_sector = (a.address + a.size - 1) / kSector - buffer->base / kSector;
  for (size_t i = sector; i <= last_sector; ++i) buffer->sectors[i] |= a.write ? 2 : 1;
  a.block.warps[a.fiber.rank / 32].record(totals_, a.pc, a.write, a.fiber.lane, a.address, a.size);
  if (!buffer->writable) {
    if (!a.write) return;
    session().error("write_to_input",
                    name_of(a.fiber) + " writes `" + buffer->name + "`, an input, at {0}", {a.pc});
    return;
  }
  const size_t offset = a.address - buffer->base;
  Cell* first = &buffer->cells[offset / buffer->granule];
  Cell* last = &buffer->cells[(offset + a.size - 1) / buffer->granule] + 1;
  if ((!a.write || a.atomic) && first->write.segment == 0) {
    session().error("unwritten_global",
                    name_of(a.fiber) + " reads byte " + std::to_string(offset) + " of `" +
                        buffer->name + "`, which nobody has written, at {0}",
                    {a.pc});
  }
  if (a.write) a.thread.unfenced = true;
  check(a, first, last, "global_race", "`" + buffer->name + "`");
}

void Trace::access(uintptr_t address, size_t size, bool write, bool declared, const void* pc) {
  Fiber& fiber = *running;
  if (address - reinterpret_cast<uintptr_t>(fiber.stack.low) < Stacks::kBytes) return;
  if (address - image_.base < image_.size) {
    if (!write) return;
    session().error("write_to_input", "write to a global variable at {0}", {pc});
    return;
  }
  if (!write && address - arguments_ < arguments_size_) return;
  maybe_preempt();
  if (declared && address % size != 0) {
    session().error("misaligned",
                    name_of(fiber) + " accesses " + std::to_string(size) +
                        " bytes at a misaligned address, " + describe(address) + ", at {0}",
                    {pc});
    abort_launch(cudaErrorMisalignedAddress);
  }
  BlockTrace& block = of(*fiber.block);
  ThreadTrace& thread = block.threads[fiber.rank];
  const bool shared =
      address - reinterpret_cast<uintptr_t>(fiber.block->shared) < block.cells.size();
  // No instruction moves more than 16 bytes.
  for (size_t done = 0; done < size; done += 16) {
    const Access a{fiber, block, thread, address + done, std::min<size_t>(16, size - done),
                   write, false, pc};
    shared ? shared_access(a) : global_access(a);
  }
}

}  // namespace

void begin_trace(bool traced) { trace = traced ? std::make_unique<Trace>() : nullptr; }

Observer* observer() { return trace.get(); }

std::vector<LineTraffic> line_traffic() {
  return trace ? trace->lines() : std::vector<LineTraffic>();
}

void traced_access(uintptr_t address, size_t size, bool write, bool declared, const void* pc) {
  if (running && trace) trace->access(address, size, write, declared, pc);
}

}  // namespace emulator
