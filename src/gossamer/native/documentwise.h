// Exact top-k search over lists in order of document, with bounds of lists and of their blocks.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "hits.h"

namespace gossamer::documentwise {

constexpr int64_t kBlock = 64;  // postings whose largest weight is stored
constexpr int kTops = 3;        // ranks whose weight is stored of each list
constexpr int64_t kTopRanks[kTops] = {10, 100, 1000};
constexpr int64_t kWindow = 2048;  // documents that MaxScore adds up at once
constexpr uint32_t kEnd = std::numeric_limits<uint32_t>::max();

// Bounds and scores are float64 sums in different orders; this much lies between them at most.
constexpr double kSlack = 1.0 + 1e-12;

enum class Engine { scan, maxscore, bmm, wand, bmw };

struct Lists {
  int64_t documents;
  int64_t vocabulary;
  const int64_t* lists;      // [vocabulary + 1] first posting of each term
  const uint32_t* ids;       // documents of each list, rising
  const float* weights;
  const int64_t* blocks;     // [vocabulary + 1] first block of each term
  const uint32_t* ends;      // last document of each block
  const float* maxima;       // largest weight of each block
  const float* most;         // [vocabulary]
  const float* tops;         // [vocabulary, kTops] weight at those ranks, 0 where a list is shorter
  const uint64_t* alive;     // a bit a document, or null: all may be found
  int64_t first;             // number of its first document in the whole index
};

struct Query {
  int64_t terms;
  const int32_t* ids;
  const float* weights;
};

using Hit = HitOf<double>;

struct Cost {
  int64_t postings = 0, scored = 0, blocks = 0;
};

// One list of a query, and where it stands.
struct Cursor {
  const uint32_t* ids;
  const float* weights;
  const uint32_t* ends;
  const float* maxima;
  int64_t length, blocks;
  double weight;  // of the query
  double most;    // that it adds to any document
  double bound;   // that it adds to a document of the window
  int64_t at = 0, from = 0, block = 0;

  uint32_t document() const { return at < length ? ids[at] : kEnd; }
  double value() const { return weight * static_cast<double>(weights[at]); }

  // The first block, from `b` on, that does not end before the document.
  int64_t block_of(uint32_t document, int64_t b) const {
    if (b >= blocks || ends[b] >= document) return b;
    int64_t step = 1;
    while (b + step < blocks && ends[b + step] < document) step *= 2;
    const int64_t last = std::min(b + step, blocks);
    return std::lower_bound(ends + b + step / 2, ends + last, document) - ends;
  }

  // Goes on to the first posting that is not before the document.
  void seek(uint32_t document) {
    if (at >= length || ids[at] >= document) return;
    const int64_t b = block_of(document, at / kBlock);
    at = std::max(at, b * kBlock);
    int64_t size = std::min((b + 1) * kBlock, length) - at;
    if (size <= 0) return;
    // Without branches: where in its block a document lies cannot be foreseen.
    const uint32_t* base = ids + at;
    while (size > 1) {
      const int64_t half = size / 2;
      base += base[half - 1] < document ? half : 0;
      size -= half;
    }
    at = base - ids + (*base < document ? 1 : 0);
  }

  // What it adds to a document between `from` and where it stands.
  double value_of(uint32_t document) const {
    const uint32_t* last = ids + std::min(at + 1, length);
    const uint32_t* found = std::lower_bound(ids + from, last, document);
    return found < last && *found == document ? weight * static_cast<double>(weights[found - ids])
                                              : 0.0;
  }
};

// Memory of one thread; the sums are all zero between searches.
struct Worker {
  std::vector<Cursor> cursors;  // in the order of the query, in which scores are added up
  std::vector<Cursor*> order;
  std::vector<double> rest;     // sums of bounds of the lists before, in that order
  std::vector<double> sums;     // of all documents
  std::vector<double> window;   // of those of a window
  std::vector<uint64_t> seen;   // a bit for each of those that has a sum
  std::vector<Hit> top;  // a heap, the worst first

  Cost search(const std::vector<Lists>& segments, const uint64_t* const* allowed,
              const Query& query, int64_t k, Engine engine);
};

// How one query meets one segment.
struct Meeting {
  const Lists& lists;
  const uint64_t* allowed;
  int64_t k;
  Worker& worker;
  double threshold = 0.0;  // a document has to score more
  Cost cost;

  bool may_be_found(uint32_t d) const {
    return (lists.alive == nullptr || (lists.alive[d >> 6] >> (d & 63) & 1) != 0) &&
           (allowed == nullptr || (allowed[d >> 6] >> (d & 63) & 1) != 0);
  }
  bool hopeless(double bound) const { return bound * kSlack <= threshold; }

  void offer(uint32_t document, double score);
};

void scan(Meeting& m);
void maxscore(Meeting& m, bool blocks);
void wand(Meeting& m, bool blocks);

}  // namespace gossamer::documentwise
