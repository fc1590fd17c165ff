// One token through a stack of pre-norm blocks: attention with rotary positions, then a gated MLP,
// all with packed weights. The threads walk the stack together and meet at barriers five times a
// block, so that nothing is dispatched between two products and memory is never left idle.
#include <nanobind/nanobind.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "driver.h"
#include "parallel.h"

namespace nb = nanobind;

namespace gossamer {

namespace {

constexpr int kSpins = 4000;  // checks before a waiting thread lets others have its core

const float* floats(uintptr_t address) { return reinterpret_cast<const float*>(address); }

float* writable(uintptr_t address) { return reinterpret_cast<float*>(address); }

// Matrices one under another that multiply the same input, with a bias of all their rows or null.
struct Product {
  std::vector<Matrix> stack;
  const float* bias;

  int64_t rows() const {
    int64_t total = 0;
    for (const Matrix& w : stack) total += w.rows;
    return total;
  }
};

struct Block {
  const float* attention_norm;
  Product qkv;  // queries, keys and values
  const float* query_norm;  // of each head, or null
  const float* key_norm;
  Product out;
  const float* mlp_norm;
  Product gate, up, down;
  float* keys;    // [key heads, length, head]
  float* values;  // [key heads, head, length]
};

// e^x within 2 units in the last place; written so that compilers turn a loop of it into vectors.
inline float exponential(float x) {
  x = std::min(std::max(x, -87.0f), 88.0f);
  const float n = x * 1.44269504f + 12582912.0f - 12582912.0f;  // nearest whole number
  const float f = x - n * 0.693359375f + n * 2.12194440e-4f;
  float sum = 1.3981999507e-3f + f * 1.9875691500e-4f;
  sum = 8.3334519073e-3f + f * sum;
  sum = 4.1665795894e-2f + f * sum;
  sum = 1.6666665459e-1f + f * sum;
  sum = 5.0000001201e-1f + f * sum;
  const float fraction = 1.0f + f + f * f * sum;
  const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
  float power;
  std::memcpy(&power, &bits, 4);
  return fraction * power;
}

enum class Activation { silu = 0, gelu_tanh = 1 };

void gated(Activation kind, const float* gate, const float* up, int64_t count, float* out) {
  if (kind == Activation::silu) {
    for (int64_t i = 0; i < count; ++i) {
      out[i] = gate[i] / (1.0f + exponential(-gate[i])) * up[i];
    }
    return;
  }
  for (int64_t i = 0; i < count; ++i) {  // tanh(z) = 1 - 2 / (1 + e^2z)
    const float x = gate[i], z = 0.7978845608f * (x + 0.044715f * x * x * x);
    out[i] = x * (1.0f - 1.0f / (1.0f + exponential(2.0f * z))) * up[i];
  }
}

void rms_norm(const float* x, const float* weight, int64_t count, float epsilon, float* out) {
  float sums[8] = {};
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    for (int j = 0; j < 8; ++j) sums[j] += x[i + j] * x[i + j];
  }
  float total = 0.0f;
  for (; i < count; ++i) total += x[i] * x[i];
  for (float sum : sums) total += sum;
  const float scale = 1.0f / std::sqrt(total / static_cast<float>(count) + epsilon);
  for (i = 0; i < count; ++i) out[i] = x[i] * scale * weight[i];
}

// Turns pairs (i, i + head / 2) by the angles of one position.
void rotate(float* x, const float* cosine, const float* sine, int64_t head) {
  const int64_t half = head / 2;
  for (int64_t i = 0; i < half; ++i) {
    const float a = x[i], b = x[half + i];
    x[i] = a * cosine[i] - b * sine[i];
    x[half + i] = b * cosine[i] + a * sine[i];
  }
}

void softmax(float* x, int64_t count) {
  const float greatest = *std::max_element(x, x + count);
  for (int64_t i = 0; i < count; ++i) x[i] = exponential(x[i] - greatest);
  float total = 0.0f;
  for (int64_t i = 0; i < count; ++i) total += x[i];
  const float scale = 1.0f / total;
  for (int64_t i = 0; i < count; ++i) x[i] *= scale;
}

// All threads of a team wait here for the last one.
class Barrier {
 public:
  void wait(int64_t team) {
    const int64_t round = round_.load(std::memory_order_acquire);
    if (waiting_.fetch_add(1, std::memory_order_acq_rel) + 1 == team) {
      waiting_.store(0, std::memory_order_relaxed);
      round_.store(round + 1, std::memory_order_release);
      return;
    }
    for (int spins = 0; round_.load(std::memory_order_acquire) == round; ++spins) {
      if (spins > kSpins) std::this_thread::yield();
    }
  }

