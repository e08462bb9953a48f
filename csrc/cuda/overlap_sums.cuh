// The first phase: soft counts of every class and the sums of the pointwise part, chunk by chunk.
//
// A warp adds up each class of its positions by shuffles and keeps the result in shared memory
// until the chunk is done; then the warps are added in order and written to `partials`.
#pragma once

#include "cuda/overlap_pointwise.cuh"
#include "cuda/phases.cuh"

namespace fusedloss::cuda {

// What a kernel is made for: pools alone; a pointwise part of labels or of elements beside them; or
// everything.
enum class OverlapKernel { kPlain, kCompound, kGeneral };

// Soft counts of a group of classes, by warp.
template <class O>
using GroupCounts = O[kWarps][kClassGroup][3];

template <class O>
__device__ __forceinline__ void clear_counts(GroupCounts<O>& counts) {
  O* own = &counts[threadIdx.x / 32][0][0];
#pragma unroll 1
  for (int i = threadIdx.x % 32; i < 3 * kClassGroup; i += 32) own[i] = O(0);
  __syncwarp();
}

// The slots [first, first + kThreads) of a row that a block visits together, as far as they are
// before `end`.
struct Step {
  int64_t row, first, end;

  __device__ __forceinline__ int64_t slot() const { return first + threadIdx.x; }
  __device__ __forceinline__ bool has_slot() const { return slot() < end; }
  __device__ __forceinline__ int count() const {
    return static_cast<int>(end - first < kThreads ? end - first : kThreads);
  }
};

template <class Cells, OverlapKernel kKernel>
class SumsBlock {
 public:
  using O = typename Cells::O;
  static constexpr int kLanes = Cells::kLanes;
  static constexpr bool kGeneral = kKernel == OverlapKernel::kGeneral;
  static constexpr bool kPointwise = kKernel != OverlapKernel::kPlain;
  using Values = Pack<O, kLanes>;
  using Position = CellPosition<O, kLanes>;
  using Element = CellElement<O, kLanes>;
  using Table = ClassTable<O, kGeneral>;
  using Tally = cuda::Tally<O, kTallies>;

  __device__ __forceinline__ SumsBlock(const PoolCall& call, const ElementLoss& loss, Table& table,
                                       GroupCounts<O>& counts,
                                       const PointwisePreparation<O>& prepared)
      : call_(call), loss_(loss), table_(table), counts_(counts), prepared_(prepared) {}

  // All chunks of this block.
  __device__ __forceinline__ void run() const {
#pragma unroll 1
    for (int64_t chunk = blockIdx.x; chunk < call_.chunks; chunk += gridDim.x) {
      const int64_t row = chunk / call_.chunks_per_row;
      const int64_t first = (chunk - row * call_.chunks_per_row) * call_.slots_per_chunk;
      table_.fill(row / call_.rows_per_sample, false);
      run_chunk(chunk, row, first);
    }
  }

 private:
  using Class = ClassOfCells<O, kLanes>;
  struct SoftSums {
    O of[3] = {};
  };
  // What the classes of a thread's positions add to.
  struct Gathered {
    SoftSums soft;  // of one class
    Tally& tally;
    Values largest_mask{};
    bool valid_labels = true;
  };

  __device__ __forceinline__ int64_t classes() const { return call_.params.classes; }

  __device__ __forceinline__ void run_chunk(int64_t chunk, int64_t row, int64_t first) const {
    Tally tally;
    clear_counts(counts_);
    const int64_t slots = (call_.inner + kLanes - 1) / kLanes;
    const int64_t past = first + call_.slots_per_chunk, end = past < slots ? past : slots;
#pragma unroll 1
    for (int64_t at = first; at < end; at += kThreads) {
      visit({row, at, end}, chunk, tally);
      tally.step();
    }
    if (classes() <= kClassGroup) write_counts(chunk, 0);
    double sums[kTallies];
#pragma unroll
    for (int k = 0; k < kTallies; ++k) sums[k] = tally.total(k);
    block_sum(sums);
    if (threadIdx.x != 0) return;
#pragma unroll
    for (int k = 0; k < kTallies; ++k) *partial(chunk, 3 * classes() + k) = sums[k];
  }

  // Where an item of a chunk is kept.
  __device__ __forceinline__ double* partial(int64_t chunk, int64_t item) const {
    const int64_t per_sample = call_.chunks_per_sample();
    const int64_t sample = chunk / per_sample;
    return call_.partials + (sample * call_.items() + item) * per_sample + chunk -
           sample * per_sample;
  }

