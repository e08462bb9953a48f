// The pass over a tile of rows (row_loops.h) with class indices, for losses of softmax.
//
// Exponentials need a number near the largest logit to subtract, not the largest itself: short rows
// are taken in groups with one for all, and a row that lies too far below it is taken again alone.
#pragma once

#include "cpu/class_passes.h"
#include "cpu/row_loops.h"

namespace fusedloss::cpu {

template <class Loss, class T>
class RowPass : ClassPass<T> {
  using Base = ClassPass<T>;
  using Loops = ClasswiseLoops<Loss, T>;
  using Rows = ClassRowLoops<T>;

 public:
  struct Scratch {
    typename LabelWeighting<T>::Scratch weighting;
    PositionTile<T> positions;
    LabelTile<T> tile;
    alignas(64) T weight[kMaxLanes];
    std::vector<T> rows, gradient;
  };

  RowPass(const Loss& loss, const ClasswiseParams& params, const ClassWeights<T>& weights,
          ParallelFor parallel_for)
      : Base(params, weights, parallel_for, ClassTiling::Of::kRows),
        loss_(loss),
        is_short_(params.classes < Rows::kShort) {}

  // Whether these calls are for this pass: classes side by side, more than transposing is good for.
  static bool takes(const ClasswiseParams& params) {
    return params.input.class_stride == 1 && params.classes >= 8 && params.label_smoothing == 0;
  }

  using Base::tiling;

  void prepare(Scratch& scratch) const {
    const int64_t elements = params.classes * tiling.lanes() + Rows::kPadding;
    scratch.rows.resize(elements);
    if (is_short_) scratch.gradient.resize(elements);
  }

  int64_t weigh(const ClassTile& tile, Scratch& scratch) const {
    return weighting.weigh(tile, scratch.weighting, &scratch.positions);
  }
  void add_sums(const ClassTile& tile, const Scratch& scratch, Sums& sums) const {
    weighting.add_sums(scratch.positions, tile.count, sums);
  }

  const T* run(const ClassTile& tile, Scratch& scratch, Gradient gradient) const {
    LabelTile<T>& at = scratch.tile;
    const int64_t group = is_short_ ? kGroup : 1;
    for (int64_t row = 0; row < tile.count; row += group) {
      sum(tile, row, std::min(group, tile.count - row), scratch);
    }
    if (gradient == Gradient::kNone) {
      Loops::template positions<false>(loss_, scratch.positions, nullptr, tile.count, &at);
      return at.value;
    }
    Loops::template positions<true>(loss_, scratch.positions, scratch.weight, tile.count, &at);
    write(tile, gradient, scratch);
    return at.value;
  }

 private:
  using Base::grad_input, Base::input, Base::params, Base::streams, Base::weighting;

  // A group's rows are exp(x - largest) of all; a row whose sum is below this has lost too much.
  static constexpr int64_t kGroup = 16;
  static constexpr T kSmallest = T(1e-12), kLowest = T(-27);  // exp of it is larger

  // Values of the rows [row, row + count) of a tile, and the largest of them.
  T load(const ClassTile& tile, int64_t row, int64_t count, T* rows) const {
    const int64_t classes = params.classes;
    const Stream& positions = input.positions;
    T largest = -T(HUGE_VAL);
    for (int64_t done = 0; done < count;) {
      const int64_t index = tile.begin + row + done;
      int64_t here = count - done;
      int64_t offset = run_offset(positions, index, here);
      const bool dense = offset >= 0 && positions.stride[positions.rank - 1] == classes;
      if (!dense) {
        here = 1;
        offset = run_offset(positions, index, 1);
      }
      visit_dtype(positions.dtype, [&](auto element) {
        using S = decltype(element);
        if constexpr (!std::is_integral_v<S>) {
          const T found = Rows::load(positions.template at<const S>(offset), here * classes,
                                     rows + done * classes);
          largest = math::max(largest, found);
        }
      });
      done += here;
    }
    return largest;
  }

