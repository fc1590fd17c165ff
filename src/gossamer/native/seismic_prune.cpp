// Static pruning: the heaviest entries of the whole matrix, then of each list.
#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "seismic_build.h"

namespace gossamer::seismic {

namespace {

constexpr int kBuckets = 1 << 16;

// Weights are not negative, so they are ordered as their bits are.
uint32_t bits_of(float weight) {
  uint32_t bits;
  std::memcpy(&bits, &weight, 4);
  return bits;
}

// The bucket that holds the rank-th largest, and how many of its own are within the rank.
int64_t bucket_of(const std::vector<int64_t>& counts, int64_t rank, int64_t* within) {
  int64_t bucket = kBuckets - 1;
  for (; bucket > 0 && rank > counts[bucket]; --bucket) rank -= counts[bucket];
  *within = rank;
  return bucket;
}

struct Threshold {
  uint32_t bits;  // heavier ones are kept
  int64_t equal;  // and so many of this weight, the earliest
};

Threshold threshold(const Documents& d, int64_t kept) {
  const int64_t entries = d.rows[d.count];
  if (kept >= entries) return {0, entries};
  std::vector<int64_t> counts(kBuckets, 0);
  for (int64_t i = 0; i < entries; ++i) ++counts[bits_of(d.weights[i]) >> 16];
  int64_t within = 0;
  const uint32_t high = static_cast<uint32_t>(bucket_of(counts, kept, &within));
  std::fill(counts.begin(), counts.end(), 0);
  for (int64_t i = 0; i < entries; ++i) {
    const uint32_t bits = bits_of(d.weights[i]);
    if (bits >> 16 == high) ++counts[bits & 0xffff];
  }
  const uint32_t low = static_cast<uint32_t>(bucket_of(counts, within, &within));
  return {high << 16 | low, within};
}

// Calls visit(entry, document, term) for every entry that the threshold keeps.
template <class Visit>
void each_kept(const Documents& d, Threshold least, Visit visit) {
  for (int64_t document = 0; document < d.count; ++document) {
    for (int64_t i = d.rows[document]; i < d.rows[document + 1]; ++i) {
      const uint32_t bits = bits_of(d.weights[i]);
      if (bits < least.bits || (bits == least.bits && least.equal-- <= 0)) continue;
      const int64_t term = d.term(i);
      if (term >= d.vocabulary) throw std::out_of_range("a term lies outside the vocabulary");
      visit(i, document, term);
    }
  }
}

bool before(const Posting& a, const Posting& b) {
  return a.weight != b.weight ? a.weight > b.weight : a.document < b.document;
}

// Leaves the heaviest of every list and moves the lists together.
void shorten(Pruned& p, int64_t longest) {
  int64_t to = 0, from = 0;
  for (size_t t = 0; t + 1 < p.lists.size(); ++t) {
    const int64_t end = p.lists[t + 1], length = std::min(end - from, longest);
    Posting* list = p.postings.data() + from;
    if (length < end - from) {
      std::nth_element(list, list + length, p.postings.data() + end, before);
      std::sort(list, list + length,
                [](const Posting& a, const Posting& b) { return a.document < b.document; });
    }
    std::copy(list, list + length, p.postings.data() + to);
    to += length;
    p.lists[t + 1] = to;
    from = end;
  }
  p.postings.resize(to);
}

}  // namespace

Pruned prune(const Documents& d, const Plan& plan) {
  const Threshold least = threshold(d, plan.kept);
  Pruned pruned;
  pruned.lists.assign(d.vocabulary + 1, 0);
  each_kept(d, least, [&](int64_t, int64_t, int64_t term) { ++pruned.lists[term + 1]; });
  for (int64_t t = 0; t < d.vocabulary; ++t) pruned.lists[t + 1] += pruned.lists[t];
  pruned.postings.resize(pruned.lists.back());
  std::vector<int64_t> next(pruned.lists.begin(), pruned.lists.end() - 1);
  each_kept(d, least, [&](int64_t i, int64_t document, int64_t term) {
    pruned.postings[next[term]++] = {static_cast<uint32_t>(document), d.weights[i]};
  });
  shorten(pruned, plan.longest);
  return pruned;
}

Heads heads_of(const Documents& d, int64_t cut) {
  Heads heads;
  heads.starts.assign(1, 0);
  heads.starts.reserve(d.count + 1);
  std::vector<Weighted> row;
  for (int64_t document = 0; document < d.count; ++document) {
    row.clear();
    for (int64_t i = d.rows[document]; i < d.rows[document + 1]; ++i) {
      row.push_back({static_cast<uint32_t>(d.term(i)), d.weights[i]});
    }
    if (cut > 0 && static_cast<int64_t>(row.size()) > cut) {
      std::nth_element(row.begin(), row.begin() + cut, row.end(), heavier);
      row.resize(cut);
    }
    heads.entries.insert(heads.entries.end(), row.begin(), row.end());
    heads.starts.push_back(static_cast<int64_t>(heads.entries.size()));
  }
  return heads;
}

}  // namespace gossamer::seismic
