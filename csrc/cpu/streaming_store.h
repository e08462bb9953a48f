// Stores that go past the caches, for a result larger than them: the lines that it overwrites are
// not read first, and what the caches hold stays.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define FL_STREAMING_STORES 1
#endif

namespace fusedloss::cpu {

// From this size on a result is streamed; a smaller one is still in the cache when it is read next.
constexpr int64_t kStreamedBytes = int64_t{4} << 20;

#if defined(FL_STREAMING_STORES)

// A whole line per instruction where the CPU can, else each quarter of it waits for a buffer.
__attribute__((target("avx512f"))) inline void stream_lines_512(const char* source,
                                                                char* destination, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) {
    _mm512_stream_si512(reinterpret_cast<__m512i*>(destination + i),
                        _mm512_loadu_si512(source + i));
  }
}

inline void stream_lines_128(const char* source, char* destination, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 16) {
    _mm_stream_si128(reinterpret_cast<__m128i*>(destination + i),
                     _mm_loadu_si128(reinterpret_cast<const __m128i*>(source + i)));
  }
}

inline void stream(const void* source, void* destination, int64_t bytes) {
  static const bool has_512 = __builtin_cpu_supports("avx512f");
  const char* from = static_cast<const char*>(source);
  char* to = static_cast<char*>(destination);
  const int64_t head = std::min<int64_t>(bytes, -reinterpret_cast<uintptr_t>(to) & 63);
  const int64_t lines = (bytes - head) / 64 * 64;
  std::memcpy(to, from, head);
  (has_512 ? stream_lines_512 : stream_lines_128)(from + head, to + head, lines);
  std::memcpy(to + head + lines, from + head + lines, bytes - head - lines);
}

// To be called by a thread that has streamed, before another reads.
inline void finish_streaming() { _mm_sfence(); }

#else

inline void stream(const void* source, void* destination, int64_t bytes) {
  std::memcpy(destination, source, bytes);
}
inline void finish_streaming() {}

#endif

}  // namespace fusedloss::cpu
