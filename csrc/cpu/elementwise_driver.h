// The driver behind cpu/elementwise.h; instantiated once per operation type.
#pragma once

#include <mutex>
#include <vector>

#include "cpu/elementwise.h"
#include "cpu/elementwise_loops.h"
#include "cpu/finish_sums.h"
#include "cpu/stream.h"
#include "cpu/streaming_store.h"
#include "cpu/tiling.h"
#include "cpu/weighting.h"

namespace fusedloss::cpu {

template <class T>
struct ElementwiseScratch {
  typename Weighting<T>::Scratch weighting;
  alignas(64) T x[kTile], t[kTile], pos_weight[kTile];
  alignas(64) T grad_output[kTile], scaled[kTile], result[kTile];
};

template <class Loss, class T>
class ElementwiseDriver {
  using Scratch = ElementwiseScratch<T>;

 public:
  ElementwiseDriver(const Loss& loss, const ElementwiseParams& params, ParallelFor parallel_for)
      : loss_(loss),
        params_(params),
        parallel_for_(parallel_for),
        weighting_({params.region, params.weight_source, params.bindings, params.weight,
                    params.input, params.target, params.extents, params.normalizer},
                   parallel_for),
        tiling_(weighting_.tiling()),
        input_(params.input, params.extents),
        target_(params.target, params.extents),
        pos_weight_(params.pos_weight, params.extents),
        grad_output_(params.grad_output, loss_extents(params)),
        grad_input_(params.grad_input, params.extents),
        streams_gradient_(params.extents.elements() * int64_t{sizeof(T)} >= kStreamedBytes),
        value_(params.loss, loss_extents(params)) {}

  NotAProbability forward() {
    std::vector<Sums> blocks(tiling_.blocks());
    const bool none = params_.reduction == Reduction::kNone;
    const bool summed_first = grad_input_ && depends_on_mask();
    if (summed_first) {
      run([&](int64_t block, Scratch& scratch) {
        tiling_.for_each_tile(block, [&](const TileRange& tile) {
          weighting_.add_sums(tile, scratch.weighting, blocks[block]);
        });
      });
    }
    if (grad_input_) set_sums(combine(blocks));
    run([&](int64_t block, Scratch& scratch) {
      tiling_.for_each_tile(block, [&](const TileRange& tile) {
        Sums* sums = summed_first || !wants_sums() ? nullptr : &blocks[block];
        blocks[block].total += run_tile(tile, scratch, sums);
      });
    });
    const double loss = set_sums(combine(blocks));
    if (!none) store(value_, 0, 1, &loss);
    return bad_input_;
  }

  void backward() {
    run([&](int64_t block, Scratch& scratch) {
      tiling_.for_each_tile(block,
                            [&](const TileRange& tile) { run_tile(tile, scratch, nullptr); });
    });
  }

 private:
  // ---- one tile ---------------------------------------------------------------------------------

  double run_tile(const TileRange& tile, Scratch& scratch, Sums* sums) {
    double total = 0;
    int64_t channel = 0;
    weighting_.for_each_run(tile, scratch.weighting, [&](int64_t index, const Weights<T>& weights) {
      if (sums != nullptr) weighting_.add(weights, tile, channel++, scratch.weighting, *sums);
      if (weights.parts == nullptr) {
        total += run_loss(index, tile, weights.w, scratch);
        return;
      }
      weights.parts->for_each(tile.count, [&](int64_t begin, int64_t end, bool is_active) {
        TileRange part = tile;
        part.begin += begin;
        part.count = end - begin;
        if (is_active) {
          total += run_loss(index + begin, part, weights.w + begin, scratch);
        } else {
          write_zeros(index + begin, part.count, scratch);
        }
      });
    });
    return total;
  }

  double run_loss(int64_t index, const TileRange& range, const T* w, Scratch& scratch) {
    const int64_t count = range.count;
    ElementwiseTile<T> tile{};
    tile.count = count;
    tile.next = weighting_.leaves_unread() ? 0 : range.next(index);
    tile.x = load(input_, index, count, scratch.x);
    tile.t = load(target_, index, count, scratch.t);
    if (pos_weight_) tile.pos_weight = load(pos_weight_, index, count, scratch.pos_weight);
    tile.w = w;
    const bool backward = static_cast<bool>(grad_output_);
    if constexpr (input_is_probability<Loss>) {
      if (!backward) check_probabilities(index, tile);
    }
    if (grad_input_) {
      double scale = params_.sums[SumsLayout{params_.extents.samples}.scale(range.sample)];
      if (backward && params_.reduction == Reduction::kNone) {
        const T* grad_output = load(grad_output_, index, count, scratch.grad_output);
        if (w != nullptr) RegionLoops<T>::product(w, grad_output, scratch.scaled, count);
        tile.w = w != nullptr ? scratch.scaled : grad_output;
      } else if (backward) {
        T one;
        const double grad_output = static_cast<double>(*load(grad_output_, 0, 1, &one));
        scale = is_empty_scale(scale) ? scale : scale * grad_output;
      }
      return write_gradient(index, tile, scale, backward, scratch);
    }
    if (params_.reduction != Reduction::kNone) return dispatch<Wants::kValue>(tile);
    tile.value = scratch.result;
    map(tile);
    store(value_, index, count, tile.value);
    return params_.wants_sums ? SumLoops<T>::sum(tile.value, count) : 0;
  }

