// A stack to run on and a switch between stacks, without the system calls of ucontext.
//
//   Stacks stacks; FiberContext main, fiber;
//   fiber.prepare(stacks.at(0), entry);   // entry() must never return
//   switch_context(main, fiber);          // returns when the fiber switches back to main
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace emulator {

struct Stack {
  char* low = nullptr;  // first usable byte; a page is left free below
  char* high = nullptr;
};

// Stacks are mapped once and reused; the kernel hands out pages only for what is touched.
class Stacks {
 public:
  static constexpr size_t kBytes = 128 * 1024;
  Stack at(size_t index);

 private:
  std::vector<char*> chunks_;
};

struct FiberContext {
#if defined(__x86_64__)
  void* stack_pointer = nullptr;
#else
  ucontext_t context;
#endif
  void prepare(const Stack& stack, void (*entry)());
};

void switch_context(FiberContext& from, FiberContext& to);

}  // namespace emulator
