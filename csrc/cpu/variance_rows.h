// The variance over channels of a tile's positions: `channel_variance` for rows.
//
// Few channels are read once and kept in registers; many are read twice, through sums in L1.
#pragma once

#include "cpu/position_space.h"
#include "regions/channels.h"

namespace fusedloss::cpu {

// 1 / divisor where that is exact, so that multiplying is dividing; else 0.
template <class V>
V exact_inverse(double divisor) {
  int exponent;
  return std::frexp(divisor, &exponent) == 0.5 ? static_cast<V>(1 / divisor) : V(0);
}

template <class V>
struct VarianceLoops {
  // Position i of channel c is at channel[c][i * stride]; kStride 0: `stride` says it.
  template <int kChannels, int kStride>
  FL_VECTOR_CLONES static void few(const V* const* channel, int64_t stride, V divisor, V inverse,
                                   V* variance, int64_t count) {
    const V* x[kChannels];
    for (int c = 0; c < kChannels; ++c) x[c] = channel[c];
    const int64_t step = kStride != 0 ? kStride : stride;
    const V share = V(1) / V(kChannels);
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      const V first = x[0][i * step];
      V difference[kChannels], sum = V(0), squares = V(0);
      for (int c = 0; c < kChannels; ++c) {
        difference[c] = x[c][i * step] - first;
        sum += difference[c];
      }
      const V mean = sum * share;
      for (int c = 0; c < kChannels; ++c) {
        squares += (difference[c] - mean) * (difference[c] - mean);
      }
      variance[i] = squares;
    }
    divide(variance, divisor, inverse, count);
  }
  FL_VECTOR_CLONES static void add(const V* x, const V* first, int64_t stride, V* sum,
                                   int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) sum[i] += x[i * stride] - first[i * stride];
  }
  FL_VECTOR_CLONES static void add_squares(const V* x, const V* first, int64_t stride,
                                           const V* mean, V* squares, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      const V difference = x[i * stride] - first[i * stride] - mean[i];
      squares[i] += difference * difference;
    }
  }
  FL_VECTOR_CLONES static void scale(V* values, V factor, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) values[i] *= factor;
  }
  FL_VECTOR_CLONES static void divide(V* values, V divisor, V inverse, int64_t count) {
    if (inverse != V(0)) {
#pragma omp simd
      for (int64_t i = 0; i < count; ++i) values[i] *= inverse;
    } else {
#pragma omp simd
      for (int64_t i = 0; i < count; ++i) values[i] /= divisor;
    }
  }
  FL_VECTOR_CLONES static int64_t count_nan(const V* values, int64_t count) {
    int32_t result = 0;
#pragma omp simd reduction(+ : result)
    for (int64_t i = 0; i < count; ++i) result += values[i] != values[i] ? 1 : 0;
    return result;
  }
};

struct VarianceScratch {
  alignas(64) double buffer[4][kTile];
};

class VarianceRows {
 public:
  VarianceRows(const Operand& input, const Extents& extents, const ChannelsAside& aside)
      : input_(input, extents),
        aside_(aside),
        channels_(aside.count > 1 ? aside.count : extents.channels),
        inner_(extents.inner) {}

  // The variance of every position of a tile that holds whole positions.
  template <class V>
  void run(const TileRange& tile, double correction, VarianceScratch& scratch, V* variance) const {
    const double divisor = static_cast<double>(channels_) - correction;
    const bool separate = tile.channels > 1 || aside_.count > 1;
    const int64_t positions = separate ? tile.count : tile.count / channels_;
    if (!(divisor > 0)) {
      std::fill_n(variance, positions, V(NAN));
      return;
    }
    const bool planar = separate || channels_ == 1;
    // In a flat tile all channels of a run are one load.
    const V* whole =
        planar ? nullptr
               : load(input_, tile.begin, tile.count, reinterpret_cast<V*>(scratch.buffer[2]));
    if (planar || inner_ == 1) {
      const Layout<V> layout{whole, 1, planar ? 1 : channels_};
      return rows(tile, layout, divisor, positions, scratch, variance);
    }
    for (int64_t done = 0; done < positions; done += inner_) {
      const Layout<V> layout{whole + done * channels_, inner_, 1};
      rows(tile, layout, divisor, inner_, scratch, variance + done);
    }
  }

 private:
  // Where the channels lie; without `whole` each is loaded by itself.
  template <class V>
  struct Layout {
    const V* whole;
    int64_t channel_stride, stride;
  };

  template <class V>
  const V* channel(const TileRange& tile, const Layout<V>& layout, int64_t c, int64_t count,
                   double* buffer) const {
    if (layout.whole != nullptr) return layout.whole + c * layout.channel_stride;
    V* values = reinterpret_cast<V*>(buffer);
    if (aside_.count > 1) {
      return load(input_.moved(c * aside_.stride), tile.begin, count, values);
    }
    return load(input_, tile.begin + c * tile.channel_stride, count, values);
  }

  template <class V>
  void rows(const TileRange& tile, const Layout<V>& layout, double divisor, int64_t count,
            VarianceScratch& scratch, V* variance) const {
    switch (channels_) {
      case 2:
        return few<2>(tile, layout, divisor, count, scratch, variance);
      case 3:
        return few<3>(tile, layout, divisor, count, scratch, variance);
      case 4:
        return few<4>(tile, layout, divisor, count, scratch, variance);
      default:
        return many(tile, layout, divisor, count, scratch, variance);
    }
  }

  template <int kChannels, class V>
  void few(const TileRange& tile, const Layout<V>& layout, double divisor, int64_t count,
           VarianceScratch& scratch, V* variance) const {
    const V* rows[kChannels];
    for (int c = 0; c < kChannels; ++c)
      rows[c] = channel(tile, layout, c, count, scratch.buffer[c]);
    const V d = static_cast<V>(divisor), inverse = exact_inverse<V>(divisor);
    if (layout.stride == 1) {
      VarianceLoops<V>::template few<kChannels, 1>(rows, 1, d, inverse, variance, count);
    } else {
      VarianceLoops<V>::template few<kChannels, kChannels>(rows, 0, d, inverse, variance, count);
    }
  }

  template <class V>
  void many(const TileRange& tile, const Layout<V>& layout, double divisor, int64_t count,
            VarianceScratch& scratch, V* variance) const {
    using Loops = VarianceLoops<V>;
    const int64_t stride = layout.stride;
    V* mean = reinterpret_cast<V*>(scratch.buffer[0]);
    const V* first = channel(tile, layout, 0, count, scratch.buffer[1]);
    std::fill_n(mean, count, V(0));
    for (int64_t c = 0; c < channels_; ++c) {
      const V* x = c == 0 ? first : channel(tile, layout, c, count, scratch.buffer[2]);
      Loops::add(x, first, stride, mean, count);
    }
    Loops::scale(mean, V(1) / static_cast<V>(channels_), count);
    std::fill_n(variance, count, V(0));
    for (int64_t c = 0; c < channels_; ++c) {
      const V* x = c == 0 ? first : channel(tile, layout, c, count, scratch.buffer[2]);
      Loops::add_squares(x, first, stride, mean, variance, count);
    }
    Loops::divide(variance, static_cast<V>(divisor), exact_inverse<V>(divisor), count);
  }

  const Stream input_;
  const ChannelsAside aside_;
  const int64_t channels_, inner_;
};

}  // namespace fusedloss::cpu
