// A query over blocked lists: blocks are estimated list by list, and those that may matter scored.
#include <algorithm>
#include <limits>
#include <numeric>

#include "seismic.h"

namespace gossamer::seismic {

namespace {

constexpr float kSlack = 1.0f + 2e-5f;  // rounding of float32 sums, relative

struct Meeting {
  const Lists& lists;
  const uint64_t* allowed;
  const Query& query;
  const Knobs& knobs;
  const SearchKernels& kernels;
  Worker& w;
};

float threshold(const Meeting& m) {
  return static_cast<int64_t>(m.w.top.size()) < m.knobs.k
             ? -std::numeric_limits<float>::infinity()
             : m.w.top.front().score;
}

// True once for each document that may be found.
bool take(Meeting& m, uint32_t d) {
  uint64_t& word = m.w.seen[d >> 6];
  const uint64_t bit = uint64_t{1} << (d & 63);
  if ((word & bit) != 0) return false;
  word |= bit;
  m.w.touched.push_back(d);
  return m.allowed == nullptr || (m.allowed[d >> 6] & bit) != 0;
}

void fetch_row(const Segment& s, uint32_t document) {
  const int64_t row = s.rows[document];
  const char* terms = static_cast<const char*>(s.terms) + row * (s.wide ? 4 : 2);
  const char* weights = static_cast<const char*>(s.weights) + row * (s.half ? 2 : 4);
  for (int line = 0; line < 5; ++line) {
    __builtin_prefetch(terms + 64 * line);
    __builtin_prefetch(weights + 64 * line);
  }
}

// Scores those documents of a list that are new.
int64_t score(Meeting& m, const uint32_t* documents, int64_t count) {
  constexpr size_t kAhead = 8;  // rows that are fetched before they are scored
  std::vector<uint32_t>& batch = m.w.batch;
  const Segment& rows = m.lists.rows;
  batch.clear();
  for (int64_t i = 0; i < count; ++i) {
    if (documents[i] == kNobody || !take(m, documents[i])) continue;
    __builtin_prefetch(rows.rows + documents[i]);
    batch.push_back(documents[i]);
  }
  for (size_t i = 0; i < std::min(kAhead, batch.size()); ++i) fetch_row(rows, batch[i]);
  for (size_t i = 0; i < batch.size(); ++i) {
    if (i + kAhead < batch.size()) fetch_row(rows, batch[i + kAhead]);
    const float value = m.kernels.score(rows, batch[i], m.w.query.data());
    offer(m.w.top, m.knobs.k, Hit{value, rows.first + batch[i]});
  }
  return static_cast<int64_t>(batch.size());
}

// The first coordinate that is not before the term; without branches, for no one can foresee them.
template <class Term>
const Term* find(const Term* from, const Term* end, uint32_t term) {
  int64_t size = end - from;
  if (size == 0) return from;
  while (size > 1) {
    const int64_t half = size / 2;
    from += from[half - 1] < term ? half : 0;
    size -= half;
  }
  return from + (*from < term ? 1 : 0);
}

// Adds the query's inner product with every summary of a list up; returns the entries it read.
template <class Term>
int64_t estimate(Meeting& m, int64_t list) {
  const Lists& l = m.lists;
  const int64_t first = l.columns[list], base = l.entries[list];
  const Term* coordinates = static_cast<const Term*>(l.coordinates);
  const Term* at = coordinates + first;
  const Term* end = coordinates + l.columns[list + 1];
  const Scale* scales = l.scales + l.blocks[list];
  const uint16_t* members = l.members + base;
  const uint8_t* codes = l.codes + base;
  float* estimates = m.w.estimates.data();
  std::fill_n(estimates, l.blocks[list + 1] - l.blocks[list], 0.0f);
  int64_t read = 0;
  for (int64_t i = 0; i < m.query.terms && at < end; ++i) {
    const uint32_t term = static_cast<uint32_t>(m.query.ids[i]);
    at = find(at, end, term);
    if (at == end || *at != term) continue;
    const int64_t column = at - coordinates;
    const uint32_t from = column == first ? 0 : l.column_ends[column - 1];
    const uint32_t to = l.column_ends[column];
    const float weight = m.query.weights[i];
    for (uint32_t e = from; e < to; ++e) {
      const Scale& scale = scales[members[e]];
      estimates[members[e]] += weight * (scale.least + scale.step * static_cast<float>(codes[e]));
    }
    read += to - from;
  }
  return read;
}

void visit(Meeting& m, int64_t term, bool sorted) {
  const Lists& l = m.lists;
  const int64_t blocks = l.blocks[term + 1] - l.blocks[term];
  Worker& w = m.w;
  Visit cost{term, l.lists[term + 1] - l.lists[term], blocks, 0, 0, 0};
  if (static_cast<int64_t>(w.estimates.size()) < blocks) w.estimates.resize(blocks);
  cost.entries = l.rows.wide ? estimate<uint32_t>(m, term) : estimate<uint16_t>(m, term);
  const float* estimates = w.estimates.data();
  w.order.resize(blocks);
  std::iota(w.order.begin(), w.order.end(), 0);
  if (sorted) {
    std::sort(w.order.begin(), w.order.end(), [&](uint32_t a, uint32_t b) {
      return estimates[a] != estimates[b] ? estimates[a] > estimates[b] : a < b;
    });
  }
  const uint32_t* ends = l.ends + l.blocks[term];
  for (uint32_t b : w.order) {
    if (estimates[b] * kSlack < m.knobs.heap_factor * threshold(m)) continue;
    const uint32_t from = b == 0 ? 0 : ends[b - 1];
    ++cost.opened;
    cost.scored += score(m, l.postings + l.lists[term] + from, ends[b] - from);
  }
  w.visits.push_back(cost);
}

// The terms whose lists are visited, the weightiest first.
void choose(Meeting& m) {
  std::vector<int32_t>& heaviest = m.w.heaviest;
  const Query& q = m.query;
  heaviest.clear();
  for (int64_t i = 0; i < q.terms; ++i) {
    if (q.ids[i] < m.lists.rows.vocabulary) heaviest.push_back(static_cast<int32_t>(i));
  }
  const size_t cut = m.knobs.cut == 0
                         ? heaviest.size()
                         : std::min(heaviest.size(), static_cast<size_t>(m.knobs.cut));
  std::partial_sort(heaviest.begin(), heaviest.begin() + cut, heaviest.end(),
                    [&](int32_t a, int32_t b) {
                      return q.weights[a] != q.weights[b] ? q.weights[a] > q.weights[b] : a < b;
                    });
  heaviest.resize(cut);
}

// One pass over the neighbours of the documents that are the best so far.
void refine(Meeting& m) {
  const int64_t count = std::min(m.knobs.neighbours, m.lists.degree);
  Worker& w = m.w;
  w.order.clear();
  std::sort(w.top.begin(), w.top.end(), better);
  for (const Hit& hit : w.top) {
    w.order.push_back(static_cast<uint32_t>(hit.document - m.lists.rows.first));
  }
  std::make_heap(w.top.begin(), w.top.end(), better);
  int64_t scored = 0;
  for (uint32_t d : w.order) scored += score(m, m.lists.neighbours + d * m.lists.degree, count);
  w.visits.push_back({-1, static_cast<int64_t>(w.order.size()) * count, 0, 0, 0, scored});
}

}  // namespace

void Worker::search(const Lists& lists, const uint64_t* allowed, const Query& asked,
                    const Knobs& knobs, const SearchKernels& kernels) {
  Meeting m{lists, allowed, asked, knobs, kernels, *this};
  if (static_cast<int64_t>(query.size()) < lists.rows.vocabulary) {
    query.resize(lists.rows.vocabulary, 0.0f);
  }
  if (static_cast<int64_t>(seen.size()) < (lists.rows.documents + 63) / 64) {
    seen.resize((lists.rows.documents + 63) / 64, 0);
  }
  top.clear();
  visits.clear();
  choose(m);
  for (int64_t i = 0; i < asked.terms; ++i) {
    if (asked.ids[i] < lists.rows.vocabulary) query[asked.ids[i]] = asked.weights[i];
  }
  for (size_t i = 0; i < heaviest.size(); ++i) {
    const int64_t term = asked.ids[heaviest[i]];
    if (lists.lists[term + 1] > lists.lists[term]) visit(m, term, knobs.first_sorted && i == 0);
  }
  if (knobs.neighbours > 0) refine(m);
  for (int64_t i = 0; i < asked.terms; ++i) {
    if (asked.ids[i] < lists.rows.vocabulary) query[asked.ids[i]] = 0.0f;
  }
  for (uint32_t d : touched) seen[d >> 6] = 0;
  touched.clear();
  std::sort_heap(top.begin(), top.end(), better);
}

}  // namespace gossamer::seismic
