// The driver behind cpu/classwise.h; instantiated once per operation type.
#pragma once

#include <mutex>
#include <vector>

#include "cpu/classwise.h"
#include "cpu/classwise_loops.h"
#include "cpu/finish_sums.h"
#include "losses/class_registry.h"

namespace fusedloss::cpu {

template <class T>
struct ClasswiseScratch {
  typename LabelWeighting<T>::Scratch weighting;
  PositionTile<T> positions;
  LabelTile<T> tile;
  alignas(64) T weight[kMaxLanes], grad_output[kMaxLanes];
  std::vector<T> planes;
};

template <class Loss, class T>
class ClasswiseDriver {
  using Scratch = ClasswiseScratch<T>;
  using Loops = ClasswiseLoops<Loss, T>;

 public:
  ClasswiseDriver(const Loss& loss, const ClassWeights<T>& class_weights,
                  const ClasswiseParams& params, ParallelFor parallel_for)
      : loss_(loss),
        class_weights_(class_weights),
        params_(params),
        parallel_for_(parallel_for),
        weighting_(params, class_weights),
        input_(params.input, params.extents, params.classes),
        grad_input_(params.grad_input, params.extents, params.classes),
        tiling_(params.extents, params.classes, sizeof(T), input_.run()),
        pitch_(tiling_.lanes()),
        grad_output_(params.grad_output, loss_extents(params)),
        value_(params.loss, loss_extents(params)),
        streams_(params.extents.positions() * params.classes * int64_t{sizeof(T)} >=
                 kStreamedBytes) {}

  NotAClass forward() {
    std::vector<Sums> blocks(tiling_.blocks());
    if (grad_input_) {
      run([&](int64_t block, Scratch& scratch) {
        tiling_.for_each_tile(block, [&](const ClassTile& tile) {
          if (weigh(tile, scratch)) {
            weighting_.add_sums(scratch.positions, tile.count, blocks[block]);
          }
        });
      });
      if (bad_.index >= 0) return bad_;
      set_sums(blocks);
    }
    run([&](int64_t block, Scratch& scratch) {
      tiling_.for_each_tile(block, [&](const ClassTile& tile) {
        if (!weigh(tile, scratch)) return;
        if (!grad_input_) weighting_.add_sums(scratch.positions, tile.count, blocks[block]);
        blocks[block].total += run_tile(tile, scratch);
      });
    });
    if (bad_.index >= 0) return bad_;
    const double loss = set_sums(blocks);
    if (params_.reduction != Reduction::kNone) store(value_, 0, 1, &loss);
    return bad_;
  }

  void backward() {
    if (params_.classes == 0) return;
    run([&](int64_t block, Scratch& scratch) {
      tiling_.for_each_tile(block, [&](const ClassTile& tile) {
        if (weigh(tile, scratch)) run_tile(tile, scratch);
      });
    });
  }

 private:
  // ---- one tile ---------------------------------------------------------------------------------

  bool weigh(const ClassTile& tile, Scratch& scratch) {
    const int64_t bad = weighting_.weigh(tile, scratch.weighting, &scratch.positions);
    if (bad < 0) return true;
    const std::lock_guard<std::mutex> guard(bad_mutex_);
    if (bad_.index < 0 || bad < bad_.index) bad_.index = bad;
    return false;
  }

  double run_tile(const ClassTile& tile, Scratch& scratch) {
    LabelTile<T>& at = scratch.tile;
    T* planes = scratch.planes.data();
    const PlaneShape shape{params_.classes, tile.count, pitch_};
    if (params_.classes == 0) {
      std::fill_n(at.value, tile.count, T(0));
      return finish_values(tile, at);
    }
    load_planes(input_, tile.begin, tile.count, planes, pitch_);
    SoftmaxLoops<T>::largest(planes, shape, at.largest);
    Loops::gather_labels(planes, pitch_, scratch.positions, tile.count, at.x);
    if (params_.label_smoothing != 0) {
      std::fill_n(at.dot, tile.count, T(0));
      const AddDot<T> dot{class_weights_.data(), at.dot};
      SoftmaxLoops<T>::exponentials(planes, shape, at.largest, at.sum, dot);
    } else {
      SoftmaxLoops<T>::exponentials(planes, shape, at.largest, at.sum);
    }
    if (!grad_input_) {
      Loops::template positions<false>(loss_, scratch.positions, nullptr, tile.count, &at);
      return finish_values(tile, at);
    }
    const bool alive = set_gradient_weights(tile, scratch);
    Loops::template positions<true>(loss_, scratch.positions, scratch.weight, tile.count, &at);
    if (!alive) {
      std::fill_n(planes, shape.classes * pitch_, T(0));  // whatever the derivative is
    } else if (params_.label_smoothing != 0) {
      Loops::template gradient<true>(planes, shape, at, scratch.positions, scratch.weight,
                                     class_weights_.data());
    } else {
      Loops::template gradient<false>(planes, shape, at, scratch.positions, scratch.weight,
                                      nullptr);
    }
    store_planes(grad_input_, tile.begin, tile.count, planes, pitch_, streams_);
    return grad_output_ ? 0 : finish_values(tile, at);
  }

