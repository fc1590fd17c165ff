// Depthwise convolutions of images that keep one channel behind the other, with dense weights.
#include <nanobind/nanobind.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/pair.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <utility>

#include "driver.h"
#include "parallel.h"
#include "window.h"

namespace nb = nanobind;

namespace gossamer {

namespace {

struct Depthwise {
  const float* x;
  const float* weights;  // [channels, rows, columns of the kernel]
  const float* bias;     // null where there is none
  float* y;
  int64_t maps, channels, out_height;
  Window window;
  float low, high;
  const StripKernels* kernels;
  std::atomic<int64_t> next{0};
};

// A map with its padding, every row as `step_along` runs of each step_along-th pixel, so that
// neighbours in y read neighbours here.
struct Padded {
  float* data;
  int64_t run, row;  // floats of a run and of a row

  const float* at(int64_t r, int64_t c, int64_t step) const {
    return data + r * row + c % step * run + c / step;
  }
};

Padded pad_map(const Depthwise& d, const float* x, Scratch& memory) {
  const Window& v = d.window;
  const int64_t height = v.height + 2 * v.pad_down, width = v.width + 2 * v.pad_along;
  const int64_t step = v.step_along, slack = d.kernels->lanes;
  Padded padded{nullptr, (width + step - 1) / step, 0};
  padded.row = padded.run * step;
  padded.data = memory.get<float>(height * padded.row + slack);
  std::fill_n(padded.data, height * padded.row + slack, 0.0f);
  for (int64_t r = 0; r < v.height; ++r) {
    const float* from = x + r * v.width;
    float* to = padded.data + (r + v.pad_down) * padded.row;
    if (step == 1) {
      std::copy_n(from, v.width, to + v.pad_along);
      continue;
    }
    for (int64_t c = 0; c < v.width; ++c) {
      const int64_t place = c + v.pad_along;
      to[place % step * padded.run + place / step] = from[c];
    }
  }
  return padded;
}

void run_map(const Depthwise& d, int64_t map) {
  static thread_local Scratch padded_memory, taps_memory, row_memory;
  const Window& v = d.window;
  const int64_t count = v.down * v.along, lanes = d.kernels->lanes;
  const Padded padded = pad_map(d, d.x + map * v.height * v.width, padded_memory);
  const float** taps = taps_memory.get<const float*>(count);
  float* spare = row_memory.get<float>(v.out_width + lanes);
  const int64_t channel = map % d.channels, whole = v.out_width / lanes * lanes;
  const DepthwiseRow row{taps, d.weights + channel * count, count,
                         d.bias != nullptr ? d.bias[channel] : 0.0f, d.low, d.high};
  float* y = d.y + map * d.out_height * v.out_width;
  for (int64_t r = 0; r < d.out_height; ++r, y += v.out_width) {
    for (int64_t t = 0; t < count; ++t) {
      taps[t] = padded.at(r * v.step_down + t / v.along * v.gap_down, t % v.along * v.gap_along,
                          v.step_along);
    }
    d.kernels->depthwise(row, whole, y);
    if (whole == v.out_width) continue;
    for (int64_t t = 0; t < count; ++t) taps[t] += whole;
    d.kernels->depthwise(row, 1, spare);
    std::copy_n(spare, v.out_width - whole, y + whole);
  }
}

void run_maps(void* context, int64_t) {
  Depthwise& d = *static_cast<Depthwise*>(context);
  for (int64_t map = d.next++; map < d.maps; map = d.next++) run_map(d, map);
}

template <typename T>
T* pointer(uintptr_t address) { return reinterpret_cast<T*>(address); }

}  // namespace

void bind_depthwise(nb::module_& m) {
  // images and channels; window as of conv2d
  m.def("depthwise2d", [](uintptr_t x, uintptr_t weights, uintptr_t bias, uintptr_t y,
                          std::pair<int64_t, int64_t> maps, std::array<int64_t, 12> window,
                          std::pair<float, float> bounds, int64_t threads) {
    nb::gil_scoped_release unlocked;
    const auto [height, width, down, along, sd, sa, pd, pa, gd, ga, out_height, out_width] = window;
    Depthwise d{pointer<const float>(x), pointer<const float>(weights), pointer<const float>(bias),
                pointer<float>(y), maps.first * maps.second, maps.second, out_height,
                {height, width, down, along, sd, sa, pd, pa, gd, ga, out_width}, bounds.first,
                bounds.second, &current_strips()};
    parallel(std::min(threads, d.maps), run_maps, &d);
  });
}

}  // namespace gossamer
