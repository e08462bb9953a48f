// What is done at one position: its loss, and its gradient into memory. A thread, or a group of
// them, goes over the classes once for the sums and once for the gradient.
//
// `Cells` are the classes of a position as one thread sees them, in packs of Cells::kPack:
//
//     for (c = cells.first(); c < classes; c += cells.step())   c: class of lane 0, a Cells::Index
//       cells.span(c)              the lanes that are classes
//       cells.load(c, span)        logits, for the first time
//       cells.reload(c, span)      logits once more
//       cells.store(c, span, g)    the gradient
//     cells.at(c)                  one logit, from memory
//     cells.targets(c, span)       the target's probabilities
#pragma once

#include "cuda/any_class_loss.h"
#include "cuda/class_sums.cuh"

namespace fusedloss::cuda {

// kPlain: the target holds class indices.
template <class O, class Cells, class Group, bool kPlain>
class PositionWork {
 public:
  static constexpr int kPack = Cells::kPack;
  using Index = typename Cells::Index;
  using Values = Pack<O, kPack>;

  __device__ __forceinline__ PositionWork(const ClassCall& call, const AnyClassLoss<O>& loss,
                                          const ClassPreparation<O>& prepared, Group group)
      : call_(call), p_(call.params), loss_(loss), prepared_(prepared), group_(group) {}

  // The loss of a position, times w; its gradient is multiplied by `weight`, w times the scale.
  __device__ __forceinline__ O run(Cells& cells, const PositionFactors<O>& at, O weight) const {
    const bool is_backward = call_.pass == Pass::kBackward;
    const bool wants_gradient = call_.pass != Pass::kForward;
    if (at.w == O(0) || (is_backward && weight == O(0)) || p_.classes == 0) {
      if (wants_gradient) store_zeros(cells);
      return O(0);
    }
    if constexpr (!kPlain) {
      if (!p_.has_labels) return run_probabilities(cells, at, weight);
    }
    return run_label(cells, at, weight);
  }

 private:
  template <class F>
  __device__ __forceinline__ void for_each_pack(const Cells& cells, F&& f) const {
    const Index step = cells.step(), classes = static_cast<Index>(p_.classes);
#pragma unroll 1
    for (Index c = cells.first(); c < classes; c += step) f(c, cells.span(c));
  }

  __device__ __forceinline__ void store_zeros(Cells& cells) const {
    for_each_pack(cells, [&](Index c, Span span) { cells.store(c, span, Values{}); });
  }

  __device__ __forceinline__ O run_label(Cells& cells, const PositionFactors<O>& at,
                                         O weight) const {
    LabelTerms<O> terms{};
    if (call_.sums == ClassSums::kNone) {
      terms.x = group_.once([&] { return cells.at(at.label); });
      terms.weight = at.class_weight;
    } else {
      LabelSums<O, Index> sums(call_, static_cast<Index>(at.label));
      for_each_pack(cells, [&](Index c, Span span) { sums.add(cells.load(c, span), span, c); });
      terms = sums.finish(group_, at.class_weight);
    }
    const LabelResult<O> result = label_result(loss_, terms, prepared_.total_weight);
    if (call_.pass != Pass::kForward) {
      if (weight == O(0)) {
        store_zeros(cells);
      } else {
        store_label_slopes(cells, static_cast<Index>(at.label), terms.largest, weight, result);
      }
    }
    return at.w * result.value;
  }

  __device__ __forceinline__ void store_label_slopes(Cells& cells, Index label, O largest, O weight,
                                                     const LabelResult<O>& result) const {
    const bool exponentials = call_.sums == ClassSums::kExponentials;
    const bool has_base = !exponentials || p_.label_smoothing != 0;
    const O all = weight * result.all, base = weight * result.base, own = weight * result.label;
    for_each_pack(cells, [&](Index c, Span span) {
      Values slopes{};
      if (exponentials) {
        const Values x = cells.reload(c, span);
#pragma unroll
        for (int lane = 0; lane < kPack; ++lane) {
          slopes.at[lane] = c + lane == label ? O(0) : all * math::exp(x.at[lane] - largest);
        }
      }
#pragma unroll
      for (int lane = 0; lane < kPack; ++lane) {
        if (has_base && span.has(lane)) {
          const bool weighs = exponentials && p_.weight;
          slopes.at[lane] -= base * (weighs ? class_weight<O>(p_, c + lane) : O(1));
        }
        if (c + lane == label) slopes.at[lane] -= own;
      }
      cells.store(c, span, slopes);
    });
  }

