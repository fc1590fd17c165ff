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
  int64_t height, run, row;  // rows, floats of a run and of a row

  explicit Padded(const Window& v)
      : height(v.height + 2 * v.pad_down),
        run((v.width + 2 * v.pad_along + v.step_along - 1) / v.step_along),
        row(run * v.step_along) {}
};

void pad_map(const Window& v, const Padded& padded, const float* x, float* to) {
  const int64_t step = v.step_along;
  to += v.pad_down * padded.row;
  for (int64_t r = 0; r < v.height; ++r, x += v.width, to += padded.row) {
    for (int64_t phase = 0; phase < step; ++phase) {
      const int64_t first = (phase + step - v.pad_along % step) % step;
      float* run = to + phase * padded.run + (first + v.pad_along) / step;
      for (int64_t c = first; c < v.width; c += step) *run++ = x[c];
    }
  }
}

void run_map(const Depthwise& d, int64_t map) {
  static thread_local Scratch padded_memory, taps_memory, row_memory;
  const Window& v = d.window;
  const Padded padded(v);
  const int64_t count = v.down * v.along, lanes = d.kernels->lanes;
  const int64_t floats = padded.height * padded.row + lanes;
  float* data = padded_memory.get<float>(floats);
  std::fill_n(data, floats, 0.0f);
  pad_map(v, padded, d.x + map * v.height * v.width, data);
  const float** taps = taps_memory.get<const float*>(count);
  for (int64_t t = 0; t < count; ++t) {
    const int64_t r = t / v.along * v.gap_down, c = t % v.along * v.gap_along;
    taps[t] = data + r * padded.row + c % v.step_along * padded.run + c / v.step_along;
  }
  const int64_t channel = map % d.channels, down = v.step_down * padded.row;
  const int64_t whole = v.out_width / lanes * lanes;
  // The last pixels of a row are a whole vector as well, which overlaps the one before it.
  const int64_t last = std::max<int64_t>(v.out_width - lanes, 0);
  float* spare = row_memory.get<float>(lanes);
  const DepthwiseRow row{taps, d.weights + channel * count, count,
                         d.bias != nullptr ? d.bias[channel] : 0.0f, d.low, d.high};
  float* y = d.y + map * d.out_height * v.out_width;
  for (int64_t r = 0; r < d.out_height; ++r, y += v.out_width) {
    d.kernels->depthwise(row, 0, whole, y);
    if (whole < v.out_width) {
      float* out = v.out_width < lanes ? spare : y;
      d.kernels->depthwise(row, last, last + 1, out);
      if (out == spare) std::copy_n(spare, v.out_width, y);
    }
    for (int64_t t = 0; t < count; ++t) taps[t] += down;
  }
}

constexpr int64_t kBandBytes = 16 << 10;  // of padded rows, which are read from the nearest cache

// 3x3 windows with equal steps of one or two and without gaps, the common ones.
bool in_bands(const Window& v) {
  return v.down == 3 && v.along == 3 && v.gap_down == 1 && v.gap_along == 1 &&
         v.step_down == v.step_along && v.step_down <= 2;
}

// Padded rows of one band: borders stay zero from map to map, what lies between is overwritten.
struct Band {
  Padded padded;
  int64_t rows;            // of y, at most
  int64_t first, second;   // where pixels 0 and 1 of a row go
  float* data;

  Band(const Depthwise& d, Scratch& memory) : padded(d.window) {
    const int64_t step = d.window.step_down, pad = d.window.pad_along;
    first = pad % step * padded.run + pad / step;
    second = (pad + 1) % step * padded.run + (pad + 1) / step;
    const int64_t most = kBandBytes / (static_cast<int64_t>(sizeof(float)) * padded.row * step);
    rows = std::min(std::max<int64_t>(most / 4 * 4, 4), d.out_height);
    const int64_t floats = (step * (rows - 1) + 3) * padded.row + d.kernels->lanes;
    data = memory.get<float>(floats);
    std::fill_n(data, floats, 0.0f);
  }
};

// Padded rows from `top` on.
void fill_band(const Depthwise& d, const Band& band, const float* x, int64_t top, int64_t lines) {
  const Window& v = d.window;
  const int64_t row = band.padded.row;
  float* to = band.data;
  for (int64_t r = top - v.pad_down; lines > 0; ++r, --lines, to += row) {
    if (r < 0 || r >= v.height) {
      std::fill_n(to, row, 0.0f);
    } else {
      d.kernels->pad(x + r * v.width, v.width,
                     {{to + band.first, to + band.second}, static_cast<int>(v.step_along)});
    }
  }
}

void run_map_in_bands(const Depthwise& d, const Band& band, int64_t map) {
  const Window& v = d.window;
  const int64_t channel = map % d.channels, run = band.padded.run, step = v.step_down;
  const float* x = d.x + map * v.height * v.width;
  float *y = d.y + map * d.out_height * v.out_width, *end = y + d.out_height * v.out_width;
  for (int64_t first = 0; first < d.out_height; first += band.rows) {
    const int64_t rows = std::min(band.rows, d.out_height - first);
    fill_band(d, band, x, first * step, step * (rows - 1) + 3);
    const DepthwiseBand given{
        band.data, band.padded.row, {0, step == 1 ? 1 : run, step == 1 ? 2 : 1},
        d.weights + channel * 9, d.bias != nullptr ? d.bias[channel] : 0.0f, d.low, d.high,
        y + first * v.out_width, v.out_width, end};
    d.kernels->band[step - 1](given, rows);
  }
}

void run_maps(void* context, int64_t) {
  static thread_local Scratch band_memory;
  Depthwise& d = *static_cast<Depthwise*>(context);
  if (in_bands(d.window)) {
    const Band band(d, band_memory);
    for (int64_t map = d.next++; map < d.maps; map = d.next++) run_map_in_bands(d, band, map);
    return;
  }
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
