// Products with grouped N:M: in a chunk of P g rows, every choice of N of M columns serves g rows.
//
// A panel holds one column after the other, `width` inputs side by side: [runs * M, width]. The
// inputs of a pattern stay in registers while its rows pass; the rows' sums come from the
// first-level cache and go back there. No index is followed but the order of the rows.
#pragma once

#include <cstdint>

namespace gossamer {

struct Chunk {
  const float* values;    // [runs, P, g, N]
  const int16_t* order;   // [runs, P g]: a row of the chunk
  const int32_t* places;  // [P, N]
  int64_t runs, patterns, group, n, m;
};

struct GroupedKernel {
  int64_t width;  // inputs of a panel
  // sums[row * width + i] += value * panel[column * width + i] over a chunk
  void (*walk)(const Chunk& chunk, const float* panel, float* sums);
};

constexpr int kGroupedKernels = 4;

struct GroupedKernels {
  GroupedKernel by_width[kGroupedKernels];  // ascending; the first is for one input
  // y[i * rows_of_y + r] = sums[r * width + i] for r < rows and i < inputs.
  void (*turn)(const float* sums, int64_t width, int64_t rows, int64_t inputs, float* y,
               int64_t rows_of_y);
};

const GroupedKernels& plain_grouped();
#if GOSSAMER_X86
const GroupedKernels& avx2_grouped();
const GroupedKernels& avx512_grouped();
#endif

}  // namespace gossamer