  __device__ __forceinline__ O run_probabilities(Cells& cells, const PositionFactors<O>& at,
                                                 O weight) const {
    ProbabilitySums<O> sums(call_);
    for_each_pack(cells, [&](Index c, Span span) { sums.add(cells.load(c, span), span); });
    const ClassTerms<O> terms = sums.finish(group_);

    LongSum<O> value, shared;
    O counted = O(0);
    int packs = 0;
    for_each_pack(cells, [&](Index c, Span span) {
      const Values x = cells.reload(c, span), t = cells.targets(c, span);
#pragma unroll 1
      for (int i = span.begin; i < span.end; ++i) {
        const O w = class_weight<O>(p_, c + i);
        if (w == O(0)) continue;
        const O a = w * share(t, i);
        const ClassResult<O> result = of_class(terms, x, i);
        value.running += a * result.cost;
        shared.running += a * result.shared;
        counted += static_cast<O>(a != O(0));
      }
      if (++packs % kPacksPerFlush == 0) {
        value.flush();
        shared.flush();
      }
    });
    O totals[3] = {value.total(), shared.total(), counted};
    group_.sum(totals);

    // A position none of whose weighted probabilities count is left out.
    const bool lives = !p_.weight || totals[2] != O(0);
    if (call_.pass != Pass::kForward) {
      if (lives && weight != O(0)) {
        store_probability_slopes(cells, terms, totals[1], weight);
      } else {
        store_zeros(cells);
      }
    }
    return lives ? at.w * totals[0] : O(0);
  }

  __device__ __forceinline__ void store_probability_slopes(Cells& cells, const ClassTerms<O>& terms,
                                                           O shared, O weight) const {
    for_each_pack(cells, [&](Index c, Span span) {
      const Values x = cells.reload(c, span), t = cells.targets(c, span);
      Values slopes{};
#pragma unroll 1
      for (int i = span.begin; i < span.end; ++i) {
        const O w = class_weight<O>(p_, c + i);
        const ClassResult<O> result = of_class(terms, x, i);
        const O own = w == O(0) ? O(0) : w * share(t, i) * result.own;
        const O slope = weight * (shared * result.z - own);
#pragma unroll
        for (int lane = 0; lane < kPack; ++lane) {
          if (lane == i) slopes.at[lane] = slope;
        }
      }
      cells.store(c, span, slopes);
    });
  }

  // What a probability becomes before its class weight: (1 - e) t_c + e / C.
  __device__ __forceinline__ O share(const Values& t, int i) const {
    const double e = p_.label_smoothing;
    return static_cast<O>(1 - e) * lane_of(t, i) +
           static_cast<O>(e / static_cast<double>(p_.classes));
  }

  __device__ __forceinline__ ClassResult<O> of_class(const ClassTerms<O>& terms, const Values& x,
                                                     int i) const {
    ClassTerms<O> own = terms;
    own.x = lane_of(x, i);
    return class_result(loss_, own);
  }

  __device__ __forceinline__ static O lane_of(const Values& values, int i) {
    O result = O(0);
#pragma unroll
    for (int lane = 0; lane < kPack; ++lane) result = lane == i ? values.at[lane] : result;
    return result;
  }

  const ClassCall& call_;
  const ClasswiseParams& p_;
  const AnyClassLoss<O>& loss_;
  const ClassPreparation<O>& prepared_;
  const Group group_;
};

}  // namespace fusedloss::cuda