  // Everything that takes all classes, of the rows [row, row + count) of a tile.
  void sum(const ClassTile& tile, int64_t row, int64_t count, Scratch& scratch) const {
    LabelTile<T>& at = scratch.tile;
    const int64_t classes = params.classes;
    T* rows = scratch.rows.data() + row * classes;
    T largest = load(tile, row, count, rows);
    if (hide(scratch.positions.w + row, count, rows)) {
      largest = Rows::load(rows, count * classes, rows);
    }
    for (int64_t i = 0; i < count; ++i) {
      take_label(rows + i * classes, row + i, scratch);
      at.largest[row + i] = largest;
    }
    if (!is_short_) {
      at.others[row] = Rows::sum_exponentials(rows, classes, largest);
      return;
    }
    Rows::exponentials(rows, count * classes, largest);
    Rows::sum_short(rows, classes, count, at.others + row);
    for (int64_t i = row; i < row + count; ++i) {
      if (at.others[i] >= kSmallest || at.x[i] - largest > kLowest) continue;
      if (scratch.positions.w[i] == T(0)) continue;
      T* own = scratch.rows.data() + i * classes;
      at.largest[i] = load(tile, i, 1, own);
      take_label(own, i, scratch);
      at.others[i] = Rows::sum_exponentials(own, classes, at.largest[i]);
    }
  }

  // What takes no part must not show in what is subtracted from its neighbours. Whether it did.
  bool hide(const T* w, int64_t count, T* rows) const {
    if (count == 1 || std::find(w, w + count, T(0)) == w + count) return false;
    for (int64_t i = 0; i < count; ++i) {
      if (w[i] == T(0)) std::fill_n(rows + i * params.classes, params.classes, -T(HUGE_VAL));
    }
    return true;
  }

  void take_label(T* row, int64_t i, Scratch& scratch) const {
    T& own = row[scratch.positions.label[i]];
    scratch.tile.x[i] = own;
    own = -T(HUGE_VAL);
  }

  void write(const ClassTile& tile, Gradient gradient, Scratch& scratch) const {
    const LabelTile<T>& at = scratch.tile;
    const int64_t classes = params.classes;
    T* rows = scratch.rows.data();
    T* slopes = is_short_ ? scratch.gradient.data() : rows;
    if (gradient == Gradient::kZero) {
      std::fill_n(slopes, tile.count * classes, T(0));
      return store(tile, 0, tile.count, slopes);
    }
    const int32_t* label = scratch.positions.label;
    if (is_short_) {
      Rows::scale_short(rows, classes, tile.count, at.all, scratch.weight, slopes);
      for (int64_t i = 0; i < tile.count; ++i) slopes[i * classes + label[i]] -= at.label[i];
      return store(tile, 0, tile.count, slopes);
    }
    for (int64_t i = 0; i < tile.count; ++i) {
      T* own = slopes + i * classes;
      if (scratch.weight[i] == T(0)) {
        std::fill_n(own, classes, T(0));
      } else {
        Rows::scale(own, classes, at.all[i], own);
        own[label[i]] -= at.label[i];
      }
      store(tile, i, 1, own);
    }
  }

  // Rows of a tile into grad_input.
  void store(const ClassTile& tile, int64_t row, int64_t count, const T* slopes) const {
    const int64_t classes = params.classes;
    const Stream& positions = grad_input.positions;
    const int64_t index = tile.begin + row;
    const int64_t offset = run_offset(positions, index, count);
    const bool dense = offset >= 0 && grad_input.class_stride == 1 &&
                       (count == 1 || positions.stride[positions.rank - 1] == classes);
    if (!dense && count > 1) {
      for (int64_t i = 0; i < count; ++i) store(tile, row + i, 1, slopes + i * classes);
      return;
    }
    if (!dense) return store_planes(grad_input, index, 1, slopes, 1, false);
    const bool streamed = streams;
    visit_dtype(positions.dtype, [&](auto element) {
      using S = decltype(element);
      if constexpr (!std::is_integral_v<S>) {
        store_run(slopes, positions.template at<S>(offset), count * classes, streamed);
      }
    });
  }

  const Loss loss_;
  const bool is_short_;
};

}  // namespace fusedloss::cpu
