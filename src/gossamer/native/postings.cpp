// Rows turned into postings: a counting sort by term, then one by falling code inside each list.
#include "postings.h"

#include <nanobind/nanobind.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "parallel.h"

namespace nb = nanobind;

namespace gossamer {

namespace {

struct Build {
  int64_t documents, vocabulary;
  const int64_t* rows;
  const void* terms;
  const float* weights;
  bool wide;
  uint32_t* postings;
  int64_t* lists;
  float* scales;
  uint32_t* levels;
  int64_t parts;

  int64_t term(int64_t i) const {
    return wide ? static_cast<const uint32_t*>(terms)[i] : static_cast<const uint16_t*>(terms)[i];
  }
};

uint32_t code_of(float weight, float scale) {
  const float steps = std::ceil(weight / scale);
  return static_cast<uint32_t>(std::min(std::max(steps, 1.0f), 255.0f));
}

void count_terms(const Build& b) {
  std::vector<float> most(b.vocabulary, 0.0f);
  std::fill(b.lists, b.lists + b.vocabulary + 1, 0);
  const int64_t entries = b.rows[b.documents];
  for (int64_t i = 0; i < entries; ++i) {
    const int64_t t = b.term(i);
    if (t >= b.vocabulary) throw std::out_of_range("a term lies outside the vocabulary");
    ++b.lists[t + 1];
    most[t] = std::max(most[t], b.weights[i]);
  }
  for (int64_t t = 0; t < b.vocabulary; ++t) {
    b.lists[t + 1] += b.lists[t];
    // A hair over a 255th, so that the code of the largest weight is an upper bound as well.
    b.scales[t] = std::max(most[t] * (1.000001f / 255.0f), 1e-35f);
  }
}

void scatter(const Build& b) {
  std::vector<int64_t> next(b.lists, b.lists + b.vocabulary);
  for (int64_t d = 0; d < b.documents; ++d) {
    for (int64_t i = b.rows[d]; i < b.rows[d + 1]; ++i) {
      const int64_t t = b.term(i);
      b.postings[next[t]++] =
          static_cast<uint32_t>(d) << kCodeBits | code_of(b.weights[i], b.scales[t]);
    }
  }
}

// Stable, so that inside a level documents rise and sums are touched in the order of memory.
void order_list(const Build& b, int64_t t, std::vector<uint32_t>& spare) {
  uint32_t* list = b.postings + b.lists[t];
  const int64_t length = b.lists[t + 1] - b.lists[t];
  uint32_t next[kLevels + 1] = {};
  for (int64_t i = 0; i < length; ++i) ++next[kLevelOf.level[list[i] & kCodeMask] + 1];
  for (int level = 0; level < kLevels; ++level) {
    next[level + 1] += next[level];
    b.levels[t * kLevels + level] = next[level + 1];
  }
  spare.assign(list, list + length);
  for (uint32_t posting : spare) list[next[kLevelOf.level[posting & kCodeMask]]++] = posting;
}

void order_part(void* context, int64_t part) {
  const Build& b = *static_cast<const Build*>(context);
  const int64_t all = b.lists[b.vocabulary];
  auto boundary = [&](int64_t p) {
    return std::lower_bound(b.lists, b.lists + b.vocabulary, all * p / b.parts) - b.lists;
  };
  const int64_t last = part + 1 == b.parts ? b.vocabulary : boundary(part + 1);
  std::vector<uint32_t> spare;
  for (int64_t t = part == 0 ? 0 : boundary(part); t < last; ++t) order_list(b, t, spare);
}

template <class T>
T* at(uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

void build_postings(int64_t documents, int64_t vocabulary, uintptr_t rows, uintptr_t terms,
                    bool wide, uintptr_t weights, uintptr_t postings, uintptr_t lists,
                    uintptr_t scales, uintptr_t levels, int64_t threads) {
  if (documents > kMostDocuments) throw std::invalid_argument("too many documents in a segment");
  Build b{documents,          vocabulary,          at<const int64_t>(rows), at<const void>(terms),
          at<const float>(weights), wide,          at<uint32_t>(postings),  at<int64_t>(lists),
          at<float>(scales),  at<uint32_t>(levels), std::max<int64_t>(1, threads)};
  const nb::gil_scoped_release release;
  count_terms(b);
  scatter(b);
  parallel(b.parts, order_part, &b);
}

}  // namespace

void bind_postings(nb::module_& m) {
  m.def("build_postings", &build_postings);
}

}  // namespace gossamer
