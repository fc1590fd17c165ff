// Rows of a packed matrix as lists of kept columns.
#include "lists.h"

#include <algorithm>
#include <cstring>

#include "driver.h"

namespace gossamer {

namespace {

template <typename From, typename To, typename Change>
void copy_changed(const void* from, int64_t first, int64_t count, To* to, Change change) {
  const From* source = static_cast<const From*>(from) + first;
  for (int64_t i = 0; i < count; ++i) to[i] = change(source[i]);
}

// The columns of one row's values; how many there are.
int64_t columns_of(const Matrix& w, int64_t row, int32_t* columns) {
  const int64_t first = first_value(w, row);
  const int64_t end = w.starts != nullptr ? w.starts[row + 1] : first + w.kept;
  auto widen = [](auto column) { return static_cast<int32_t>(column); };
  if (w.layout == Layout::nm) {
    each_place(w, row, 0, [&](int64_t value, int64_t column) {
      columns[value - first] = static_cast<int32_t>(column);
    });
  } else if (w.layout != Layout::bitmask) {
    if (w.wide) copy_changed<int32_t>(w.index, first, end - first, columns, widen);
    else copy_changed<uint16_t>(w.index, first, end - first, columns, widen);
  } else {
    const int64_t bytes = row_bytes(w);
    const uint8_t* bits = static_cast<const uint8_t*>(w.index) + row * bytes;
    for (int64_t j = 0; j < bytes; j += 8) {
      uint64_t mask = 0;
      std::memcpy(&mask, bits + j, std::min<int64_t>(8, bytes - j));
      for (; mask != 0; mask &= mask - 1) {
        *columns++ = static_cast<int32_t>(8 * j + __builtin_ctzll(mask));
      }
    }
  }
  return end - first;
}

}  // namespace

int64_t list_of(const Matrix& w, int64_t row, int32_t* columns, float* values) {
  const int64_t count = columns_of(w, row, columns), first = first_value(w, row);
  if (w.half) copy_changed<uint16_t>(w.values, first, count, values, as_float);
  else copy_changed<float>(w.values, first, count, values, [](float value) { return value; });
  return count;
}

}  // namespace gossamer
