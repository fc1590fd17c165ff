// Blocks whose height 8 divides: x is read where it lies, weights are turned once for many inputs.
#include "block_driver.h"
#include "parallel.h"

namespace gossamer {

namespace {

constexpr int64_t kNear = 256 << 10;  // bytes of x that stay in the second-level cache
constexpr int64_t kAhead = 16 << 10;  // bytes of weights fetched before they are wanted
constexpr int64_t kFewest = 32;       // inputs that pay for the turning of the weights

struct Chunk {
  const StripProduct& product;
  int64_t first, inputs;
  const float* x;
};

struct Memory {
  Scratch weights, columns, start, sums;
};

// Blocks of one strip, rows r0 to r0 + lanes of each.
void lay_strip(const Blocks& w, int64_t first, int64_t blocks, int64_t r0, int64_t lanes,
               float* out) {
  const int64_t size = w.half ? 2 : 4, block = w.height * w.width;
  for (int64_t b = 0; b < blocks; ++b, out += w.width * lanes) {
    for (int64_t r = 0; r < lanes; r += 8) {
      const int64_t at = (first + b) * block + (r0 + r) * w.width;
      block_kernels().lay(static_cast<const char*>(w.values) + at * size, w.half, w.width, out + r,
                          lanes);
    }
  }
}

void round_strip(const Chunk& chunk, const float* sums, int64_t row, int64_t lanes) {
  const int64_t rows = chunk.product.w.rows;
  uint16_t* y = static_cast<uint16_t*>(chunk.product.y) + chunk.first * rows + row;
  for (int64_t i = 0; i < chunk.inputs; ++i) {
    for (int64_t r = 0; r < lanes; ++r) y[i * rows + r] = round_to_half(sums[i * lanes + r]);
  }
}

void multiply_strip(const Chunk& chunk, Strip strip, int64_t row, int64_t lanes, Memory& memory) {
  const StripProduct& p = chunk.product;
  float* start = memory.start.get<float>(lanes);
  for (int64_t r = 0; r < lanes; ++r) start[r] = p.bias.data != nullptr ? p.bias[row + r] : 0.0f;
  strip.start = start;
  if (p.y_half) {
    strip.y = memory.sums.get<float>(chunk.inputs * lanes);
    strip.step_of_y = lanes;
  } else {
    strip.y = static_cast<float*>(p.y) + chunk.first * p.w.rows + row;
    strip.step_of_y = p.w.rows;
  }
  block_kernels().strip[lanes / 8 - 1](strip);
  if (p.y_half) round_strip(chunk, strip.y, row, lanes);
}

// Weights that are wanted next: each row of blocks is too short for the CPU to foresee it.
void prefetch(const Blocks& w, int64_t unit) {
  if (unit >= w.units()) return;
  const int64_t block = w.height * w.width * (w.half ? 2 : 4);
  const char* values = static_cast<const char*>(w.values);
  const int64_t end = std::min(w.starts[unit + 1] * block, w.starts[unit] * block + kAhead);
  for (int64_t at = w.starts[unit] * block; at < end; at += kCacheLine) {
    __builtin_prefetch(values + at);
  }
}

void multiply_unit(void* context, int64_t unit) {
  static thread_local Memory memory;
  const Chunk& chunk = *static_cast<const Chunk*>(context);
  const Blocks& w = chunk.product.w;
  const int64_t first = w.starts[unit], blocks = w.starts[unit + 1] - first;
  int32_t* columns = memory.columns.get<int32_t>(blocks + 1);
  for (int64_t b = 0; b < blocks; ++b) {
    columns[b] = static_cast<int32_t>(column_of(w, first + b) * w.width);
  }
  float* weights = memory.weights.get<float>(16 * blocks * w.width + 1);
  const Strip strip{weights, columns, blocks, w.width, chunk.x, w.cols, chunk.inputs, nullptr,
                    nullptr, 0};
  prefetch(w, unit + 1);
  for (int64_t r = 0; r < w.height;) {
    const int64_t lanes = r + 16 <= w.height ? 16 : 8;
    lay_strip(w, first, blocks, r, lanes, weights);
    multiply_strip(chunk, strip, unit * w.height + r, lanes, memory);
    r += lanes;
  }
}

// The inputs of a chunk as floats: where they lie, or converted in the memory given.
const float* inputs_of(const StripProduct& p, int64_t first, int64_t inputs, Scratch& memory) {
  const int64_t from = first * p.w.cols, count = inputs * p.w.cols;
  if (!p.x.half) return static_cast<const float*>(p.x.data) + from;
  const uint16_t* given = static_cast<const uint16_t*>(p.x.data) + from;
  float* x = memory.get<float>(count + 1);
  for (int64_t i = 0; i < count; ++i) x[i] = as_float(given[i]);
  return x;
}

}  // namespace

void multiply_strips(const StripProduct& p, int64_t threads) {
  static thread_local Scratch memory;
  const int64_t near = kNear / 4 / std::max<int64_t>(1, p.w.cols);
  const int64_t most = std::max(kFewest, near);
  for (int64_t first = 0; first < p.batch; first += most) {
    const int64_t inputs = std::min(most, p.batch - first);
    Chunk chunk{p, first, inputs, inputs_of(p, first, inputs, memory)};
    for_each(p.w.units(), threads, &chunk, multiply_unit);
  }
}

}  // namespace gossamer
