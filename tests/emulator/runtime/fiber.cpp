#include "fiber.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>

namespace emulator {

namespace {
constexpr size_t kChunk = 64;  // stacks per mapping
constexpr size_t kGuard = 4096;
}  // namespace

Stack Stacks::at(size_t index) {
  while (chunks_.size() <= index / kChunk) {
    void* memory = mmap(nullptr, kChunk * kBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
      std::perror("emulator: cannot map fiber stacks");
      std::abort();
    }
    // One guard page a chunk: one a stack would make thousands of mappings for every loaded
    // project, and the kernel gives a process only vm.max_map_count = 65530.
    mprotect(memory, kGuard, PROT_NONE);
    chunks_.push_back(static_cast<char*>(memory));
  }
  char* low = chunks_[index / kChunk] + (index % kChunk) * kBytes;
  // Tops at different cache sets: otherwise all fibers fight for the same few lines.
  const size_t colour = (index * 17 % 61) * 64;
  return {low + kGuard, low + kBytes - colour};
}

#if defined(__x86_64__)

extern "C" void emulator_switch(void** from, void* to);
asm(R"(
.text
.p2align 4
.hidden emulator_switch
.globl emulator_switch
.type emulator_switch,@function
emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emulator_switch,.-emulator_switch
)");

void FiberContext::prepare(const Stack& stack, void (*entry)()) {
  auto top = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(stack.high) & ~uintptr_t{15});
  *--top = nullptr;  // where a return address would be: aligns the stack as a call does
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  stack_pointer = top;
}

void switch_context(FiberContext& from, FiberContext& to) {
  emulator_switch(&from.stack_pointer, to.stack_pointer);
}

#else

void FiberContext::prepare(const Stack& stack, void (*entry)()) {
  getcontext(&context);
  context.uc_stack.ss_sp = stack.low;
  context.uc_stack.ss_size = static_cast<size_t>(stack.high - stack.low);
  context.uc_link = nullptr;
  makecontext(&context, entry, 0);
}

void switch_context(FiberContext& from, FiberContext& to) {
  swapcontext(&from.context, &to.context);
}

#endif

}  // namespace emulator
