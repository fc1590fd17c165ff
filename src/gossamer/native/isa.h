// Which instruction set the kernels of this process use.
#pragma once

namespace gossamer {

enum class Isa { plain = 0, avx2 = 1, avx512 = 2 };

// The widest set that this CPU (and operating system) runs.
Isa widest_isa();
// The set in force: the widest, or a narrower one forced by GOSSAMER_ISA or set_isa.
Isa current_isa();
void set_isa(Isa isa);
// True where the AVX-512 BF16 dot product is there too.
bool has_avx512_bf16();

const char* isa_name(Isa isa);

}  // namespace gossamer
