// Summaries of blocks: the largest weight of each term, the heaviest part of it, in 8 bits.
#include <algorithm>
#include <cmath>

#include "seismic_build.h"

namespace gossamer::seismic {

namespace {

constexpr int64_t kFew = 12;  // values that are sorted rather than split

// Moves the heaviest values to the front, as few as together have the mass; returns how many.
int64_t heaviest(Weighted* values, int64_t count, double mass) {
  int64_t low = 0, high = count;
  while (high - low > kFew) {
    Weighted some[3] = {values[low], values[(low + high) / 2], values[high - 1]};
    std::sort(some, some + 3, heavier);
    const Weighted pivot = some[1];
    double sum = 0.0;
    Weighted* middle =
        std::partition(values + low, values + high,
                       [&](const Weighted& value) { return !heavier(pivot, value); });
    for (const Weighted* value = values + low; value < middle; ++value) sum += value->weight;
    if (sum >= mass) {
      high = middle - values;
    } else {
      mass -= sum;
      low = middle - values;
    }
  }
  std::sort(values + low, values + high, heavier);
  while (low < high && mass > 0.0) mass -= values[low++].weight;
  return std::max<int64_t>(low, 1);
}

// Rounding a step up by a hair keeps the largest value within 255 of them.
Scale scale_of(const Weighted* values, int64_t count) {
  float least = values[0].weight, most = least;
  for (int64_t i = 1; i < count; ++i) {
    least = std::min(least, values[i].weight);
    most = std::max(most, values[i].weight);
  }
  return {least, (most - least) * (1.000001f / 255.0f)};
}

uint8_t code_of(float value, const Scale& scale, bool up) {
  if (!(scale.step > 0.0f)) return 0;
  const float steps = (value - scale.least) / scale.step;
  float code = std::min(up ? std::ceil(steps) : std::nearbyint(steps), 255.0f);
  while (up && code < 255.0f && scale.least + scale.step * code < value) code += 1.0f;
  return static_cast<uint8_t>(code);
}

}  // namespace

Summariser::Summariser(const Documents& documents, const Plan& plan)
    : documents_(documents), plan_(plan) {
  most_.assign(documents.vocabulary, 0.0f);
  counts_.assign(documents.vocabulary, 0);
}

void Summariser::add(const uint32_t* block, int64_t size, Summaries& out) {
  const Documents& d = documents_;
  terms_.clear();
  for (int64_t i = 0; i < size; ++i) {
    for (int64_t e = d.rows[block[i]]; e < d.rows[block[i] + 1]; ++e) {
      const int64_t t = d.term(e);
      if (most_[t] == 0.0f) terms_.push_back(static_cast<uint32_t>(t));
      most_[t] = std::max(most_[t], d.weights[e]);
    }
  }
  values_.clear();
  double mass = 0.0;
  for (uint32_t t : terms_) {
    values_.push_back({t, most_[t]});
    mass += most_[t];
    most_[t] = 0.0f;
  }
  int64_t kept = static_cast<int64_t>(values_.size());
  if (plan_.energy < 1.0f) kept = heaviest(values_.data(), kept, plan_.energy * mass);
  out.scales.push_back(scale_of(values_.data(), kept));
  for (int64_t i = 0; i < kept; ++i) {
    entries_.push_back({values_[i].term, block_,
                        code_of(values_[i].weight, out.scales.back(), plan_.up)});
  }
  ++block_;
}

void Summariser::finish(Summaries& out) {
  terms_.clear();
  for (const Entry& entry : entries_) {
    if (counts_[entry.coordinate]++ == 0) terms_.push_back(entry.coordinate);
  }
  std::sort(terms_.begin(), terms_.end());
  const size_t from = out.members.size();
  out.members.resize(from + entries_.size());
  out.codes.resize(from + entries_.size());
  uint32_t at = 0;
  for (uint32_t t : terms_) {
    const uint32_t count = counts_[t];
    counts_[t] = at;
    at += count;
    out.coordinates.push_back(t);
    out.column_ends.push_back(at);
  }
  for (const Entry& entry : entries_) {
    const size_t place = from + counts_[entry.coordinate]++;
    out.members[place] = entry.block;
    out.codes[place] = entry.code;
  }
  for (uint32_t t : terms_) counts_[t] = 0;
  entries_.clear();
  block_ = 0;
}

}  // namespace gossamer::seismic
