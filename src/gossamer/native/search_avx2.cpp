// The inner loops of search with AVX2, FMA and half-precision loads.
#include <immintrin.h>

#include "postings.h"
#include "search_rows.h"

namespace gossamer {

namespace {

inline __m256i larger(__m256i a, __m256i b, uint8_t) { return _mm256_max_epu8(a, b); }
inline __m256i larger(__m256i a, __m256i b, uint16_t) { return _mm256_max_epu16(a, b); }
inline __m256i equal(__m256i a, __m256i b, uint8_t) { return _mm256_cmpeq_epi8(a, b); }
inline __m256i equal(__m256i a, __m256i b, uint16_t) { return _mm256_cmpeq_epi16(a, b); }
inline __m256i spread(uint32_t x, uint8_t) { return _mm256_set1_epi8(static_cast<char>(x)); }
inline __m256i spread(uint32_t x, uint16_t) { return _mm256_set1_epi16(static_cast<short>(x)); }

// The lanes of a vector that reach the floor, as one bit a byte.
template <class Sum>
uint32_t reaching(__m256i sums, __m256i least) {
  return static_cast<uint32_t>(
      _mm256_movemask_epi8(equal(larger(sums, least, Sum{}), sums, Sum{})));
}

template <class Sum>
int64_t collect_avx2(Sum* sums, int64_t from, int64_t documents, uint32_t floor, bool clear,
                     Candidate* out, int64_t room, int64_t* found) {
  constexpr int64_t kLanes = 32 / sizeof(Sum), kStep = 4 * kLanes;
  constexpr uint32_t kLane = sizeof(Sum) == 1 ? 1 : 3;
  const __m256i least = spread(floor, Sum{}), zero = _mm256_setzero_si256();
  int64_t d = from;
  for (; d + kStep <= documents; d += kStep) {
    __m256i* at = reinterpret_cast<__m256i*>(sums + d);
    const __m256i a = _mm256_loadu_si256(at), b = _mm256_loadu_si256(at + 1);
    const __m256i c = _mm256_loadu_si256(at + 2), e = _mm256_loadu_si256(at + 3);
    const __m256i most = larger(larger(a, b, Sum{}), larger(c, e, Sum{}), Sum{});
    if (reaching<Sum>(most, least) != 0) {
      if (*found + kStep > room) return d;
      for (int64_t v = 0; v < 4; ++v) {
        uint32_t lanes = reaching<Sum>(_mm256_loadu_si256(at + v), least);
        while (lanes != 0) {
          const int bit = __builtin_ctz(lanes);
          const int64_t i = d + v * kLanes + bit / static_cast<int>(sizeof(Sum));
          out[(*found)++] = {sums[i], static_cast<uint32_t>(i)};
          lanes &= ~(kLane << bit);
        }
      }
    }
    if (clear) {
      for (int i = 0; i < 4; ++i) _mm256_storeu_si256(at + i, zero);
    }
  }
  return collect_plain(sums, d, documents, floor, clear, out, room, found);
}

inline __m256i eight_terms(const uint16_t* terms) {
  return _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(terms)));
}

inline __m256i eight_terms(const uint32_t* terms) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(terms));
}

inline __m256 eight_weights(const uint16_t* weights) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(weights)));
}

inline __m256 eight_weights(const float* weights) { return _mm256_loadu_ps(weights); }

template <class Term, class Weight>
float score_row(const Segment& s, int64_t document, const float* query) {
  const Term* terms = static_cast<const Term*>(s.terms);
  const Weight* weights = static_cast<const Weight*>(s.weights);
  int64_t i = s.rows[document];
  const int64_t end = s.rows[document + 1];
  __m256 first = _mm256_setzero_ps(), second = _mm256_setzero_ps();
  for (; i + 16 <= end; i += 16) {
    const __m256 a = _mm256_i32gather_ps(query, eight_terms(terms + i), 4);
    const __m256 b = _mm256_i32gather_ps(query, eight_terms(terms + i + 8), 4);
    first = _mm256_fmadd_ps(eight_weights(weights + i), a, first);
    second = _mm256_fmadd_ps(eight_weights(weights + i + 8), b, second);
  }
  const __m256 sum = _mm256_add_ps(first, second);
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps(sum, 1));
  four = _mm_add_ps(four, _mm_movehl_ps(four, four));
  float total = _mm_cvtss_f32(_mm_add_ss(four, _mm_shuffle_ps(four, four, 1)));
  for (; i < end; ++i) total += weight_at(s, i) * query[term_at(s, i)];
  return total;
}

float score_avx2(const Segment& s, int64_t document, const float* query) {
  if (s.wide) {
    return s.half ? score_row<uint32_t, uint16_t>(s, document, query)
                  : score_row<uint32_t, float>(s, document, query);
  }
  return s.half ? score_row<uint16_t, uint16_t>(s, document, query)
                : score_row<uint16_t, float>(s, document, query);
}

}  // namespace

const SearchKernels kSearchAvx2 = {collect_avx2<uint8_t>, collect_avx2<uint16_t>, score_avx2};

}  // namespace gossamer
