// What the drivers of matrices whose rows share columns have in common. Only files of the baseline
// instruction set include it.
#pragma once

#include <algorithm>

#include "block.h"
#include "driver.h"

namespace gossamer {

enum class Kind { bsr = 0, channel_groups = 1 };

struct Blocks {
  Kind kind;
  int64_t rows, cols;
  int64_t height, width;    // bsr: of a block; channel_groups: G and kept
  const void* values;
  bool half;
  const void* index;        // columns
  bool wide;
  const int64_t* starts;    // bsr

  int64_t units() const { return (rows + height - 1) / height; }
};

struct StripProduct {
  Blocks w;                 // bsr, of a height that 8 divides
  Array x, bias;
  int64_t batch;
  void* y;
  bool y_half;
};

// y = W x by strips of 8 and 16 rows.
void multiply_strips(const StripProduct& product, int64_t threads);

// The kernels of the instruction set in force.
const BlockKernels& block_kernels();

inline int64_t column_of(const Blocks& w, int64_t i) {
  return w.wide ? static_cast<const int32_t*>(w.index)[i]
                : static_cast<const uint16_t*>(w.index)[i];
}

// Runs part(context, 0) to part(context, count - 1), neighbours on the same thread.
void for_each(int64_t count, int64_t threads, void* context, void (*part)(void*, int64_t));

}  // namespace gossamer
