// The lists of a query, and how deep each is to be added up.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "postings.h"

namespace gossamer {

struct Query {
  int64_t terms;
  const int32_t* ids;  // distinct
  const float* weights;
};

// One term of a query as one segment has it.
struct TermList {
  const uint32_t* postings;
  const ListHead* head;
  int64_t taken;           // postings added up so far
  int corner;              // down to which it is, or is to be, added up; -1: not at all
  float weight;            // of a code, in the query's measure
  uint32_t factor;         // the same in 256ths of a unit
  float prices[kCorners];  // postings for a unit of score, rising from corner to corner
};

// The lists of one segment, or of all of them.
struct Lists {
  TermList* first;
  TermList* last;
  TermList* begin() const { return first; }
  TermList* end() const { return last; }
};

// Appends the lists of the query's terms that the segment has.
void open_lists(const Segment& segment, const Query& query, std::vector<TermList>& out);

// A code that the `rank` best postings of a list have at least.
uint32_t code_at(const TermList& list, int64_t rank);

// The score of a document that has the `rank`-th best posting of every list; with rank 0, of one that
// has the best code of every list.
float score_at(const Lists& lists, int64_t rank);

// Contributions become whole numbers of this unit, rounded up.
void set_unit(const Lists& lists, float unit);

inline int64_t reach(const TermList& list) {
  return list.corner < 0 ? 0 : list.head->reach[list.corner];
}

// The dearest cut that adds up at most so many postings.
void cut_to_spend(const Lists& lists, int64_t budget);

// The cheapest cut that leaves at most so many units uncounted; returns what it leaves.
uint32_t cut_to_leave(const Lists& lists, float units);

// Everything is to be added up.
void cut_nothing(const Lists& lists);

}  // namespace gossamer
