// The sums over the classes of a position, in one pass: exponentials are taken relative to the
// largest logit so far, and sums are scaled down whenever a larger one comes.
//
//     LabelSums<O, int> sums(call, label);
//     for each pack of classes from c on:  sums.add(pack, span, c);
//     const LabelTerms<O> terms = sums.finish(group, class_weight);
//
// A `Group` of threads shares a position: group.largest(x) and group.sum(values) combine in a fixed
// order what its threads have seen, and every thread gets the result; group.once(f) is f() of one
// thread.
#pragma once

#include "core/math.h"
#include "cuda/class_call.h"
#include "cuda/position_factors.cuh"
#include "cuda/vector_access.cuh"

namespace fusedloss::cuda {

// A thread that has a position to itself.
struct OneThread {
  template <class F>
  __device__ __forceinline__ auto once(F&& f) const {
    return f();
  }
  template <class O>
  __device__ __forceinline__ O largest(O value) const {
    return value;
  }
  template <class O, int kCount>
  __device__ __forceinline__ void sum(O (&)[kCount]) const {}
};

// A sum that goes on in another number every so often: no rounding error grows with the number of
// classes.
template <class O>
struct LongSum {
  O running = O(0), flushed = O(0);

  __device__ __forceinline__ void scale(O factor) {
    running *= factor;
    flushed *= factor;
  }
  __device__ __forceinline__ void flush() {
    flushed += running;
    running = O(0);
  }
  __device__ __forceinline__ O total() const { return flushed + running; }
};

constexpr int kPacksPerFlush = 16;

template <class O>
__device__ __forceinline__ O minus_infinity() {
  return -O(HUGE_VAL);
}

// The largest value of a pack, NaN left out.
template <class O, int kSize>
__device__ __forceinline__ O largest_of(const Pack<O, kSize>& x, Span span, O largest) {
#pragma unroll
  for (int lane = 0; lane < kSize; ++lane) {
    if (span.has(lane)) largest = math::max(largest, x.at[lane]);
  }
  return largest;
}

// For a target of class indices: class y is left out of the sums, see losses/classwise.h. Index
// holds the number of a class.
template <class O, class Index>
class LabelSums {
 public:
  __device__ __forceinline__ LabelSums(const ClassCall& call, Index label)
      : p_(call.params),
        label_(label),
        exponentials_(call.sums == ClassSums::kExponentials),
        smooths_(exponentials_ && call.params.label_smoothing != 0) {}

  template <int kSize>
  __device__ __forceinline__ void add(const Pack<O, kSize>& x, Span span, Index c) {
    if (exponentials_) raise(largest_of(x, span, largest_));
#pragma unroll
    for (int lane = 0; lane < kSize; ++lane) {
      if (!span.has(lane)) continue;
      const O value = x.at[lane];
      if (c + lane == label_) {
        own_ = value;
      } else if (!exponentials_) {
        others_.running += value;
      } else if (value != minus_infinity<O>()) {
        others_.running += math::exp(value - largest_);
      }
    }
    if (smooths_) add_dot(x, span, c);
    if (++packs_ % kPacksPerFlush == 0) {
      others_.flush();
      dot_.flush();
    }
  }

  template <class Group>
  __device__ __forceinline__ LabelTerms<O> finish(const Group& group, O class_weight) const {
    const O largest = exponentials_ ? group.largest(largest_) : O(0);
    O sums[3] = {others_.total(), own_, dot_.total()};
    if (exponentials_ && largest != largest_) sums[0] *= math::exp(largest_ - largest);
    if (smooths_ && seen_ != O(0)) sums[2] -= seen_ * (largest - origin_);
    group.sum(sums);
    return {sums[1], largest, sums[0], sums[2], class_weight};
  }

 private:
  __device__ __forceinline__ void raise(O largest) {
    if (!(largest > largest_)) return;
    if (largest_ == minus_infinity<O>() && largest < O(HUGE_VAL)) origin_ = largest;
    others_.scale(math::exp(largest_ - largest));
    largest_ = largest;
  }

  // sum of w_c (x_c - origin): the origin is near enough to the largest logit that few digits are
  // lost in taking it instead. A class of weight 0 is left out whatever its logit is.
  template <int kSize>
  __device__ __forceinline__ void add_dot(const Pack<O, kSize>& x, Span span, Index c) {
#pragma unroll 1
    for (int i = span.begin; i < span.end; ++i) {
      const O w = class_weight<O>(p_, c + i);
      if (w == O(0) || c + i == label_) continue;
      O value = O(0);
#pragma unroll
      for (int lane = 0; lane < kSize; ++lane) value = lane == i ? x.at[lane] : value;
      dot_.running += w * (value - origin_);
      seen_ += w;
    }
  }

  const ClasswiseParams& p_;
  const Index label_;
  const bool exponentials_, smooths_;
  int packs_ = 0;
  O largest_ = minus_infinity<O>(), own_ = O(0), origin_ = O(0), seen_ = O(0);
  LongSum<O> others_, dot_;
};

// For a target of probabilities: all classes, with and without the largest ones.
template <class O>
class ProbabilitySums {
 public:
  __device__ __forceinline__ explicit ProbabilitySums(const ClassCall& call)
      : exponentials_(call.sums == ClassSums::kExponentials) {}

  template <int kSize>
  __device__ __forceinline__ void add(const Pack<O, kSize>& x, Span span) {
    const O largest = largest_of(x, span, largest_);
    if (largest > largest_) {
      rest_ = {below(largest), O(0)};
      count_ = O(0);
      largest_ = largest;
    }
#pragma unroll
    for (int lane = 0; lane < kSize; ++lane) {
      if (!span.has(lane)) continue;
      const O value = x.at[lane];
      if (value == largest_) {
        count_ += O(1);
      } else {
        rest_.running += exponentials_ ? math::exp(value - largest_) : value;
      }
    }
    if (++packs_ % kPacksPerFlush == 0) rest_.flush();
  }

  // All but x of ClassTerms.
  template <class Group>
  __device__ __forceinline__ ClassTerms<O> finish(const Group& group) const {
    const O largest = group.largest(largest_);
    const bool has_largest = largest == largest_;
    O sums[2] = {has_largest ? rest_.total() : below(largest), has_largest ? count_ : O(0)};
    group.sum(sums);
    // Not 1 but NaN where the largest is infinite.
    const O top = exponentials_ ? math::exp(largest - largest) : largest;
    const O sum = sums[0] + (sums[1] == O(0) ? O(0) : sums[1] * top);
    return {O(0), largest, sum, exponentials_ ? math::log(sum) : O(0), sums[0]};
  }

 private:
  // What has been seen so far, beside a larger one.
  __device__ __forceinline__ O below(O largest) const {
    if (exponentials_) return (rest_.total() + count_) * math::exp(largest_ - largest);
    return rest_.total() + (count_ == O(0) ? O(0) : count_ * largest_);
  }

  const bool exponentials_;
  int packs_ = 0;
  O largest_ = minus_infinity<O>(), count_ = O(0);
  LongSum<O> rest_;
};

}  // namespace fusedloss::cuda
