// What the system should know of a large block: in freshly mapped memory the page faults cost more
// than the loss.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace fusedloss::cpu {

// Of x86-64 and of most ARM systems.
constexpr size_t kHugePage = size_t{2} << 20;

// Both take whole huge pages: an aligned address and a multiple of kHugePage. Both may be ignored.

// Page it in by huge pages, a 512th of the faults.
inline void prefer_huge_pages(void* data, size_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  madvise(data, bytes, MADV_HUGEPAGE);
#endif
}

// Its content is no longer needed: the system may take the pages where memory is short. Writing to
// pages that it has not taken costs nothing.
inline void lend_to_system(void* data, size_t bytes) {
#if defined(__linux__) && defined(MADV_FREE)
  madvise(data, bytes, MADV_FREE);
#endif
}

}  // namespace fusedloss::cpu
