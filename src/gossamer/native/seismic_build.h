// From rows to pruned lists, blocks and summaries.
#pragma once

#include <cstdint>
#include <vector>

#include "seismic.h"

namespace gossamer::seismic {

struct Documents {
  int64_t count, vocabulary;
  const int64_t* rows;
  const void* terms;
  const float* weights;
  bool wide;

  int64_t term(int64_t i) const {
    return wide ? static_cast<const uint32_t*>(terms)[i] : static_cast<const uint16_t*>(terms)[i];
  }
};

struct Plan {
  int64_t kept;        // entries of the whole matrix
  int64_t longest;     // postings of a list
  double fraction;     // blocks of a list, of its postings
  int64_t smallest;    // blocks up to this size are dissolved
  int64_t cut;         // entries by which a document seeks its block; 0: all
  float energy;        // share of a summary's mass that is kept
  int64_t order;       // of blocks: 0 by likeness, 1 runs by falling weight, 2 runs as they come
  bool up;             // summaries are rounded up
  uint64_t seed;
};

struct Posting {
  uint32_t document;
  float weight;
};

struct Weighted {
  uint32_t term;
  float weight;
};

inline bool heavier(const Weighted& a, const Weighted& b) {
  return a.weight != b.weight ? a.weight > b.weight : a.term < b.term;
}

struct Pruned {
  std::vector<int64_t> lists;  // [vocabulary + 1]
  std::vector<Posting> postings;
};

// The heaviest entries of the matrix, by term, no list longer than allowed; documents rise.
Pruned prune(const Documents& documents, const Plan& plan);

// The heaviest entries of each document.
struct Heads {
  std::vector<int64_t> starts;
  std::vector<Weighted> entries;
};

Heads heads_of(const Documents& documents, int64_t cut);

// Cuts lists into blocks; memory of one thread.
class Blocker {
 public:
  Blocker(const Documents& documents, const Plan& plan, const Heads& heads);

  // Writes the documents of the list block after block and appends the ends of the blocks.
  void run(int64_t term, const Posting* list, int64_t length, uint32_t* out,
           std::vector<uint32_t>& ends);

 private:
  struct Member {
    uint32_t centroid;
    float weight;
  };

  void draw(const Posting* list, int64_t length, uint64_t seed);
  void index_centroids();
  void forget_centroids();
  uint32_t nearest(uint32_t document);
  void dissolve(const Posting* list, int64_t length);

  const Documents& documents_;
  const Plan& plan_;
  const Heads& heads_;
  std::vector<uint32_t> centroids_, owner_, order_, sizes_, touched_, first_, last_, terms_;
  std::vector<uint8_t> open_;
  std::vector<float> sums_;
  std::vector<Member> members_;
  uint32_t fallback_ = 0;
};

// What is known of the summaries of some lists.
struct Summaries {
  std::vector<Scale> scales;
  std::vector<uint32_t> coordinates, column_ends;
  std::vector<uint16_t> members;
  std::vector<uint8_t> codes;
};

// Makes the summaries of a list; memory of one thread.
class Summariser {
 public:
  Summariser(const Documents& documents, const Plan& plan);

  void add(const uint32_t* block, int64_t size, Summaries& out);
  // Ends the list: appends its summaries by coordinate.
  void finish(Summaries& out);

 private:
  struct Entry {
    uint32_t coordinate;
    uint16_t block;
    uint8_t code;
  };

  const Documents& documents_;
  const Plan& plan_;
  uint16_t block_ = 0;
  std::vector<float> most_;
  std::vector<uint32_t> terms_, counts_;
  std::vector<Weighted> values_;
  std::vector<Entry> entries_;
};

}  // namespace gossamer::seismic
