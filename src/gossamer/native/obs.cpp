// Python entry of the SparseGPT block step: rows are independent, so threads take ranges of them.
#include "obs.h"

#include <nanobind/nanobind.h>

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <thread>
#include <vector>

#include "isa.h"
#include "obs_rows.h"

namespace nb = nanobind;

namespace gossamer {

void obs_rows_plain(const ObsBlock& block, std::int64_t first, std::int64_t last) {
  prune_rows(block, first, last);
}

namespace {

using Rows = void (*)(const ObsBlock&, std::int64_t, std::int64_t);

Rows rows_for(Isa isa) {
#if GOSSAMER_X86
  if (isa == Isa::avx512) return obs_rows_avx512;
  if (isa == Isa::avx2) return obs_rows_avx2;
#endif
  (void)isa;
  return obs_rows_plain;
}

template <class T>
T* at(std::uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

void obs_block(std::uintptr_t weight, std::uintptr_t factor, std::uintptr_t inverse,
               std::uintptr_t kept, std::uintptr_t error, std::uintptr_t scale,
               std::uintptr_t zero, float levels, std::int64_t rows, std::int64_t width,
               std::int64_t n, std::int64_t m, int threads) {
  if (m > kMaxGroup) throw std::invalid_argument("groups of more than 64 columns");
  const ObsBlock block{at<float>(weight),      at<const float>(factor), at<const float>(inverse),
                       at<std::uint8_t>(kept), at<float>(error),        at<const float>(scale),
                       at<const float>(zero),  levels,                  width,
                       n,                      m};
  const Rows run = rows_for(current_isa());
  const nb::gil_scoped_release release;
  const std::int64_t workers = std::max<std::int64_t>(1, std::min<std::int64_t>(threads, rows / 64));
  std::vector<std::thread> pool;
  for (std::int64_t k = 1; k < workers; ++k) {
    pool.emplace_back(run, std::cref(block), rows * k / workers, rows * (k + 1) / workers);
  }
  run(block, 0, rows / workers);
  for (std::thread& worker : pool) worker.join();
}

}  // namespace

void bind_obs(nb::module_& m) {
  m.def("obs_block", &obs_block);
}

}  // namespace gossamer
