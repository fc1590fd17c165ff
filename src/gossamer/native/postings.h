// One immutable segment of a sparse index: postings in order of impact, and the rows themselves.
#pragma once

#include <cstdint>

namespace gossamer {

// A posting is one word: the document above, its 8-bit impact code below. Code c of term t stands
// for weights in (scale_t * (c - 1), scale_t * c].
constexpr int kCodeBits = 8;
constexpr uint32_t kCodeMask = 255;
constexpr int64_t kMostDocuments = int64_t{1} << (32 - kCodeBits);

// A list is cut at one of its corners: codes above `rest` lie before it. They are the points of the
// lower convex hull of (postings, rest), so that from corner to corner a code taken off costs ever
// more postings. Unused corners repeat the last: all postings, nothing left.
constexpr int kCorners = 16;

struct ListHead {
  uint32_t reach[kCorners];  // postings before the corner
  uint8_t rest[kCorners];    // largest code after it
  float scale;
  uint32_t length;
  int64_t first;  // its first posting
};
static_assert(sizeof(ListHead) == 96, "as it is stored");

struct Segment {
  int64_t documents;
  int64_t vocabulary;
  const uint32_t* postings;  // of each term from corner to corner, there by rising document
  const ListHead* heads;     // [vocabulary]
  const int64_t* rows;       // [documents + 1] first entry of each document
  const void* terms;         // uint16, or uint32 where `wide`
  const void* weights;       // float16, or float32 where not `half`
  const uint64_t* alive;     // a bit a document, or null: all may be found
  int64_t first;             // number of its first document in the whole index
  bool wide;
  bool half;
};

struct Candidate {
  uint32_t partial;
  uint32_t document;
};

// The inner loops that an instruction set makes quicker.
struct SearchKernels {
  // Documents whose sum is at least `floor`, in rising order, from `from` on; stops when `out`
  // holds `room`. Sums passed are set to zero where `clear`. Returns the first not looked at.
  int64_t (*collect8)(uint8_t* sums, int64_t from, int64_t documents, uint32_t floor, bool clear,
                      Candidate* out, int64_t room, int64_t* found);
  int64_t (*collect16)(uint16_t* sums, int64_t from, int64_t documents, uint32_t floor,
                       bool clear, Candidate* out, int64_t room, int64_t* found);
  // The inner product of one row with a query spread over the vocabulary.
  float (*score)(const Segment& segment, int64_t document, const float* query);
};

extern const SearchKernels kSearchPlain;
#if GOSSAMER_X86
extern const SearchKernels kSearchAvx2;
#endif

}  // namespace gossamer
