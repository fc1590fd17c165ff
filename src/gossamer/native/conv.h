// Convolutions with lists of kept weights: each weight times a strip of neighbouring pixels.
//
// The columns of a weight are channels (times places in the kernel). A strip of pixels of one column
// is contiguous, so a kept weight is one broadcast and a few vector products, and the sums of a row
// stay in registers from its first weight to its last. Where rows share their columns, four or two
// of them share what is loaded of a strip as well.
#pragma once

#include <cstdint>

namespace gossamer {

struct WeightLists {
  const void* columns;     // uint16 or int32
  const float* values;     // of every column the group's rows in turn
  const int64_t* starts;   // [groups + 1]
  const float* bias;       // null where there is none
  int64_t rows, group;     // rows in all and of a group; the last group may have fewer
  float low, high;         // of what comes out
};

struct Strip {
  const float* x;          // column c begins at x + c * gap
  int64_t gap, cols;
  float* y;                // row r begins at y + r * apart
  int64_t apart;
  int64_t last;            // where the last vector begins; it may overlap the one before it
  const float* next;       // the strip that comes after it, to be fetched ahead; null for none
};

// y of the rows of groups g0 <= g < g1 for one strip.
using StripKernel = void (*)(const WeightLists& w, int64_t g0, int64_t g1, const Strip& strip);

constexpr int kStripVectors = 12;  // most vectors of a strip
constexpr int kSharing = 3;        // one, two and four rows at a time
constexpr int kMost[kSharing] = {12, 6, 3};  // vectors, so that the sums fit into 16 registers

// One row of a depthwise convolution: y[j] = bias + sum over t of weights[t] taps[t][j] for from <=
// j < to, in whole vectors; taps can be read and y written up to a vector's end.
struct DepthwiseRow {
  const float* const* taps;
  const float* weights;
  int64_t count;           // taps
  float bias, low, high;
};

using DepthwiseKernel = void (*)(const DepthwiseRow& row, int64_t from, int64_t to, float* y);

// Some rows of a 3x3 depthwise convolution with a step of one or two. Padded row i of the image
// begins at x + i * row; its pixels under the three taps of output 0 lie at `taps`.
struct DepthwiseBand {
  const float* x;
  int64_t row, taps[3];
  const float* weights;    // nine
  float bias, low, high;
  float* y;                // rows of `width`, one behind the other
  int64_t width;
  float* end;              // of the map; nothing is written from there on
};

using BandKernel = void (*)(const DepthwiseBand& band, int64_t rows);

// A row of `width` pixels to a padded one, as runs of even and of odd places where they are two.
struct PaddedRow {
  float* run[2];           // where pixels 0 and 1 go; one run alone takes all
  int runs;
};

using PadKernel = void (*)(const float* x, int64_t width, const PaddedRow& to);

struct StripKernels {
  int lanes;
  DepthwiseKernel depthwise;
  BandKernel band[2];      // steps of one and of two
  PadKernel pad;
  StripKernel narrow[kSharing][kStripVectors];  // columns are uint16; by vectors less one
  StripKernel wide[kSharing][kStripVectors];    // columns are int32
};

const StripKernels& plain_strips();
#if GOSSAMER_X86
const StripKernels& avx2_strips();
const StripKernels& avx512_strips();
#endif

}  // namespace gossamer
