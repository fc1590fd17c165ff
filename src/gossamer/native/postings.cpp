// Rows turned into postings: a counting sort by term, then one by falling code inside each list.
#include "postings.h"

#include <nanobind/nanobind.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
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
  ListHead* heads;
  int64_t parts;
  std::vector<int64_t> lists;

  int64_t term(int64_t i) const {
    return wide ? static_cast<const uint32_t*>(terms)[i] : static_cast<const uint16_t*>(terms)[i];
  }
};

uint32_t code_of(float weight, float scale) {
  const float steps = std::ceil(weight / scale);
  return static_cast<uint32_t>(std::min(std::max(steps, 1.0f), 255.0f));
}

void count_terms(Build& b) {
  std::vector<float> most(b.vocabulary, 0.0f);
  b.lists.assign(b.vocabulary + 1, 0);
  const int64_t entries = b.rows[b.documents];
  for (int64_t i = 0; i < entries; ++i) {
    const int64_t t = b.term(i);
    if (t >= b.vocabulary) throw std::out_of_range("a term lies outside the vocabulary");
    ++b.lists[t + 1];
    most[t] = std::max(most[t], b.weights[i]);
  }
  for (int64_t t = 0; t < b.vocabulary; ++t) {
    ListHead& head = b.heads[t];
    head.first = b.lists[t];
    head.length = static_cast<uint32_t>(b.lists[t + 1]);
    b.lists[t + 1] += b.lists[t];
    // A hair over a 255th, so that the code of the largest weight is an upper bound as well.
    head.scale = std::max(most[t] * (1.000001f / 255.0f), 1e-35f);
  }
}

void scatter(const Build& b) {
  std::vector<int64_t> next(b.lists.begin(), b.lists.end() - 1);
  for (int64_t d = 0; d < b.documents; ++d) {
    for (int64_t i = b.rows[d]; i < b.rows[d + 1]; ++i) {
      const int64_t t = b.term(i);
      b.postings[next[t]++] =
          static_cast<uint32_t>(d) << kCodeBits | code_of(b.weights[i], b.heads[t].scale);
    }
  }
}

struct Corner {
  float reach, rest;
  // What the corner after `before` costs for each code.
  float price(const Corner& before) const { return (reach - before.reach) / (before.rest - rest); }
};

// Postings of one code.
struct Step {
  uint32_t code, count;
};

constexpr uint32_t kShort = 48;  // a list up to here is sorted quicker than 256 counts are read

// The codes of a list, falling. Most lists of a small segment are empty or short.
void steps_of(const uint32_t* list, uint32_t length, std::vector<Step>& steps) {
  steps.clear();
  if (length <= kShort) {
    uint8_t codes[kShort];
    for (uint32_t i = 0; i < length; ++i) codes[i] = static_cast<uint8_t>(list[i] & kCodeMask);
    std::sort(codes, codes + length, std::greater<uint8_t>());
    for (uint32_t i = 0; i < length; ++i) {
      if (i == 0 || codes[i] != codes[i - 1]) steps.push_back({codes[i], 0});
      ++steps.back().count;
    }
    return;
  }
  uint32_t count[256] = {};
  for (uint32_t i = 0; i < length; ++i) ++count[list[i] & kCodeMask];
  for (uint32_t code = 255; code > 0; --code) {
    if (count[code] > 0) steps.push_back({code, count[code]});
  }
}

// The hull of a list by its codes, thinned out to the corners that there is room for.
std::vector<Corner> hull(const std::vector<Step>& steps) {
  std::vector<Corner> corners{{0.0f, 255.0f}};
  float reach = 0.0f;
  for (size_t i = 0; i < steps.size(); ++i) {
    reach += static_cast<float>(steps[i].count);
    const Corner next{reach, i + 1 < steps.size() ? static_cast<float>(steps[i + 1].code) : 0.0f};
    while (corners.size() > 1) {
      const Corner& last = corners.back();
      if (last.price(corners[corners.size() - 2]) < next.price(last)) break;
      corners.pop_back();
    }
    corners.push_back(next);
  }
  while (corners.size() > kCorners + 1) {
    size_t least = 1;
    float change = 1e38f;
    for (size_t i = 1; i + 1 < corners.size(); ++i) {
      const float before = corners[i].price(corners[i - 1]);
      const float ratio = corners[i + 1].price(corners[i]) / std::max(before, 1e-6f);
      if (ratio < change) {
        change = ratio;
        least = i;
      }
    }
    corners.erase(corners.begin() + least);
  }
  corners.erase(corners.begin());
  return corners;
}

struct Spare {
  std::vector<uint32_t> postings;
  std::vector<Step> steps;
};

// Stable, so that between corners documents rise and sums are touched in the order of memory.
void order_list(const Build& b, int64_t t, Spare& spare) {
  ListHead& head = b.heads[t];
  if (head.length == 0) return;
  uint32_t* list = b.postings + head.first;
  steps_of(list, head.length, spare.steps);
  const std::vector<Corner> corners = hull(spare.steps);
  uint8_t corner_of[256];
  uint32_t next[kCorners];
  int code = 255;
  for (int i = 0; i < kCorners; ++i) {
    const Corner& corner = corners[std::min<size_t>(i, corners.size() - 1)];
    head.reach[i] = static_cast<uint32_t>(corner.reach);
    head.rest[i] = static_cast<uint8_t>(corner.rest);
    next[i] = i == 0 ? 0 : head.reach[i - 1];
    for (; code > head.rest[i]; --code) corner_of[code] = static_cast<uint8_t>(i);
  }
  spare.postings.assign(list, list + head.length);
  for (uint32_t posting : spare.postings) list[next[corner_of[posting & kCodeMask]]++] = posting;
}

void order_part(void* context, int64_t part) {
  const Build& b = *static_cast<const Build*>(context);
  const int64_t all = b.lists.back();
  auto boundary = [&](int64_t p) {
    const auto last = b.lists.end() - 1;
    return std::lower_bound(b.lists.begin(), last, all * p / b.parts) - b.lists.begin();
  };
  const int64_t last = part + 1 == b.parts ? b.vocabulary : boundary(part + 1);
  Spare spare;
  for (int64_t t = part == 0 ? 0 : boundary(part); t < last; ++t) order_list(b, t, spare);
}

template <class T>
T* at(uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

void build_postings(int64_t documents, int64_t vocabulary, uintptr_t rows, uintptr_t terms,
                    bool wide, uintptr_t weights, uintptr_t postings, uintptr_t heads,
                    int64_t threads) {
  if (documents > kMostDocuments) throw std::invalid_argument("too many documents in a segment");
  Build b{documents, vocabulary, at<const int64_t>(rows), at<const void>(terms),
          at<const float>(weights), wide, at<uint32_t>(postings), at<ListHead>(heads),
          std::max<int64_t>(1, threads), {}};
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
