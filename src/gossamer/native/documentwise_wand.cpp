// WAND: the next document is one that the lists standing before it could take past the threshold.
//
// Broder, Carmel, Herscovici, Soffer, Zien, "Efficient query evaluation using a two-level retrieval
// process", CIKM 2003; with bounds of blocks: Ding, Suel, "Faster top-k document retrieval using
// block-max indexes", SIGIR 2011.
#include "documentwise.h"

namespace gossamer::documentwise {

namespace {

// By document, after those at the front went on.
void sort(std::vector<Cursor*>& order) {
  for (size_t i = 1; i < order.size(); ++i) {
    Cursor* c = order[i];
    const uint32_t document = c->document();
    size_t j = i;
    for (; j > 0 && order[j - 1]->document() > document; --j) order[j] = order[j - 1];
    order[j] = c;
  }
}

// The last of the lists at the first document that may pass; their number where there is none.
size_t pivot(const Meeting& m) {
  const std::vector<Cursor*>& order = m.worker.order;
  double bound = 0.0;
  for (size_t i = 0; i < order.size() && order[i]->document() != kEnd; ++i) {
    bound += order[i]->most;
    if (m.hopeless(bound)) continue;
    while (i + 1 < order.size() && order[i + 1]->document() == order[i]->document()) ++i;
    return i;
  }
  return order.size();
}

// Takes the weightiest of the lists before `document` to it or past it.
void advance(std::vector<Cursor*>& order, size_t last, uint32_t document) {
  Cursor* best = nullptr;
  for (size_t i = 0; i <= last; ++i) {
    if (order[i]->document() < document && (best == nullptr || order[i]->most > best->most)) {
      best = order[i];
    }
  }
  best->seek(document);
  sort(order);
}

// The first document after the pivot's whose blocks may pass; the pivot's where they may.
uint32_t next_of_blocks(Meeting& m, size_t last, uint32_t document) {
  const std::vector<Cursor*>& order = m.worker.order;
  double bound = 0.0;
  uint32_t end = kEnd - 1;
  for (size_t i = 0; i <= last; ++i) {
    Cursor& c = *order[i];
    c.block = c.block_of(document, c.block);
    ++m.cost.blocks;
    if (c.block >= c.blocks) continue;
    bound += c.weight * static_cast<double>(c.maxima[c.block]);
    end = std::min(end, c.ends[c.block]);
  }
  if (!m.hopeless(bound)) return document;
  const uint32_t other = last + 1 < order.size() ? order[last + 1]->document() : kEnd;
  return std::min(end + 1, other);
}

void score(Meeting& m, size_t last, uint32_t document) {
  Worker& w = m.worker;
  m.cost.postings += static_cast<int64_t>(last) + 1;
  ++m.cost.scored;
  double sum = 0.0;
  for (size_t i = 0; i <= last; ++i) sum += w.order[i]->value();
  if (!m.hopeless(sum)) {
    double total = 0.0;
    for (const Cursor& c : w.cursors) {
      if (c.document() == document) total += c.value();
    }
    m.offer(document, total);
  }
  for (size_t i = 0; i <= last; ++i) ++w.order[i]->at;
  sort(w.order);
}

}  // namespace

void wand(Meeting& m, bool blocks) {
  std::vector<Cursor*>& order = m.worker.order;
  order.clear();
  for (Cursor& c : m.worker.cursors) order.push_back(&c);
  sort(order);
  for (size_t last = pivot(m); last < order.size(); last = pivot(m)) {
    const uint32_t document = order[last]->document();
    const uint32_t next = blocks ? next_of_blocks(m, last, document) : document;
    if (next != document) advance(order, last, next);
    else if (order[0]->document() == document) score(m, last, document);
    else advance(order, last, document);
  }
}

}  // namespace gossamer::documentwise
