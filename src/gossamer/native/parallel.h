// Work shared among the threads of the OpenMP pool that the process already has.
#pragma once

#include <cstdint>

namespace gossamer {

using Part = void (*)(void* context, int64_t part);

// Runs part(context, 0) to part(context, parts - 1), each once, on at most that many threads.
void parallel(int64_t parts, Part part, void* context);

using Body = void (*)(void* context, int64_t thread, int64_t team);

// Runs body once on every thread of a team of at most that many, all at the same time, so that
// they may wait for one another.
void together(int64_t threads, Body body, void* context);

}  // namespace gossamer