  // Adds up the warps of a group of classes. Called by all threads.
  __device__ __forceinline__ void write_counts(int64_t chunk, int64_t group) const {
    __syncthreads();
    const int64_t rest = classes() - group;
    const int count = 3 * static_cast<int>(rest < kClassGroup ? rest : kClassGroup);
#pragma unroll 1
    for (int i = threadIdx.x; i < count; i += kThreads) {
      double sum = 0;
#pragma unroll
      for (int warp = 0; warp < kWarps; ++warp) {
        sum += static_cast<double>((&counts_[warp][0][0])[i]);
      }
      *partial(chunk, 3 * group + i) = sum;
    }
    __syncthreads();
  }

  __device__ __forceinline__ void visit(const Step& step, int64_t chunk, Tally& tally) const {
    const bool valid = step.has_slot();
    const int64_t slot = valid ? step.slot() : 0;
    const Position at = valid ? position_at<Cells>(call_, step.row, slot) : Position();
    const Cells cells(call_, step.row, slot);
    const CellFactors<Cells> factors(call_, cells);
    const bool takes = at.any_selected();
    Cells::fetch(call_, step.row, step.first, step.count(), takes);
    Exponentials<O, kLanes> sums{};
    if (takes && call_.activation == Activation::kSoftmax) prepare(cells, at, sums, tally);
    const bool warp_takes = __any_sync(0xffffffffu, takes);
    Gathered to{{}, tally};
#pragma unroll 1
    for (int64_t group = 0; group < classes(); group += kClassGroup) {
      const int64_t past = group + kClassGroup, end = past < classes() ? past : classes();
      Values next{};
      if constexpr (Cells::kFetchesAhead) next = takes ? cells.input(group) : next;
#pragma unroll 1
      for (int64_t c = group; warp_takes && c < end; ++c) {
        const ClassEntry<O> entry = table_.at(c);
        Values x = next;
        if constexpr (Cells::kFetchesAhead) {
          if (takes && c + 1 < end) next = cells.input(c + 1);
        } else if (takes) {
          x = cells.input(c);
        }
        to.soft = {};
        if (takes) {
          const Values t = factors.target(at, c);
          add_class(cells, at, sums, {c, entry, x, t, factors.element(at, t, c)}, to);
        }
        if (entry.exists()) add_to_warp(to.soft, static_cast<int>(c - group));
      }
      if (classes() > kClassGroup) {  // a chunk is one step then
        write_counts(chunk, group);
        clear_counts(counts_);
      }
    }
    assert(to.valid_labels && "target must be a class index where it takes part");
    if constexpr (kPointwise) {
#pragma unroll
      for (int lane = 0; lane < kLanes; ++lane) tally.sum[kPositions] += to.largest_mask.at[lane];
    }
    if (!selects_elements()) count_selected(at, tally);
  }

  // Whether the mask may differ between the channels of a position.
  __device__ __forceinline__ bool selects_elements() const {
    return call_.per_element || (call_.ignores && !call_.has_labels);
  }
  __device__ __forceinline__ void count_selected(const Position& at, Tally& tally) const {
    const O per_position = static_cast<O>(classes() - call_.rules.pools.first_class());
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) {
      tally.sum[kDiceSelected] += at.mask.at[lane] != O(0) ? per_position : O(0);
    }
  }

  // Exponentials, and the pointwise part where it has a loss of each position.
  __device__ __forceinline__ void prepare(const Cells& cells, const Position& at,
                                          Exponentials<O, kLanes>& sums, Tally& tally) const {
    if constexpr (kPointwise) {
      if (call_.pointwise.is_classwise()) {
        ClassPartSums<O, kLanes> part;
        sums.run(cells, classes(), [&](int64_t c, const Values& x, const Values& e) {
          part.add(call_, table_.at(c), at, sums, c, x, e);
        });
        add_positions(cells, at, sums, part, tally);
        return;
      }
    }
    sums.run(cells, classes(), [](int64_t, const Values&, const Values&) {});
  }

