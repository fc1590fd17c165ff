// What is asked of an index, what one thread needs to answer, and what an answer cost.
#pragma once

#include <cstdint>
#include <vector>

#include "postings.h"

namespace gossamer {

struct Knobs {
  int64_t k;
  int64_t budget;      // postings added up for a query, over all segments
  int64_t candidates;  // documents scored exactly for a query and segment
  bool exact;
};

struct Query {
  int64_t terms;
  const int32_t* ids;  // distinct
  const float* weights;
};

struct Hit {
  float score;
  int64_t document;
};

// A hit before another: the higher score, and of equal ones the earlier document.
inline bool better(const Hit& a, const Hit& b) {
  return a.score != b.score ? a.score > b.score : a.document < b.document;
}

struct Cost {
  int64_t postings;
  int64_t scored;
};

// One term of a query as one segment has it.
struct TermList {
  const uint32_t* postings;
  const uint32_t* levels;
  int level;      // down to which it is, or is to be, added up; -1: not at all
  int64_t taken;  // postings added up so far
  int64_t length;
  float weight;     // of a code, in the query's measure
  uint32_t factor;  // the same in 256ths of a unit
  float prices[kLevels];  // postings for a unit of score, rising
};

// Memory of one thread. The sums and `query` are all zero between searches.
struct Worker {
  std::vector<uint8_t> narrow;  // sums that stop at 255
  std::vector<uint16_t> wide;   // sums that never pass 65535
  std::vector<float> query;
  std::vector<TermList> lists;
  std::vector<Candidate> found;
  std::vector<Hit> top;  // a heap, the worst first

  Cost search(const std::vector<Segment>& segments, const uint64_t* const* allowed,
              const Query& query, const Knobs& knobs, const SearchKernels& kernels);
};

}  // namespace gossamer
