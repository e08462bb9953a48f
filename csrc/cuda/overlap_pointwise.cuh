// The pointwise part of a compound: what it needs of each class, and its formulas.
#pragma once

#include "cuda/elementwise_element.cuh"
#include "cuda/overlap_softmax.cuh"
#include "losses/class_registry.h"

namespace fusedloss::cuda {

// What a block works out before its first position.
template <class O>
struct PointwisePreparation {
  O total_weight = O(0);    // sum of the class weights, where smoothing
  bool any_weight = false;  // one of them is not 0
};

template <class O>
__device__ __forceinline__ PointwisePreparation<O> prepare_pointwise(const PoolCall& call) {
  if (!call.pointwise.is_classwise() || call.pointwise.label_smoothing == 0) return {};
  double sums[2] = {0, 0};
#pragma unroll 1
  for (int64_t c = threadIdx.x; c < call.params.classes; c += kThreads) {
    const double weight = number_at(call.pointwise.class_weight, c, 1);
    sums[0] += weight;
    sums[1] += weight != 0 ? 1 : 0;
  }
  block_sum(sums);
  return {static_cast<O>(sums[0]), sums[1] != 0};
}

// Calls f with the functor of losses/classwise.h.
template <class O, class F>
__device__ __forceinline__ void visit_class_loss(const PoolCall& call, O total_weight, F&& f) {
  const PointwiseCall& part = call.pointwise;
  const bool focal = part.kind == PointwiseKind::kSoftmaxFocal;
  if (!focal || part.gamma == 0) {
    const double e = part.label_smoothing, classes = static_cast<double>(call.params.classes);
    return f(CrossEntropy<O>{static_cast<O>(1 - e), static_cast<O>(e / classes), total_weight});
  }
  if (part.gamma == 2) return f(SoftmaxFocal<O, true>{O(2)});
  f(SoftmaxFocal<O, false>{static_cast<O>(part.gamma < 1e30 ? part.gamma : 1e30)});
}

template <class O>
__device__ __noinline__ LabelResult<O> label_result(const PoolCall& call, O total_weight,
                                                    LabelTerms<O> at) {
  LabelResult<O> result{};
  visit_class_loss<O>(call, total_weight, [&](const auto& loss) { result = loss(at); });
  return result;
}
template <class O>
__device__ __noinline__ ClassResult<O> class_result(const PoolCall& call, ClassTerms<O> at) {
  ClassResult<O> result{};
  visit_class_loss<O>(call, O(0), [&](const auto& loss) { result = loss.of_class(at); });
  return result;
}

// The functor behind a call, for kernels that have no registers to spare.
template <class O>
struct CalledClassLoss {
  const PoolCall& call;
  O total_weight;

  __device__ __forceinline__ LabelResult<O> operator()(const LabelTerms<O>& at) const {
    return label_result(call, total_weight, at);
  }
  __device__ __forceinline__ ClassResult<O> of_class(const ClassTerms<O>& at) const {
    return class_result(call, at);
  }
};

template <class O, bool kCalled, class F>
__device__ __forceinline__ void visit_class_part(const PoolCall& call, O total_weight, F&& f) {
  if constexpr (kCalled) {
    f(CalledClassLoss<O>{call, total_weight});
  } else {
    visit_class_loss<O>(call, total_weight, f);
  }
}

// The same of the losses of an element.
template <class O>
__device__ __noinline__ O element_part(const ElementLoss& any, O x, O t, O pos_weight,
                                       bool derivative) {
  O result = O(0);
  any.visit([&](const auto& loss) {
    result = derivative ? element_derivative(loss, x, t, pos_weight)
                        : element_value(loss, x, t, pos_weight);
  });
  return result;
}

struct CalledElementLoss {
  static constexpr bool kHasPosWeight = true;
  const ElementLoss& any;

