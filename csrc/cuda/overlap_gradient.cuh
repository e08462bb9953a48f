// The last phase: the gradient of pools and pointwise part together, from the slopes in `sums`.
//
//     dl/dx = through the activation: w (slope_i t + slope_p (2 p or 1))   + the pointwise part's
//
// Softmax turns slopes s_c into p_c (s_c - sum_k s_k p_k); that sum is taken with the exponentials.
#pragma once

#include "core/stored_gradient.h"
#include "cuda/overlap_sums.cuh"

namespace fusedloss::cuda {

template <class Cells, OverlapKernel kKernel>
class GradientBlock {
 public:
  using O = typename Cells::O;
  static constexpr int kLanes = Cells::kLanes;
  static constexpr bool kGeneral = kKernel == OverlapKernel::kGeneral;
  static constexpr bool kPointwise = kKernel != OverlapKernel::kPlain;
  using Values = Pack<O, kLanes>;
  using Position = CellPosition<O, kLanes>;
  using Element = CellElement<O, kLanes>;
  using Table = ClassTable<O, kGeneral>;

  __device__ __forceinline__ GradientBlock(const PoolCall& call, const ElementLoss& loss,
                                           Table& table, const PointwisePreparation<O>& prepared)
      : call_(call), loss_(loss), table_(table), prepared_(prepared) {}

  // All chunks of this block, the last first: its logits may still be in the cache.
  __device__ __forceinline__ void run() {
    const int64_t rest = call_.chunks - 1 - blockIdx.x;
    const int64_t last = rest < 0 ? -1 : call_.chunks - 1 - rest % gridDim.x;
#pragma unroll 1
    for (int64_t chunk = last; chunk >= 0; chunk -= gridDim.x) {
      const int64_t row = chunk / call_.chunks_per_row;
      const int64_t first = (chunk - row * call_.chunks_per_row) * call_.slots_per_chunk;
      const int64_t sample = row / call_.rows_per_sample;
      table_.fill(sample, true);
      if constexpr (kPointwise) scale_ = static_cast<O>(pointwise_scale(call_, sample));
      const int64_t slots = (call_.inner + kLanes - 1) / kLanes;
      const int64_t past = first + call_.slots_per_chunk, end = past < slots ? past : slots;
#pragma unroll 1
      for (int64_t at = first; at < end; at += kThreads) {
        const Step step{row, at, end};
        visit(step);
        Cells::deliver(call_, row, at, step.count());
      }
    }
  }

 private:
  using Class = ClassOfCells<O, kLanes>;
  // The gradient of a class; an element that takes part has one, also where it is 0.
  struct Slopes {
    Values of;
    bool takes_part[kLanes];
  };
  // What the slopes of a position's classes have in common.
  struct Shared {
    Exponentials<O, kLanes> sums;
    Values dot;          // sum of slope x p, softmax
    bool lives[kLanes];  // a class has a slope
    // The pointwise part at a position: weight 0 where it has none.
    Values weight, all, base, label;
  };

  __device__ __forceinline__ void visit(const Step& step) const {
    const bool valid = step.has_slot();
    const int64_t slot = valid ? step.slot() : 0;
    const Position at = valid ? position_at<Cells>(call_, step.row, slot) : Position();
    const Cells cells(call_, step.row, slot);
    const CellFactors<Cells> factors(call_, cells);
    const bool takes = at.any_selected();
    Cells::fetch(call_, step.row, step.first, step.count(), takes);
    if (takes) {
      write_slopes(cells, factors, at);
    } else if (valid) {
#pragma unroll 1
      for (int64_t c = 0; c < call_.params.classes; ++c) cells.store(c, Values{});
    }
  }

