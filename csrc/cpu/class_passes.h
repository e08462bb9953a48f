// What is done to one tile of a class loss, for targets of class indices and of probabilities.
//
//     weigh       mask, map, labels: all that can be known without the logits
//     add_sums    what the tile adds to the normalizers
//     run         the loss of each position, and the gradient into grad_input
#pragma once

#include <vector>

#include "cpu/classwise_loops.h"
#include "cpu/label_softmax.h"
#include "cpu/probability_loops.h"

namespace fusedloss::cpu {

// How the gradient of a tile is wanted.
enum class Gradient { kNone, kZero, kSlopes };

// What both kinds of passes share: the tensors with classes, and how tiles lie in scratch memory.
template <class T>
struct ClassPass {
  const ClasswiseParams& params;
  const ClassWeights<T>& class_weights;
  ClassStream input, grad_input;
  LabelWeighting<T> weighting;
  ClassTiling tiling;
  int64_t pitch;
  bool streams;  // the gradient goes past the caches

  ClassPass(const ClasswiseParams& p, const ClassWeights<T>& weights, ParallelFor parallel_for,
            ClassTiling::Of of = ClassTiling::Of::kPlanes)
      : params(p),
        class_weights(weights),
        input(p.input, p.extents, p.classes),
        grad_input(p.grad_input, p.extents, p.classes),
        weighting(p, weights, parallel_for),
        tiling(p.extents, p.classes, sizeof(T), input.run(), of),
        pitch(tiling.lanes()),
        streams(p.extents.positions() * p.classes * int64_t{sizeof(T)} >= kStreamedBytes) {}

  PlaneShape shape(const ClassTile& tile) const { return {params.classes, tile.count, pitch}; }

  void store_gradient(const ClassTile& tile, const T* planes) const {
    store_planes(grad_input, tile.begin, tile.count, planes, pitch, streams);
  }
  void store_zeros(const ClassTile& tile, T* planes) const {
    std::fill_n(planes, params.classes * pitch, T(0));
    store_gradient(tile, planes);
  }
};

template <class Loss, class T>
class LabelPass : ClassPass<T> {
  using Base = ClassPass<T>;
  using Loops = ClasswiseLoops<Loss, T>;
  static constexpr bool kExponentials = Loss::kSums == ClassSums::kExponentials;

 public:
  struct Scratch {
    typename LabelWeighting<T>::Scratch weighting;
    PositionTile<T> positions;
    SoftmaxLanes<T> lanes;
    LabelTile<T> tile;
    alignas(64) T weight[kMaxLanes];  // positions.w times what the gradient is multiplied by
    std::vector<T> planes;
  };

  LabelPass(const Loss& loss, const ClasswiseParams& params, const ClassWeights<T>& weights,
            ParallelFor parallel_for)
      : Base(params, weights, parallel_for), loss_(loss) {}

  using Base::tiling;

  void prepare(Scratch& scratch) const { scratch.planes.resize(params.classes * pitch); }

  int64_t weigh(const ClassTile& tile, Scratch& scratch) const {
    return weighting.weigh(tile, scratch.weighting, &scratch.positions);
  }
  void add_sums(const ClassTile& tile, const Scratch& scratch, Sums& sums) const {
    weighting.add_sums(scratch.positions, tile.count, sums);
  }

  const T* run(const ClassTile& tile, Scratch& scratch, Gradient gradient) const {
    LabelTile<T>& at = scratch.tile;
    T* planes = scratch.planes.data();
    if (params.classes == 0) {
      std::fill_n(at.value, tile.count, T(0));
      return at.value;
    }
    if constexpr (Loss::kSums == ClassSums::kNone) {
      gather_at_labels(input, tile.begin, tile.count, scratch.positions.label, at.x);
    } else {
      sum(tile, scratch, gradient == Gradient::kSlopes);
    }
    if (gradient == Gradient::kNone) {
      Loops::template positions<false>(loss_, scratch.positions, nullptr, tile.count, &at);
      return at.value;
    }
    Loops::template positions<true>(loss_, scratch.positions, scratch.weight, tile.count, &at);
    if (gradient == Gradient::kZero) {
      Base::store_zeros(tile, planes);
    } else {
      write_slopes(tile, scratch);
    }
    return at.value;
  }

 private:
  using Base::class_weights, Base::grad_input, Base::input, Base::params, Base::pitch;
  using Base::streams, Base::weighting;

  bool smooths() const { return params.label_smoothing != 0; }

