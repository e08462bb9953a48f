// What the stages of the overlap driver have in common: the tensors of a call, which classes count,
// how tiles lie in scratch memory, and the slopes with which a gradient is written.
#pragma once

#include <vector>

#include "cpu/overlap_loops.h"
#include "cpu/overlap_weighting.h"

namespace fusedloss::cpu {

// The slopes of a sample, as a stage writes its gradient with.
template <class T>
struct StageSlopes {
  std::vector<T> a, b;  // of each class: dl/dI and dl/dP, times grad_output and class weight
  std::vector<char> live;
  bool any_live = false;
  T pointwise = T(0);  // what the derivatives of the pointwise part are multiplied by
  bool has_pointwise = false;
  bool marked = false;  // the gradient is stored for a backward pass to come

  bool any() const { return any_live || has_pointwise; }
};

// Class weights of the pools, and what follows from them.
struct PoolClasses {
  std::vector<double> weight;
  std::vector<char> counts;  // has a pool, and a weight that is not 0
  bool any = false;
  bool alike = true;  // one pool holds all classes, with the same weight

  explicit PoolClasses(const OverlapParams& params)
      : weight(params.classes, 1.0), counts(params.classes, 1) {
    const Pools& pools = params.rules.pools;
    for (int64_t c = 0; c < params.classes; ++c) {
      weight[c] = class_weight_at(params.weight, c);
      counts[c] = c >= pools.first_class() && weight[c] != 0;
      any = any || counts[c];
      alike = alike && counts[c] && weight[c] == weight[0];
    }
    alike = alike && !pools.by_class();
  }
};

// Which classes have an influence on the loss at all: labels out of range matter only then.
template <class T>
std::vector<char> shown_classes(const OverlapParams& params, const PoolClasses& classes,
                                const ClassWeights<T>& class_weights) {
  std::vector<char> shown = classes.counts;
  for (int64_t c = 0; params.pointwise && c < params.classes; ++c) {
    shown[c] = shown[c] || class_weights.data() == nullptr || class_weights.values[c] != T(0);
  }
  return shown;
}

template <class T>
struct OverlapStage {
  const OverlapParams& params;
  const PoolClasses classes;
  const ClassWeights<T> class_weights;  // of the pointwise part
  const std::vector<char> shown;
  const ClassStream input, grad_input;
  const ClassTiling tiling;
  const int64_t pitch;
  const OverlapWeighting<T> weighting;
  const bool streams;  // the gradient goes past the caches

  OverlapStage(const OverlapParams& p, ParallelFor parallel_for)
      : params(p),
        classes(p),
        class_weights(p.pointwise.class_weight, p.classes),
        shown(shown_classes(p, classes, class_weights)),
        input(p.input, p.extents, p.classes),
        grad_input(p.grad_input, p.extents, p.classes),
        tiling(p.extents, p.classes, sizeof(T), input.run()),
        pitch(tiling.lanes()),
        weighting(p, class_weights, shown, pitch, parallel_for),
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

}  // namespace fusedloss::cpu
