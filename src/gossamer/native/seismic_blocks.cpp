// Shallow clustering of lists: random documents as centroids, every document to the nearest.
#include <algorithm>

#include "seismic_build.h"

namespace gossamer::seismic {

namespace {

// SplitMix64.
uint64_t next_random(uint64_t& state) {
  uint64_t z = state += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

}  // namespace

Blocker::Blocker(const Documents& documents, const Plan& plan, const Heads& heads)
    : documents_(documents), plan_(plan), heads_(heads) {
  first_.assign(documents.vocabulary, 0);
  last_.assign(documents.vocabulary, 0);
}

// So many distinct documents of the list.
void Blocker::draw(const Posting* list, int64_t length, uint64_t seed) {
  const int64_t count =
      std::max<int64_t>(1, static_cast<int64_t>(plan_.fraction * static_cast<double>(length)));
  order_.resize(length);
  for (int64_t i = 0; i < length; ++i) order_[i] = static_cast<uint32_t>(i);
  centroids_.clear();
  for (int64_t i = 0; i < count; ++i) {
    const int64_t other = i + static_cast<int64_t>(next_random(seed) % (length - i));
    std::swap(order_[i], order_[other]);
    centroids_.push_back(list[order_[i]].document);
  }
}

// The centroids by term.
void Blocker::index_centroids() {
  const Documents& d = documents_;
  terms_.clear();
  for (uint32_t c : centroids_) {
    for (int64_t i = d.rows[c]; i < d.rows[c + 1]; ++i) {
      const int64_t t = d.term(i);
      if (last_[t]++ == 0) terms_.push_back(static_cast<uint32_t>(t));
    }
  }
  uint32_t at = 0;
  for (uint32_t t : terms_) {
    first_[t] = at;
    at += last_[t];
    last_[t] = first_[t];
  }
  members_.resize(at);
  for (uint32_t c = 0; c < centroids_.size(); ++c) {
    const int64_t row = d.rows[centroids_[c]], end = d.rows[centroids_[c] + 1];
    for (int64_t i = row; i < end; ++i) members_[last_[d.term(i)]++] = {c, d.weights[i]};
  }
}

void Blocker::forget_centroids() {
  for (uint32_t t : terms_) first_[t] = last_[t] = 0;
}

// The centroid of largest inner product among those that are open; the fallback where all are 0.
uint32_t Blocker::nearest(uint32_t document) {
  touched_.clear();
  for (int64_t i = heads_.starts[document]; i < heads_.starts[document + 1]; ++i) {
    const Weighted& entry = heads_.entries[i];
    for (uint32_t m = first_[entry.term]; m < last_[entry.term]; ++m) {
      const uint32_t c = members_[m].centroid;
      if (sums_[c] == 0.0f) touched_.push_back(c);
      sums_[c] += entry.weight * members_[m].weight;
    }
  }
  uint32_t best = fallback_;
  float most = 0.0f;
  for (uint32_t c : touched_) {
    if (open_[c] && (sums_[c] > most || (sums_[c] == most && most > 0.0f && c < best))) {
      most = sums_[c];
      best = c;
    }
  }
  for (uint32_t c : touched_) sums_[c] = 0.0f;
  return best;
}

// Members of blocks that are too small go to the nearest of the others; without others, to one.
void Blocker::dissolve(const Posting* list, int64_t length) {
  bool any = false;
  fallback_ = kNobody;
  for (uint32_t c = 0; c < sizes_.size(); ++c) {
    open_[c] = static_cast<int64_t>(sizes_[c]) > plan_.smallest;
    if (open_[c] && fallback_ == kNobody) fallback_ = c;
    any = any || (!open_[c] && sizes_[c] > 0);
  }
  if (fallback_ == kNobody) fallback_ = 0;
  for (int64_t i = 0; any && i < length; ++i) {
    if (open_[owner_[i]]) continue;
    --sizes_[owner_[i]];
    owner_[i] = nearest(list[i].document);
    ++sizes_[owner_[i]];
  }
}

void Blocker::run(int64_t term, const Posting* list, int64_t length, uint32_t* out,
                  std::vector<uint32_t>& ends) {
  draw(list, length, plan_.seed * 0x100000001b3u + static_cast<uint64_t>(term));
  const size_t count = centroids_.size();
  if (plan_.order != 0) {
    std::vector<Posting> sorted(list, list + length);
    if (plan_.order == 1) {
      std::stable_sort(sorted.begin(), sorted.end(),
                       [](const Posting& a, const Posting& b) { return a.weight > b.weight; });
    }
    for (int64_t i = 0; i < length; ++i) out[i] = sorted[i].document;
    for (size_t b = 0; b < count; ++b) {
      ends.push_back(static_cast<uint32_t>(length * static_cast<int64_t>(b + 1) /
                                           static_cast<int64_t>(count)));
    }
    return;
  }
  index_centroids();
  sums_.assign(count, 0.0f);
  open_.assign(count, 1);
  sizes_.assign(count, 0);
  owner_.resize(length);
  fallback_ = 0;
  for (int64_t i = 0; i < length; ++i) ++sizes_[owner_[i] = nearest(list[i].document)];
  dissolve(list, length);
  forget_centroids();
  uint32_t at = 0;
  for (uint32_t& size : sizes_) {
    at += size;
    if (size > 0) ends.push_back(at);
    size = at - size;
  }
  for (int64_t i = 0; i < length; ++i) out[sizes_[owner_[i]]++] = list[i].document;
}

}  // namespace gossamer::seismic
