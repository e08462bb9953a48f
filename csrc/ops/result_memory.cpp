#include "ops/result_memory.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <cstdlib>
#include <list>
#include <mutex>
#include <optional>
#include <utility>

#include "cpu/huge_pages.h"

namespace fusedloss::ops {
namespace {

// From this size on malloc maps fresh memory whatever was freed before (glibc's largest threshold).
constexpr size_t kMapped = size_t{32} << 20;

size_t most_idle() {
  static const size_t bytes = [] {
    const char* megabytes = std::getenv("FUSEDLOSS_KEPT_MB");
    return static_cast<size_t>(megabytes != nullptr ? std::atoll(megabytes) : 512) << 20;
  }();
  return bytes;
}

struct Block {
  Tensor bytes;
  size_t size = 0;
};

// A list node that moves between its owners: nothing is allocated where a result is freed.
using OneBlock = std::list<Block>;

OneBlock new_block(const Tensor& like, size_t size) {
  OneBlock result(1);
  result.front().bytes = allocate_vector(like, static_cast<int64_t>(size), ScalarType::Byte);
  result.front().size = size;
  cpu::prefer_huge_pages(result.front().bytes.mutable_data_ptr(), size);
  return result;
}

// The blocks that nobody uses, oldest first. Whoever finds the lock taken does without: no thread
// waits here, nor does a forked process whose parent held the lock.
class IdleBlocks {
 public:
  // The smallest that holds `size` and is not much larger; empty if there is none.
  OneBlock take(size_t size) {
    OneBlock found;
    const std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
    if (!lock.owns_lock()) return found;
    auto best = blocks_.end();
    for (auto block = blocks_.begin(); block != blocks_.end(); ++block) {
      const bool fits = size <= block->size && block->size <= size + size / 4;
      if (fits && (best == blocks_.end() || block->size < best->size)) best = block;
    }
    if (best == blocks_.end()) return found;
    held_ -= best->size;
    found.splice(found.end(), blocks_, best);
    return found;
  }

  void keep(OneBlock block) {
    std::list<Block> freed;  // beyond the lock
    const std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
    if (!lock.owns_lock()) return;
    held_ += block.front().size;
    blocks_.splice(blocks_.end(), block);
    while (held_ > most_idle()) {
      held_ -= blocks_.front().size;
      freed.splice(freed.end(), blocks_, blocks_.begin());
    }
  }

  size_t release() {
    std::list<Block> freed;
    const std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
    if (!lock.owns_lock()) return 0;
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

// Bytes of a dense tensor; nothing where they are more than an address can say.
std::optional<size_t> byte_count(int rank, const int64_t* sizes, ScalarType type) {
  size_t bytes = item_size(to_dtype(type));
  for (int axis = 0; axis < rank; ++axis) {
    if (__builtin_mul_overflow(bytes, static_cast<size_t>(sizes[axis]), &bytes)) return {};
  }
  return bytes;
}

// Bytes given back, as far as no other thread is about to take or keep some.
int64_t release_result_memory() { return static_cast<int64_t>(idle_blocks().release()); }

}  // namespace

Tensor allocate_result(const Tensor& like, int rank, const int64_t* sizes, const int64_t* strides,
                       ScalarType type) {
  const std::optional<size_t> bytes = byte_count(rank, sizes, type);
  const bool may_be_kept = bytes && kSmallestKept <= *bytes && *bytes <= most_idle();
  if (like.is_cuda() || !may_be_kept) {
    Tensor result = allocate(like, rank, sizes, strides, type);
    const bool is_mapped = bytes && kMapped <= *bytes && !like.is_cuda();
    if (is_mapped) cpu::prefer_huge_pages(result.mutable_data_ptr(), *bytes);
    return result;
  }
  OneBlock block = idle_blocks().take(*bytes);
  if (block.empty()) block = new_block(like, *bytes);
  void* const data = block.front().bytes.mutable_data_ptr();
  return torch::stable::from_blob(
      data, {sizes, static_cast<size_t>(rank)}, {strides, static_cast<size_t>(rank)}, like.device(),
      type, [block = std::move(block)](void*) mutable { idle_blocks().keep(std::move(block)); });
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
