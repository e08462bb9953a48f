// What the system should know of a large block: in freshly mapped memory the page faults cost more
// than the loss. All of it is advice.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace fusedloss::cpu {

// Of x86-64 and of most ARM systems.
constexpr size_t kHugePage = size_t{2} << 20;

#if defined(__linux__)
// For the huge pages that lie within [data, data + bytes).
inline void advise(void* data, size_t bytes, int advice) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(data);
  const uintptr_t begin = (address + kHugePage - 1) / kHugePage * kHugePage;
  const uintptr_t end = (address + bytes) / kHugePage * kHugePage;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, advice);
}
#endif

// Page it in by huge pages, a 512th of the faults.
inline void prefer_huge_pages(void* data, size_t bytes) {
#if defined(MADV_HUGEPAGE)
  advise(data, bytes, MADV_HUGEPAGE);
#endif
}

// Its content is no longer needed: the system may take the pages where memory is short. Writing to
// pages that it has not taken costs nothing.
inline void lend_to_system(void* data, size_t bytes) {
#if defined(MADV_FREE)
  advise(data, bytes, MADV_FREE);
#endif
}

}  // namespace fusedloss::cpu
