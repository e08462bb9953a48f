#include "ops/result_memory.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <list>
#include <mutex>
#include <utility>

#include "cpu/memory_advice.h"

namespace fusedloss::ops {
namespace {

// Whole huge pages within a tensor of bytes.
struct Block {
  Tensor bytes;
  char* start = nullptr;
  size_t size = 0;
};

Block new_block(const Tensor& like, size_t size) {
  Block block;
  const int64_t length = static_cast<int64_t>(size + cpu::kHugePage);  // room to align
  block.bytes = allocate_vector(like, length, ScalarType::Byte);
  const auto address = reinterpret_cast<uintptr_t>(block.bytes.mutable_data_ptr());
  block.start = static_cast<char*>(block.bytes.mutable_data_ptr()) +
                (cpu::kHugePage - address) % cpu::kHugePage;
  block.size = size;
  cpu::prefer_huge_pages(block.start, block.size);
  return block;
}

// The blocks that nobody uses, oldest first. Whoever finds the lock taken does without: no thread
// waits here, nor does a forked process whose parent held the lock.
class IdleBlocks {
 public:
  // The smallest that holds `size` and is not much larger; without a tensor if there is none.
  Block take(size_t size) {
    const std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
    if (!lock.owns_lock()) return {};
    auto best = blocks_.end();
    for (auto block = blocks_.begin(); block != blocks_.end(); ++block) {
      const bool fits = size <= block->size && block->size <= size + size / 4;
      if (fits && (best == blocks_.end() || block->size < best->size)) best = block;
    }
    if (best == blocks_.end()) return {};
    Block found = std::move(*best);
    blocks_.erase(best);
    held_ -= found.size;
    return found;
  }

  void keep(Block block) {
    if (block.size > kMostIdle) return;
    std::list<Block> freed;  // beyond the lock
    const std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
    if (!lock.owns_lock()) return;
    cpu::lend_to_system(block.start, block.size);
    held_ += block.size;
    blocks_.push_back(std::move(block));
    while (held_ > kMostIdle) {
      held_ -= blocks_.front().size;
      freed.splice(freed.end(), blocks_, blocks_.begin());
    }
  }

  size_t release() {
    std::list<Block> freed;
    const std::lock_guard<std::mutex> lock(mutex_);
    freed.swap(blocks_);
    return std::exchange(held_, 0);
  }

 private:
  std::mutex mutex_;
  std::list<Block> blocks_;
  size_t held_ = 0;
};

// Never destroyed: tensors may outlive the library's statics.
IdleBlocks& idle_blocks() {
  static IdleBlocks* const blocks = new IdleBlocks;
  return *blocks;
}

int64_t release_result_memory() { return static_cast<int64_t>(idle_blocks().release()); }

}  // namespace

Tensor allocate_result(const Tensor& like, int rank, const int64_t* sizes, const int64_t* strides,
                       ScalarType type) {
  size_t bytes = item_size(to_dtype(type));
  for (int axis = 0; axis < rank; ++axis) bytes *= static_cast<size_t>(sizes[axis]);
  if (bytes < kSmallestKept || like.is_cuda()) return allocate(like, rank, sizes, strides, type);

  const size_t size = (bytes + cpu::kHugePage - 1) / cpu::kHugePage * cpu::kHugePage;
  Block block = idle_blocks().take(size);
  if (block.start == nullptr) block = new_block(like, size);
  void* const start = block.start;
  return torch::stable::from_blob(
      start, {sizes, static_cast<size_t>(rank)}, {strides, static_cast<size_t>(rank)},
      like.device(), type,
      [block = std::move(block)](void*) mutable { idle_blocks().keep(std::move(block)); });
}

Tensor allocate_result_like(const Tensor& like, ScalarType type) {
  const TensorView shape = view(like);
  int64_t strides[TensorView::kMaxDims];
  preserved_strides(shape, strides);
  return allocate_result(like, shape.rank, shape.size, strides, type);
}

}  // namespace fusedloss::ops

STABLE_TORCH_LIBRARY_FRAGMENT(fusedloss, library) { library.def("release_result_memory() -> int"); }

STABLE_TORCH_LIBRARY_IMPL(fusedloss, CompositeExplicitAutograd, library) {
  library.impl("release_result_memory", TORCH_BOX(&fusedloss::ops::release_result_memory));
}
