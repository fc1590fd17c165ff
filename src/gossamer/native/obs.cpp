// Python entry of the SparseGPT block step: rows are independent, so threads take ranges of them.
#include "obs.h"

#include <nanobind/nanobind.h>

#include <algorithm>
#include <cstdint>
#include <stdexcept>

#include "isa.h"
#include "obs_rows.h"
#include "parallel.h"

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

struct Job {
  const ObsBlock* block;
  std::int64_t rows;
  std::int64_t parts;
  Rows run;
};

void run_part(void* context, std::int64_t part) {
  const Job& job = *static_cast<const Job*>(context);
  job.run(*job.block, job.rows * part / job.parts, job.rows * (part + 1) / job.parts);
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
  Job job{&block, rows, std::max<std::int64_t>(1, std::min<std::int64_t>(threads, rows / 64)), run};
  parallel(job.parts, run_part, &job);
}

}  // namespace

void bind_obs(nb::module_& m) {
  m.def("obs_block", &obs_block);
}

}  // namespace gossamer
