// The driver behind cpu/classwise.h; instantiated once per operation type.
#pragma once

#include <mutex>
#include <vector>

#include "cpu/class_passes.h"
#include "cpu/classwise.h"
#include "cpu/finish_sums.h"
#include "cpu/row_pass.h"
#include "losses/class_registry.h"

namespace fusedloss::cpu {

// `Pass` knows the loss and the kind of target (class_passes.h).
template <class Pass, class T>
class ClasswiseDriver {
  using Scratch = typename Pass::Scratch;

 public:
  ClasswiseDriver(const Pass& pass, const ClasswiseParams& params, ParallelFor parallel_for)
      : pass_(pass),
        params_(params),
        parallel_for_(parallel_for),
        grad_output_(params.grad_output, loss_extents(params)),
        value_(params.loss, loss_extents(params)) {}

  NotAClass forward() {
    std::vector<Sums> blocks(pass_.tiling.blocks());
    const bool wants_gradient = static_cast<bool>(params_.grad_input);
    if (wants_gradient) {  // whose scale comes from all labels
      run(
          [&](const ClassTile& tile, Scratch& scratch, Sums& sums) {
            if (weigh(tile, scratch)) pass_.add_sums(tile, scratch, sums);
          },
          &blocks);
      if (bad_.index >= 0) return bad_;
      set_sums(blocks);
    }
    run(
        [&](const ClassTile& tile, Scratch& scratch, Sums& sums) {
          if (!weigh(tile, scratch)) return;
          if (!wants_gradient) pass_.add_sums(tile, scratch, sums);
          const T* value = pass_.run(tile, scratch, prepare_gradient(tile, scratch));
          if (params_.reduction == Reduction::kNone) store(value_, tile.begin, tile.count, value);
          sums.total += SumLoops<T>::sum(value, tile.count);
        },
        &blocks);
    if (bad_.index >= 0) return bad_;
    const double loss = set_sums(blocks);
    if (params_.reduction != Reduction::kNone) store(value_, 0, 1, &loss);
    return bad_;
  }

  void backward() {
    if (!params_.grad_input) return;  // there are no logits
    std::vector<Sums> blocks(pass_.tiling.blocks());
    run(
        [&](const ClassTile& tile, Scratch& scratch, Sums&) {
          if (weigh(tile, scratch)) pass_.run(tile, scratch, prepare_gradient(tile, scratch));
        },
        &blocks);
  }

 private:
  bool weigh(const ClassTile& tile, Scratch& scratch) {
    const int64_t bad = pass_.weigh(tile, scratch);
    if (bad < 0) return true;
    const std::lock_guard<std::mutex> guard(bad_mutex_);
    if (bad_.index < 0 || bad < bad_.index) bad_.index = bad;
    return false;
  }

  // Fills scratch.weight. Where the gradient is multiplied by 0 it is 0 whatever the slopes are.
  Gradient prepare_gradient(const ClassTile& tile, Scratch& scratch) const {
    if (!params_.grad_input) return Gradient::kNone;
    const T* w = scratch.positions.w;
    if (grad_output_ && params_.reduction == Reduction::kNone) {
      const T* given = load(grad_output_, tile.begin, tile.count, scratch.weight);
      RegionLoops<T>::product(w, given, scratch.weight, tile.count);
      return Gradient::kSlopes;
    }
    double scale = params_.sums[SumsLayout{params_.extents.samples}.scale(tile.sample)];
    if (is_empty_scale(scale)) return Gradient::kZero;
    if (grad_output_) {
      T one;
      scale *= static_cast<double>(*load(grad_output_, 0, 1, &one));
    }
    const T factor = static_cast<T>(scale);
    PositionLoops<T>::scale(w, factor, scratch.weight, tile.count);
    return Gradient::kSlopes;
  }

  // body(tile, scratch, sums of its block) for all tiles; blocks are spread over threads.
  template <class Body>
  void run(Body&& body, std::vector<Sums>* blocks) const {
    const ClassTiling& tiling = pass_.tiling;
    const int64_t grain = std::max<int64_t>(1, 32768 / tiling.elements_per_block());
    parallel_for_(tiling.blocks(), grain, [&](int64_t begin, int64_t end) {
      Scratch scratch;
      pass_.prepare(scratch);
      for (int64_t block = begin; block < end; ++block) {
        tiling.for_each_tile(block,
                             [&](const ClassTile& tile) { body(tile, scratch, (*blocks)[block]); });
      }
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

  const Pass& pass_;
  const ClasswiseParams& params_;
  const ParallelFor parallel_for_;
  const Stream grad_output_, value_;
  NotAClass bad_;
  std::mutex bad_mutex_;
};

template <class T, class Visit>
void visit_driver(const char* name, const double* options, const ClasswiseParams& params,
                  ParallelFor parallel_for, Visit&& visit) {
  const ClassWeights<T> weights(params.weight, params.classes);
  const double smoothing = params.label_smoothing;
  const ClassOptions<T> given{options, smoothing, params.classes,
                              smoothing == 0 ? T(0) : weights.total};
  visit_class_loss<T>(name, given, [&](const auto& loss) {
    using Loss = std::decay_t<decltype(loss)>;
    const auto with_pass = [&](const auto& pass) {
      ClasswiseDriver<std::decay_t<decltype(pass)>, T> driver(pass, params, parallel_for);
      visit(driver);
    };
    if constexpr (Loss::kSums != ClassSums::kNone) {
      if (!params.has_labels)
        return with_pass(ProbabilityPass<Loss, T>(loss, params, weights, parallel_for));
    }
    if constexpr (Loss::kSums == ClassSums::kExponentials) {
      if (RowPass<Loss, T>::takes(params)) {
        return with_pass(RowPass<Loss, T>(loss, params, weights, parallel_for));
      }
    }
    with_pass(LabelPass<Loss, T>(loss, params, weights, parallel_for));
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
