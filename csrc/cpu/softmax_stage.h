// Dice, Jaccard or Tversky of softmax, alone or beside a class loss of the same logits, on one
// tile.
//
// `Part` is a functor of losses/classwise.h, or NoPart.
#pragma once

#include "cpu/classwise_loops.h"
#include "cpu/overlap_stage.h"
#include "cpu/probability_loops.h"

namespace fusedloss::cpu {

struct NoPart {};

template <class Part, class T>
class SoftmaxStage : public OverlapStage<T> {
  using Base = OverlapStage<T>;
  using Loops = OverlapLoops<T>;
  static constexpr bool kHasPart = !std::is_same_v<Part, NoPart>;

 public:
  struct Scratch {
    typename OverlapWeighting<T>::Scratch weighting;
    SoftmaxLanes<T> lanes;
    LabelTile<T> part;
    ProbabilityTile<T> soft_part;
    alignas(64) T active[kMaxLanes], weight[kMaxLanes];
    std::vector<T> planes, target, own;
  };

  SoftmaxStage(const Part& part, const OverlapParams& params, ParallelFor parallel_for)
      : Base(params, parallel_for),
        part_(part),
        smoothing_{
            static_cast<T>(1 - params.pointwise.label_smoothing),
            static_cast<T>(params.pointwise.label_smoothing / static_cast<double>(params.classes))},
        whole_(classes.alike && !params.rules.squared && params.has_labels) {}

  void prepare(Scratch& scratch) const {
    weighting.prepare(scratch.weighting);
    scratch.planes.resize(params.classes * pitch);
    if (params.has_labels) return;
    scratch.target.resize(params.classes * pitch);
    if (kHasPart) scratch.own.resize(params.classes * pitch);
  }

  // Whether the slopes are known before the logits: those of Dice, whose loss is linear in I, once
  // P and T are the sums of the weights.
  bool foretells() const {  // of part 0 there are no slopes, by whose way the counts come
    return whole_ && params.rules.part != 0 && params.rules.loss.kind == OverlapKind::kDice;
  }
  // Adds what is known of the counts then.
  void add_known(const ClassTile& tile, const Scratch& scratch, SoftCounts* counts) const {
    const double sum = SumLoops<T>::sum(scratch.weighting.positions.w, tile.count);
    counts[0].add({0, sum, sum});
  }

  // Adds the soft counts of every class to `counts`, and the pointwise total to `sums`.
  void add_counts(const ClassTile& tile, Scratch& scratch, SoftCounts* counts,
                  OverlapSums* sums) const {
    if (params.has_labels) {
      exponentials(tile, scratch, !whole_, nullptr);
      add_label_counts(tile, scratch, counts);
      if constexpr (kHasPart) {
        PartLoops::template positions<false>(part_, own(scratch), nullptr, tile.count,
                                             &scratch.part);
        sums->pointwise.total += SumLoops<T>::sum(scratch.part.value, tile.count);
      }
      return;
    }
    soft_exponentials(tile, scratch);
    for (int64_t c = 0; c < params.classes; ++c) {
      if (!classes.counts[c]) continue;
      const T *e = &scratch.planes[c * pitch], *t = &scratch.target[c * pitch];
      const T* w = scratch.weighting.weights.w_of(c);
      const auto count = params.rules.squared ? Loops::template soft_counts<true>
                                              : Loops::template soft_counts<false>;
      counts[c].add(count(e, t, scratch.lanes.inverse, w, tile.count));
    }
    if constexpr (kHasPart) {
      sums->pointwise.total += SumLoops<T>::sum(scratch.soft_part.value, tile.count);
    }
  }

  // The same and the gradient, of labels.
  void run_at_once(const ClassTile& tile, Scratch& scratch, const StageSlopes<T>& slopes,
                   SoftCounts* counts, OverlapSums* sums) const {
    write_label_gradient(tile, scratch, slopes);
    add_label_counts(tile, scratch, counts);
    if constexpr (kHasPart) {
      sums->pointwise.total += SumLoops<T>::sum(scratch.part.value, tile.count);
    }
  }

  void write_gradient(const ClassTile& tile, Scratch& scratch, const StageSlopes<T>& slopes) const {
    if (!slopes.any()) return Base::store_zeros(tile, scratch.planes.data());
    if (params.has_labels) return write_label_gradient(tile, scratch, slopes);
    write_soft_gradient(tile, scratch, slopes);
    Base::store_gradient(tile, scratch.planes.data());
  }

  using Base::classes, Base::class_weights, Base::input, Base::params, Base::pitch, Base::weighting;

 private:
  using SoftmaxOfLabels = LabelSoftmaxLoops<T>;
  using PartLoops = ClasswiseLoops<Part, T>;
  using SoftPartLoops = ProbabilityLoops<Part, T>;

  bool smooths() const { return params.pointwise.label_smoothing != 0; }
  const PositionTile<T>& own(const Scratch& scratch) const {
    return weighting.of_class_loss(scratch.weighting);
  }
  const int32_t* labels(const Scratch& scratch) const { return scratch.weighting.positions.label; }

