// MaxScore: only documents of lists that together can pass the threshold are looked at.
//
// Turtle, Flood, "Query evaluation: strategies and optimizations", IPM 1995; with bounds of blocks:
// Chakrabarti, Chaudhuri, Ganti, "Interval-based pruning for top-k processing over compressed
// lists", ICDE 2011. The lists that bring candidates are added up in windows of documents.
#include "documentwise.h"

namespace gossamer::documentwise {

namespace {

struct Window {
  double* sums;
  uint64_t* seen;
};

// What a list adds at most to a document of [base, end).
double bound_in(Meeting& m, Cursor& c, uint32_t base, uint32_t end) {
  c.block = c.block_of(base, c.block);
  float most = 0.0f;
  for (int64_t b = c.block; b < c.blocks; ++b) {
    most = std::max(most, c.maxima[b]);
    ++m.cost.blocks;
    if (c.ends[b] >= end - 1) break;
  }
  return c.weight * static_cast<double>(most);
}

// Orders the lists by rising bound; returns how many together cannot pass the threshold.
size_t split(Meeting& m) {
  std::vector<Cursor*>& order = m.worker.order;
  for (size_t i = 1; i < order.size(); ++i) {
    Cursor* c = order[i];
    size_t j = i;
    for (; j > 0 && order[j - 1]->bound > c->bound; --j) order[j] = order[j - 1];
    order[j] = c;
  }
  m.worker.rest.assign(1, 0.0);
  size_t count = order.size();
  for (size_t i = 0; i < order.size(); ++i) {
    m.worker.rest.push_back(m.worker.rest.back() + order[i]->bound);
    if (count == order.size() && !m.hopeless(m.worker.rest.back())) count = i;
  }
  return count;
}

// Adds the other lists to a candidate's sum while it may pass, then offers its score.
void complete(Meeting& m, uint32_t document, double sum, size_t others) {
  const Worker& w = m.worker;
  for (size_t i = others; i-- > 0;) {
    if (m.hopeless(sum + w.rest[i + 1])) return;
    Cursor& c = *w.order[i];
    c.seek(document);
    if (c.document() == document) {
      sum += c.value();
      ++m.cost.postings;
    }
  }
  if (m.hopeless(sum)) return;
  double score = 0.0;
  for (const Cursor& c : w.cursors) score += c.value_of(document);
  m.offer(document, score);
}

// One list alone brings candidates: blocks of it that cannot pass are left out.
void walk(Meeting& m, Cursor& c, uint32_t end, size_t others) {
  const double rest = m.worker.rest[others];
  while (c.at < c.length && c.ids[c.at] < end) {
    const int64_t b = c.at / kBlock;
    ++m.cost.blocks;
    const int64_t last = std::min((b + 1) * kBlock, c.length);
    if (m.hopeless(c.weight * static_cast<double>(c.maxima[b]) + rest)) {
      if (c.ends[b] >= end) return c.seek(end);
      c.at = last;
      continue;
    }
    for (; c.at < last && c.ids[c.at] < end; ++c.at) {
      ++m.cost.postings;
      ++m.cost.scored;
      const double value = c.value();
      if (!m.hopeless(value + rest)) complete(m, c.ids[c.at], value, others);
    }
  }
}

void add_up(Meeting& m, const Window& window, Cursor& c, uint32_t base, uint32_t end) {
  const int64_t before = c.at;
  int64_t i = c.at;
  for (; i < c.length && c.ids[i] < end; ++i) {
    const uint32_t d = c.ids[i] - base;
    window.sums[d] += c.weight * static_cast<double>(c.weights[i]);
    window.seen[d >> 6] |= uint64_t{1} << (d & 63);
  }
  c.at = i;
  m.cost.postings += i - before;
}

void search_window(Meeting& m, const Window& window, uint32_t base, uint32_t end, size_t others) {
  std::vector<Cursor*>& order = m.worker.order;
  if (others + 1 == order.size()) return walk(m, *order[others], end, others);
  for (size_t i = others; i < order.size(); ++i) add_up(m, window, *order[i], base, end);
  for (int64_t word = 0; word < kWindow / 64; ++word) {
    uint64_t bits = window.seen[word];
    window.seen[word] = 0;
    for (; bits != 0; bits &= bits - 1) {
      const int64_t d = word * 64 + __builtin_ctzll(bits);
      const double sum = window.sums[d];
      window.sums[d] = 0.0;
      ++m.cost.scored;
      if (!m.hopeless(sum + m.worker.rest[others])) {
        complete(m, base + static_cast<uint32_t>(d), sum, others);
      }
    }
  }
}

}  // namespace

void maxscore(Meeting& m, bool blocks) {
  Worker& w = m.worker;
  w.window.resize(kWindow, 0.0);
  w.seen.resize(kWindow / 64, 0);
  const Window window{w.window.data(), w.seen.data()};
  w.order.clear();
  for (Cursor& c : w.cursors) {
    c.bound = c.most;
    w.order.push_back(&c);
  }
  const int64_t documents = m.lists.documents;
  for (int64_t base = 0; base < documents;) {
    const int64_t end = std::min(base + kWindow, documents);
    const uint32_t low = static_cast<uint32_t>(base), high = static_cast<uint32_t>(end);
    if (blocks) {
      for (Cursor& c : w.cursors) c.bound = bound_in(m, c, low, high);
    }
    const size_t others = split(m);
    if (others == w.order.size() && !blocks) return;
    uint32_t next = blocks ? high : kEnd;
    for (size_t i = others; i < w.order.size(); ++i) {
      w.order[i]->seek(low);
      next = std::min(next, w.order[i]->document());
    }
    if (next >= high) {
      base = next == kEnd ? documents : std::max<int64_t>(end, next);
      continue;
    }
    for (Cursor& c : w.cursors) c.from = c.at;
    search_window(m, window, low, high, others);
    base = end;
  }
}

}  // namespace gossamer::documentwise
