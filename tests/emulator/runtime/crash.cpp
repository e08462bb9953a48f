#include "crash.h"

#include <ucontext.h>

#include "scheduler.h"

namespace emulator {

namespace {

constexpr int kSignals[2] = {SIGSEGV, SIGBUS};

const void* place_of(const void* context) {
  const auto& machine = static_cast<const ucontext_t*>(context)->uc_mcontext;
#if defined(__x86_64__)
  const auto pc = static_cast<uintptr_t>(machine.gregs[REG_RIP]);
#else
  const auto pc = static_cast<uintptr_t>(machine.pc);
#endif
  return reinterpret_cast<const void*>(pc + 1);  // places are return addresses
}

void handle(int signal, siginfo_t*, void* context) {
  if (!running) {
    std::signal(signal, SIG_DFL);
    return;
  }
  session().error("crash", "invalid or misaligned access at {0}", {place_of(context)});
  abort_launch(cudaErrorIllegalAddress);
}

}  // namespace

CrashGuard::CrashGuard() {
  struct sigaction action = {};
  action.sa_sigaction = handle;
  // The handler leaves by switching stacks and never returns, so nothing would unblock the signal.
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  for (int i = 0; i < 2; ++i) sigaction(kSignals[i], &action, &before_[i]);
}

CrashGuard::~CrashGuard() {
  for (int i = 0; i < 2; ++i) sigaction(kSignals[i], &before_[i], nullptr);
}

}  // namespace emulator
