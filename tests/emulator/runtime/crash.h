// Turns an invalid access of a kernel (a misaligned vector load, a wild pointer) into an error of
// the session, while an object of this class lives; the process and its other handlers are left
// alone.
#pragma once

#include <csignal>

namespace emulator {

class CrashGuard {
 public:
  CrashGuard();
  ~CrashGuard();
  CrashGuard(const CrashGuard&) = delete;
  CrashGuard& operator=(const CrashGuard&) = delete;

 private:
  struct sigaction before_[2];
};

}  // namespace emulator
