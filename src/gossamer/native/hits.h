// The best k of what a search has scored so far. Only files of the baseline instruction set include it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace gossamer {

template <class Score>
struct HitOf {
  Score score;
  int64_t document;
};

// A hit before another: the higher score, and of equal ones the earlier document.
struct Better {
  template <class Score>
  bool operator()(const HitOf<Score>& a, const HitOf<Score>& b) const {
    return a.score != b.score ? a.score > b.score : a.document < b.document;
  }
};
inline constexpr Better better;

// Puts a hit into a heap of the k best, the worst first.
template <class Score>
void offer(std::vector<HitOf<Score>>& top, int64_t k, const HitOf<Score>& hit) {
  if (static_cast<int64_t>(top.size()) < k) {
    top.push_back(hit);
  } else {
    if (!better(hit, top.front())) return;
    std::pop_heap(top.begin(), top.end(), better);
    top.back() = hit;
  }
  std::push_heap(top.begin(), top.end(), better);
}

}  // namespace gossamer