  // Where nothing takes part nothing is read.
  void write_zeros(int64_t index, int64_t count, Scratch& scratch) {
    const Stream& result = grad_input_ ? grad_input_ : value_;
    if (!grad_input_ && params_.reduction != Reduction::kNone) return;
    T* memory = result.dtype == kDType ? direct<T>(result, index, count) : nullptr;
    if (memory != nullptr && grad_input_ && streams_gradient_) {
      return stream_zeros(memory, count * sizeof(T));
    }
    std::fill_n(memory != nullptr ? memory : scratch.result, count, T(0));
    if (memory == nullptr) store(result, index, count, scratch.result);
  }

  double write_gradient(int64_t index, ElementwiseTile<T>& tile, double scale, bool backward,
                        Scratch& scratch) {
    double total = 0;
    T* memory = grad_input_.dtype == kDType ? direct<T>(grad_input_, index, tile.count) : nullptr;
    tile.gradient = memory != nullptr ? memory : scratch.result;
    tile.scale = static_cast<T>(scale);
    tile.streamed = streams_gradient_ && memory != nullptr;
    if (is_empty_scale(scale)) {  // zeros, whatever the derivative is
      std::fill_n(tile.gradient, tile.count, T(0));
      if (!backward) total = dispatch<Wants::kValue>(tile);
    } else {
      total = backward ? dispatch<Wants::kGradient>(tile) : dispatch<Wants::kBoth>(tile);
    }
    store(grad_input_, index, tile.count, tile.gradient);
    return total;
  }

  template <Wants kWants>
  double dispatch(const ElementwiseTile<T>& tile) const {
    return with_loops(
        tile, [&](auto loops) { return decltype(loops)::template reduce<kWants>(loss_, tile); });
  }
  void map(const ElementwiseTile<T>& tile) const {
    with_loops(tile, [&](auto loops) { return decltype(loops)::map(loss_, tile), 0.0; });
  }

  template <class Visit>
  static double with_loops(const ElementwiseTile<T>& tile, Visit&& visit) {
    if constexpr (has_pos_weight<Loss>) {
      if (tile.pos_weight != nullptr) {
        return tile.w != nullptr ? visit(ElementwiseLoops<Loss, T, true, true>())
                                 : visit(ElementwiseLoops<Loss, T, false, true>());
      }
    }
    return tile.w != nullptr ? visit(ElementwiseLoops<Loss, T, true, false>())
                             : visit(ElementwiseLoops<Loss, T, false, false>());
  }

  void check_probabilities(int64_t index, const ElementwiseTile<T>& tile) {
    const int64_t found = find_non_probability(tile.x, tile.w, tile.count);
    if (found < 0) return;
    const std::lock_guard<std::mutex> guard(bad_input_mutex_);
    if (bad_input_.index >= 0 && bad_input_.index < index + found) return;
    bad_input_ = {index + found, static_cast<double>(tile.x[found])};
  }

  // ---- the whole --------------------------------------------------------------------------------

  template <class Body>
  void run(Body&& body) const {
    const int64_t grain =
        std::max<int64_t>(1, 32768 / std::max<int64_t>(1, tiling_.elements_per_block()));
    parallel_for_(tiling_.blocks(), grain, [&](int64_t begin, int64_t end) {
      Scratch scratch;
      for (int64_t block = begin; block < end; ++block) body(block, scratch);
      finish_streaming();
    });
  }

  bool depends_on_mask() const {
    if (params_.reduction == Reduction::kSampleMean) return !weighting_.knows_sums();
    return !weighting_.knows_sums() && params_.reduction == Reduction::kMean &&
           params_.normalizer != Normalizer::kAll && params_.normalizer != Normalizer::kGiven;
  }

  bool wants_sums() const {
    return !weighting_.knows_sums() &&
           (params_.wants_sums || params_.reduction == Reduction::kMean ||
            params_.reduction == Reduction::kSampleMean);
  }

  std::vector<Sums> combine(const std::vector<Sums>& blocks) const {
    std::vector<Sums> samples = combine_blocks(blocks, params_.extents.samples);
    if (!weighting_.knows_sums()) return samples;
    for (int64_t sample = 0; sample < params_.extents.samples; ++sample) {
      const double total = samples[sample].total;
      samples[sample] = weighting_.known_sums(sample);
      samples[sample].total = total;
    }
    return samples;
  }

  double set_sums(const std::vector<Sums>& samples) const {
    return finish_sums(params_, samples,
                       static_cast<double>(params_.extents.elements_per_sample()));
  }

  static Extents loss_extents(const ElementwiseParams& params) {
    return params.reduction == Reduction::kNone ? params.extents : Extents();
  }

  static constexpr DType kDType = std::is_same_v<T, double> ? DType::kDouble : DType::kFloat;

  const Loss loss_;
  const ElementwiseParams& params_;
  const ParallelFor parallel_for_;
  const Weighting<T> weighting_;
  const Tiling& tiling_;
  const Stream input_, target_, pos_weight_, grad_output_, grad_input_;
  const bool streams_gradient_;
  const Stream value_;
  NotAProbability bad_input_;
  std::mutex bad_input_mutex_;
};

template <class T>
NotAProbability elementwise_forward(const char* name, const double* options,
                                    const ElementwiseParams& params, ParallelFor parallel_for) {
  NotAProbability result;
  visit_elementwise_loss(name, options, [&](const auto& loss) {
    result =
        ElementwiseDriver<std::decay_t<decltype(loss)>, T>(loss, params, parallel_for).forward();
  });
  return result;
}

template <class T>
void elementwise_backward(const char* name, const double* options, const ElementwiseParams& params,
                          ParallelFor parallel_for) {
  visit_elementwise_loss(name, options, [&](const auto& loss) {
    ElementwiseDriver<std::decay_t<decltype(loss)>, T>(loss, params, parallel_for).backward();
  });
}

}  // namespace fusedloss::cpu
