// Lists in order of document, built from rows, and the Python class that searches them.
#include <nanobind/nanobind.h>
#include <nanobind/stl/vector.h>

#include <functional>
#include <stdexcept>

#include "documentwise.h"
#include "parallel.h"

namespace nb = nanobind;

namespace gossamer {

namespace {

using namespace documentwise;
using Addresses = std::vector<uintptr_t>;

template <class T>
T* at(uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

struct Output {
  uint32_t* ids;
  float* weights;
  uint32_t* ends;
  float* maxima;
  float* most;
  float* tops;
};

template <class Term>
void scatter(int64_t documents, int64_t vocabulary, const int64_t* rows, const Term* terms,
             const float* weights, const int64_t* lists, const Output& out) {
  std::vector<int64_t> next(lists, lists + vocabulary);
  for (int64_t d = 0; d < documents; ++d) {
    for (int64_t i = rows[d]; i < rows[d + 1]; ++i) {
      if (static_cast<int64_t>(terms[i]) >= vocabulary) {
        throw std::out_of_range("a term lies outside the vocabulary");
      }
      const int64_t place = next[terms[i]]++;
      out.ids[place] = static_cast<uint32_t>(d);
      out.weights[place] = weights[i];
    }
  }
}

void bound_list(int64_t first, int64_t last, int64_t block, float* tops, float* most,
                const Output& out, std::vector<float>& spare) {
  for (int64_t i = first; i < last; i += kBlock, ++block) {
    const int64_t end = std::min(i + kBlock, last);
    out.ends[block] = out.ids[end - 1];
    out.maxima[block] = *std::max_element(out.weights + i, out.weights + end);
    *most = std::max(*most, out.maxima[block]);
  }
  spare.assign(out.weights + first, out.weights + last);
  for (int rank = kTops - 1; rank >= 0; --rank) {
    const int64_t count = kTopRanks[rank];
    if (last - first < count) continue;
    std::nth_element(spare.begin(), spare.begin() + count - 1, spare.end(), std::greater<float>());
    tops[rank] = spare[count - 1];
    spare.resize(count);
  }
}

// rows: starts, terms, weights; results: lists, ids, weights, blocks, ends, maxima, most, tops.
// Lists and blocks are filled already, most and tops are zero.
void build(int64_t documents, int64_t vocabulary, const Addresses& rows, bool wide,
           const Addresses& results) {
  const int64_t* lists = at<const int64_t>(results.at(0));
  const int64_t* blocks = at<const int64_t>(results.at(3));
  const Output out{at<uint32_t>(results.at(1)), at<float>(results.at(2)),
                   at<uint32_t>(results.at(4)), at<float>(results.at(5)),
                   at<float>(results.at(6)),    at<float>(results.at(7))};
  const int64_t* starts = at<const int64_t>(rows.at(0));
  const float* weights = at<const float>(rows.at(2));
  const nb::gil_scoped_release release;
  const uintptr_t terms = rows.at(1);
  if (wide) {
    scatter(documents, vocabulary, starts, at<const uint32_t>(terms), weights, lists, out);
  } else {
    scatter(documents, vocabulary, starts, at<const uint16_t>(terms), weights, lists, out);
  }
  std::vector<float> spare;
  for (int64_t t = 0; t < vocabulary; ++t) {
    bound_list(lists[t], lists[t + 1], blocks[t], out.tops + t * kTops, out.most + t, out, spare);
  }
}

struct DocumentLists {
  std::vector<Lists> segments;

  // addresses: lists, ids, weights, blocks, ends, maxima, most, tops, alive
  void append(int64_t documents, int64_t vocabulary, const Addresses& p, int64_t first) {
    segments.push_back({documents, vocabulary, at<const int64_t>(p.at(0)),
                        at<const uint32_t>(p.at(1)), at<const float>(p.at(2)),
                        at<const int64_t>(p.at(3)), at<const uint32_t>(p.at(4)),
                        at<const float>(p.at(5)), at<const float>(p.at(6)),
                        at<const float>(p.at(7)), at<const uint64_t>(p.at(8)), first});
  }
};

struct Batch {
  const std::vector<Lists>* segments;
  const uint64_t* const* allowed;
  int64_t k;
  Engine engine;
  const int64_t* starts;
  const int32_t* terms;
  const float* weights;
  int64_t* documents;
  float* scores;
  int64_t* costs;
  int64_t count;
};

thread_local Worker worker;

void answer(const Batch& b, int64_t q) {
  const Query query{b.starts[q + 1] - b.starts[q], b.terms + b.starts[q], b.weights + b.starts[q]};
  const Cost cost = worker.search(*b.segments, b.allowed, query, b.k, b.engine);
  const int64_t found = static_cast<int64_t>(worker.top.size());
  for (int64_t i = 0; i < b.k; ++i) {
    b.documents[q * b.k + i] = i < found ? worker.top[i].document : -1;
    b.scores[q * b.k + i] = i < found ? static_cast<float>(worker.top[i].score) : 0.0f;
  }
  b.costs[3 * q] = cost.postings;
  b.costs[3 * q + 1] = cost.scored;
  b.costs[3 * q + 2] = cost.blocks;
}

// queries: starts, terms, weights; results: documents, scores, costs (addresses)
void search(const DocumentLists& lists, int64_t count, const Addresses& queries, int64_t k,
            int64_t engine, const Addresses& allowed, const Addresses& results, int64_t threads) {
  std::vector<const uint64_t*> bits;
  for (uintptr_t address : allowed) bits.push_back(at<const uint64_t>(address));
  if (!bits.empty() && bits.size() != lists.segments.size()) {
    throw std::invalid_argument("one set of allowed documents a segment");
  }
  Batch b{&lists.segments, bits.empty() ? nullptr : bits.data(), k, static_cast<Engine>(engine),
          at<const int64_t>(queries.at(0)), at<const int32_t>(queries.at(1)),
          at<const float>(queries.at(2)), at<int64_t>(results.at(0)), at<float>(results.at(1)),
          at<int64_t>(results.at(2)), count};
  const nb::gil_scoped_release release;
  together(
      std::max<int64_t>(1, std::min(threads, count)),
      [](void* context, int64_t thread, int64_t team) {
        const Batch& batch = *static_cast<const Batch*>(context);
        for (int64_t q = thread; q < batch.count; q += team) answer(batch, q);
      },
      &b);
}

}  // namespace

void bind_documentwise(nb::module_& m) {
  m.def("build_document_lists", &build);
  nb::class_<DocumentLists>(m, "DocumentLists")
      .def(nb::init<>())
      .def("append", &DocumentLists::append)
      .def("search", &search);
}

}  // namespace gossamer