  __device__ __forceinline__ void write_slopes(const Cells& cells,
                                               const CellFactors<Cells>& factors,
                                               const Position& at) const {
    const int64_t classes = call_.params.classes;
    Shared shared{};
    if (call_.activation == Activation::kSoftmax) prepare(cells, factors, at, shared);
    Values next{};
    if constexpr (Cells::kFetchesAhead) next = cells.input(0);
#pragma unroll 1
    for (int64_t c = 0; c < classes; ++c) {
      const ClassEntry<O> entry = table_.at(c);
      const Values t = factors.target(at, c);
      Values x = next;
      if constexpr (Cells::kFetchesAhead) {
        if (c + 1 < classes) next = cells.input(c + 1);
      } else {
        x = cells.input(c);
      }
      const Class of{c, entry, x, t, factors.element(at, t, c)};
      Slopes slopes = pool_slopes(of, shared);
      if constexpr (kPointwise) {
        if (call_.pointwise.is_classwise()) {
          add_position_slopes(of, shared, at, slopes);
        } else if (call_.pointwise) {
          add_element_slopes(cells, of, slopes);
        }
      }
      if (call_.pass == Pass::kForwardGradient) {  // core/stored_gradient.h
#pragma unroll
        for (int lane = 0; lane < kLanes; ++lane) {
          O& slope = slopes.of.at[lane];
          if (slopes.takes_part[lane] && slope == O(0)) slope = -O(0);
        }
      }
      cells.store(c, slopes.of);
    }
  }

  // slope x p of an element is first x p + second x p^2.
  struct SlopeTerms {
    O first, second;
  };
  __device__ __forceinline__ SlopeTerms slope_terms(const ClassEntry<O>& entry, O w, O t) const {
    const bool squared = call_.rules.squared;
    const O by_target = entry.by_intersection * t;
    return {w * (squared ? by_target : by_target + entry.by_input_sum),
            squared ? w * (O(2) * entry.by_input_sum) : O(0)};
  }

  __device__ __forceinline__ void prepare(const Cells& cells, const CellFactors<Cells>& factors,
                                          const Position& at, Shared& shared) const {
    Exponentials<O, kLanes>& sums = shared.sums;
    const bool classwise = kPointwise && call_.pointwise.is_classwise();
    Values first{}, second{};
    ClassPartSums<O, kLanes> part;
    sums.run(cells, call_.params.classes, [&](int64_t c, const Values& x, const Values& e) {
      const ClassEntry<O> entry = table_.at(c);
      if constexpr (kPointwise) {
        if (classwise) part.add(call_, entry, at, sums, c, x, e);
      }
      if (!entry.is_live()) return;
      const Values t = factors.target(at, c);
      const Element own = factors.element(at, t, c);
#pragma unroll
      for (int lane = 0; lane < kLanes; ++lane) {
        if (own.w.at[lane] == O(0)) continue;
        const SlopeTerms slope = slope_terms(entry, own.w.at[lane], t.at[lane]);
        first.at[lane] += slope.first * e.at[lane];
        second.at[lane] += slope.second * (e.at[lane] * e.at[lane]);
        shared.lives[lane] = true;
      }
    });
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) {
      const O inverse = sums.inverse.at[lane];
      shared.dot.at[lane] = first.at[lane] * inverse + second.at[lane] * (inverse * inverse);
    }
    if constexpr (kPointwise) {
      if (classwise) prepare_part(cells, at, part, shared);
    }
  }

  __device__ __forceinline__ void prepare_part(const Cells& cells, const Position& at,
                                               const ClassPartSums<O, kLanes>& part,
                                               Shared& shared) const {
    if constexpr (kGeneral) {
      if (!call_.has_labels) {
        ProbabilityPart<O, kLanes> whole;
        whole.run(call_, cells, table_, shared.sums, part);
#pragma unroll
        for (int lane = 0; lane < kLanes; ++lane) {
          const O weight = mask_times_weight(at.w.at[lane], scale_);
          shared.weight.at[lane] = whole.lives[lane] ? weight : O(0);
          shared.all.at[lane] = whole.shared.at[lane];
        }
        shared.label = part.rest;
        return;
      }
    }
    const bool smooths = call_.pointwise.label_smoothing != 0;
    visit_class_part<O, kGeneral>(call_, prepared_.total_weight, [&](const auto& loss) {
#pragma unroll
      for (int lane = 0; lane < kLanes; ++lane) {
        const int label = at.label[lane];
        const O own = label >= 0 ? table_.at(label).weight : O(0);
        if (label < 0 || !(smooths ? prepared_.any_weight : own != O(0))) continue;
        const LabelResult<O> result = loss(part.label_terms(shared.sums, lane, own));
        const O weight = mask_times_weight(at.w.at[lane], scale_);
        shared.weight.at[lane] = weight;
        shared.all.at[lane] = weight * result.all;
        shared.base.at[lane] = weight * result.base;
        shared.label.at[lane] = weight * (result.label + result.base * own);
      }
    });
  }

