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
using OmpCount = int (*)();

template <typename Function>
Function openmp(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, name));
}

struct Team {
  Body body;
  void* context;
  OmpCount thread, size;
};

void join_team(void* data) {
  const Team& team = *static_cast<Team*>(data);
  team.body(team.context, team.thread(), team.size());
}

}  // namespace

void parallel(int64_t parts, Part part, void* context) {
  if (parts <= 1) {
    if (parts == 1) part(context, 0);
    return;
  }
  // torch brings an OpenMP runtime into the process; a second pool would fight it for the cores.
  static const GompParallel gomp = openmp<GompParallel>("GOMP_parallel");
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

void together(int64_t threads, Body body, void* context) {
  if (threads <= 1) {
    body(context, 0, 1);
    return;
  }
  static const GompParallel gomp = openmp<GompParallel>("GOMP_parallel");
  Team team{body, context, openmp<OmpCount>("omp_get_thread_num"),
            openmp<OmpCount>("omp_get_num_threads")};
  if (gomp != nullptr && team.thread != nullptr && team.size != nullptr) {
    gomp(join_team, &team, static_cast<unsigned>(threads), 0);
    return;
  }
  std::vector<std::thread> helpers;
  for (int64_t i = 1; i < threads; ++i) helpers.emplace_back(body, context, i, threads);
  body(context, 0, threads);
  for (std::thread& helper : helpers) helper.join();
}

}  // namespace gossamer
