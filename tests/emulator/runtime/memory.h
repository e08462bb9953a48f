// The buffers a session knows, with what happened to each: the only global memory a kernel may
// touch.
//
// A cell holds the last write and the last read of one granule (the element size of the tensor), as
// the number of the segment (see order.h) and the program counter.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace emulator {

struct Stamp {
  uint32_t segment = 0;  // 0: never
  uint32_t pc = 0;       // offset from the module's base, with kAtomic set for atomics
};
constexpr uint32_t kAtomic = 0x80000000u;

struct Cell {
  Stamp write, read;
};

struct Buffer {
  std::string name;
  uintptr_t base = 0;
  size_t size = 0;
  uint32_t granule = 1;
  bool writable = false;
  bool initialised = true;       // the host filled it before the session
  std::vector<Cell> cells;       // traced sessions: of writable buffers
  std::vector<uint8_t> sectors;  // traced sessions: bit 0 read, bit 1 written, per 32 bytes
  uint64_t bytes_read = 0, bytes_written = 0;

  bool holds(uintptr_t address, size_t bytes) const {
    return address - base < size && bytes <= size - (address - base);
  }
};

constexpr size_t kSector = 32;

std::vector<Buffer>& buffers();
void register_buffer(Buffer buffer);
Buffer* buffer_of(uintptr_t address, size_t bytes);
// "3 bytes past the end of `input`": the registered buffer nearest to an address.
std::string describe(uintptr_t address);

// cudaMemsetAsync and the like: false, with an error in the session, if it leaves a buffer.
bool host_writes(void* address, size_t bytes);

}  // namespace emulator
