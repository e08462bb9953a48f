// The words in which an op is told all that is not a tensor or a number; every family's calls begin
// with "<loss> <reduction> <normalizer>", and go on with flags of their own.
#pragma once

#include <algorithm>
#include <stdexcept>
#include <string>

#include "reductions/sums.h"

namespace fusedloss {

template <class Enum, size_t kCount>
Enum parse_word(const std::string& word, const char* const (&words)[kCount], const char* what) {
  for (size_t i = 0; i < kCount; ++i) {
    if (word == words[i]) return static_cast<Enum>(i);
  }
  throw std::invalid_argument("fusedloss: unknown " + std::string(what) + " '" + word + "'");
}

struct CallWords {
  std::string loss;
  Reduction reduction = Reduction::kMean;
  Normalizer normalizer = Normalizer::kWeights;
};

// Sets flags[i] for each of the words `names[i]` that the line has.
template <size_t kCount>
CallWords parse_words(const std::string& line, const char* const (&names)[kCount],
                      bool* const (&flags)[kCount]) {
  static constexpr const char* kReductions[] = {"none", "sum", "mean", "sample_mean"};
  static constexpr const char* kNormalizers[] = {"weights", "selected", "positions", "all",
                                                 "given"};
  CallWords call;
  size_t begin = 0;
  for (int position = 0; begin < line.size(); ++position) {
    const size_t end = std::min(line.find(' ', begin), line.size());
    const std::string word = line.substr(begin, end - begin);
    begin = end + 1;
    if (position == 0) {
      call.loss = word;
    } else if (position == 1) {
      call.reduction = parse_word<Reduction>(word, kReductions, "reduction");
    } else if (position == 2) {
      call.normalizer = parse_word<Normalizer>(word, kNormalizers, "normalizer");
    } else {
      *flags[parse_word<int>(word, names, "flag")] = true;
    }
  }
  return call;
}

}  // namespace fusedloss