  template <class O>
  __device__ __forceinline__ O value(O x, O t, O pos_weight) const {
    return element_part(any, x, t, pos_weight, false);
  }
  template <class O>
  __device__ __forceinline__ O derivative(O x, O t, O pos_weight) const {
    return element_part(any, x, t, pos_weight, true);
  }
};

template <bool kCalled, class F>
__device__ __forceinline__ void visit_element_part(const ElementLoss& any, F&& f) {
  if constexpr (kCalled) {
    f(CalledElementLoss{any});
  } else {
    any.visit(f);
  }
}

// Of all classes, as losses/classwise.h asks for it: without the label's class, or, for
// probabilities, without the largest ones.
template <class O, int kLanes>
struct ClassPartSums {
  using Values = Pack<O, kLanes>;
  Values rest{}, own{}, dot{};

  __device__ __forceinline__ void add(const PoolCall& call, const ClassEntry<O>& entry,
                                      const CellPosition<O, kLanes>& at,
                                      const Exponentials<O, kLanes>& sums, int64_t c,
                                      const Values& x, const Values& e) {
    const bool smooths = call.pointwise.label_smoothing != 0 && entry.weight != O(0);
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) {
      const O value = x.at[lane], largest = sums.largest.at[lane];
      const bool left_out = call.has_labels ? at.label[lane] == c : value == largest;
      if (left_out) {
        own.at[lane] = value;
      } else {
        rest.at[lane] += e.at[lane];
        if (smooths) dot.at[lane] += entry.weight * (value - largest);
      }
    }
  }

  __device__ __forceinline__ LabelTerms<O> label_terms(const Exponentials<O, kLanes>& sums,
                                                       int lane, O weight) const {
    return {own.at[lane], sums.largest.at[lane], rest.at[lane], dot.at[lane], weight};
  }
  __device__ __forceinline__ ClassTerms<O> class_terms(const Exponentials<O, kLanes>& sums,
                                                       int lane, O x) const {
    const O sum = sums.sum.at[lane];
    return {x, sums.largest.at[lane], sum, math::log(sum), rest.at[lane]};
  }
};

// The part at a position with probabilities, summed over its classes.
template <class O, int kLanes>
struct ProbabilityPart {
  Pack<O, kLanes> value{}, shared{}, weight{};  // weight: sum of w_c t_c
  bool lives[kLanes] = {};

  // What a probability becomes before its class weight: (1 - e) t + e / C.
  __device__ __forceinline__ static O share(const PoolCall& call, O t) {
    const double e = call.pointwise.label_smoothing;
    return static_cast<O>(1 - e) * t + static_cast<O>(e / static_cast<double>(call.params.classes));
  }

  template <class Cells, class Table>
  __device__ __forceinline__ void run(const PoolCall& call, const Cells& cells, const Table& table,
                                      const Exponentials<O, kLanes>& sums,
                                      const ClassPartSums<O, kLanes>& part) {
#pragma unroll 1
    for (int64_t c = 0; c < call.params.classes; ++c) {
      const O w = table.at(c).weight;
      if (w == O(0)) continue;
      const Pack<O, kLanes> x = cells.input(c), t = cells.target(c);
#pragma unroll 1
      for (int i = 0; i < kLanes; ++i) {
        O own_x = O(0), own_t = O(0);
        ClassTerms<O> terms{};
#pragma unroll
        for (int lane = 0; lane < kLanes; ++lane) {
          if (lane != i) continue;
          own_x = x.at[lane];
          own_t = t.at[lane];
          terms = part.class_terms(sums, lane, own_x);
        }
        const O a = w * share(call, own_t);
        ClassResult<O> result{};
        visit_class_part<O, true>(call, O(0),
                                  [&](const auto& loss) { result = loss.of_class(terms); });
#pragma unroll
        for (int lane = 0; lane < kLanes; ++lane) {
          if (lane != i) continue;
          value.at[lane] += a * result.cost;
          shared.at[lane] += a * result.shared;
          weight.at[lane] += w * own_t;
          lives[lane] |= a != O(0);
        }
      }
    }
    if (call.pointwise.class_weight) return;
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) lives[lane] = true;
  }
};

}  // namespace fusedloss::cuda