  __device__ __forceinline__ Slopes pool_slopes(const Class& of, const Shared& shared) const {
    Slopes slopes;
    if (call_.activation == Activation::kSoftmax) {
      const Values e = shared.sums.of(of.x);
#pragma unroll
      for (int lane = 0; lane < kLanes; ++lane) {
        const O p = e.at[lane] * shared.sums.inverse.at[lane];
        const O s = slope_at(of, lane, p);
        slopes.takes_part[lane] = shared.lives[lane];
        slopes.of.at[lane] = shared.lives[lane] ? p * (s - shared.dot.at[lane]) : O(0);
      }
      return slopes;
    }
    const bool sigmoid = call_.activation == Activation::kSigmoid;
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) {
      O p = of.x.at[lane], turn = O(1);
      if (sigmoid) {
        const math::Logistic<O> logistic(of.x.at[lane]);
        p = logistic.sigmoid();
        turn = p * logistic.sigmoid_of_minus();
      }
      slopes.takes_part[lane] = of.entry.is_live() && of.own.w.at[lane] != O(0);
      slopes.of.at[lane] = slopes.takes_part[lane] ? slope_at(of, lane, p) * turn : O(0);
    }
    return slopes;
  }

  // 0 where the element has none.
  __device__ __forceinline__ O slope_at(const Class& of, int lane, O p) const {
    const O w = of.own.w.at[lane];
    if (!of.entry.is_live() || w == O(0)) return O(0);
    const SlopeTerms slope = slope_terms(of.entry, w, of.t.at[lane]);
    return slope.first + slope.second * p;
  }

  __device__ __forceinline__ void add_position_slopes(const Class& of, const Shared& shared,
                                                      const Position& at, Slopes& slopes) const {
    if constexpr (kGeneral) {
      if (!call_.has_labels) return add_probability_slopes(of, shared, slopes);
    }
    const Values e = shared.sums.of(of.x);
    const bool smooths = call_.pointwise.label_smoothing != 0;
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) {
      if (shared.weight.at[lane] == O(0)) continue;
      const bool is_label = at.label[lane] == of.c;
      O slope = is_label ? -shared.label.at[lane] : shared.all.at[lane] * e.at[lane];
      if (smooths && !is_label) slope -= shared.base.at[lane] * of.entry.weight;
      slopes.of.at[lane] += slope;
      slopes.takes_part[lane] = true;
    }
  }

  // Here shared.all is the sum that all classes share, shared.label the sum without the largest.
  __device__ __forceinline__ void add_probability_slopes(const Class& of, const Shared& shared,
                                                         Slopes& slopes) const {
    const O w = of.entry.weight;
    visit_class_part<O, kGeneral>(call_, O(0), [&](const auto& loss) {
#pragma unroll
      for (int lane = 0; lane < kLanes; ++lane) {
        if (shared.weight.at[lane] == O(0)) continue;
        const O sum = shared.sums.sum.at[lane];
        const ClassTerms<O> terms{of.x.at[lane], shared.sums.largest.at[lane], sum, math::log(sum),
                                  shared.label.at[lane]};
        const ClassResult<O> result = loss.of_class(terms);
        const O share = ProbabilityPart<O, kLanes>::share(call_, of.t.at[lane]);
        const O own = w == O(0) ? O(0) : w * share * result.own;
        slopes.of.at[lane] += shared.weight.at[lane] * (shared.all.at[lane] * result.z - own);
        slopes.takes_part[lane] = true;
      }
    });
  }

  __device__ __forceinline__ void add_element_slopes(const Cells& cells, const Class& of,
                                                     Slopes& slopes) const {
    const Values q =
        call_.pointwise.pos_weight ? cells.pos_weight(of.c) : everywhere<O, kLanes>(O(1));
    visit_element_part<kGeneral>(loss_, [&](const auto& loss) {
#pragma unroll
      for (int lane = 0; lane < kLanes; ++lane) {
        const O factor = mask_times_weight(of.own.w.at[lane], of.entry.weight);
        const O weight = mask_times_weight(factor, scale_);
        if (weight == O(0)) continue;
        slopes.of.at[lane] +=
            weight * element_derivative(loss, of.x.at[lane], of.t.at[lane], q.at[lane]);
        slopes.takes_part[lane] = true;
      }
    });
  }

  const PoolCall& call_;
  const ElementLoss& loss_;
  Table& table_;
  const PointwisePreparation<O>& prepared_;
  O scale_ = O(0);
};

}  // namespace fusedloss::cuda
