// Top-k search: the postings that buy most score are added up in narrow integers, and the documents
// of the best sums are scored exactly.
//
// Postings lie by falling impact, so the weightiest are the head of every list. Adding up by impact:
// Anh, de Kretser, Moffat, SIGIR 2001; Lin, Trotman, ICTIR 2015.
#include "search.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace gossamer {

namespace {

constexpr uint32_t kMostWide = 65535, kMostNarrow = 255;
constexpr float kSlack = 1.0f + 2e-5f;  // rounding of float32 sums, relative
constexpr int64_t kAhead = 4;           // rows fetched before they are scored
constexpr int64_t kStep = 128;          // sums that `collect` looks at together

// One query and one segment.
struct Meeting {
  const Segment& segment;
  const uint64_t* allowed;
  const Knobs& knobs;
  const SearchKernels& kernels;
  Worker& worker;
  Lists lists;
  Cost& cost;
  float unit = 0.0f;

  bool may_be_found(uint32_t d) const {
    return (segment.alive == nullptr || (segment.alive[d >> 6] >> (d & 63) & 1) != 0) &&
           (allowed == nullptr || (allowed[d >> 6] >> (d & 63) & 1) != 0);
  }
  bool all_may_be_found() const { return segment.alive == nullptr && allowed == nullptr; }
};

inline void add(uint16_t& sum, uint32_t scaled) {
  sum = static_cast<uint16_t>(sum + ((scaled + 255) >> 8));  // rounded up: sums bound scores
}

inline void add(uint8_t& sum, uint32_t scaled) {
  sum = static_cast<uint8_t>(std::min(sum + ((scaled + 128) >> 8), kMostNarrow));
}

// The first lines of what is to be added up next; the hardware finds the others.
inline void fetch_head(const TermList& list) {
  constexpr int kLines = 4, kLine = 16;
  const uint32_t* next = list.postings + list.taken;
  for (int line = 0; line < kLines; ++line) __builtin_prefetch(next + kLine * line);
}

// Adds up every list down to its corner.
template <class Sum>
void add_up(Meeting& m, Sum* sums) {
  for (TermList& list : m.lists) {
    if (&list + 1 != m.lists.last) fetch_head(*(&list + 1));
    const int64_t end = std::max(list.taken, reach(list));
    const uint32_t factor = list.factor;
    const uint32_t* postings = list.postings;
    for (int64_t i = list.taken; i < end; ++i) {
      const uint32_t posting = postings[i];
      add(sums[posting >> kCodeBits], (posting & kCodeMask) * factor);
    }
    m.cost.postings += end - list.taken;
    list.taken = end;
  }
}

bool larger(const Candidate& a, const Candidate& b) {
  return a.partial != b.partial ? a.partial > b.partial : a.document < b.document;
}

// Drops documents that may not be found, then all but the best `count`; returns how many remain.
int64_t keep_best(const Meeting& m, int64_t found, int64_t count) {
  std::vector<Candidate>& list = m.worker.found;
  if (!m.all_may_be_found()) {
    found = std::remove_if(list.begin(), list.begin() + found,
                           [&](const Candidate& c) { return !m.may_be_found(c.document); }) -
            list.begin();
  }
  if (found <= count) return found;
  std::nth_element(list.begin(), list.begin() + count - 1, list.begin() + found, larger);
  return count;
}

// So many documents have at least this sum, by the heads of single lists.
uint32_t first_floor(const Meeting& m, int64_t count) {
  uint32_t floor = 1;
  if (!m.all_may_be_found()) return floor;
  for (const TermList& list : m.lists) {
    if (list.taken < count) continue;
    floor = std::max(floor, (code_at(list, count) * list.factor + 128) >> 8);
  }
  return floor;
}

int64_t collect(Meeting& m, int64_t at, uint32_t floor, int64_t room, int64_t* found) {
  Worker& w = m.worker;
  const int64_t documents = m.segment.documents;
  return m.knobs.exact ? m.kernels.collect16(w.wide.data(), at, documents, floor, false,
                                             w.found.data(), room, found)
                       : m.kernels.collect8(w.narrow.data(), at, documents, floor, true,
                                            w.found.data(), room, found);
}

int64_t stopped(const Worker& w, int64_t found, uint32_t most) {
  return std::count_if(w.found.begin(), w.found.begin() + found,
                       [&](const Candidate& c) { return c.partial == most; });
}

// The best `count` sums of at least `floor`; those of 8 bits are set to zero. Returns how many, or
// -1 where too many stopped at 255 to be told apart.
int64_t best_sums(Meeting& m, int64_t count, uint32_t floor) {
  Worker& w = m.worker;
  const uint32_t most = m.knobs.exact ? kMostWide : kMostNarrow;
  floor = std::min(std::max(floor, first_floor(m, count)), most);
  const int64_t room = 4 * count + 2 * kStep;
  if (static_cast<int64_t>(w.found.size()) < room) w.found.resize(room);
  int64_t found = 0, at = 0;
  while (at < m.segment.documents) {
    at = collect(m, at, floor, room, &found);
    found = keep_best(m, found, count);
    if (!m.knobs.exact && stopped(w, found, most) > count / 8) {
      std::fill(w.narrow.begin() + at, w.narrow.begin() + m.segment.documents, 0);
      return -1;
    }
    if (found == count) floor = std::min(std::max(floor, w.found[count - 1].partial + 1), most);
  }
  return found;
}

// Every document that may reach `units` with `missing` more, best first; false where there may be
// more than `room`.
bool sums_from(Meeting& m, float units, uint32_t missing, int64_t room, int64_t* count) {
  Worker& w = m.worker;
  const float least = units / kSlack - static_cast<float>(missing) - 1.0f;
  const uint32_t floor =
      least < 1.0f ? 1 : static_cast<uint32_t>(std::min(least, static_cast<float>(kMostWide)));
  room += 2 * kStep;
  if (static_cast<int64_t>(w.found.size()) < room) w.found.resize(room);
  int64_t found = 0, at = 0;
  while (true) {
    at = collect(m, at, floor, room, &found);
    found = keep_best(m, found, found);
    if (at >= m.segment.documents) break;
    if (found + 2 * kStep > room) return false;
  }
  std::sort(w.found.begin(), w.found.begin() + found, larger);
  *count = found;
  return true;
}

float threshold(const Worker& w, int64_t k) {
  return static_cast<int64_t>(w.top.size()) < k ? -std::numeric_limits<float>::infinity()
                                                : w.top.front().score;
}

void fetch_row(const Segment& s, int64_t document) {
  const int64_t row = s.rows[document];
  const char* terms = static_cast<const char*>(s.terms) + row * (s.wide ? 4 : 2);
  const char* weights = static_cast<const char*>(s.weights) + row * (s.half ? 2 : 4);
  for (int line = 0; line < 4; ++line) {
    __builtin_prefetch(terms + 64 * line);
    __builtin_prefetch(weights + 64 * line);
  }
}

// Scores the documents of `pool` in order until none can pass the threshold: a document's score is
// at most its estimate and `missing` more.
void score_pool(Worker& w, const Knobs& knobs, const SearchKernels& kernels, float missing,
                Cost& cost) {
  const int64_t count = static_cast<int64_t>(w.pool.size());
  for (int64_t i = 0; i < std::min(count, 2 * kAhead); ++i) {
    __builtin_prefetch(w.pool[i].segment->rows + w.pool[i].document);
  }
  for (int64_t i = 0; i < std::min(count, kAhead); ++i) {
    fetch_row(*w.pool[i].segment, w.pool[i].document);
  }
  for (int64_t i = 0; i < count; ++i) {
    const Prospect& p = w.pool[i];
    if ((p.estimate + missing) * kSlack < threshold(w, knobs.k)) break;
    if (i + 2 * kAhead < count) {
      const Prospect& later = w.pool[i + 2 * kAhead];
      __builtin_prefetch(later.segment->rows + later.document);
    }
    if (i + kAhead < count) fetch_row(*w.pool[i + kAhead].segment, w.pool[i + kAhead].document);
    const float score = kernels.score(*p.segment, p.document, w.query.data());
    ++cost.scored;
    offer(w.top, knobs.k, Hit{score, p.segment->first + p.document});
  }
}

constexpr float kAnyScore = std::numeric_limits<float>::infinity();

void pour(Meeting& m, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const Candidate& c = m.worker.found[i];
    const bool unknown = !m.knobs.exact && c.partial == kMostNarrow;
    const float estimate = unknown ? kAnyScore : static_cast<float>(c.partial) * m.unit;
    m.worker.pool.push_back({estimate, c.document, &m.segment});
  }
}

