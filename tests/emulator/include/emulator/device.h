// Device-side intrinsics: barriers, shuffles, votes, fences, atomics, cached loads and stores.
//
// Each is a thin wrapper around one call into the runtime. Wrappers are always inlined, so that the
// return address the runtime sees lies in the kernel and resolves to the kernel's source line.
#pragma once

#include <type_traits>

#define EMULATOR_INLINE inline __attribute__((always_inline))

namespace emulator {

enum class Shuffle { kIndex, kUp, kDown, kXor };
enum class Vote { kAny, kAll, kBallot };
enum class Atomic { kAdd, kMin, kMax, kInc, kDec, kAnd, kOr, kXor, kExchange, kCompareSwap };
enum class Number { kInt32, kUint32, kInt64, kUint64, kFloat, kDouble };

// Waits for every thread of the grid; an error unless the launch is cooperative.
void grid_barrier();

uint64_t shuffle(Shuffle kind, unsigned mask, uint64_t bits, int argument, int width);
unsigned vote(Vote kind, unsigned mask, bool predicate);
uint64_t atomic(Atomic kind, Number number, void* address, uint64_t operand, uint64_t compare);
[[noreturn]] void trap();

template <class To, class From>
EMULATOR_INLINE To bits_to(From from) {
  static_assert(std::is_trivially_copyable_v<To> && std::is_trivially_copyable_v<From>);
  To to{};
  __builtin_memcpy(&to, &from, sizeof(To) < sizeof(From) ? sizeof(To) : sizeof(From));
  return to;
}

template <class T>
constexpr Number number_of() {
  if constexpr (std::is_same_v<T, float>) {
    return Number::kFloat;
  } else if constexpr (std::is_same_v<T, double>) {
    return Number::kDouble;
  } else {
    static_assert(std::is_integral_v<T> && (sizeof(T) == 4 || sizeof(T) == 8),
                  "atomics are emulated on 4- and 8-byte numbers");
    if constexpr (sizeof(T) == 4) {
      return std::is_signed_v<T> ? Number::kInt32 : Number::kUint32;
    } else {
      return std::is_signed_v<T> ? Number::kInt64 : Number::kUint64;
    }
  }
}

template <class T>
EMULATOR_INLINE T atomic_of(Atomic kind, T* address, T operand, T compare = T{}) {
  return bits_to<T>(atomic(kind, number_of<T>(), address, bits_to<uint64_t>(operand),
                           bits_to<uint64_t>(compare)));
}

template <class T>
EMULATOR_INLINE T shuffle_of(Shuffle kind, unsigned mask, T value, int argument, int width) {
  static_assert(sizeof(T) <= 8, "shuffles move at most 8 bytes");
  return bits_to<T>(shuffle(kind, mask, bits_to<uint64_t>(value), argument, width));
}

}  // namespace emulator

extern "C" {
void __syncthreads();
int __syncthreads_count(int predicate);
int __syncthreads_and(int predicate);
int __syncthreads_or(int predicate);
void __syncwarp(unsigned mask = 0xffffffffu);
void __threadfence();
void __threadfence_block();
void __nanosleep(unsigned nanoseconds);
unsigned __activemask();
}

EMULATOR_INLINE void __threadfence_system() { __threadfence(); }
[[noreturn]] EMULATOR_INLINE void __trap() { emulator::trap(); }

template <class T>
EMULATOR_INLINE T __shfl_sync(unsigned mask, T value, int lane, int width = 32) {
  return emulator::shuffle_of(emulator::Shuffle::kIndex, mask, value, lane, width);
}
template <class T>
EMULATOR_INLINE T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  return emulator::shuffle_of(emulator::Shuffle::kUp, mask, value, int(delta), width);
}
template <class T>
EMULATOR_INLINE T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  return emulator::shuffle_of(emulator::Shuffle::kDown, mask, value, int(delta), width);
}
template <class T>
EMULATOR_INLINE T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32) {
  return emulator::shuffle_of(emulator::Shuffle::kXor, mask, value, lane_mask, width);
}

EMULATOR_INLINE int __any_sync(unsigned mask, int predicate) {
  return int(emulator::vote(emulator::Vote::kAny, mask, predicate != 0));
}
EMULATOR_INLINE int __all_sync(unsigned mask, int predicate) {
  return int(emulator::vote(emulator::Vote::kAll, mask, predicate != 0));
}
EMULATOR_INLINE unsigned __ballot_sync(unsigned mask, int predicate) {
  return emulator::vote(emulator::Vote::kBallot, mask, predicate != 0);
}

template <class T>
EMULATOR_INLINE T atomicAdd(T* address, std::type_identity_t<T> value) {
  return emulator::atomic_of(emulator::Atomic::kAdd, address, value);
}
template <class T>
EMULATOR_INLINE T atomicMin(T* address, std::type_identity_t<T> value) {
  return emulator::atomic_of(emulator::Atomic::kMin, address, value);
}
template <class T>
EMULATOR_INLINE T atomicMax(T* address, std::type_identity_t<T> value) {
  return emulator::atomic_of(emulator::Atomic::kMax, address, value);
}
template <class T>
EMULATOR_INLINE T atomicAnd(T* address, std::type_identity_t<T> value) {
  return emulator::atomic_of(emulator::Atomic::kAnd, address, value);
}
template <class T>
EMULATOR_INLINE T atomicOr(T* address, std::type_identity_t<T> value) {
  return emulator::atomic_of(emulator::Atomic::kOr, address, value);
}
template <class T>
EMULATOR_INLINE T atomicXor(T* address, std::type_identity_t<T> value) {
  return emulator::atomic_of(emulator::Atomic::kXor, address, value);
}
template <class T>
EMULATOR_INLINE T atomicExch(T* address, std::type_identity_t<T> value) {
  return emulator::atomic_of(emulator::Atomic::kExchange, address, value);
}
template <class T>
EMULATOR_INLINE T atomicCAS(T* address, std::type_identity_t<T> compare,
                            std::type_identity_t<T> value) {
  return emulator::atomic_of(emulator::Atomic::kCompareSwap, address, value, compare);
}
EMULATOR_INLINE unsigned atomicInc(unsigned* address, unsigned limit) {
  return emulator::atomic_of(emulator::Atomic::kInc, address, limit);
}
EMULATOR_INLINE unsigned atomicDec(unsigned* address, unsigned limit) {
  return emulator::atomic_of(emulator::Atomic::kDec, address, limit);
}

// Cache hints change no value: one plain access of the type's full width.
template <class T>
EMULATOR_INLINE T __ldg(const T* address) {
  return *address;
}
template <class T>
EMULATOR_INLINE T __ldcs(const T* address) {
  return *address;
}
template <class T>
EMULATOR_INLINE T __ldcg(const T* address) {
  return *address;
}
template <class T>
EMULATOR_INLINE T __ldca(const T* address) {
  return *address;
}
template <class T>
EMULATOR_INLINE void __stcs(T* address, std::type_identity_t<T> value) {
  *address = value;
}
template <class T>
EMULATOR_INLINE void __stcg(T* address, std::type_identity_t<T> value) {
  *address = value;
}
template <class T>
EMULATOR_INLINE void __stwt(T* address, std::type_identity_t<T> value) {
  *address = value;
}
