#include "parallel.h"

#include <dlfcn.h>

#include <atomic>
#include <thread>
#include <vector>

namespace gossamer {

namespace {

struct Job {
  Part part;
  void* context;
  int64_t parts;
  std::atomic<int64_t> next{0};
};

void take_parts(void* data) {
  Job& job = *static_cast<Job*>(data);
  // A team may be smaller than asked for, so threads take parts instead of being given one each.
  for (int64_t i = job.next++; i < job.parts; i = job.next++) job.part(job.context, i);
}

using GompParallel = void (*)(void (*body)(void*), void* data, unsigned threads, unsigned flags);

}  // namespace

void parallel(int64_t parts, Part part, void* context) {
  if (parts <= 1) {
    if (parts == 1) part(context, 0);
    return;
  }
  // torch brings an OpenMP runtime into the process; a second pool would fight it for the cores.
  static const GompParallel gomp =
      reinterpret_cast<GompParallel>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
  Job job{part, context, parts};
  if (gomp != nullptr) {
    gomp(take_parts, &job, static_cast<unsigned>(parts), 0);
    return;
  }
  std::vector<std::thread> helpers;
  for (int64_t i = 1; i < parts; ++i) helpers.emplace_back(take_parts, &job);
  take_parts(&job);
  for (std::thread& helper : helpers) helper.join();
}

}  // namespace gossamer