bool likelier(const Prospect& a, const Prospect& b) {
  if (a.estimate != b.estimate) return a.estimate > b.estimate;
  return a.segment != b.segment ? a.segment < b.segment : a.document < b.document;
}

// One budget for all segments, one unit, and one pool: what a segment brings must beat what others
// brought. A document that has the `count`-th best posting of every list stops at 255; where that is
// too low to tell documents apart the unit grows.
void search_some(std::vector<Meeting>& meetings, Worker& w, const Knobs& knobs,
                 const SearchKernels& kernels, Cost& cost) {
  const int64_t count = std::max(knobs.candidates, knobs.k);
  cut_to_spend({w.lists.data(), w.lists.data() + w.lists.size()}, knobs.budget);
  float unit = 0.0f;
  for (const Meeting& m : meetings) unit = std::max(unit, score_at(m.lists, count) / kMostNarrow);
  for (Meeting& m : meetings) {
    int64_t found = -1;
    for (; found < 0; unit *= found < 0 ? 4.0f : 1.0f) {
      m.unit = unit;
      set_unit(m.lists, unit);
      for (TermList& list : m.lists) list.taken = 0;
      add_up(m, w.narrow.data());
      float floor = 1.0f;
      if (static_cast<int64_t>(w.pool.size()) == count) floor = w.pool.back().estimate / unit;
      found = best_sums(m, count, static_cast<uint32_t>(std::min(std::max(floor, 1.0f), 255.0f)));
    }
    pour(m, found);
    std::sort(w.pool.begin(), w.pool.end(), likelier);
    if (static_cast<int64_t>(w.pool.size()) > count) w.pool.resize(count);
  }
  score_pool(w, knobs, kernels, kAnyScore, cost);
}

