// The Python class of a set of segments that are searched as one index.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
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

  // addresses: postings, heads, rows, terms, weights, alive
  void append(int64_t documents, int64_t vocabulary, const Addresses& p, bool wide, bool half,
              int64_t first) {
    list.push_back({documents, vocabulary, at<const uint32_t>(p.at(0)), at<const ListHead>(p.at(1)),
                    at<const int64_t>(p.at(2)), at<const void>(p.at(3)), at<const void>(p.at(4)),
                    at<const uint64_t>(p.at(5)), first, wide, half});
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
  int64_t* postings;
  int64_t* scored;
  int64_t count;
};

thread_local Worker worker;

void answer(const Batch& b, int64_t q) {
  const Query query{b.starts[q + 1] - b.starts[q], b.terms + b.starts[q], b.weights + b.starts[q]};
  const Cost cost = worker.search(b.segments->list, b.allowed, query, b.knobs, *b.kernels);
  const int64_t k = b.knobs.k, found = static_cast<int64_t>(worker.top.size());
  for (int64_t i = 0; i < k; ++i) {
    b.documents[q * k + i] = i < found ? worker.top[i].document : -1;
    b.scores[q * k + i] = i < found ? worker.top[i].score : 0.0f;
  }
  b.postings[q] = cost.postings;
  b.scored[q] = cost.scored;
}

template <class T>
using Array = nb::ndarray<nb::numpy, T>;
template <class T>
using Input = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

// Memory that the array owns from now on.
template <class T>
Array<T> handed_over(T* data, std::initializer_list<size_t> shape) {
  nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<T*>(p); });
  return Array<T>(data, shape, owner);
}

void answer_all(const Batch& b, int64_t threads) {
  if (std::min(threads, b.count) <= 1) {
    for (int64_t q = 0; q < b.count; ++q) answer(b, q);
    return;
  }
  together(
      std::min(threads, b.count),
      [](void* context, int64_t thread, int64_t team) {
        const Batch& batch = *static_cast<const Batch*>(context);
        for (int64_t q = thread; q < batch.count; q += team) answer(batch, q);
      },
      const_cast<Batch*>(&b));
}

// Documents, scores, and what each query cost: postings added up and documents scored.
nb::tuple search(const Segments& segments, const Input<int64_t>& starts,
                 const Input<int32_t>& terms, const Input<float>& weights, int64_t k,
                 int64_t budget, int64_t candidates, bool exact, const Addresses& allowed,
                 int64_t threads) {
  std::vector<const uint64_t*> bits;
  for (uintptr_t address : allowed) bits.push_back(at<const uint64_t>(address));
  const size_t count = starts.shape(0) - 1, each = static_cast<size_t>(k);
  if ((!bits.empty() && bits.size() != segments.list.size()) || starts.shape(0) == 0 ||
      starts(count) != static_cast<int64_t>(terms.shape(0)) || terms.shape(0) != weights.shape(0)) {
    throw std::invalid_argument("queries or allowed documents do not fit");
  }
  auto documents = handed_over(new int64_t[count * each], {count, each});
  auto scores = handed_over(new float[count * each], {count, each});
  auto postings = handed_over(new int64_t[count], {count});
  auto scored = handed_over(new int64_t[count], {count});
  const Batch b{&segments, &search_kernels(), {k, budget, candidates, exact}, starts.data(),
                terms.data(), weights.data(), bits.empty() ? nullptr : bits.data(),
                documents.data(), scores.data(), postings.data(), scored.data(),
                static_cast<int64_t>(count)};
  {
    const nb::gil_scoped_release release;
    answer_all(b, threads);
  }
  return nb::make_tuple(documents, scores, postings, scored);
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
