// The device intrinsics of include/emulator/device.h, in terms of the scheduler.
//
// Every entry point takes its own return address: that is the line of the kernel.
#include <dlfcn.h>
#include <link.h>

#include <cstdio>
#include <cstdlib>

#include "rendezvous.h"

#define CALLER __builtin_return_address(0)

namespace emulator {

namespace {

size_t dynamic_offset = SIZE_MAX;

struct TlsIndex {
  unsigned long module;
  unsigned long offset;
};

template <class T>
T apply(Atomic kind, T old, T operand, T compare) {
  switch (kind) {
    case Atomic::kAdd:
      return T(old + operand);
    case Atomic::kMin:
      return operand < old ? operand : old;
    case Atomic::kMax:
      return old < operand ? operand : old;
    case Atomic::kExchange:
      return operand;
    case Atomic::kCompareSwap:
      return bits_to<uint64_t>(old) == bits_to<uint64_t>(compare) ? operand : old;
    default:
      break;
  }
  if constexpr (std::is_integral_v<T>) {
    switch (kind) {
      case Atomic::kInc:
        return old >= operand ? T(0) : T(old + 1);
      case Atomic::kDec:
        return old == 0 || old > operand ? operand : T(old - 1);
      case Atomic::kAnd:
        return old & operand;
      case Atomic::kOr:
        return old | operand;
      case Atomic::kXor:
        return old ^ operand;
      default:
        break;
    }
  }
  std::fprintf(stderr, "emulator: this atomic does not exist for floating numbers\n");
  std::abort();
}

template <class T>
uint64_t update(Atomic kind, void* address, uint64_t operand, uint64_t compare) {
  T old;
  __builtin_memcpy(&old, address, sizeof(T));
  const T now = apply(kind, old, bits_to<T>(operand), bits_to<T>(compare));
  __builtin_memcpy(address, &now, sizeof(T));
  return bits_to<uint64_t>(old);
}

}  // namespace

uint64_t atomic(Atomic kind, Number number, void* address, uint64_t operand, uint64_t compare) {
  const bool wide =
      number == Number::kInt64 || number == Number::kUint64 || number == Number::kDouble;
  if (running) {
    maybe_preempt();
    if (Observer* o = observer()) {
      o->atomic(*running, reinterpret_cast<uintptr_t>(address), wide ? 8 : 4, CALLER);
    }
  }
  switch (number) {
    case Number::kInt32:
      return update<int32_t>(kind, address, operand, compare);
    case Number::kUint32:
      return update<uint32_t>(kind, address, operand, compare);
    case Number::kInt64:
      return update<int64_t>(kind, address, operand, compare);
    case Number::kUint64:
      return update<uint64_t>(kind, address, operand, compare);
    case Number::kFloat:
      return update<float>(kind, address, operand, compare);
    case Number::kDouble:
      return update<double>(kind, address, operand, compare);
  }
  return 0;
}

void grid_barrier() { grid_barrier(CALLER); }

uint64_t shuffle(Shuffle kind, unsigned mask, uint64_t bits, int argument, int width) {
  return warp_rendezvous(Rendezvous::kShuffle, uint8_t(kind), mask, bits, argument, width, CALLER);
}

unsigned vote(Vote kind, unsigned mask, bool predicate) {
  return unsigned(
      warp_rendezvous(Rendezvous::kVote, uint8_t(kind), mask, predicate, 0, 32, CALLER));
}

void trap() {
  session().error("trap", "__trap() at {0}", {CALLER});
  abort_launch(cudaErrorLaunchFailure);
}

DynamicShared::DynamicShared(const void* address) {
  // Host code runs here, so both addresses are those of this OS thread's own segment.
  TlsIndex start{0, 0};
  struct Found {
    const void* inside;
    const char* base;
  } found{address, nullptr};
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* data) {
        auto* want = static_cast<Found*>(data);
        Dl_info self;
        dladdr(reinterpret_cast<void*>(&shared_segment_size), &self);
        if (reinterpret_cast<void*>(info->dlpi_addr) != self.dli_fbase) return 0;
        want->base = static_cast<const char*>(info->dlpi_tls_data);
        return 1;
      },
      &found);
  (void)start;
  if (found.base) dynamic_offset = size_t(static_cast<const char*>(address) - found.base);
}

size_t dynamic_shared_offset() { return dynamic_offset; }

size_t shared_segment_size() {
  static const size_t size = [] {
    size_t bytes = 0;
    dl_iterate_phdr(
        [](dl_phdr_info* info, size_t, void* data) {
          Dl_info self;
          dladdr(reinterpret_cast<void*>(&shared_segment_size), &self);
          if (reinterpret_cast<void*>(info->dlpi_addr) != self.dli_fbase) return 0;
          for (int i = 0; i < info->dlpi_phnum; ++i) {
            if (info->dlpi_phdr[i].p_type == PT_TLS) {
              *static_cast<size_t*>(data) = info->dlpi_phdr[i].p_memsz;
            }
          }
          return 1;
        },
        &bytes);
    return bytes;
  }();
  return size;
}

}  // namespace emulator

using namespace emulator;

extern "C" {

// The module's own thread_local variables are found through this call. While a thread of a block
// runs they are the block's shared memory; else they are what they are everywhere.
void* __tls_get_addr(void* index) {
  static void* (*const real)(void*) =
      reinterpret_cast<void* (*)(void*)>(dlsym(RTLD_NEXT, "__tls_get_addr"));
  if (running) return running->block->shared + static_cast<TlsIndex*>(index)->offset;
  return real(index);
}

void __syncthreads() { block_barrier(Rendezvous::kSync, false, CALLER); }
int __syncthreads_count(int predicate) {
  return int(block_barrier(Rendezvous::kCount, predicate != 0, CALLER));
}
int __syncthreads_and(int predicate) {
  return int(block_barrier(Rendezvous::kAnd, predicate != 0, CALLER));
}
int __syncthreads_or(int predicate) {
  return int(block_barrier(Rendezvous::kOr, predicate != 0, CALLER));
}

void __syncwarp(unsigned mask) { warp_rendezvous(Rendezvous::kSync, 0, mask, 0, 0, 32, CALLER); }

void __threadfence() {
  if (Observer* o = observer()) o->fence(*running);
  maybe_preempt();
}

void __threadfence_block() { maybe_preempt(); }
void __nanosleep(unsigned) { yield(); }
unsigned __activemask() { return running->warp->alive; }

// assert() of a kernel: an error of the session, not the end of the process.
void __assert_fail(const char* expression, const char* file, unsigned line, const char* function) {
  if (!running) {
    std::fprintf(stderr, "%s:%u: %s: assertion `%s' failed\n", file, line, function, expression);
    std::abort();
  }
  session().error("device_assert", std::string("assertion `") + expression + "' failed at {0}",
                  {CALLER});
  abort_launch(cudaErrorAssert);
}

}  // extern "C"