// Share of the threshold that uncounted postings may be worth: more leaves less to add up and more
// documents to score.
constexpr float kMissing = 0.4f;
constexpr int64_t kFirstShare = 16;  // one posting for so many documents in the first pass
constexpr int64_t kMostScored = 3000;

// A threshold that k documents reach, where the heap has none yet.
float first_threshold(Meeting& m) {
  Worker& w = m.worker;
  const float known = threshold(w, m.knobs.k);
  if (known > 0.0f) return known;
  const std::vector<Hit> before = w.top;
  cut_to_spend(m.lists, m.segment.documents / kFirstShare + 1000);
  add_up(m, w.wide.data());
  pour(m, best_sums(m, std::max<int64_t>(32, 2 * m.knobs.k), 1));
  score_pool(w, m.knobs, m.kernels, kAnyScore, m.cost);
  const float found = threshold(w, m.knobs.k);
  w.pool.clear();
  w.top = before;
  return found;
}

// Adds up enough that everything which may pass the threshold shows.
void search_every(Meeting& m) {
  Worker& w = m.worker;
  // Rounding adds less than two units a list.
  const float lists = static_cast<float>(m.lists.last - m.lists.first);
  m.unit = score_at(m.lists, 0) / (static_cast<float>(kMostWide) - 2.0f * lists - 16.0f);
  set_unit(m.lists, m.unit);
  const float units = std::max(first_threshold(m), 0.0f) / m.unit;
  uint32_t missing = cut_to_leave(m.lists, kMissing * units);
  add_up(m, w.wide.data());
  int64_t count = 0;
  if (!sums_from(m, units, missing, kMostScored, &count)) {
    missing = 0;
    cut_nothing(m.lists);
    add_up(m, w.wide.data());
    sums_from(m, units, missing, m.segment.documents, &count);
  }
  pour(m, count);
  score_pool(w, m.knobs, m.kernels, (static_cast<float>(missing) + 1.0f) * m.unit, m.cost);
  w.pool.clear();
  std::fill(w.wide.begin(), w.wide.begin() + m.segment.documents, 0);
}

void make_room(Worker& w, const std::vector<Segment>& segments, bool exact) {
  int64_t documents = 0, vocabulary = 0;
  for (const Segment& s : segments) {
    documents = std::max(documents, s.documents);
    vocabulary = std::max(vocabulary, s.vocabulary);
  }
  if (exact && static_cast<int64_t>(w.wide.size()) < documents) w.wide.resize(documents, 0);
  if (!exact && static_cast<int64_t>(w.narrow.size()) < documents) w.narrow.resize(documents, 0);
  if (static_cast<int64_t>(w.query.size()) < vocabulary) w.query.resize(vocabulary, 0.0f);
  w.top.clear();
  w.pool.clear();
  w.lists.clear();
}

}  // namespace

Cost Worker::search(const std::vector<Segment>& segments, const uint64_t* const* allowed,
                    const Query& asked, const Knobs& knobs, const SearchKernels& kernels) {
  Cost cost{0, 0};
  make_room(*this, segments, knobs.exact);
  const int64_t size = static_cast<int64_t>(query.size());
  for (int64_t i = 0; i < asked.terms; ++i) {
    if (asked.ids[i] < size) query[asked.ids[i]] = asked.weights[i];
  }
  std::vector<size_t> ends;
  for (const Segment& s : segments) {
    open_lists(s, asked, lists);
    ends.push_back(lists.size());
  }
  std::vector<Meeting> meetings;
  for (size_t i = 0, from = 0; i < segments.size(); from = ends[i++]) {
    if (ends[i] == from) continue;
    meetings.push_back({segments[i], allowed == nullptr ? nullptr : allowed[i], knobs, kernels,
                        *this, {lists.data() + from, lists.data() + ends[i]}, cost});
  }
  if (!knobs.exact) search_some(meetings, *this, knobs, kernels, cost);
  else for (Meeting& m : meetings) search_every(m);
  for (int64_t i = 0; i < asked.terms; ++i) {
    if (asked.ids[i] < size) query[asked.ids[i]] = 0.0f;
  }
  std::sort_heap(top.begin(), top.end(), better);
  return cost;
}

}  // namespace gossamer
