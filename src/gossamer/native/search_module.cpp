// The Python class of a set of segments that are searched as one index.
#include <nanobind/nanobind.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <limits>
#include <stdexcept>

#include "isa.h"
#include "parallel.h"
#include "search.h"
#include "search_rows.h"

namespace nb = nanobind;

namespace gossamer {

const SearchKernels kSearchPlain = {collect_plain<uint8_t>, collect_plain<uint16_t>,
                                    score_plain};

namespace {

template <class T>
T* at(uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

const SearchKernels& search_kernels() {
#if GOSSAMER_X86
  if (current_isa() != Isa::plain) return kSearchAvx2;
#endif
  return kSearchPlain;
}

using Addresses = std::vector<uintptr_t>;

struct Segments {
  std::vector<Segment> list;

  // addresses: postings, lists, scales, levels, rows, terms, weights, alive
  void append(int64_t documents, int64_t vocabulary, const Addresses& p, bool wide, bool half,
              int64_t first) {
    list.push_back({documents, vocabulary, at<const uint32_t>(p.at(0)), at<const int64_t>(p.at(1)),
                    at<const float>(p.at(2)), at<const uint32_t>(p.at(3)),
                    at<const int64_t>(p.at(4)), at<const void>(p.at(5)), at<const void>(p.at(6)),
                    at<const uint64_t>(p.at(7)), first, wide, half});
  }
};

struct Batch {
  const Segments* segments;
  const SearchKernels* kernels;
  Knobs knobs;
  const int64_t* starts;
  const int32_t* terms;
  const float* weights;
  const uint64_t* const* allowed;
  int64_t* documents;
  float* scores;
  int64_t* costs;
  int64_t count;
};

thread_local Worker worker;

void answer(void* context, int64_t part) {
  const Batch& b = *static_cast<const Batch*>(context);
  const int64_t q = part;
  const Query query{b.starts[q + 1] - b.starts[q], b.terms + b.starts[q], b.weights + b.starts[q]};
  const Cost cost = worker.search(b.segments->list, b.allowed, query, b.knobs, *b.kernels);
  const int64_t k = b.knobs.k, found = static_cast<int64_t>(worker.top.size());
  for (int64_t i = 0; i < k; ++i) {
    b.documents[q * k + i] = i < found ? worker.top[i].document : -1;
    b.scores[q * k + i] = i < found ? worker.top[i].score : 0.0f;
  }
  b.costs[2 * q] = cost.postings;
  b.costs[2 * q + 1] = cost.scored;
}

// queries: starts, terms, weights; results: documents, scores, costs (addresses)
void search(const Segments& segments, int64_t count, const Addresses& queries, int64_t k,
            int64_t budget, int64_t candidates, bool exact, const Addresses& allowed,
            const Addresses& results, int64_t threads) {
  std::vector<const uint64_t*> bits;
  for (uintptr_t address : allowed) bits.push_back(at<const uint64_t>(address));
  if (!bits.empty() && bits.size() != segments.list.size()) {
    throw std::invalid_argument("one set of allowed documents a segment");
  }
  Batch b{&segments, &search_kernels(), {k, budget, candidates, exact},
          at<const int64_t>(queries.at(0)), at<const int32_t>(queries.at(1)),
          at<const float>(queries.at(2)), bits.empty() ? nullptr : bits.data(),
          at<int64_t>(results.at(0)), at<float>(results.at(1)), at<int64_t>(results.at(2)), count};
  const nb::gil_scoped_release release;
  together(
      std::max<int64_t>(1, std::min(threads, count)),
      [](void* context, int64_t thread, int64_t team) {
        const Batch& batch = *static_cast<const Batch*>(context);
        for (int64_t q = thread; q < batch.count; q += team) answer(context, q);
      },
      &b);
}

}  // namespace

void bind_search(nb::module_& m) {
  nb::class_<Segments>(m, "Segments")
      .def(nb::init<>())
      .def("append", &Segments::append)
      .def("__len__", [](const Segments& s) { return s.list.size(); })
      .def("search", &search);
}

}  // namespace gossamer
