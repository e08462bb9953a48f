// What is done to one tile of a class loss, for targets of class indices and of probabilities.
//
//     weigh       mask, map, labels: all that can be known without the logits
//     add_sums    what the tile adds to the normalizers
//     run         the loss of each position, and the gradient into grad_input
#pragma once

#include <vector>

#include "cpu/classwise_loops.h"
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
            int64_t fewest = 16)
      : params(p),
        class_weights(weights),
        input(p.input, p.extents, p.classes),
        grad_input(p.grad_input, p.extents, p.classes),
        weighting(p, weights, parallel_for),
        tiling(p.extents, p.classes, sizeof(T), input.run(), fewest),
        pitch(tiling.lanes()),
        streams(p.extents.positions() * p.classes * int64_t{sizeof(T)} >= kStreamedBytes) {}

  PlaneShape shape(const ClassTile& tile) const { return {params.classes, tile.count, pitch}; }

  void store_gradient(const ClassTile& tile, Gradient gradient, T* planes) const {
    if (gradient == Gradient::kZero) std::fill_n(planes, params.classes * pitch, T(0));
    store_planes(grad_input, tile.begin, tile.count, planes, pitch, streams);
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
      sum(tile, scratch);
    }
    if (gradient == Gradient::kNone) {
      Loops::template positions<false>(loss_, scratch.positions, nullptr, tile.count, &at);
      return at.value;
    }
    Loops::template positions<true>(loss_, scratch.positions, scratch.weight, tile.count, &at);
    if (gradient == Gradient::kSlopes) write_slopes(tile, scratch);
    Base::store_gradient(tile, gradient, planes);
    return at.value;
  }

 private:
  using Base::class_weights, Base::input, Base::params, Base::pitch, Base::weighting;

  bool smooths() const { return params.label_smoothing != 0; }

  // Everything that takes all classes of a position.
  void sum(const ClassTile& tile, Scratch& scratch) const {
    LabelTile<T>& at = scratch.tile;
    T* planes = scratch.planes.data();
    const PlaneShape shape = Base::shape(tile);
    load_planes(input, tile.begin, tile.count, planes, pitch);
    const T absent = kExponentials ? -T(HUGE_VAL) : T(0);
    if constexpr (kExponentials) SoftmaxLoops<T>::largest(planes, shape, at.largest);
    Loops::take_labels(planes, pitch, scratch.positions, absent, tile.count, at.x);
    if constexpr (!kExponentials) {
      ShareLoops<T>::sum(planes, shape, at.others);
    } else if (smooths()) {
      std::fill_n(at.dot, tile.count, T(0));
      const AddDot<T> dot{class_weights.data(), scratch.positions.label, at.dot};
      SoftmaxLoops<T>::exponentials(planes, shape, at.largest, at.others, dot);
    } else {
      SoftmaxLoops<T>::exponentials(planes, shape, at.largest, at.others);
    }
  }

  void write_slopes(const ClassTile& tile, Scratch& scratch) const {
    const LabelTile<T>& at = scratch.tile;
    T* planes = scratch.planes.data();
    const PlaneShape shape = Base::shape(tile);
    if constexpr (Loss::kSums == ClassSums::kNone) {
      std::fill_n(planes, params.classes * pitch, T(0));
    } else if constexpr (!kExponentials) {
      Loops::template gradient<false, true>(planes, shape, at, scratch.weight, nullptr);
    } else if (smooths()) {
      Loops::template gradient<true, true>(planes, shape, at, scratch.weight, class_weights.data());
    } else {
      Loops::template gradient<true, false>(planes, shape, at, scratch.weight, nullptr);
    }
    Loops::subtract_at_labels(planes, pitch, scratch.positions, at.label, tile.count);
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
    if (gradient == Gradient::kSlopes) {
      Loops::gradient(planes, target, shape, scratch.weight, has_class_weights, at);
    }
    Base::store_gradient(tile, gradient, planes);
    return at.value;
  }

 private:
  using Base::class_weights, Base::input, Base::params, Base::pitch, Base::weighting;

  const Loss loss_;
  const ClassStream target_;
  const Smoothing<T> smoothing_;
};

}  // namespace fusedloss::cpu
