// Byte-shuffle tables of the AVX2 kernels, made by the compiler.
#pragma once

#include <cstdint>

namespace gossamer {

constexpr int64_t kControl = 32;               // bytes of one shuffle control
constexpr int64_t kTable = 256 * kControl;     // bytes of a table over all mask bytes

struct ControlTables {
  uint8_t bytes[2 * kTable];
};

// For every mask byte, two controls that put packed bfloat16 values into the upper halves of the
// eight 32-bit lanes where the mask is set, and zeros elsewhere. The first table takes the values
// from the front of a 16-byte load, the second from its end.
static constexpr ControlTables mask_controls() {
  ControlTables tables = {};
  for (int mask = 0; mask < 256; ++mask) {
    int count = 0;
    for (int lane = 0; lane < 8; ++lane) count += mask >> lane & 1;
    int front = 0, back = 8 - count;
    for (int lane = 0; lane < 8; ++lane) {
      uint8_t* a = tables.bytes + mask * kControl + 4 * lane;
      uint8_t* b = a + kTable;
      a[0] = a[1] = a[2] = a[3] = b[0] = b[1] = b[2] = b[3] = 0x80;
      if ((mask >> lane & 1) == 0) continue;
      a[2] = static_cast<uint8_t>(2 * front);
      a[3] = static_cast<uint8_t>(2 * front++ + 1);
      b[2] = static_cast<uint8_t>(2 * back);
      b[3] = static_cast<uint8_t>(2 * back++ + 1);
    }
  }
  return tables;
}

// 2:4, for every index byte (four places of two bits: eight columns, four values). The first table
// takes the values from the front of a 16-byte load, the second from its second half.
static constexpr ControlTables two_four_controls() {
  ControlTables tables = {};
  for (int i = 0; i < 2 * kTable; ++i) tables.bytes[i] = 0x80;
  for (int index = 0; index < 256; ++index) {
    for (int value = 0; value < 4; ++value) {
      const int lane = (index >> (2 * value) & 3) + (value < 2 ? 0 : 4);
      uint8_t* a = tables.bytes + index * kControl + 4 * lane;
      a[2] = static_cast<uint8_t>(2 * value);
      a[3] = static_cast<uint8_t>(2 * value + 1);
      a[kTable + 2] = static_cast<uint8_t>(2 * value + 8);
      a[kTable + 3] = static_cast<uint8_t>(2 * value + 9);
    }
  }
  return tables;
}

struct CodeTable {
  uint8_t bytes[kTable];
};

// For every mask byte, a control that puts packed bytes into the lowest bytes of the eight 32-bit
// lanes where the mask is set. In either half of the source, eight codes stand before a float that
// gives the other bytes, and all of them where the mask is not set.
static constexpr CodeTable code_controls() {
  CodeTable table = {};
  for (int mask = 0; mask < 256; ++mask) {
    int next = 0;
    for (int lane = 0; lane < 8; ++lane) {
      uint8_t* a = table.bytes + mask * kControl + 4 * lane;
      a[0] = static_cast<uint8_t>((mask >> lane & 1) != 0 ? next++ : 8);
      a[1] = 9;
      a[2] = 10;
      a[3] = 11;
    }
  }
  return table;
}

struct LaneTable {
  int32_t lanes[256 * 8];
};

// For every mask byte, which of eight packed floats goes to each lane; negative means zero.
static constexpr LaneTable mask_lanes() {
  LaneTable table = {};
  for (int mask = 0; mask < 256; ++mask) {
    int next = 0;
    for (int lane = 0; lane < 8; ++lane) {
      table.lanes[mask * 8 + lane] = (mask >> lane & 1) != 0 ? next++ : -8;
    }
  }
  return table;
}

// 2:4 in floats, for every index byte: which of four packed floats goes to each lane.
static constexpr LaneTable two_four_lanes() {
  LaneTable table = {};
  for (int index = 0; index < 256; ++index) {
    for (int lane = 0; lane < 8; ++lane) table.lanes[index * 8 + lane] = -8;
    for (int value = 0; value < 4; ++value) {
      const int lane = (index >> (2 * value) & 3) + (value < 2 ? 0 : 4);
      table.lanes[index * 8 + lane] = value;
    }
  }
  return table;
}

}  // namespace gossamer
