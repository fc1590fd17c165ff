// One block of columns of the SparseGPT solver.
#pragma once

#include <cstdint>

namespace gossamer {

constexpr std::int64_t kMaxGroup = 64;

struct ObsBlock {
  float* weight;         // [rows, width], overwritten
  const float* factor;   // [width, width], upper
  const float* inverse;  // [width], 1 / diagonal of the factor
  std::uint8_t* kept;    // [rows, width], read, or written where m > 0
  float* error;          // [rows, width], written
  const float* scale;    // [rows] or null
  const float* zero;     // [rows] or null
  float levels;
  std::int64_t width;
  std::int64_t n;
  std::int64_t m;  // 0: the mask is given
};

void obs_rows_plain(const ObsBlock& block, std::int64_t first, std::int64_t last);
void obs_rows_avx2(const ObsBlock& block, std::int64_t first, std::int64_t last);
void obs_rows_avx512(const ObsBlock& block, std::int64_t first, std::int64_t last);

}  // namespace gossamer
