// Blocked lists built from rows, and the Python class that searches them.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <memory>

#include "isa.h"
#include "parallel.h"
#include "seismic_build.h"

namespace nb = nanobind;

namespace gossamer {

namespace {

using namespace seismic;
using Addresses = std::vector<uintptr_t>;

template <class T>
T* at(uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

// Terms from one to the next edge, and what was made of their lists.
struct Part {
  int64_t first, last;
  std::vector<uint32_t> ends;
  Summaries summaries;
};

struct Build {
  Documents documents;
  Plan plan;
  Pruned pruned;
  Heads heads;
  std::vector<Part> parts;
  std::vector<uint32_t> postings;
  // Blocks, coordinates and entries of each term, then where they begin.
  std::vector<int64_t> blocks, columns, entries;
};

void build_part(void* context, int64_t number) {
  Build& b = *static_cast<Build*>(context);
  Part& part = b.parts[number];
  Blocker blocker(b.documents, b.plan, b.heads);
  Summariser summariser(b.documents, b.plan);
  Summaries& s = part.summaries;
  for (int64_t t = part.first; t < part.last; ++t) {
    const int64_t from = b.pruned.lists[t], length = b.pruned.lists[t + 1] - from;
    if (length == 0) continue;
    const size_t block = part.ends.size(), column = s.coordinates.size();
    const size_t entry = s.codes.size();
    uint32_t* list = b.postings.data() + from;
    blocker.run(t, b.pruned.postings.data() + from, length, list, part.ends);
    uint32_t at = 0;
    for (size_t i = block; i < part.ends.size(); ++i) {
      summariser.add(list + at, part.ends[i] - at, s);
      at = part.ends[i];
    }
    summariser.finish(s);
    b.blocks[t + 1] = static_cast<int64_t>(part.ends.size() - block);
    b.columns[t + 1] = static_cast<int64_t>(s.coordinates.size() - column);
    b.entries[t + 1] = static_cast<int64_t>(s.codes.size() - entry);
  }
}

// Terms in ranges of about as many postings; small ones, since threads take them as they come.
void split(Build& b, int64_t threads) {
  constexpr int64_t kEach = 8;
  const int64_t count = threads > 1 ? threads * kEach : 1;
  const int64_t vocabulary = b.documents.vocabulary, all = b.pruned.lists.back();
  int64_t first = 0;
  for (int64_t p = 1; p <= count; ++p) {
    const auto edge = std::lower_bound(b.pruned.lists.begin(), b.pruned.lists.end() - 1,
                                       all * p / count);
    const int64_t last =
        p == count ? vocabulary
                   : std::max<int64_t>(first, edge - b.pruned.lists.begin());
    b.parts.push_back({first, last, {}, {}});
    first = last;
  }
}

void run(Build& b, int64_t threads) {
  b.pruned = prune(b.documents, b.plan);
  b.heads = heads_of(b.documents, b.plan.cut);
  b.postings.resize(b.pruned.lists.back());
  for (auto* counts : {&b.blocks, &b.columns, &b.entries}) {
    counts->assign(b.documents.vocabulary + 1, 0);
  }
  split(b, threads);
  parallel(static_cast<int64_t>(b.parts.size()), build_part, &b);
  for (auto* counts : {&b.blocks, &b.columns, &b.entries}) {
    for (size_t t = 1; t < counts->size(); ++t) (*counts)[t] += (*counts)[t - 1];
  }
}

template <class T>
using Array = nb::ndarray<nb::numpy, T, nb::ndim<1>>;

// The vector as an array that owns it.
template <class T>
Array<T> handed_over(std::vector<T>&& data) {
  auto owned = std::make_unique<std::vector<T>>(std::move(data));
  const size_t size = owned->size();
  T* values = owned->data();
  nb::capsule owner(owned.release(),
                    [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
  return Array<T>(values, {size}, owner);
}

// One array of the parts of all threads, which are emptied.
template <class T, class From, class Pick>
std::vector<T> joined(std::vector<Part>& parts, Pick pick) {
  size_t size = 0;
  for (Part& part : parts) size += pick(part).size();
  std::vector<T> all;
  all.reserve(size);
  for (Part& part : parts) {
    std::vector<From>& of_part = pick(part);
    for (const From& value : of_part) all.push_back(static_cast<T>(value));
    std::vector<From>().swap(of_part);
  }
  return all;
}

nb::object coordinates_of(Build& b) {
  const auto pick = [](Part& p) -> std::vector<uint32_t>& { return p.summaries.coordinates; };
  if (b.documents.wide) return nb::cast(handed_over(joined<uint32_t, uint32_t>(b.parts, pick)));
  return nb::cast(handed_over(joined<uint16_t, uint32_t>(b.parts, pick)));
}

nb::object scales_of(Build& b) {
  std::vector<float> all;
  for (const Part& part : b.parts) {
    for (const Scale& scale : part.summaries.scales) {
      all.push_back(scale.least);
      all.push_back(scale.step);
    }
  }
  return nb::cast(handed_over(std::move(all)));
}

// rows: starts, terms, weights; sizes: kept, longest, smallest, cut, seed; shares: of blocks, of
// mass. Returns lists, postings, blocks, ends, scales, columns, coordinates, column ends, entries,
// members and codes.
nb::tuple build(int64_t count, int64_t vocabulary, const Addresses& rows, bool wide,
                const std::vector<int64_t>& sizes, const std::vector<double>& shares,
                int64_t order, bool up, int64_t threads) {
  Build b{{count, vocabulary, at<const int64_t>(rows.at(0)), at<const void>(rows.at(1)),
           at<const float>(rows.at(2)), wide},
          {sizes.at(0), sizes.at(1), shares.at(0), sizes.at(2), sizes.at(3),
           static_cast<float>(shares.at(1)), order, up, static_cast<uint64_t>(sizes.at(4))},
          {}, {}, {}, {}, {}, {}, {}};
  {
    const nb::gil_scoped_release release;
    run(b, threads);
  }
  using Words = std::vector<uint32_t>;
  nb::object scales = scales_of(b), coordinates = coordinates_of(b);
  auto ends = handed_over(
      joined<uint32_t, uint32_t>(b.parts, [](Part& p) -> Words& { return p.ends; }));
  auto column_ends = handed_over(joined<uint32_t, uint32_t>(
      b.parts, [](Part& p) -> Words& { return p.summaries.column_ends; }));
  auto members = handed_over(joined<uint16_t, uint16_t>(
      b.parts, [](Part& p) -> std::vector<uint16_t>& { return p.summaries.members; }));
  auto codes = handed_over(joined<uint8_t, uint8_t>(
      b.parts, [](Part& p) -> std::vector<uint8_t>& { return p.summaries.codes; }));
  return nb::make_tuple(handed_over(std::move(b.pruned.lists)), handed_over(std::move(b.postings)),
                        handed_over(std::move(b.blocks)), ends, scales,
                        handed_over(std::move(b.columns)), coordinates, column_ends,
                        handed_over(std::move(b.entries)), members, codes);
}

struct Batch {
  const Lists* lists;
  const uint64_t* allowed;
  Knobs knobs;
  const SearchKernels* kernels;
  const int64_t* starts;
  const int32_t* terms;
  const float* weights;
  int64_t* documents;
  float* scores;
  int64_t* costs;  // entries, scored, blocks; [count, 3]
  int64_t count;
};

thread_local Worker worker;

void answer(const Batch& b, int64_t q) {
  const seismic::Query query{b.starts[q + 1] - b.starts[q], b.terms + b.starts[q],
                             b.weights + b.starts[q]};
  worker.search(*b.lists, b.allowed, query, b.knobs, *b.kernels);
  const int64_t k = b.knobs.k, found = static_cast<int64_t>(worker.top.size());
  for (int64_t i = 0; i < k; ++i) {
    b.documents[q * k + i] = i < found ? worker.top[i].document : -1;
    b.scores[q * k + i] = i < found ? worker.top[i].score : 0.0f;
  }
  int64_t* cost = b.costs + 3 * q;
  std::fill_n(cost, 3, 0);
  for (const Visit& visit : worker.visits) {
    cost[0] += visit.entries;
    cost[1] += visit.scored;
    cost[2] += visit.blocks;
  }
}

struct SeismicLists {
  Lists lists;

  // addresses: lists, postings, blocks, ends, scales, columns, coordinates, column ends, entries,
  // members, codes, rows, terms, weights, neighbours
  SeismicLists(int64_t documents, int64_t vocabulary, const Addresses& p, bool wide, bool half,
               int64_t degree)
      : lists{{documents, vocabulary, nullptr, nullptr, at<const int64_t>(p.at(11)),
               at<const void>(p.at(12)), at<const void>(p.at(13)), nullptr, 0, wide, half},
              at<const int64_t>(p.at(0)), at<const uint32_t>(p.at(1)), at<const int64_t>(p.at(2)),
              at<const uint32_t>(p.at(3)), at<const Scale>(p.at(4)), at<const int64_t>(p.at(5)),
              at<const void>(p.at(6)), at<const uint32_t>(p.at(7)), at<const int64_t>(p.at(8)),
              at<const uint16_t>(p.at(9)), at<const uint8_t>(p.at(10)),
              at<const uint32_t>(p.at(14)), degree} {}
};

// queries: starts, terms, weights; results: documents, scores, costs (addresses); knobs: k, cut,
// first_sorted, neighbours. Returns what each list of the last query took.
std::vector<std::vector<int64_t>> search(const SeismicLists& of, int64_t count,
                                         const Addresses& queries,
                                         const std::vector<int64_t>& knobs, float heap_factor,
                                         uintptr_t allowed, const Addresses& results,
                                         int64_t threads) {
  const SearchKernels* kernels = &kSearchPlain;
#if GOSSAMER_X86
  if (current_isa() != Isa::plain) kernels = &kSearchAvx2;
#endif
  Batch b{&of.lists, at<const uint64_t>(allowed),
          {knobs.at(0), knobs.at(1), heap_factor, knobs.at(2) != 0, knobs.at(3)}, kernels,
          at<const int64_t>(queries.at(0)), at<const int32_t>(queries.at(1)),
          at<const float>(queries.at(2)), at<int64_t>(results.at(0)), at<float>(results.at(1)),
          at<int64_t>(results.at(2)), count};
  {
    const nb::gil_scoped_release release;
    together(
        std::max<int64_t>(1, std::min(threads, count)),
        [](void* context, int64_t thread, int64_t team) {
          const Batch& batch = *static_cast<const Batch*>(context);
          for (int64_t q = thread; q < batch.count; q += team) answer(batch, q);
        },
        &b);
  }
  std::vector<std::vector<int64_t>> visits;
  if (count != 1) return visits;
  for (const Visit& v : worker.visits) {
    visits.push_back({v.term, v.postings, v.blocks, v.opened, v.entries, v.scored});
  }
  return visits;
}

}  // namespace

void bind_seismic(nb::module_& m) {
  m.def("build_seismic", &build);
  nb::class_<SeismicLists>(m, "SeismicLists")
      .def(nb::init<int64_t, int64_t, const Addresses&, bool, bool, int64_t>())
      .def("search", &search);
}

}  // namespace gossamer
