// The meeting points of threads: block barriers, warp shuffles and votes; and what goes wrong
// there.
//
// Internal to the runtime: the scheduler calls these, the intrinsics call scheduler.h.
#pragma once

#include "scheduler.h"

namespace emulator {

// A thread has ended: whoever waits for it goes on without it, as on a device.
void leave_rendezvous(Fiber& fiber);
void release_grid_barrier(Block& block);
void report_deadlock(const std::vector<Block*>& resident);

void yield();  // another thread may run; this one stays ready
void wait();   // another thread runs until someone makes this one ready

cudaError_t run_grid(const LaunchRecord& record, void (*entry)(void*), void* arguments,
                     size_t arguments_size);

}  // namespace emulator
