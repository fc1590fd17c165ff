// The portable inner loops of search.
#pragma once

#include "postings.h"

namespace gossamer {
namespace {

[[maybe_unused]] float half_to_float(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
  const uint32_t exponent = bits >> 10 & 31, fraction = bits & 1023;
  float value;
  if (exponent == 0) {
    value = static_cast<float>(fraction) * (1.0f / 16777216.0f);
  } else {
    const uint32_t word = (exponent + 112) << 23 | fraction << 13;
    __builtin_memcpy(&value, &word, 4);
  }
  uint32_t word;
  __builtin_memcpy(&word, &value, 4);
  word |= sign;
  __builtin_memcpy(&value, &word, 4);
  return value;
}

template <class Sum>
int64_t collect_plain(Sum* sums, int64_t from, int64_t documents, uint32_t floor, bool clear,
                      Candidate* out, int64_t room, int64_t* found) {
  int64_t d = from;
  for (; d < documents && *found < room; ++d) {
    if (sums[d] >= floor) out[(*found)++] = {sums[d], static_cast<uint32_t>(d)};
    if (clear) sums[d] = 0;
  }
  return d;
}

[[maybe_unused]] float weight_at(const Segment& s, int64_t i) {
  return s.half ? half_to_float(static_cast<const uint16_t*>(s.weights)[i])
                : static_cast<const float*>(s.weights)[i];
}

[[maybe_unused]] int64_t term_at(const Segment& s, int64_t i) {
  return s.wide ? static_cast<const uint32_t*>(s.terms)[i]
                : static_cast<const uint16_t*>(s.terms)[i];
}

[[maybe_unused]] float score_plain(const Segment& s, int64_t document, const float* query) {
  float sum = 0.0f;
  for (int64_t i = s.rows[document]; i < s.rows[document + 1]; ++i) {
    sum += weight_at(s, i) * query[term_at(s, i)];
  }
  return sum;
}

}  // namespace
}  // namespace gossamer