  // ---- labels -----------------------------------------------------------------------------------

  // All that takes every class of a position; `stores`: the planes become e. With slopes also m,
  // as far as it is linear in them.
  void exponentials(const ClassTile& tile, Scratch& scratch, bool stores,
                    const StageSlopes<T>* slopes) const {
    SoftmaxLanes<T>& lanes = scratch.lanes;
    T* planes = scratch.planes.data();
    const PlaneShape shape = Base::shape(tile);
    const int32_t* label = labels(scratch);
    load_planes(input, tile.begin, tile.count, planes, pitch);
    SoftmaxLoops<T>::largest(planes, shape, lanes.largest);
    if (kHasPart && smooths()) {
      SoftmaxOfLabels::dots(planes, shape, label, class_weights.data(), &lanes);
      std::copy_n(lanes.dot, tile.count, scratch.part.dot);
    }
    const TileAhead ahead(input, tile, scratch.weighting.backwards);
    if (slopes != nullptr) {
      SoftmaxOfLabels::template exponentials<true, kHasPart, true>(
          planes, shape, label, {slopes->a.data(), slopes->b.data()}, ahead, &lanes);
    } else {
      (stores ? SoftmaxOfLabels::template exponentials<true, kHasPart, false>
              : SoftmaxOfLabels::template exponentials<false, kHasPart, false>)(planes, shape,
                                                                                label, {}, ahead,
                                                                                &lanes);
    }
    Loops::weigh(scratch.weighting.positions.w, tile.count, &lanes);
    if constexpr (kHasPart) {  // the loss takes differences alone
      std::copy_n(lanes.own_difference, tile.count, scratch.part.x);
      std::copy_n(lanes.others, tile.count, scratch.part.others);
      std::fill_n(scratch.part.largest, tile.count, T(0));
    }
  }

  void add_label_counts(const ClassTile& tile, Scratch& scratch, SoftCounts* counts) const {
    const T* w = scratch.weighting.positions.w;
    if (whole_) {
      counts[0].add(Loops::whole_counts(scratch.lanes, w, tile.count));
      return;
    }
    const auto count =
        params.rules.squared ? Loops::template counts<true> : Loops::template counts<false>;
    for (int64_t c = 0; c < params.classes; ++c) {
      if (!classes.counts[c]) continue;
      counts[c].add(
          count(&scratch.planes[c * pitch], c, labels(scratch), scratch.lanes, w, tile.count));
    }
  }

  void write_label_gradient(const ClassTile& tile, Scratch& scratch,
                            const StageSlopes<T>& slopes) const {
    const bool squared = params.rules.squared;
    exponentials(tile, scratch, true, slopes.any_live && !whole_ && !squared ? &slopes : nullptr);
    SoftmaxLanes<T>& lanes = scratch.lanes;
    T* planes = scratch.planes.data();
    const PlaneShape shape = Base::shape(tile);
    const int32_t* label = labels(scratch);
    const T* w = scratch.weighting.positions.w;
    const SlopePlanes<T> of_classes{slopes.a.data(), slopes.b.data()};
    if (!slopes.any_live) {
      std::fill_n(lanes.u, tile.count, T(0));
      std::fill_n(lanes.m, tile.count, T(0));
    } else if (whole_) {
      Loops::whole_dot(slopes.a[0], tile.count, w, &lanes);
    } else if (squared) {
      Loops::squared_dot(planes, shape, label, of_classes, w, &lanes);
    } else {
      Loops::finish_dot(tile.count, w, &lanes);
    }
    find_active(tile, scratch, slopes);
    const bool marks = slopes.marked;
    const int b = whole_ ? 0 : squared ? 2 : 1;
    PointwiseSlopes<T> pointwise{};
    if constexpr (kHasPart) {
      PositionLoops<T>::scale(own(scratch).w, slopes.pointwise, scratch.weight, tile.count);
      PartLoops::template positions<true>(part_, own(scratch), scratch.weight, tile.count,
                                          &scratch.part);
      pointwise = {scratch.part.all, scratch.part.label, scratch.part.base, class_weights.data()};
    }
    // A plane leaves for memory while the next one is computed.
    T* const memory = planes_in_place<T>(Base::grad_input, tile.begin, tile.count);
    const auto run = [&](auto gradient) {
      for (int64_t c = 0; c < params.classes; ++c) {
        T* plane = planes + c * pitch;
        gradient(plane, c, tile.count, label, lanes, of_classes, pointwise, scratch.active);
        if (memory == nullptr) continue;
        store_run(plane, memory + c * params.grad_input.class_stride, tile.count, Base::streams);
      }
      if (memory == nullptr) Base::store_gradient(tile, planes);
    };
    if constexpr (kHasPart) {
      if (smooths()) {
        return run(marks ? label_gradient<true, true>(b) : label_gradient<true, false>(b));
      }
    }
    run(marks ? label_gradient<false, true>(b) : label_gradient<false, false>(b));
  }

