// Rows of a packed matrix as lists of kept columns.
#pragma once

#include <cstdint>

#include "linear.h"

namespace gossamer {

// Columns, ascending, and values of one row of layout bitmask, nm, csr or condensed; how many.
int64_t list_of(const Matrix& w, int64_t row, int32_t* columns, float* values);

}  // namespace gossamer
