#include "memory.h"

#include "session.h"

namespace emulator {

namespace {
// The segment number of everything that the host wrote: earlier than any thread's.
constexpr uint32_t kHostSegment = 1;
}  // namespace

std::vector<Buffer>& buffers() {
  static std::vector<Buffer> all;
  return all;
}

void register_buffer(Buffer buffer) {
  if (session().options.traced) {
    const uintptr_t first = buffer.base / kSector;
    const uintptr_t last = (buffer.base + buffer.size + kSector - 1) / kSector;
    buffer.sectors.assign(buffer.size ? last - first : 0, 0);
    if (buffer.writable) {
      Cell cell;
      cell.write.segment = buffer.initialised ? kHostSegment : 0;
      buffer.cells.assign((buffer.size + buffer.granule - 1) / buffer.granule, cell);
    }
  }
  buffers().push_back(std::move(buffer));
}

Buffer* buffer_of(uintptr_t address, size_t bytes) {
  static size_t latest = 0;  // accesses come in runs
  std::vector<Buffer>& all = buffers();
  if (latest < all.size() && all[latest].holds(address, bytes)) return &all[latest];
  for (size_t i = 0; i < all.size(); ++i) {
    if (all[i].holds(address, bytes)) {
      latest = i;
      return &all[i];
    }
  }
  return nullptr;
}

std::string describe(uintptr_t address) {
  const Buffer* nearest = nullptr;
  uintptr_t distance = UINTPTR_MAX;
  for (const Buffer& buffer : buffers()) {
    const uintptr_t end = buffer.base + buffer.size;
    const uintptr_t gap = address < buffer.base ? buffer.base - address
                          : address < end       ? 0
                                                : address - end;
    if (gap < distance) {
      distance = gap;
      nearest = &buffer;
    }
  }
  if (!nearest || distance > (uintptr_t{1} << 20)) return "in no registered buffer";
  const std::string of = "`" + nearest->name + "` (" + std::to_string(nearest->size) + " bytes)";
  if (address < nearest->base) return std::to_string(distance) + " bytes before " + of;
  if (address >= nearest->base + nearest->size) {
    return std::to_string(distance) + " bytes past the end of " + of;
  }
  return "at byte " + std::to_string(address - nearest->base) + " of " + of;
}

bool host_writes(void* address, size_t bytes) {
  if (bytes == 0 || buffers().empty()) return true;
  const auto start = reinterpret_cast<uintptr_t>(address);
  Buffer* buffer = buffer_of(start, bytes);
  if (!buffer || !buffer->writable) {
    session().error(buffer ? "write_to_input" : "out_of_bounds",
                    "the host sets " + std::to_string(bytes) + " bytes " + describe(start));
    return false;
  }
  if (!buffer->cells.empty()) {
    const size_t from = (start - buffer->base) / buffer->granule;
    const size_t to = (start - buffer->base + bytes - 1) / buffer->granule;
    for (size_t i = from; i <= to; ++i) buffer->cells[i] = Cell{{kHostSegment, 0}, {}};
  }
  return true;
}

}  // namespace emulator
