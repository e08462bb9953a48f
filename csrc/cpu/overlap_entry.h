// From a call's params to the stage that runs it, and the definitions behind cpu/overlap.h.
#pragma once

#include "cpu/overlap_driver.h"
#include "losses/class_registry.h"
#include "losses/registry.h"

namespace fusedloss::cpu {

// Calls visit(part) with the functor of the pointwise part.
template <class T, class Visit>
void visit_class_part(const OverlapParams& params, Visit&& visit) {
  const PointwiseParams& part = params.pointwise;
  if (part.kind == PointwiseKind::kNone) return visit(NoPart());
  const ClassWeights<T> weights(part.class_weight, params.classes);
  const ClassOptions<T> options{part.options, part.label_smoothing, params.classes,
                                part.label_smoothing == 0 ? T(0) : weights.total};
  const bool is_focal = part.kind == PointwiseKind::kSoftmaxFocal;
  visit_softmax_loss<T>(is_focal ? "softmax_focal_loss" : "cross_entropy", options, visit);
}

template <class Visit>
void visit_element_part(const OverlapParams& params, Visit&& visit) {
  const PointwiseParams& part = params.pointwise;
  if (part.kind == PointwiseKind::kNone) return visit(NoPart());
  if (part.kind == PointwiseKind::kBinaryCrossEntropy) {
    return visit(BinaryCrossEntropyWithLogitsLoss(part.options));
  }
  if (part.options[1] == 2.0) return visit(SigmoidFocalLoss<true>(part.options));
  visit(SigmoidFocalLoss<false>(part.options));
}

template <class T, class Visit>
void visit_overlap_driver(const OverlapParams& params, ParallelFor parallel_for, Visit&& visit) {
  const auto run = [&](const auto& stage) {
    OverlapDriver<std::decay_t<decltype(stage)>, T> driver(stage, params, parallel_for);
    visit(driver);
  };
  if (params.activation == Activation::kSoftmax) {
    visit_class_part<T>(params, [&](const auto& part) {
      run(SoftmaxStage<std::decay_t<decltype(part)>, T>(part, params, parallel_for));
    });
  } else {
    visit_element_part(params, [&](const auto& part) {
      run(ElementStage<std::decay_t<decltype(part)>, T>(part, params, parallel_for));
    });
  }
}

template <class T>
NotAClass overlap_forward(const OverlapParams& params, ParallelFor parallel_for) {
  NotAClass result;
  visit_overlap_driver<T>(params, parallel_for, [&](auto& driver) { result = driver.forward(); });
  return result;
}

template <class T>
void overlap_backward(const OverlapParams& params, ParallelFor parallel_for) {
  visit_overlap_driver<T>(params, parallel_for, [&](auto& driver) { driver.backward(); });
}

}  // namespace fusedloss::cpu
