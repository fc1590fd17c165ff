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

// N:4, whose places have two bits: four of them in each byte.
template <int N>
void columns_of_four(const uint8_t* places, int64_t count, int32_t* columns) {
  for (int64_t i = 0; i + 4 <= count; i += 4, ++places) {
    const int32_t first = static_cast<int32_t>(i / N * 4), byte = *places;
    for (int j = 0; j < 4; ++j) columns[i + j] = first + j / N * 4 + (byte >> (2 * j) & 3);
  }
  for (int64_t i = count / 4 * 4; i < count; ++i) {
    columns[i] = static_cast<int32_t>(i / N * 4 + (*places >> (2 * (i % 4)) & 3));
  }
}

// The columns of one row's values; how many there are.
int64_t columns_of(const Matrix& w, int64_t row, int32_t* columns) {
  const int64_t first = first_value(w, row);
  const int64_t end = w.starts != nullptr ? w.starts[row + 1] : first + w.kept;
  auto widen = [](auto column) { return static_cast<int32_t>(column); };
  if (w.layout == Layout::nm && w.m == 4 && (w.n == 1 || w.n == 2)) {
    const uint8_t* places = static_cast<const uint8_t*>(w.index) + row * ((2 * w.kept + 7) / 8);
    if (w.n == 1) columns_of_four<1>(places, end - first, columns);
    else columns_of_four<2>(places, end - first, columns);
  } else if (w.layout == Layout::nm) {
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
