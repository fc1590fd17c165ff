// Pruned lists that are cut into blocks of like documents, each block with a short summary.
//
// Bruch, Nardini, Rulli, Venturini, SIGIR 2024 and CIKM 2024 (the graph of neighbours).
#pragma once

#include <cstdint>
#include <vector>

#include "hits.h"
#include "postings.h"

namespace gossamer::seismic {

// Code c of a summary stands for least + step * c.
struct Scale {
  float least, step;
};

// The summaries of a list lie by coordinate, so that all its blocks are estimated together.
struct Lists {
  Segment rows;                 // the documents; it has no postings
  const int64_t* lists;         // [vocabulary + 1] first posting of each term
  const uint32_t* postings;     // documents, block after block
  const int64_t* blocks;        // [vocabulary + 1] first block of each term
  const uint32_t* ends;         // of each block, in its list
  const Scale* scales;          // of each block
  const int64_t* columns;       // [vocabulary + 1] first coordinate of the summaries of each term
  const void* coordinates;      // rising in a list; as wide as the terms of documents
  const uint32_t* column_ends;  // of the entries of each coordinate, in its list
  const int64_t* entries;       // [vocabulary + 1] first entry of each term
  const uint16_t* members;      // the block of each entry, in its list
  const uint8_t* codes;
  const uint32_t* neighbours;   // [documents, degree], kNobody where there are fewer
  int64_t degree;
};

constexpr uint32_t kNobody = 0xffffffff;

struct Query {
  int64_t terms;
  const int32_t* ids;  // rising
  const float* weights;
};

struct Knobs {
  int64_t k;
  int64_t cut;         // lists that are visited; 0: all
  float heap_factor;   // of the k-th best score, that an estimate has to reach
  bool first_sorted;   // blocks of the first list from the best estimate down
  int64_t neighbours;  // of each of the k best, that are scored in the end
};

// What visiting one list took.
struct Visit {
  int64_t term, postings, blocks, opened, entries, scored;
};

using Hit = HitOf<float>;

// Memory of one thread; `query` and `seen` are all zero between searches.
struct Worker {
  std::vector<float> query;
  std::vector<float> estimates;
  std::vector<uint32_t> order;   // blocks, or documents to be scored next
  std::vector<int32_t> heaviest; // terms of the query by falling weight
  std::vector<uint64_t> seen;    // a bit a document
  std::vector<uint32_t> touched; // documents whose bit is set
  std::vector<uint32_t> batch;   // documents of a block that are to be scored
  std::vector<Visit> visits;     // lists, then the neighbours as one more
  std::vector<Hit> top;          // a heap, the worst first

  // `allowed` holds a bit a document, or is null.
  void search(const Lists& lists, const uint64_t* allowed, const Query& query, const Knobs& knobs,
              const SearchKernels& kernels);
};

}  // namespace gossamer::seismic
