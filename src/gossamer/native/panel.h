// Products with lists of kept weights: each weight times a run of neighbouring inputs.
//
// Where many inputs share a sparse matrix, a panel holds one column after the other, `width` inputs
// side by side: [cols, width]. A kept weight is then one broadcast, and its inputs are contiguous.
#pragma once

#include <cstdint>

namespace gossamer {

struct Lists {
  const int32_t* columns;  // ascending in each list
  const float* values;
  int64_t* at;             // where each list goes on
  const int64_t* end;
  int64_t rows;            // lists
};

// sums[r * width + i] += value * panel[column * width + i] over the entries of list r whose column is
// below the limit; at moves past them.
using PanelKernel = void (*)(const Lists& lists, int32_t limit, const float* panel, float* sums);

// Kernels by width: 8, 16, 32 and 64 inputs.
constexpr int kPanelWidths = 4;
constexpr int64_t kWidestPanel = 64;

const PanelKernel* plain_panels();
#if GOSSAMER_X86
const PanelKernel* avx2_panels();
const PanelKernel* avx512_panels();
#endif

}  // namespace gossamer
