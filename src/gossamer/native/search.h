// What is asked of an index, what one thread needs to answer, and what an answer cost.
#pragma once

#include <cstdint>
#include <vector>

#include "hits.h"
#include "postings.h"
#include "search_lists.h"

namespace gossamer {

struct Knobs {
  int64_t k;
  int64_t budget;      // postings added up for a query, over all segments
  int64_t candidates;  // documents scored exactly for a query
  bool exact;
};

using Hit = HitOf<float>;

struct Cost {
  int64_t postings;
  int64_t scored;
};

// A document that may be among the best, by the sum of what was added up.
struct Prospect {
  float estimate;
  uint32_t document;
  const Segment* segment;
};

// Memory of one thread. The sums and `query` are all zero between searches.
struct Worker {
  std::vector<uint8_t> narrow;  // sums that stop at 255
  std::vector<uint16_t> wide;   // sums that never pass 65535
  std::vector<float> query;
  std::vector<TermList> lists;
  std::vector<Candidate> found;
  std::vector<Prospect> pool;
  std::vector<Hit> top;  // a heap, the worst first

  // `allowed` holds a bit a document for each segment, or is null.
  Cost search(const std::vector<Segment>& segments, const uint64_t* const* allowed,
              const Query& query, const Knobs& knobs, const SearchKernels& kernels);
};

}  // namespace gossamer