  // scratch.weight = positions.w times what the gradient is multiplied by; false where that is 0.
  bool set_gradient_weights(const ClassTile& tile, Scratch& scratch) const {
    const T* w = scratch.positions.w;
    if (grad_output_ && params_.reduction == Reduction::kNone) {
      const T* given = load(grad_output_, tile.begin, tile.count, scratch.grad_output);
      RegionLoops<T>::product(w, given, scratch.weight, tile.count);
      return true;
    }
    double scale = params_.sums[SumsLayout{params_.extents.samples}.scale(tile.sample)];
    if (grad_output_ && scale != 0) {
      T one;
      scale *= static_cast<double>(*load(grad_output_, 0, 1, &one));
    }
    const T factor = static_cast<T>(scale);
    for (int64_t i = 0; i < tile.count; ++i) scratch.weight[i] = w[i] * factor;
    return scale != 0;
  }

  double finish_values(const ClassTile& tile, const LabelTile<T>& at) const {
    if (params_.reduction == Reduction::kNone) store(value_, tile.begin, tile.count, at.value);
    return SumLoops<T>::sum(at.value, tile.count);
  }

  // ---- the whole --------------------------------------------------------------------------------

  template <class Body>
  void run(Body&& body) const {
    const int64_t grain = std::max<int64_t>(1, 32768 / tiling_.elements_per_block());
    parallel_for_(tiling_.blocks(), grain, [&](int64_t begin, int64_t end) {
      Scratch scratch;
      scratch.planes.resize(params_.classes * pitch_);
      for (int64_t block = begin; block < end; ++block) body(block, scratch);
      finish_streaming();
    });
  }

  double set_sums(const std::vector<Sums>& blocks) const {
    return finish_sums(params_, combine_blocks(blocks, params_.extents.samples),
                       static_cast<double>(params_.extents.positions_per_sample()));
  }

  static Extents loss_extents(const ClasswiseParams& params) {
    return params.reduction == Reduction::kNone ? params.extents : Extents();
  }

  const Loss loss_;
  const ClassWeights<T>& class_weights_;
  const ClasswiseParams& params_;
  const ParallelFor parallel_for_;
  const LabelWeighting<T> weighting_;
  const ClassStream input_, grad_input_;
  const ClassTiling tiling_;
  const int64_t pitch_;
  const Stream grad_output_, value_;
  const bool streams_;  // the gradient goes past the caches
  NotAClass bad_;
  std::mutex bad_mutex_;
};

template <class T, class Visit>
void visit_driver(const char* name, const double* options, const ClasswiseParams& params,
                  ParallelFor parallel_for, Visit&& visit) {
  const ClassWeights<T> weights(params.weight, params.classes);
  const ClassOptions<T> given{options, params.label_smoothing, params.classes, weights.total};
  visit_class_loss<T>(name, given, [&](const auto& loss) {
    ClasswiseDriver<std::decay_t<decltype(loss)>, T> driver(loss, weights, params, parallel_for);
    visit(driver);
  });
}

template <class T>
NotAClass classwise_forward(const char* name, const double* options, const ClasswiseParams& params,
                            ParallelFor parallel_for) {
  NotAClass result;
  visit_driver<T>(name, options, params, parallel_for,
                  [&](auto& driver) { result = driver.forward(); });
  return result;
}

template <class T>
void classwise_backward(const char* name, const double* options, const ClasswiseParams& params,
                        ParallelFor parallel_for) {
  visit_driver<T>(name, options, params, parallel_for, [&](auto& driver) { driver.backward(); });
}

}  // namespace fusedloss::cpu
