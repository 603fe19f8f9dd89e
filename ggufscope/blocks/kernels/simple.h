// One scale a block, found in one pass: what simple.py does.

#pragma once

#include "ordered.h"
#include "packing.h"

namespace {

// levels (32,) -> their lower four bits, and the fifth where the type has one.
template <class Block> INLINE void store_levels(const Byte *levels, Block *out) {
    pack_fields<4, 16>(levels, 16, out->qs);
    if constexpr (sizeof(Block) > sizeof(Q4_1)) {
        U bits = {};
        for (int i = 0; i < 32; i += W)
            bits |= (U)(to_int(load<Bytes>(levels + i)) >> 4 & 1) << (U)(lane_numbers() + i);
        bits = across(bits, [](U a, U b) { return a | b; });
        memcpy(out->qh, &bits, sizeof out->qh);
    }
}

// x (32,): the weight of the largest magnitude gets level 0, so d carries the opposite sign.
template <int bits, class Block> INLINE void quantize_centred(const float *x, Block *out) {
    constexpr int half = 1 << (bits - 1);
    float d = extreme_of_row<32>(x) / -half, inverse = reciprocal(d);
    Byte levels[32];
    for (int i = 0; i < 32; i += W) {  // C casts to int8 before it takes the minimum
        I level = truncate(load(x + i) * inverse + (half + 0.5f)) << 24 >> 24;
        store(levels + i, to_bytes(smaller(level, splat(2 * half - 1))));
    }
    out->d = to_half(d);
    store_levels(levels, out);
}

INLINE void quantize_q4_0(const float *x, Q4_0 *out) { quantize_centred<4>(x, out); }
INLINE void quantize_q5_0(const float *x, Q5_0 *out) { quantize_centred<5>(x, out); }

// x (32,): level 0 is the smallest weight.
template <int bits, class Block> INLINE void quantize_from_minimum(const float *x, Block *out) {
    constexpr int top = (1 << bits) - 1;
    float m = smallest_of_row<32>(x), d = (largest_of_row<32>(x) - m) / top;
    float inverse = reciprocal(d);
    Byte levels[32];
    for (int i = 0; i < 32; i += W) {  // only Q4_1 has an int8 and a minimum
        I level = truncate((load(x + i) - m) * inverse + 0.5f);
        store(levels + i, to_bytes(bits == 4 ? smaller(level << 24 >> 24, splat(top)) : level));
    }
    out->d = to_half(d);
    out->m = to_half(m);
    store_levels(levels, out);
}

INLINE void quantize_q4_1(const float *x, Q4_1 *out) { quantize_from_minimum<4>(x, out); }
INLINE void quantize_q5_1(const float *x, Q5_1 *out) { quantize_from_minimum<5>(x, out); }

INLINE void quantize_q8_0(const float *x, Q8_0 *out) {
    float d = peak_by_macro<32>(x) / 127, inverse = reciprocal(d);
    for (int i = 0; i < 32; i += W)
        store(out->qs + i, to_bytes(truncate(nudge_away(load(x + i) * inverse))));
    out->d = to_half(d);
}

// x (W, 128): the mean magnitude and the signs.
INLINE void quantize_q1_0(const float *x, Q1_0 *out) {
    F lanes[128], sum = {};
    turn<128>(x, lanes);
    for (int i = 0; i < 128; i++) sum += magnitude(lanes[i]);
    I d = to_half(sum / 128.f);
    for (int lane = 0; lane < W; lane++, x += 128) {
        Byte signs[128];
        for (int i = 0; i < 128; i++) signs[i] = x[i] >= 0;
        out[lane].d = (Half)d[lane];
        pack_fields<1, 1>(signs, 16, out[lane].qs);
    }
}

INLINE void quantize_q2_0(const float *x, Q2_0 *out) {
    float d = peak<64>(x), inverse = reciprocal(d);
    Byte levels[64];
    for (int i = 0; i < 64; i += W) {
        I level = truncate(nudge_away(load(x + i) * inverse)) + 1;
        store(levels + i, to_bytes(smaller(larger(level, splat(0)), splat(3))));
    }
    out->d = to_half(d);
    pack_fields<2, 1>(levels, 16, out->qs);
}

INLINE void dequantize_q1_0(const Q1_0 *block, float *out) {
    Byte minus[128];
    unpack_fields<1, 1>(block->qs, 16, minus);
    for (int i = 0; i < 128; i++) minus[i] ^= 1;
    for (int i = 0; i < 128; i += W) store(out + i, splat(from_half(block->d)));
    flip_signs<128>(minus, out);
}

INLINE void dequantize_q2_0(const Q2_0 *block, float *out) {
    SignedByte levels[64];
    unpack_fields<2, 1>(block->qs, 16, (Byte *)levels);
    for (int i = 0; i < 64; i++) levels[i] -= 1;
    scale<64>(levels, from_half(block->d), out);
}

// block -> levels (32,), less `zero`.
template <int zero, class Block> INLINE void unpack_levels(const Block *block, SignedByte *levels) {
    unpack_fields<4, 16>(block->qs, 16, (Byte *)levels);
    if constexpr (sizeof(Block) > sizeof(Q4_1)) {
        U bits;
        uint32_t high;
        memcpy(&high, block->qh, sizeof high);
        for (int i = 0; i < 32; i += W) {
            bits = ((high - U{}) >> (U)(lane_numbers() + i) & 1) << 4;
            store(levels + i, (SignedBytes)to_bytes((I)bits) | load<SignedBytes>(levels + i));
        }
    }
    for (int i = 0; zero && i < 32; i++) levels[i] -= zero;
}

template <int zero, class Block> INLINE void dequantize_centred(const Block *block, float *out) {
    SignedByte levels[32];
    unpack_levels<zero>(block, levels);
    scale<32>(levels, from_half(block->d), out);
}

INLINE void dequantize_q4_0(const Q4_0 *block, float *out) { dequantize_centred<8>(block, out); }
INLINE void dequantize_q5_0(const Q5_0 *block, float *out) { dequantize_centred<16>(block, out); }

template <class Block> INLINE void dequantize_from_minimum(const Block *block, float *out) {
    SignedByte levels[32];
    unpack_levels<0>(block, levels);
    shift<32, false>((Byte *)levels, from_half(block->d), from_half(block->m), out);
}

INLINE void dequantize_q4_1(const Q4_1 *block, float *out) { dequantize_from_minimum(block, out); }
INLINE void dequantize_q5_1(const Q5_1 *block, float *out) { dequantize_from_minimum(block, out); }

INLINE void dequantize_q8_0(const Q8_0 *block, float *out) {
    scale<32>(block->qs, from_half(block->d), out);
}

INLINE void dequantize_q8_1(const Q8_1 *block, float *out) {
    scale<32>(block->qs, from_half(block->d), out);
}

}  // namespace