 private:
  std::atomic<int64_t> waiting_{0}, round_{0};
};

// Zeros on a cache line of their own.
class Floats {
 public:
  explicit Floats(int64_t count) {
    const size_t bytes = static_cast<size_t>(count * 4 + 127) / 64 * 64;
    memory_.reset(static_cast<float*>(std::aligned_alloc(64, bytes)));
    if (memory_ == nullptr) throw std::bad_alloc();
    std::memset(memory_.get(), 0, bytes);
  }
  float* get() const { return memory_.get(); }

 private:
  struct Free {
    void operator()(float* p) const { std::free(p); }
  };
  std::unique_ptr<float, Free> memory_;
};

// What one thread needs for itself.
struct Mine {
  Floats normed, arranged, scratch, queries, scores;
};

struct Sizes {
  int64_t hidden, inner, heads, key_heads, head, length;
};

class Stack {
 public:
  Stack(const Sizes& sizes, float epsilon, float scale, Activation activation, const float* cosine,
        const float* sine, const float* last_norm, Product top)
      : sizes_(sizes), epsilon_(epsilon), scale_(scale), activation_(activation),
        cosine_(cosine), sine_(sine), last_norm_(last_norm), top_(std::move(top)),
        qkv_((sizes.heads + 2 * sizes.key_heads) * sizes.head), read_(sizes.heads * sizes.head),
        gate_(sizes.inner), up_(sizes.inner), inner_(sizes.inner), sums_(sizes.hidden) {}

  void add(Block block) { blocks_.push_back(std::move(block)); }

  // x [hidden] is overwritten; logits has the rows of the top product.
  void step(float* x, int64_t position, float* logits, int64_t threads) {
    while (static_cast<int64_t>(mine_.size()) < threads) mine_.push_back(make_mine());
    Token token{this, &kernels(), x, position, logits, {}};
    together(threads, &Stack::walk, &token);
  }

 private:
  struct Token {
    Stack* stack;
    const Kernels* kernels;
    float* x;
    int64_t position;
    float* logits;
    Barrier barrier;
  };

  static void walk(void* context, int64_t thread, int64_t team) {
    Token& token = *static_cast<Token*>(context);
    token.stack->walk(token, thread, team);
  }

  void walk(Token& token, int64_t thread, int64_t team) {
    Mine& mine = *mine_[thread];
    const int64_t hidden = sizes_.hidden;
    for (const Block& block : blocks_) {
      rms_norm(token.x, block.attention_norm, hidden, epsilon_, mine.normed.get());
      multiply(token, block.qkv, mine.normed.get(), qkv_.get(), mine, thread, team);
      token.barrier.wait(team);
      attend(token, block, mine, thread, team);
      token.barrier.wait(team);
      add_product(token, block.out, read_.get(), mine, thread, team);
      token.barrier.wait(team);
      rms_norm(token.x, block.mlp_norm, hidden, epsilon_, mine.normed.get());
      multiply_gated(token, block, mine, thread, team);
      token.barrier.wait(team);
      add_product(token, block.down, inner_.get(), mine, thread, team);
      token.barrier.wait(team);
    }
    rms_norm(token.x, last_norm_, hidden, epsilon_, mine.normed.get());
    multiply(token, top_, mine.normed.get(), token.logits, mine, thread, team);
  }

