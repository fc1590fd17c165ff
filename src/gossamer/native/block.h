// Products with dense tiles of kept weights: rows that share their columns.
//
// A panel holds one column after the other, `width` inputs side by side: [cols, width]. A tile is a
// few rows with one list of columns, so that every input that is read serves all of its rows.
#pragma once

#include <cstdint>
#include <cstring>

namespace gossamer {

struct Tile {
  const float* values;     // of row r and the k-th column at r * row_step + k * column_step
  int64_t row_step, column_step;
  const int32_t* columns;
  int64_t count;           // columns
  int64_t rows;
};

// Rows of one row of blocks times some inputs, read where x lies. Weights are turned, so that the
// rows of a column lie side by side, and one column of each input is read for all of them.
struct Strip {
  const float* weights;    // [blocks, width, rows], aligned
  const int32_t* columns;  // [blocks] first column of each
  int64_t blocks, width;
  const float* x;          // of input i and column c at i * step_of_x + c
  int64_t step_of_x, inputs;
  const float* start;      // [rows] what the sums begin with, aligned
  float* y;                // of input i and row r at i * step_of_y + r
  int64_t step_of_y;
};

struct BlockKernels {
  // Inputs of a panel where tiles have many columns: as many as stay in registers, so that the
  // columns of a panel lie close together in the first-level cache.
  int64_t narrow;
  // sums[r * width + i] += value(r, k) * panel[columns[k] * width + i], by width: 8, 16, 32 and 64.
  void (*add[4])(const Tile& tile, const float* panel, float* sums);
  // y[i * rows_of_y + r] = sums[r * width + i] for r < rows and i < inputs.
  void (*turn)(const float* sums, int64_t width, int64_t rows, int64_t inputs, float* y,
               int64_t rows_of_y);
  void (*strip[2])(const Strip& strip);  // of 8 and of 16 rows
  // out[k * lanes + r] = values[r * width + k] for 8 rows of a block; values are bfloat16 or float.
  void (*lay)(const void* values, bool half, int64_t width, float* out, int64_t lanes);
};

const BlockKernels& plain_blocks();
#if GOSSAMER_X86
const BlockKernels& avx2_blocks();
const BlockKernels& avx512_blocks();
#endif

}  // namespace gossamer
