// How deep each list is added up: to where a posting buys as much score as in every other list.
//
// From corner to corner a code taken off a list costs ever more postings, so one price for all lists
// gives the best cut of all (Everett's generalised Lagrange multipliers, Operations Research 1963).
#include "search_lists.h"

#include <cmath>

namespace gossamer {

namespace {

void price_corners(TermList& list) {
  const ListHead& head = *list.head;
  float reach = 0.0f, rest = static_cast<float>(kCodeMask);
  for (int i = 0; i < kCorners; ++i) {
    const float next_reach = static_cast<float>(head.reach[i]);
    const float next_rest = static_cast<float>(head.rest[i]);
    // Corners that repeat the last come out as not a number, which no price reaches.
    list.prices[i] = (next_reach - reach) / ((rest - next_rest) * list.weight);
    reach = next_reach;
    rest = next_rest;
  }
}

// Goes down every list as far as a unit of score costs at most `price` postings.
void cut_at(const Lists& lists, float price) {
  for (TermList& list : lists) {
    int corners = 0;
    for (int i = 0; i < kCorners; ++i) corners += list.prices[i] <= price;
    list.corner = corners - 1;
  }
}

int64_t reach_of_all(const Lists& lists) {
  int64_t sum = 0;
  for (const TermList& list : lists) sum += reach(list);
  return sum;
}

// The most units that what is left uncounted may add to one document.
uint32_t rest_of_all(const Lists& lists) {
  uint32_t sum = 0;
  for (const TermList& list : lists) {
    const uint32_t code = list.corner < 0 ? kCodeMask : list.head->rest[list.corner];
    sum += (code * list.factor + 255) >> 8;
  }
  return sum;
}

// Cuts at the price where `under` turns from true to false as prices rise: just below it where
// `below`, else just above.
template <class Under>
void cut_where(const Lists& lists, bool below, Under under) {
  constexpr int kSteps = 12;
  float low = 1e-4f, high = 1e6f;
  for (int step = 0; step < kSteps; ++step) {
    const float price = std::sqrt(low * high);
    cut_at(lists, price);
    (under() ? low : high) = price;
  }
  cut_at(lists, below ? low : high);
}

}  // namespace

void open_lists(const Segment& s, const Query& query, std::vector<TermList>& out) {
  for (int64_t i = 0; i < query.terms; ++i) {
    const int64_t t = query.ids[i];
    if (t >= s.vocabulary) continue;
    __builtin_prefetch(s.heads + t);
    __builtin_prefetch(reinterpret_cast<const char*>(s.heads + t) + 64);
  }
  for (int64_t i = 0; i < query.terms; ++i) {
    const int64_t t = query.ids[i];
    if (t >= s.vocabulary || query.weights[i] <= 0.0f) continue;
    const ListHead& head = s.heads[t];
    if (head.length == 0) continue;
    __builtin_prefetch(s.postings + head.first);
    out.push_back({s.postings + head.first, &head, 0, -1, query.weights[i] * head.scale, 0, {}});
    price_corners(out.back());
  }
}

uint32_t code_at(const TermList& list, int64_t rank) {
  int i = 0;
  while (i < kCorners - 1 && list.head->reach[i] < rank) ++i;
  return list.head->rest[i] + 1u;
}

float score_at(const Lists& lists, int64_t rank) {
  float sum = 0.0f;
  for (const TermList& list : lists) {
    sum += list.weight * static_cast<float>(rank == 0 ? kCodeMask : code_at(list, rank));
  }
  return sum;
}

void set_unit(const Lists& lists, float unit) {
  for (TermList& list : lists) {
    const float factor = std::ceil(256.0f * list.weight / unit);
    list.factor = static_cast<uint32_t>(std::min(factor, 65536.0f * 256.0f / 255.0f));
  }
}

void cut_to_spend(const Lists& lists, int64_t budget) {
  cut_nothing(lists);
  if (reach_of_all(lists) <= budget) return;
  cut_where(lists, true, [&] { return reach_of_all(lists) <= budget; });
}

uint32_t cut_to_leave(const Lists& lists, float units) {
  cut_where(lists, false, [&] { return static_cast<float>(rest_of_all(lists)) > units; });
  if (static_cast<float>(rest_of_all(lists)) > units) cut_nothing(lists);
  return rest_of_all(lists);
}

void cut_nothing(const Lists& lists) {
  for (TermList& list : lists) list.corner = kCorners - 1;
}

}  // namespace gossamer