  __device__ __forceinline__ void add_positions(const Cells& cells, const Position& at,
                                                const Exponentials<O, kLanes>& sums,
                                                const ClassPartSums<O, kLanes>& part,
                                                Tally& tally) const {
    if constexpr (kGeneral) {
      if (!call_.has_labels) {
        ProbabilityPart<O, kLanes> whole;
        whole.run(call_, cells, table_, sums, part);
#pragma unroll
        for (int lane = 0; lane < kLanes; ++lane) {
          const O value = whole.lives[lane] ? whole.value.at[lane] : O(0);
          tally_position(at, lane, whole.weight.at[lane], value, tally);
        }
        return;
      }
    }
    const bool smooths = call_.pointwise.label_smoothing != 0;
    bool valid_labels = true;
    visit_class_part<O, kGeneral>(call_, prepared_.total_weight, [&](const auto& loss) {
#pragma unroll
      for (int lane = 0; lane < kLanes; ++lane) {
        const int label = at.label[lane];
        const bool counts = at.w.at[lane] != O(0);
        valid_labels &= !counts || label >= 0;
        const O weight = counts && label >= 0 ? table_.at(label).weight : O(0);
        const bool lives = counts && (smooths ? prepared_.any_weight : weight != O(0));
        O value = O(0);
        if (lives) value = loss(part.label_terms(sums, lane, weight)).value;
        tally_position(at, lane, weight, value, tally);
      }
    });
    assert(valid_labels && "target must be a class index where it takes part");
  }

  __device__ __forceinline__ void tally_position(const Position& at, int lane, O class_weight,
                                                 O value, Tally& tally) const {
    const O mask = at.mask.at[lane], w = at.w.at[lane];
    tally.sum[kMask] += mask;
    tally.sum[kSelected] += static_cast<O>(mask != O(0));
    tally.sum[kPositions] += mask;
    if (w == O(0)) return;
    tally.sum[kWeights] += w * class_weight;
    tally.sum[kTotal] += w * value;
  }

  __device__ __forceinline__ void add_class(const Cells& cells, const Position& at,
                                            const Exponentials<O, kLanes>& sums, const Class& of,
                                            Gathered& to) const {
    const Values p = activated(call_.activation, sums, of.x);
    const bool squared = call_.rules.squared;
    bool labelled = true;
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) {
      const O w = of.own.w.at[lane], q = p.at[lane], g = of.t.at[lane];
      if (!of.entry.exists() || w == O(0)) continue;
      to.soft.of[0] += w * (q * g);
      to.soft.of[1] += w * (squared ? q * q : q);
      to.soft.of[2] += w * (squared ? g * g : g);
      labelled &= at.label[lane] >= 0;
    }
    if (of.c >= call_.rules.pools.first_class() && selects_elements()) {
#pragma unroll
      for (int lane = 0; lane < kLanes; ++lane) {
        to.tally.sum[kDiceSelected] += static_cast<O>(of.own.mask.at[lane] != O(0));
      }
    }
    if constexpr (kPointwise) {
      if (call_.pointwise && !call_.pointwise.is_classwise()) {
        labelled &= add_elements(cells, at, of, to);
      }
    }
    if (call_.has_labels) to.valid_labels &= labelled;
  }

  // The pointwise part where it has a loss of each element; whether all that count have a label.
  __device__ __forceinline__ bool add_elements(const Cells& cells, const Position& at,
                                               const Class& of, Gathered& to) const {
    const Values q =
        call_.pointwise.pos_weight ? cells.pos_weight(of.c) : everywhere<O, kLanes>(O(1));
    bool labelled = true;
    visit_element_part<kGeneral>(loss_, [&](const auto& loss) {
#pragma unroll
      for (int lane = 0; lane < kLanes; ++lane) {
        const O mask = of.own.mask.at[lane];
        const O factor = mask_times_weight(of.own.w.at[lane], of.entry.weight);
        O& largest = to.largest_mask.at[lane];
        to.tally.sum[kMask] += mask;
        to.tally.sum[kSelected] += static_cast<O>(mask != O(0));
        largest = of.c == 0 ? mask : mask_or(mask, largest);
        if (factor == O(0)) continue;
        labelled &= at.label[lane] >= 0;
        to.tally.sum[kWeights] += factor;
        to.tally.sum[kTotal] +=
            factor * element_value(loss, of.x.at[lane], of.t.at[lane], q.at[lane]);
      }
    });
    return labelled;
  }

  // Sums over the warp, added to what it has of the class.
  __device__ __forceinline__ void add_to_warp(SoftSums soft, int place) const {
#pragma unroll
    for (int delta = 16; delta > 0; delta /= 2) {
#pragma unroll
      for (int k = 0; k < 3; ++k) {
        soft.of[k] += __shfl_down_sync(0xffffffffu, soft.of[k], delta);
      }
    }
    if (threadIdx.x % 32 != 0) return;
#pragma unroll
    for (int k = 0; k < 3; ++k) counts_[threadIdx.x / 32][place][k] += soft.of[k];
  }

  const PoolCall& call_;
  const ElementLoss& loss_;
  Table& table_;
  GroupCounts<O>& counts_;
  const PointwisePreparation<O>& prepared_;
};

}  // namespace fusedloss::cuda