  // y = W x + b, the rows that are this thread's.
  void multiply(const Token& token, const Product& product, const float* x, float* y, Mine& mine,
                int64_t thread, int64_t team) {
    int64_t first = 0;
    const Matrix* before = nullptr;
    for (const Matrix& w : product.stack) {
      arrange_for(token, w, before, x, mine);
      before = &w;
      multiply_rows(token, w, split_row(w, thread, team), split_row(w, thread + 1, team),
                    product.bias == nullptr ? nullptr : product.bias + first, y + first, mine);
      first += w.rows;
    }
  }

  // x in the order that w's kernel wants, unless it is in it since the matrix before.
  void arrange_for(const Token& token, const Matrix& w, const Matrix* before, const float* x,
                   Mine& mine) {
    const Order order = token.kernels->order(w);
    if (before != nullptr && token.kernels->order(*before) == order) return;
    arrange({x, false}, 0, w.cols, order == Order::split ? token.kernels->lanes : 0,
            mine.arranged.get());
  }

  void multiply_rows(const Token& token, const Matrix& w, int64_t r0, int64_t r1,
                     const float* bias, float* y, Mine& mine) {
    const bool split = token.kernels->order(w) == Order::split;
    const float* x = mine.arranged.get();
    const Input input{split ? nullptr : x, split ? x : nullptr, {}};
    token.kernels->gemv(w, input, r0, r1, y, reinterpret_cast<char*>(mine.scratch.get()));
    for (int64_t r = r0; bias != nullptr && r < r1; ++r) y[r] += bias[r];
  }

  // x += W input + b; nobody reads x meanwhile.
  void add_product(const Token& token, const Product& product, const float* input, Mine& mine,
                   int64_t thread, int64_t team) {
    multiply(token, product, input, sums_.get(), mine, thread, team);
    const Matrix& w = product.stack.front();
    const int64_t r1 = split_row(w, thread + 1, team);
    for (int64_t r = split_row(w, thread, team); r < r1; ++r) token.x[r] += sums_.get()[r];
  }

  // The same rows of gate and up, so that their product needs no barrier.
  void multiply_gated(const Token& token, const Block& block, Mine& mine, int64_t thread,
                      int64_t team) {
    const Matrix& gate = block.gate.stack.front();
    const Matrix& up = block.up.stack.front();
    const int64_t r0 = split_row(gate, thread, team), r1 = split_row(gate, thread + 1, team);
    arrange_for(token, gate, nullptr, mine.normed.get(), mine);
    multiply_rows(token, gate, r0, r1, block.gate.bias, gate_.get(), mine);
    arrange_for(token, up, &gate, mine.normed.get(), mine);
    multiply_rows(token, up, r0, r1, block.up.bias, up_.get(), mine);
    gated(activation_, gate_.get() + r0, up_.get() + r0, r1 - r0, inner_.get() + r0);
  }

  // Each thread reads the keys and values of some key heads, for all queries that share them.
  void attend(const Token& token, const Block& block, Mine& mine, int64_t thread, int64_t team) {
    const int64_t first = sizes_.key_heads * thread / team;
    const int64_t last = sizes_.key_heads * (thread + 1) / team;
    for (int64_t h = first; h < last; ++h) attend_head(token, block, mine, h);
  }

  void attend_head(const Token& token, const Block& block, Mine& mine, int64_t h) {
    const auto [hidden, inner, heads, key_heads, head, length] = sizes_;
    const int64_t group = heads / key_heads, count = token.position + 1;
    const int64_t width = (count + 15) / 16 * 16;
    float* keys = block.keys + h * length * head;
    float* values = block.values + h * length * head;
    float* key = qkv_.get() + (heads + h) * head;
    const float* value = qkv_.get() + (heads + key_heads + h) * head;
    const float* cosine = cosine_ + token.position * head / 2;
    const float* sine = sine_ + token.position * head / 2;
    if (block.key_norm != nullptr) rms_norm(key, block.key_norm, head, epsilon_, key);
    rotate(key, cosine, sine, head);
    std::memcpy(keys + token.position * head, key, head * sizeof(float));
    for (int64_t i = 0; i < head; ++i) values[i * length + token.position] = value[i];
    for (int64_t g = 0; g < group; ++g) {
      float* query = mine.queries.get() + g * head;
      const float* raw = qkv_.get() + (h * group + g) * head;
      std::memcpy(query, raw, head * sizeof(float));
      if (block.query_norm != nullptr) rms_norm(raw, block.query_norm, head, epsilon_, query);
      rotate(query, cosine, sine, head);
      for (int64_t i = 0; i < head; ++i) query[i] *= scale_;
      std::memset(mine.scores.get() + g * length, 0, width * sizeof(float));
    }
    token.kernels->product(keys, head, count, mine.queries.get(), head, group, head,
                           mine.scores.get(), length);
    for (int64_t g = 0; g < group; ++g) softmax(mine.scores.get() + g * length, count);
    float* out = read_.get() + h * group * head;
    std::memset(out, 0, group * head * sizeof(float));
    token.kernels->product(values, length, head, mine.scores.get(), length, group, width, out,
                           head);
  }