  template <bool kBase, bool kMarked>
  static auto label_gradient(int b) {
    return b == 0   ? Loops::template gradient<0, kHasPart, kBase, kMarked>
           : b == 1 ? Loops::template gradient<1, kHasPart, kBase, kMarked>
                    : Loops::template gradient<2, kHasPart, kBase, kMarked>;
  }

  // ---- soft targets -----------------------------------------------------------------------------

  // planes = e and its inverse sums; with a part planes = p, target = t and own = what the gradient
  // of the part takes.
  void soft_exponentials(const ClassTile& tile, Scratch& scratch) const {
    SoftmaxLanes<T>& lanes = scratch.lanes;
    T *planes = scratch.planes.data(), *target = scratch.target.data();
    const PlaneShape shape = Base::shape(tile);
    load_planes(input, tile.begin, tile.count, planes, pitch);
    load_planes(weighting.target(), tile.begin, tile.count, target, pitch);
    if constexpr (kHasPart) {
      ProbabilityTile<T>& part = scratch.soft_part;
      std::copy_n(target, params.classes * pitch, scratch.own.data());
      SoftmaxLoops<T>::largest(planes, shape, part.largest);
      SoftPartLoops::sums(planes, shape, &part);
      SoftPartLoops::classes(part_, smoothing_, planes, scratch.own.data(), shape,
                             class_weights.data(), &part);
      SoftPartLoops::finish(scratch.weighting.positions.w, class_weights.data() != nullptr,
                            tile.count, &part);
      std::fill_n(lanes.inverse, tile.count, T(1));
    } else {
      SoftmaxLoops<T>::largest(planes, shape, lanes.largest);
      SoftmaxLoops<T>::exponentials(planes, shape, lanes.largest, lanes.others);
      std::fill_n(lanes.own, tile.count, T(0));
      Loops::weigh(scratch.weighting.positions.w, tile.count, &lanes);
    }
  }

  void write_soft_gradient(const ClassTile& tile, Scratch& scratch,
                           const StageSlopes<T>& slopes) const {
    soft_exponentials(tile, scratch);
    SoftmaxLanes<T>& lanes = scratch.lanes;
    std::fill_n(lanes.m, tile.count, T(0));
    for (int64_t c = 0; c < params.classes; ++c) {
      T *plane = &scratch.planes[c * pitch], *t = &scratch.target[c * pitch];
      if (!slopes.live[c]) {
        Loops::no_slopes(plane, t, lanes.inverse, tile.count);
        continue;
      }
      (params.rules.squared ? Loops::template slopes<true>
                            : Loops::template slopes<false>)(plane, t, lanes.inverse,
                                                             scratch.weighting.weights.w_of(c),
                                                             slopes.a[c], slopes.b[c], tile.count,
                                                             lanes.m);
    }
    find_active(tile, scratch, slopes);
    if constexpr (kHasPart) add_soft_part(tile, scratch, slopes);
    const auto gradient = slopes.marked ? Loops::template soft_gradient<kHasPart, true>
                                        : Loops::template soft_gradient<kHasPart, false>;
    for (int64_t c = 0; c < params.classes; ++c) {
      const T* part = kHasPart ? &scratch.own[c * pitch] : nullptr;
      gradient(&scratch.planes[c * pitch], &scratch.target[c * pitch], lanes.m, part,
               scratch.active, tile.count);
    }
  }

  // own = the gradient of the pointwise part.
  void add_soft_part(const ClassTile& tile, Scratch& scratch, const StageSlopes<T>& slopes) const {
    const T* w = scratch.weighting.positions.w;
    PositionLoops<T>::scale(w, slopes.pointwise, scratch.weight, tile.count);
    for (int64_t c = 0; c < params.classes; ++c) {
      Loops::soft_part(&scratch.planes[c * pitch], scratch.soft_part.shared, scratch.weight,
                       scratch.soft_part.counted, class_weights.data() != nullptr, tile.count,
                       &scratch.own[c * pitch]);
    }
  }

  // Where the gradient is not exactly 0.
  void find_active(const ClassTile& tile, Scratch& scratch, const StageSlopes<T>& slopes) const {
    std::fill_n(scratch.active, tile.count, T(0));
    const auto add = [&](const T* w) {
      ElementWeightLoops<T>::find_active(w, tile.count, scratch.active);
    };
    if (slopes.any_live && scratch.weighting.weights.pitch == 0) {
      add(scratch.weighting.weights.w);
    } else {
      for (int64_t c = 0; slopes.any_live && c < params.classes; ++c) {
        if (slopes.live[c]) add(scratch.weighting.weights.w_of(c));
      }
    }
    if constexpr (kHasPart) {
      if (!slopes.has_pointwise) return;
      const bool has_labels = params.has_labels;
      if (has_labels || class_weights.data() == nullptr) {
        add(has_labels ? own(scratch).w : scratch.weighting.positions.w);
      } else {
        Loops::find_counted(scratch.weighting.positions.w, scratch.soft_part.counted, tile.count,
                            scratch.active);
      }
    }
  }

  const Part part_;
  const Smoothing<T> smoothing_;
  const bool whole_;  // one pool holds all classes alike: their sum of p is 1
};

}  // namespace fusedloss::cpu
