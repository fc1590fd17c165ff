// One immutable segment of a sparse index: postings in order of impact, and the rows themselves.
#pragma once

#include <cstdint>

namespace gossamer {

// A posting is one word: the document above, its 8-bit impact code below. Code c of term t stands
// for weights in (scale_t * (c - 1), scale_t * c].
constexpr int kCodeBits = 8;
constexpr uint32_t kCodeMask = 255;
constexpr int64_t kMostDocuments = int64_t{1} << (32 - kCodeBits);

// How far a list goes down to each of these codes is stored, so that a cut costs no search.
constexpr int kLevels = 32;
constexpr uint8_t kLevelCodes[kLevels] = {235, 205, 179, 156, 136, 119, 104, 91, 79, 69, 60,
                                          52,  46,  40,  35,  31,  27,  24,  21, 18, 16, 14,
                                          12,  10,  9,   8,   7,   6,   5,   4,  2,  1};

struct LevelOfCode {
  uint8_t level[256];
  constexpr LevelOfCode() : level() {
    for (int code = 0, at = kLevels - 1; code < 256; ++code) {
      while (at > 0 && kLevelCodes[at - 1] <= code) --at;
      level[code] = static_cast<uint8_t>(at);
    }
  }
};
inline constexpr LevelOfCode kLevelOf;

struct Segment {
  int64_t documents;
  int64_t vocabulary;
  const uint32_t* postings;  // of each term by falling level, then by rising document
  const int64_t* lists;      // [vocabulary + 1] first posting of each term
  const float* scales;       // [vocabulary]
  const uint32_t* levels;    // [vocabulary, kLevels] postings with at least that code
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
