// Top-k search: the weightiest postings are added up in 16 bits, the best sums scored exactly.
//
// Postings lie by falling impact, so "all contributions of at least c" is the head of every list.
// Anytime ranking by impact: Anh, de Kretser, Moffat, SIGIR 2001; Lin, Trotman, ICTIR 2015.
#include "search.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace gossamer {

namespace {

constexpr uint32_t kMostUnits = 65535;
constexpr uint32_t kMostNarrow = 255;
constexpr float kSlack = 1.0f + 2e-5f;  // rounding of float32 sums, relative
constexpr int64_t kAhead = 4;           // rows fetched before they are scored

// How one query meets one segment.
struct Meeting {
  const Segment& segment;
  const uint64_t* allowed;
  const Knobs& knobs;
  const SearchKernels& kernels;
  Worker& worker;
  float unit = 0.0f;
  Cost cost{0, 0};

  bool may_be_found(uint32_t d) const {
    return (segment.alive == nullptr || (segment.alive[d >> 6] >> (d & 63) & 1) != 0) &&
           (allowed == nullptr || (allowed[d >> 6] >> (d & 63) & 1) != 0);
  }
  bool all_may_be_found() const { return segment.alive == nullptr && allowed == nullptr; }
};

// A code that the `rank` best postings of a list have at least.
uint32_t code_at(const TermList& list, int64_t rank) {
  int level = 0;
  while (level < kLevels - 1 && list.levels[level] < rank) ++level;
  return kLevelCodes[level];
}

void price_levels(TermList& list);

// Sums of 16 bits cannot overflow: a unit is the sum of the largest contributions over 65535. Sums
// of 8 bits stop at 255, which is the sum of what the `rank`-th posting of every list contributes,
// so that next to no document gets there.
void open_lists(Meeting& m, const Query& query, int64_t rank) {
  const Segment& s = m.segment;
  std::vector<TermList>& lists = m.worker.lists;
  lists.clear();
  for (int64_t i = 0; i < query.terms; ++i) {
    const int64_t t = query.ids[i];
    if (t >= s.vocabulary || query.weights[i] <= 0.0f) continue;
    const int64_t first = s.lists[t], length = s.lists[t + 1] - first;
    if (length == 0) continue;
    const uint32_t* levels = s.levels + t * kLevels;
    __builtin_prefetch(levels);
    __builtin_prefetch(levels + 16);
    __builtin_prefetch(s.postings + first);
    lists.push_back({s.postings + first, levels, -1, 0, length, query.weights[i] * s.scales[t], 0, {}});
  }
  double most = 0.0;
  for (const TermList& list : lists) {
    const uint32_t code = m.knobs.exact ? 255 : code_at(list, rank);
    most += static_cast<double>(list.weight) * code;
  }
  const double units = m.knobs.exact ? kMostUnits - 2.0 * lists.size() : kMostNarrow;
  m.unit = static_cast<float>(most / units);
  for (TermList& list : lists) {
    const double factor = std::ceil(256.0 * list.weight / m.unit);
    list.factor = static_cast<uint32_t>(std::min(factor, 65536.0 * 256.0 / 255.0));
    price_levels(list);
  }
}

int64_t reach(const TermList& list, int level) { return level < 0 ? 0 : list.levels[level]; }

// The largest code below the level.
uint32_t rest_code(const TermList& list, int level) {
  if (level < 0) return kCodeMask;
  return list.levels[level] == list.length ? 0 : kLevelCodes[level] - 1u;
}

// The most units that postings below the level may add to one document.
uint32_t rest(const TermList& list) {
  return (rest_code(list, list.level) * list.factor + 255) >> 8;
}

// Postings that going down costs for each code that stays uncounted no more, made convex: a level
// that is dearer than those after it is reached only together with them.
void price_levels(TermList& list) {
  struct Step {
    float postings, codes;
    int last;
  } steps[kLevels];
  int count = 0;
  for (int level = 0; level < kLevels; ++level) {
    Step step{static_cast<float>(reach(list, level) - reach(list, level - 1)),
              static_cast<float>(rest_code(list, level - 1) - rest_code(list, level)), level};
    while (count > 0 && steps[count - 1].postings * step.codes >= step.postings * steps[count - 1].codes) {
      step.postings += steps[count - 1].postings;
      step.codes += steps[count - 1].codes;
      --count;
    }
    steps[count++] = step;
  }
  for (int i = 0, level = 0; i < count; ++i) {
    const float price = steps[i].codes > 0.0f ? steps[i].postings / (steps[i].codes * list.weight)
                                              : std::numeric_limits<float>::max();
    for (; level <= steps[i].last; ++level) list.prices[level] = price;
  }
}

// Goes down every list as far as a unit of score costs at most `price` postings.
void cut_at(Meeting& m, float price) {
  for (TermList& list : m.worker.lists) {
    int levels = 0;
    for (int level = 0; level < kLevels; ++level) levels += list.prices[level] <= price;
    list.level = levels - 1;
  }
}

int64_t reach_of_all(const Meeting& m) {
  int64_t sum = 0;
  for (const TermList& list : m.worker.lists) sum += reach(list, list.level);
  return sum;
}

uint32_t rest_of_all(const Meeting& m) {
  uint32_t sum = 0;
  for (const TermList& list : m.worker.lists) sum += rest(list);
  return sum;
}

constexpr float kLeastPrice = 1e-4f, kMostPrice = 3e37f;
constexpr int kPriceSteps = 12;

// Cuts the lists at the highest price for which `fits` holds, within a few per cent.
template <class Fits>
void cut_where(Meeting& m, bool dearer, Fits fits) {
  float low = kLeastPrice, high = 1e6f;
  for (int step = 0; step < kPriceSteps; ++step) {
    const float price = std::sqrt(low * high);
    cut_at(m, price);
    (fits() == dearer ? low : high) = price;
  }
  cut_at(m, dearer ? low : high);
}

// The dearest cut that adds up at most so many postings.
void cut_to_spend(Meeting& m, int64_t budget) {
  cut_at(m, kMostPrice);
  if (reach_of_all(m) > budget) cut_where(m, true, [&] { return reach_of_all(m) <= budget; });
}

// The cheapest cut that leaves at most so many units uncounted; returns what it leaves.
uint32_t cut_to_leave(Meeting& m, float units) {
  cut_where(m, false, [&] { return static_cast<float>(rest_of_all(m)) <= units; });
  if (static_cast<float>(rest_of_all(m)) > units) cut_at(m, kMostPrice);
  return rest_of_all(m);
}

inline void add(uint16_t& sum, uint32_t scaled) {
  sum = static_cast<uint16_t>(sum + ((scaled + 255) >> 8));  // rounded up: sums bound scores
}

inline void add(uint8_t& sum, uint32_t scaled) {
  const uint32_t total = sum + ((scaled + 128) >> 8);
  sum = static_cast<uint8_t>(std::min(total, kMostNarrow));
}

// Adds up every list down to its level.
template <class Sum>
void add_up(Meeting& m, Sum* sums) {
  for (TermList& list : m.worker.lists) {
    const int64_t end = reach(list, list.level);
    const uint32_t factor = list.factor;
    const uint32_t* postings = list.postings;
    for (int64_t i = list.taken; i < end; ++i) {
      const uint32_t posting = postings[i];
      add(sums[posting >> kCodeBits], (posting & kCodeMask) * factor);
    }
    m.cost.postings += std::max<int64_t>(0, end - list.taken);
    list.taken = std::max(list.taken, end);
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

// The best `count` sums, best first; the narrow ones are set to zero.
int64_t best_sums(Meeting& m, int64_t count) {
  Worker& w = m.worker;
  const bool exact = m.knobs.exact;
  uint32_t floor = 1;
  if (m.all_may_be_found()) {
    for (const TermList& list : w.lists) {
      if (list.taken < count) continue;
      floor = std::max(floor, (code_at(list, count) * list.factor + 128) >> 8);
    }
  }
  floor = std::min(floor, exact ? kMostUnits : kMostNarrow);
  const int64_t room = 4 * count + 128;
  if (static_cast<int64_t>(w.found.size()) < room) w.found.resize(room);
  int64_t found = 0, at = 0;
  while (true) {
    at = exact ? m.kernels.collect16(w.wide.data(), at, m.segment.documents, floor, false,
                                     w.found.data(), room, &found)
               : m.kernels.collect8(w.narrow.data(), at, m.segment.documents, floor, true,
                                    w.found.data(), room, &found);
    found = keep_best(m, found, count);
    if (at >= m.segment.documents) break;
    if (found == count) floor = std::max(floor, w.found[count - 1].partial + 1);
    if (!exact && floor > kMostNarrow) {
      std::fill(w.narrow.begin() + at, w.narrow.begin() + m.segment.documents, 0);
      break;
    }
  }
  std::sort(w.found.begin(), w.found.begin() + found, larger);
  return found;
}

// Every document that may reach `units` with `missing` more, best first; false where there are more
// than `room`.
bool sums_from(Meeting& m, float units, uint32_t missing, int64_t room, int64_t* count) {
  Worker& w = m.worker;
  const float least = units / kSlack - static_cast<float>(missing) - 1.0f;
  const uint32_t floor = least < 1.0f ? 1 : static_cast<uint32_t>(least);
  if (static_cast<int64_t>(w.found.size()) < room) w.found.resize(room);
  int64_t found = 0, at = 0;
  while (at < m.segment.documents) {
    const int64_t before = found;
    at = m.kernels.collect16(w.wide.data(), at, m.segment.documents, floor, false,
                             w.found.data(), room, &found);
    found = keep_best(m, found, found);
    if (at < m.segment.documents && found > before / 2 + room / 2) return false;
  }
  std::sort(w.found.begin(), w.found.begin() + found, larger);
  *count = found;
  return true;
}

void offer(std::vector<Hit>& top, int64_t k, const Hit& hit) {
  if (static_cast<int64_t>(top.size()) < k) {
    top.push_back(hit);
    std::push_heap(top.begin(), top.end(), better);
  } else if (better(hit, top.front())) {
    std::pop_heap(top.begin(), top.end(), better);
    top.back() = hit;
    std::push_heap(top.begin(), top.end(), better);
  }
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

// Scores candidates, best sum first, until none can pass the threshold any more: a document's
// score is at most (sum + missing) units.
void score_all(Meeting& m, int64_t count, uint32_t missing) {
  Worker& w = m.worker;
  const Segment& s = m.segment;
  for (int64_t i = 0; i < count; ++i) {
    const Candidate& c = w.found[i];
    const float bound = static_cast<float>(c.partial + missing) * m.unit * kSlack;
    if (m.knobs.exact && bound < threshold(w, m.knobs.k)) break;
    if (i + 2 * kAhead < count) __builtin_prefetch(s.rows + w.found[i + 2 * kAhead].document);
    if (i + kAhead < count) fetch_row(s, w.found[i + kAhead].document);
    const float score = m.kernels.score(s, c.document, w.query.data());
    ++m.cost.scored;
    offer(w.top, m.knobs.k, {score, s.first + c.document});
  }
}

void search_some(Meeting& m, int64_t budget) {
  cut_to_spend(m, budget);
  add_up(m, m.worker.narrow.data());
  const int64_t count = best_sums(m, std::max(m.knobs.candidates, m.knobs.k));
  score_all(m, count, 0);
}

// Share of the threshold that uncounted postings may be worth: more leaves less to add up and more
// documents to score.
constexpr float kMissing = 0.4f;
constexpr int64_t kFirstShare = 16;  // one posting for so many documents in the first pass
constexpr int64_t kMostScored = 3000;

// A first pass finds a threshold; the second adds up enough that everything which may pass it shows.
void search_every(Meeting& m) {
  Worker& w = m.worker;
  const std::vector<Hit> before = w.top;
  cut_to_spend(m, m.segment.documents / kFirstShare + 1000);
  add_up(m, w.wide.data());
  score_all(m, best_sums(m, std::max<int64_t>(32, 2 * m.knobs.k)), kMostUnits);
  const float threshold_now = threshold(w, m.knobs.k);
  w.top = before;

  const float units = threshold_now > 0.0f ? threshold_now / m.unit : 0.0f;
  uint32_t missing = cut_to_leave(m, kMissing * units);
  add_up(m, w.wide.data());
  int64_t count = 0;
  if (!sums_from(m, units, missing, kMostScored, &count)) {
    missing = cut_to_leave(m, -1.0f);
    add_up(m, w.wide.data());
    sums_from(m, units, missing, m.segment.documents + 128, &count);
  }
  score_all(m, count, missing);
  std::fill(w.wide.begin(), w.wide.begin() + m.segment.documents, 0);
}

}  // namespace

Cost Worker::search(const std::vector<Segment>& segments, const uint64_t* const* allowed,
                    const Query& asked, const Knobs& knobs, const SearchKernels& kernels) {
  Cost cost{0, 0};
  int64_t documents = 0, vocabulary = 0;
  for (const Segment& s : segments) {
    documents += s.documents;
    vocabulary = std::max(vocabulary, s.vocabulary);
    const size_t size = s.documents;
    if (knobs.exact && wide.size() < size) wide.resize(size, 0);
    if (!knobs.exact && narrow.size() < size) narrow.resize(size, 0);
  }
  if (static_cast<int64_t>(query.size()) < vocabulary) query.resize(vocabulary, 0.0f);
  top.clear();
  for (int64_t i = 0; i < asked.terms; ++i) {
    if (asked.ids[i] < vocabulary) query[asked.ids[i]] = asked.weights[i];
  }
  for (size_t i = 0; i < segments.size(); ++i) {
    const Segment& s = segments[i];
    Meeting m{s, allowed == nullptr ? nullptr : allowed[i], knobs, kernels, *this};
    open_lists(m, asked, std::max(knobs.candidates, knobs.k));
    if (lists.empty()) continue;
    if (knobs.exact) search_every(m);
    else search_some(m, std::max<int64_t>(1, knobs.budget * s.documents / documents));
    cost.postings += m.cost.postings;
    cost.scored += m.cost.scored;
  }
  for (int64_t i = 0; i < asked.terms; ++i) {
    if (asked.ids[i] < vocabulary) query[asked.ids[i]] = 0.0f;
  }
  std::sort_heap(top.begin(), top.end(), better);
  return cost;
}

}  // namespace gossamer