  std::unique_ptr<Mine> make_mine() const {
    int64_t cols = 0, scratch = 0;
    const auto widen = [&](const Product& product) {
      for (const Matrix& w : product.stack) {
        cols = std::max(cols, padded(w.cols));
        scratch = std::max(scratch, kernels().scratch(w));
      }
    };
    widen(top_);
    for (const Block& b : blocks_) {
      for (const Product* product : {&b.qkv, &b.out, &b.gate, &b.up, &b.down}) widen(*product);
    }
    const int64_t group = sizes_.heads / sizes_.key_heads;
    return std::unique_ptr<Mine>(new Mine{
        Floats(sizes_.hidden), Floats(cols), Floats(scratch / 4 + 16),
        Floats(group * sizes_.head), Floats(group * sizes_.length)});
  }

  Sizes sizes_;
  float epsilon_, scale_;
  Activation activation_;
  const float *cosine_, *sine_;  // [length, head / 2]
  const float* last_norm_;
  Product top_;
  std::vector<Block> blocks_;
  Floats qkv_, read_, gate_, up_, inner_, sums_;  // shared by the threads
  std::vector<std::unique_ptr<Mine>> mine_;
};

// layout, shape, parts, bfloat16 values, 32-bit columns
using Arguments = std::tuple<int, Shape, Parts, bool, bool>;
// matrices one under another, and the address of their bias or 0
using ProductArguments = std::tuple<std::vector<Arguments>, uintptr_t>;

Product product(const ProductArguments& arguments) {
  Product made{{}, floats(std::get<1>(arguments))};
  for (const auto& [layout, shape, parts, half, wide] : std::get<0>(arguments)) {
    made.stack.push_back(matrix(layout, shape, parts, half, wide));
  }
  return made;
}

}  // namespace

void bind_decode(nb::module_& m) {
  using SizeArguments = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, int64_t>;
  nb::class_<Stack>(m, "Stack")
      .def("__init__",
           [](Stack* self, const SizeArguments& sizes, float epsilon, float scale, int activation,
              uintptr_t cosine, uintptr_t sine, uintptr_t last_norm,
              const ProductArguments& top) {
             const auto [hidden, inner, heads, key_heads, head, length] = sizes;
             new (self) Stack({hidden, inner, heads, key_heads, head, length}, epsilon, scale,
                              static_cast<Activation>(activation), floats(cosine), floats(sine),
                              floats(last_norm), product(top));
           })
      .def("add",
           [](Stack& self, const std::tuple<uintptr_t, uintptr_t, uintptr_t, uintptr_t>& norms,
              const std::vector<ProductArguments>& products, uintptr_t keys, uintptr_t values) {
             const auto [attention, query, key, mlp] = norms;
             self.add({floats(attention), product(products.at(0)), floats(query), floats(key),
                       product(products.at(1)), floats(mlp), product(products.at(2)),
                       product(products.at(3)), product(products.at(4)), writable(keys),
                       writable(values)});
           })
      .def("step", [](Stack& self, uintptr_t x, int64_t position, uintptr_t logits,
                      int64_t threads) {
        nb::gil_scoped_release unlocked;
        self.step(writable(x), position, writable(logits), threads);
      });
}

}  // namespace gossamer
