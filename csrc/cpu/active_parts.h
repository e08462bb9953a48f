// Which parts of a run of weights are not 0 throughout: what lies between them need not be read.
#pragma once

#include "cpu/tile_loops.h"

namespace fusedloss::cpu {

template <class T>
struct ActivityLoops {
  // Whether any of kBlock values is not 0, per block.
  template <int64_t kBlock>
  FL_VECTOR_CLONES static void find(const T* values, int64_t blocks, uint8_t* active) {
    for (int64_t block = 0; block < blocks; ++block) {
      int32_t any = 0;
#pragma omp simd reduction(| : any)
      for (int64_t i = 0; i < kBlock; ++i) any |= values[block * kBlock + i] != T(0) ? 1 : 0;
      active[block] = static_cast<uint8_t>(any);
    }
  }
};

struct ActiveParts {
  // A gap of less than two blocks costs less to compute than to step over.
  static constexpr int64_t kBlock = 64;
  static constexpr int64_t kBlocks = kTile / kBlock;
  struct Part {
    int32_t begin, end;
  };

  int count = 0;
  Part part[kBlocks / 3 + 1];

  // Of `length` values, at most kTile; NaN is not 0.
  template <class T>
  void find(const T* values, int64_t length) {
    uint8_t active[kBlocks];
    const int64_t blocks = length / kBlock;
    ActivityLoops<T>::template find<kBlock>(values, blocks, active);
    count = 0;
    for (int64_t block = 0; block < blocks; ++block) {
      if (active[block] != 0) add(block * kBlock, (block + 1) * kBlock);
    }
    const T* rest = values + blocks * kBlock;
    for (int64_t i = 0; i < length - blocks * kBlock; ++i) {
      if (rest[i] == T(0)) continue;
      add(blocks * kBlock, length);
      break;
    }
  }

  // visit(begin, end, is_active) for all of [0, length) in order.
  template <class Visit>
  void for_each(int64_t length, Visit&& visit) const {
    int64_t done = 0;
    for (int i = 0; i < count; ++i) {
      if (done < part[i].begin) visit(done, int64_t{part[i].begin}, false);
      visit(int64_t{part[i].begin}, int64_t{part[i].end}, true);
      done = part[i].end;
    }
    if (done < length) visit(done, length, false);
  }

 private:
  void add(int64_t begin, int64_t end) {
    if (count > 0 && begin - part[count - 1].end < 2 * kBlock) {
      part[count - 1].end = static_cast<int32_t>(end);
    } else {
      part[count++] = {static_cast<int32_t>(begin), static_cast<int32_t>(end)};
    }
  }
};

}  // namespace fusedloss::cpu
