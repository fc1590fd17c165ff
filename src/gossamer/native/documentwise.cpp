// A query's way through segments: cursors, the first threshold, and the plain scan.
#include "documentwise.h"

namespace gossamer::documentwise {

void Meeting::offer(uint32_t document, double score) {
  if (score <= threshold || !may_be_found(document)) return;
  std::vector<Hit>& top = worker.top;
  gossamer::offer(top, k, Hit{score, lists.first + document});
  // Documents come in rising order, so one of equal score would not be before this one.
  if (static_cast<int64_t>(top.size()) == k) threshold = std::max(threshold, top.front().score);
}

void scan(Meeting& m) {
  std::vector<double>& sums = m.worker.sums;
  if (static_cast<int64_t>(sums.size()) < m.lists.documents) sums.resize(m.lists.documents, 0.0);
  for (const Cursor& c : m.worker.cursors) {
    for (int64_t i = 0; i < c.length; ++i) {
      sums[c.ids[i]] += c.weight * static_cast<double>(c.weights[i]);
    }
    m.cost.postings += c.length;
  }
  for (int64_t d = 0; d < m.lists.documents; ++d) {
    const double sum = sums[d];
    sums[d] = 0.0;
    m.cost.scored += sum != 0.0;
    if (sum > m.threshold) m.offer(static_cast<uint32_t>(d), sum);
  }
}

namespace {

void open_cursors(Meeting& m, const Query& query) {
  const Lists& s = m.lists;
  m.worker.cursors.clear();
  for (int64_t i = 0; i < query.terms; ++i) {
    const int64_t t = query.ids[i];
    if (t >= s.vocabulary || query.weights[i] <= 0.0f || s.lists[t + 1] == s.lists[t]) continue;
    Cursor c{};
    c.ids = s.ids + s.lists[t];
    c.weights = s.weights + s.lists[t];
    c.ends = s.ends + s.blocks[t];
    c.maxima = s.maxima + s.blocks[t];
    c.length = s.lists[t + 1] - s.lists[t];
    c.blocks = s.blocks[t + 1] - s.blocks[t];
    c.weight = query.weights[i];
    c.most = c.weight * static_cast<double>(s.most[t]);
    m.worker.cursors.push_back(c);
  }
}

// The k-th best document scores at least what the k-th posting of any list contributes.
void prime_threshold(Meeting& m, const Query& query) {
  const std::vector<Hit>& top = m.worker.top;
  if (static_cast<int64_t>(top.size()) == m.k) m.threshold = top.front().score;
  if (m.lists.alive != nullptr || m.allowed != nullptr) return;
  int rank = 0;
  while (rank < kTops && kTopRanks[rank] < m.k) ++rank;
  if (rank == kTops) return;
  for (int64_t i = 0; i < query.terms; ++i) {
    const int64_t t = query.ids[i];
    if (t >= m.lists.vocabulary || query.weights[i] <= 0.0f) continue;
    const double least =
        static_cast<double>(query.weights[i]) * m.lists.tops[t * kTops + rank];
    // A hair less: documents of exactly this score have to pass.
    m.threshold = std::max(m.threshold, least * (2.0 - kSlack));
  }
}

}  // namespace

Cost Worker::search(const std::vector<Lists>& segments, const uint64_t* const* allowed,
                    const Query& query, int64_t k, Engine engine) {
  Cost cost;
  top.clear();
  for (size_t i = 0; i < segments.size(); ++i) {
    Meeting m{segments[i], allowed == nullptr ? nullptr : allowed[i], k, *this, 0.0, {}};
    open_cursors(m, query);
    if (cursors.empty()) continue;
    prime_threshold(m, query);
    switch (engine) {
      case Engine::scan: scan(m); break;
      case Engine::maxscore: maxscore(m, false); break;
      case Engine::bmm: maxscore(m, true); break;
      case Engine::wand: wand(m, false); break;
      case Engine::bmw: wand(m, true); break;
    }
    cost.postings += m.cost.postings;
    cost.scored += m.cost.scored;
    cost.blocks += m.cost.blocks;
  }
  std::sort_heap(top.begin(), top.end(), better);
  return cost;
}

}  // namespace gossamer::documentwise
