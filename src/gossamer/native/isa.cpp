#include "isa.h"

#include <cstdlib>
#include <cstring>
#include <initializer_list>

namespace gossamer {

Isa widest_isa() {
#if GOSSAMER_X86
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("f16c") && __builtin_cpu_supports("bmi") &&
                    __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vbmi2") &&
                      __builtin_cpu_supports("avx512vnni");
  if (avx512) return Isa::avx512;
  if (avx2) return Isa::avx2;
#endif
  return Isa::plain;
}

bool has_avx512_bf16() {
#if GOSSAMER_X86
  return __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::avx512: return "avx512";
    case Isa::avx2: return "avx2";
    default: return "plain";
  }
}

static Isa first_isa() {
  const Isa widest = widest_isa();
  const char* forced = std::getenv("GOSSAMER_ISA");
  if (forced == nullptr) return widest;
  for (Isa isa : {Isa::plain, Isa::avx2, Isa::avx512}) {
    if (std::strcmp(forced, isa_name(isa)) == 0 && isa <= widest) return isa;
  }
  return widest;
}

static Isa& chosen() {
  static Isa isa = first_isa();
  return isa;
}

Isa current_isa() { return chosen(); }

void set_isa(Isa isa) { chosen() = isa; }

}  // namespace gossamer
