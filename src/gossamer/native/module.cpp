// The Python module gossamer.native._core: one bind_<op> function for each op file.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <string>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "isa.h"

namespace nb = nanobind;
using gossamer::Isa;

namespace gossamer {
void bind_decode(nb::module_& m);
void bind_linear(nb::module_& m);
void bind_obs(nb::module_& m);
}

static std::vector<std::string> available() {
  std::vector<std::string> names;
  for (Isa isa : {Isa::plain, Isa::avx2, Isa::avx512}) {
    if (isa <= gossamer::widest_isa()) names.emplace_back(gossamer::isa_name(isa));
  }
  return names;
}

static bool set_isa(const std::string& name) {
  for (Isa isa : {Isa::plain, Isa::avx2, Isa::avx512}) {
    if (name == gossamer::isa_name(isa) && isa <= gossamer::widest_isa()) {
      gossamer::set_isa(isa);
      return true;
    }
  }
  return false;
}

// Asks for the memory inside these bytes in pages of 2 MiB, moved there at once: a kernel that walks
// several rows side by side spends a good part of its time on page starts otherwise. A system that
// cannot do it is left as it is, which changes no result.
static void use_large_pages(uintptr_t address, uint64_t bytes) {
#if defined(__linux__)
  constexpr uintptr_t kPage = 2 << 20;
  constexpr int kCollapse = 25;  // MADV_COLLAPSE, Linux 6.1; older headers lack the name
  const uintptr_t begin = (address + kPage - 1) / kPage * kPage;
  const uintptr_t end = (address + bytes) / kPage * kPage;
  if (begin >= end) return;
  void* start = reinterpret_cast<void*>(begin);
  if (madvise(start, end - begin, MADV_HUGEPAGE) == 0) madvise(start, end - begin, kCollapse);
#else
  (void)address;
  (void)bytes;
#endif
}

NB_MODULE(_core, m) {
  m.def("isa", [] { return std::string(gossamer::isa_name(gossamer::current_isa())); });
  m.def("isas", &available);
  m.def("set_isa", &set_isa, nb::arg("name"));
  gossamer::bind_decode(m);
  gossamer::bind_linear(m);
  gossamer::bind_obs(m);
  m.def("has_avx512_bf16", &gossamer::has_avx512_bf16);
  m.def("use_large_pages", &use_large_pages);
}
