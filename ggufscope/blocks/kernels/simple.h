// One scale a block, found in one pass: what simple.py does.

#pragma once

#include "fits.h"

namespace {

// levels (32,) -> their lower four bits, and the fifth where the type has one.
template <class Block> INLINE void store_levels(const Byte *levels, Block *out) {
    pack_fields<4, 16>(levels, 16, out->qs);
    if constexpr (sizeof(Block) > sizeof(Q4_1)) pack_bits<4>(levels, 4, out->qh);
}

// x (W, 32): the weight of the largest magnitude gets level 0, so d carries the opposite sign.
template <int bits, class Block> INLINE void quantize_centred(const float *x, Block *out) {
    constexpr int half = 1 << (bits - 1);
    F d = extreme_of_rows<32>(x) / (float)-half, inverse = reciprocal(d);
    I halves = to_half(d);
    for (int row = 0; row < W; row++, x += 32, out++) {
        Byte levels[32];
        write_levels<32>(levels, [&](int i) {  // C casts to int8 before it takes the minimum
            return truncate(load(x + i) * inverse[row] + (half + 0.5f));
        });
        cap_levels<32>(levels, 2 * half - 1);
        out->d = (Half)halves[row];
        store_levels(levels, out);
    }
}

// x, weights (LANES, 32): the same, but d is what fits best.
template <int bits, class Block>
INLINE void quantize_centred(const float *x, const float *weights, Block *out) {
    constexpr int half = 1 << (bits - 1);
    Lanes lanes[32], counts[32];
    turn<32>(x, lanes);
    turn<32>(weights, counts);
    SymmetricFit<Lanes> fit = search_symmetric<32, half>(lanes, counts);
    float d[LANES], iscale[LANES];
    store(d, fit.scale);
    store(iscale, fit.iscale);
    for (int block = 0; block < LANES; block++, x += 32, out++) {
        Byte levels[32];
        searched_levels<32, -half, half - 1>(x, iscale[block], 0, levels);
        out->d = to_half(d[block]);
        store_levels(levels, out);
    }
}

INLINE void quantize_q4_0(const float *x, Q4_0 *out) { quantize_centred<4>(x, out); }
INLINE void quantize_q5_0(const float *x, Q5_0 *out) { quantize_centred<5>(x, out); }

INLINE void quantize_q4_0(const float *x, const float *weights, Q4_0 *out) {
    quantize_centred<4>(x, weights, out);
}

INLINE void quantize_q5_0(const float *x, const float *weights, Q5_0 *out) {
    quantize_centred<5>(x, weights, out);
}

// x (W, 32): level 0 is the smallest weight.
template <int bits, class Block> INLINE void quantize_from_minimum(const float *x, Block *out) {
    constexpr int top = (1 << bits) - 1;
    F m = smallest_of_rows<32>(x), d = (largest_of_rows<32>(x) - m) / (float)top;
    F inverse = reciprocal(d);
    I halves = to_half(d), minimums = to_half(m);
    for (int row = 0; row < W; row++, x += 32, out++) {
        Byte levels[32];
        write_levels<32>(levels, [&](int i) {  // only Q4_1 has an int8 and a minimum
            return truncate((load(x + i) - m[row]) * inverse[row] + 0.5f);
        });
        if (bits == 4) cap_levels<32>(levels, top);
        out->d = (Half)halves[row];
        out->m = (Half)minimums[row];
        store_levels(levels, out);
    }
}

// x, weights (LANES, 32): the same, but d and m are what fits best.
template <int bits, class Block>
INLINE void quantize_from_minimum(const float *x, const float *weights, Block *out) {
    constexpr int top = (1 << bits) - 1;
    Lanes lanes[32], counts[32];
    turn<32>(x, lanes);
    turn<32>(weights, counts);
    Fit<Lanes> fit = search_affine<ByImportance<32, top>>(lanes, counts);
    float d[LANES], m[LANES], iscale[LANES], start[LANES];
    store(d, fit.scale);
    store(m, fit.minimum);
    store(iscale, fit.iscale);
    store(start, fit.start);
    for (int block = 0; block < LANES; block++, x += 32, out++) {
        Byte levels[32];
        searched_levels<32, 0, top>(x, iscale[block], start[block], levels);
        out->d = to_half(d[block]);
        out->m = to_half(m[block]);
        store_levels(levels, out);
    }
}

INLINE void quantize_q4_1(const float *x, Q4_1 *out) { quantize_from_minimum<4>(x, out); }
INLINE void quantize_q5_1(const float *x, Q5_1 *out) { quantize_from_minimum<5>(x, out); }

INLINE void quantize_q4_1(const float *x, const float *weights, Q4_1 *out) {
    quantize_from_minimum<4>(x, weights, out);
}

INLINE void quantize_q5_1(const float *x, const float *weights, Q5_1 *out) {
    quantize_from_minimum<5>(x, weights, out);
}

// x (W, 32).
INLINE void quantize_q8_0(const float *x, Q8_0 *out) {
    F d = peak_by_macro<32>(x) / 127.f, inverse = reciprocal(d);
    I halves = to_half(d);
    for (int row = 0; row < W; row++, x += 32, out++) {
        out->d = (Half)halves[row];
        write_levels<32>((Byte *)out->qs, [&](int i) {
            return truncate(nudge_away(load(x + i) * inverse[row]));
        });
    }
}

// x (W, 128): the mean magnitude and the signs.
INLINE void quantize_q1_0(const float *x, Q1_0 *out) {
    F lanes[128], sum = {};
    turn<128>(x, lanes);
    for (int i = 0; i < 128; i++) sum += magnitude(lanes[i]);
    I d = to_half(sum / 128.f);
    for (int row = 0; row < W; row++, x += 128, out++) {
        Byte signs[128];
        write_levels<128>(signs, [&](int i) { return (load(x + i) >= 0) & 1; });
        out->d = (Half)d[row];
        pack_bits<0>(signs, 16, out->qs);
    }
}

// x (W, 64).
INLINE void quantize_q2_0(const float *x, Q2_0 *out) {
    F d = peak_of_rows<64>(x), inverse = reciprocal(d);
    I halves = to_half(d);
    for (int row = 0; row < W; row++, x += 64, out++) {
        Byte levels[64];
        write_levels<64>(levels, [&](int i) {
            I level = truncate(nudge_away(load(x + i) * inverse[row])) + 1;
            return smaller(larger(level, splat(0)), splat(3));
        });
        out->d = (Half)halves[row];
        pack_fields<2, 1>(levels, 16, out->qs);
    }
}

INLINE void dequantize_q1_0(const Q1_0 *block, float *out) {
    Byte minus[128];
    unpack_bits<0>(block->qs, 16, minus);
    for (int i = 0; i < 128; i++) minus[i] ^= 1;
    float d = from_half(block->d);
    for (int i = 0; i < 128; i += W) store(out + i, splat(d));
    flip_signs<128>(minus, out);
}

INLINE void dequantize_q2_0(const Q2_0 *block, float *out) {
    Byte levels[64];
    unpack_fields<2, 1>(block->qs, 16, levels);
    scale<64, 1>(levels, from_half(block->d), out);
}

// block -> levels (32,).
template <class Block> INLINE void load_levels(const Block *block, Byte *levels) {
    unpack_fields<4, 16>(block->qs, 16, levels);
    if constexpr (sizeof(Block) > sizeof(Q4_1)) unpack_bits<4, true>(block->qh, 4, levels);
}

template <int zero, class Block> INLINE void dequantize_centred(const Block *block, float *out) {
    Byte levels[32];
    load_levels(block, levels);
    scale<32, zero>(levels, from_half(block->d), out);
}

INLINE void dequantize_q4_0(const Q4_0 *block, float *out) { dequantize_centred<8>(block, out); }
INLINE void dequantize_q5_0(const Q5_0 *block, float *out) { dequantize_centred<16>(block, out); }

template <class Block> INLINE void dequantize_from_minimum(const Block *block, float *out) {
    Byte levels[32];
    load_levels(block, levels);
    shift<32, false>(levels, from_half(block->d), from_half(block->m), out);
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
