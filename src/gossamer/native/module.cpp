// The Python module gossamer.native._core: one bind_<op> function for each op file.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <vector>

#include "isa.h"

namespace nb = nanobind;
using gossamer::Isa;

namespace gossamer {
void bind_block(nb::module_& m);
void bind_conv(nb::module_& m);
void bind_decode(nb::module_& m);
void bind_depthwise(nb::module_& m);
void bind_documentwise(nb::module_& m);
void bind_grouped(nb::module_& m);
void bind_linear(nb::module_& m);
void bind_obs(nb::module_& m);
void bind_panel(nb::module_& m);
void bind_postings(nb::module_& m);
void bind_search(nb::module_& m);
void bind_seismic(nb::module_& m);
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

NB_MODULE(_core, m) {
  m.def("isa", [] { return std::string(gossamer::isa_name(gossamer::current_isa())); });
  m.def("isas", &available);
  m.def("set_isa", &set_isa, nb::arg("name"));
  gossamer::bind_block(m);
  gossamer::bind_conv(m);
  gossamer::bind_decode(m);
  gossamer::bind_depthwise(m);
  gossamer::bind_documentwise(m);
  gossamer::bind_grouped(m);
  gossamer::bind_linear(m);
  gossamer::bind_obs(m);
  gossamer::bind_panel(m);
  gossamer::bind_postings(m);
  gossamer::bind_search(m);
  gossamer::bind_seismic(m);
  m.def("has_avx512_bf16", &gossamer::has_avx512_bf16);
}
