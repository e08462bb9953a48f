// What -fsanitize=thread calls, in place of its own runtime: every access goes to the trace.
#include <cstddef>
#include <cstdint>

#include "trace.h"

#define CALLER __builtin_return_address(0)
#define ADDRESS reinterpret_cast<uintptr_t>(address)

// One hook per width and direction, with and without the promise of alignment.
#define ACCESS_HOOKS(size)                                        \
  void __tsan_read##size(void* address) {                         \
    emulator::traced_access(ADDRESS, size, false, true, CALLER);  \
  }                                                               \
  void __tsan_write##size(void* address) {                        \
    emulator::traced_access(ADDRESS, size, true, true, CALLER);   \
  }                                                               \
  void __tsan_volatile_read##size(void* address) {                \
    emulator::traced_access(ADDRESS, size, false, true, CALLER);  \
  }                                                               \
  void __tsan_volatile_write##size(void* address) {               \
    emulator::traced_access(ADDRESS, size, true, true, CALLER);   \
  }                                                               \
  void __tsan_unaligned_read##size(void* address) {               \
    emulator::traced_access(ADDRESS, size, false, false, CALLER); \
  }                                                               \
  void __tsan_unaligned_write##size(void* address) {              \
    emulator::traced_access(ADDRESS, size, true, false, CALLER);  \
  }

extern "C" {

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}

ACCESS_HOOKS(1)
ACCESS_HOOKS(2)
ACCESS_HOOKS(4)
ACCESS_HOOKS(8)
ACCESS_HOOKS(16)

void __tsan_read_range(void* address, size_t size) {
  emulator::traced_access(ADDRESS, size, false, false, CALLER);
}
void __tsan_write_range(void* address, size_t size) {
  emulator::traced_access(ADDRESS, size, true, false, CALLER);
}

void __tsan_vptr_read(void* address) {
  emulator::traced_access(ADDRESS, sizeof(void*), false, true, CALLER);
}
void __tsan_vptr_update(void* address, void*) {
  emulator::traced_access(ADDRESS, sizeof(void*), true, true, CALLER);
}

// Host code in the kernels' file may hold these (guards of static variables); one OS thread runs
// it.
void __tsan_atomic_thread_fence(int) {}
void __tsan_atomic_signal_fence(int) {}

#define ATOMIC_HOOKS(bits, type)                                                                   \
  type __tsan_atomic##bits##_load(const volatile type* a, int) { return *a; }                      \
  void __tsan_atomic##bits##_store(volatile type* a, type v, int) { *a = v; }                      \
  type __tsan_atomic##bits##_exchange(volatile type* a, type v, int) {                             \
    const type old = *a;                                                                           \
    *a = v;                                                                                        \
    return old;                                                                                    \
  }                                                                                                \
  type __tsan_atomic##bits##_fetch_add(volatile type* a, type v, int) {                            \
    const type old = *a;                                                                           \
    *a = type(old + v);                                                                            \
    return old;                                                                                    \
  }                                                                                                \
  type __tsan_atomic##bits##_fetch_sub(volatile type* a, type v, int) {                            \
    const type old = *a;                                                                           \
    *a = type(old - v);                                                                            \
    return old;                                                                                    \
  }                                                                                                \
  int __tsan_atomic##bits##_compare_exchange_strong(volatile type* a, type* expected, type v, int, \
                                                    int) {                                         \
    if (*a == *expected) {                                                                         \
      *a = v;                                                                                      \
      return 1;                                                                                    \
    }                                                                                              \
    *expected = *a;                                                                                \
    return 0;                                                                                      \
  }

ATOMIC_HOOKS(8, uint8_t)
ATOMIC_HOOKS(16, uint16_t)
ATOMIC_HOOKS(32, uint32_t)
ATOMIC_HOOKS(64, uint64_t)

}  // extern "C"