  // Everything that takes all classes of a position; `stores`: the planes become exponentials.
  void sum(const ClassTile& tile, Scratch& scratch, bool stores) const {
    LabelTile<T>& at = scratch.tile;
    T* planes = scratch.planes.data();
    const PlaneShape shape = Base::shape(tile);
    load_planes(input, tile.begin, tile.count, planes, pitch);
    const int32_t* label = scratch.positions.label;
    if constexpr (!kExponentials) {
      ShareLoops<T>::sums(planes, shape, label, at.x, at.others);
      return;
    }
    using SoftmaxOfLabels = LabelSoftmaxLoops<T>;
    SoftmaxLanes<T>& lanes = scratch.lanes;
    SoftmaxLoops<T>::largest(planes, shape, lanes.largest);
    if (smooths()) {
      SoftmaxOfLabels::dots(planes, shape, label, class_weights.data(), &lanes);
      std::copy_n(lanes.dot, tile.count, at.dot);
    }
    const auto exponentials = stores ? SoftmaxOfLabels::template exponentials<true, true, false>
                                     : SoftmaxOfLabels::template exponentials<false, true, false>;
    exponentials(planes, shape, label, {}, TileAhead(input, tile, false), &lanes);
    std::copy_n(lanes.own_difference, tile.count, at.x);  // the loss takes differences alone
    std::copy_n(lanes.others, tile.count, at.others);
    std::fill_n(at.largest, tile.count, T(0));
  }

  // A plane leaves for memory while the next one is computed.
  void write_slopes(const ClassTile& tile, Scratch& scratch) const {
    constexpr bool kAll = kExponentials, kBase = Loss::kSums == ClassSums::kShares;
    T* planes = scratch.planes.data();
    if constexpr (Loss::kSums == ClassSums::kNone) {
      std::fill_n(planes, params.classes * pitch, T(0));
    }
    T* const memory = planes_in_place<T>(grad_input, tile.begin, tile.count);
    const bool adds_base = kAll && smooths();
    const auto gradient =
        adds_base ? Loops::template gradient<kAll, true> : Loops::template gradient<kAll, kBase>;
    for (int64_t c = 0; c < params.classes; ++c) {
      T* plane = planes + c * pitch;
      gradient(plane, c, tile.count, scratch.positions.label, scratch.tile, scratch.weight,
               adds_base ? class_weights.data() : nullptr);
      if (memory == nullptr) continue;
      store_run(plane, memory + c * grad_input.class_stride, tile.count, streams);
    }
    if (memory == nullptr) Base::store_gradient(tile, planes);
  }

  const Loss loss_;
};

template <class Loss, class T>
class ProbabilityPass : ClassPass<T> {
  using Base = ClassPass<T>;
  using Loops = ProbabilityLoops<Loss, T>;

 public:
  struct Scratch {
    typename LabelWeighting<T>::Scratch weighting;
    PositionTile<T> positions;
    ProbabilityTile<T> tile;
    alignas(64) T weight[kMaxLanes];
    std::vector<T> planes, target;
  };

  ProbabilityPass(const Loss& loss, const ClasswiseParams& params, const ClassWeights<T>& weights,
                  ParallelFor parallel_for)
      : Base(params, weights, parallel_for),
        loss_(loss),
        target_(params.target, params.extents, params.classes),
        smoothing_{static_cast<T>(1 - params.label_smoothing),
                   static_cast<T>(params.label_smoothing / static_cast<double>(params.classes))} {}

  using Base::tiling;

  void prepare(Scratch& scratch) const {
    scratch.planes.resize(params.classes * pitch);
    scratch.target.resize(params.classes * pitch);
  }

  int64_t weigh(const ClassTile& tile, Scratch& scratch) const {
    weighting.weigh_positions(tile, scratch.weighting, &scratch.positions);
    return -1;
  }
  void add_sums(const ClassTile& tile, Scratch& scratch, Sums& sums) const {
    if (params.normalizer == Normalizer::kWeights) {
      load_planes(target_, tile.begin, tile.count, scratch.target.data(), pitch);
      Loops::weights(scratch.target.data(), Base::shape(tile), class_weights.data(),
                     scratch.positions.class_weight);
    } else {
      std::fill_n(scratch.positions.class_weight, tile.count, T(1));
    }
    weighting.add_sums(scratch.positions, tile.count, sums);
  }

  const T* run(const ClassTile& tile, Scratch& scratch, Gradient gradient) const {
    ProbabilityTile<T>& at = scratch.tile;
    T *planes = scratch.planes.data(), *target = scratch.target.data();
    const PlaneShape shape = Base::shape(tile);
    if (params.classes == 0) {
      std::fill_n(at.value, tile.count, T(0));
      return at.value;
    }
    load_planes(input, tile.begin, tile.count, planes, pitch);
    load_planes(target_, tile.begin, tile.count, target, pitch);
    SoftmaxLoops<T>::largest(planes, shape, at.largest);
    Loops::sums(planes, shape, &at);
    Loops::classes(loss_, smoothing_, planes, target, shape, class_weights.data(), &at);
    const bool has_class_weights = class_weights.data() != nullptr;
    Loops::finish(scratch.positions.w, has_class_weights, tile.count, &at);
    if (gradient == Gradient::kNone) return at.value;
    if (gradient == Gradient::kZero) {
      Base::store_zeros(tile, planes);
    } else {
      Loops::gradient(planes, target, shape, scratch.weight, has_class_weights, at);
      Base::store_gradient(tile, planes);
    }
    return at.value;
  }

 private:
  using Base::class_weights, Base::input, Base::params, Base::pitch, Base::weighting;

  const Loss loss_;
  const ClassStream target_;
  const Smoothing<T> smoothing_;
};

}  // namespace fusedloss::cpu
