// IQ1, IQ2 and IQ3: vectors out of a grid. What iq1.py, iq2.py and iq3.py do.
//
// The grid (entries, k) comes from Python: grids.py has it. No index reaches beyond its entries.

#pragma once

#include "ordered.h"
#include "packing.h"

namespace {

// vector (k,) -> out (k,): d * vector, with the sign changed where a bit of `signs` is set.
template <int k> INLINE void fill(const SignedByte *vector, Byte signs, float d, float *out) {
    for (int i = 0; i < k; i++) {
        float weight = d * (float)vector[i];
        uint32_t bits = bits_of(weight) ^ (uint32_t)(signs >> i & 1) << 31;
        out[i] = float_of(bits);
    }
}

// 7 stored sign bits -> 8: the last one makes the number of minus signs even.
INLINE Byte even_signs(uint32_t stored) {
    stored &= 127;
    return (Byte)(stored | (uint32_t)__builtin_parity(stored) << 7);
}

template <class Word> INLINE Word word(const void *at) {
    Word found;
    memcpy(&found, at, sizeof found);
    return found;
}

INLINE void dequantize_iq2_xxs(const IQ2_XXS *block, float *out, const SignedByte *grid) {
    for (int j = 0; j < 8; j++) {
        const Byte *index = (const Byte *)block->qs + j * 8;
        uint32_t packed = word<uint32_t>(index + 4);
        float d = from_half(block->d) * (0.5f + (float)(packed >> 28)) * 0.25f;
        for (int i = 0; i < 4; i++, out += 8)
            fill<8>(grid + index[i] * 8, even_signs(packed >> 7 * i), d, out);
    }
}

INLINE void dequantize_iq2_xs(const IQ2_XS *block, float *out, const SignedByte *grid) {
    for (int j = 0; j < 32; j++, out += 8) {
        int qs = block->qs[j], scale = block->scales[j / 4] >> j % 4 / 2 * 4 & 15;
        float d = from_half(block->d) * (0.5f + (float)scale) * 0.25f;
        fill<8>(grid + (qs & 511) * 8, even_signs((uint32_t)qs >> 9), d, out);
    }
}

INLINE void dequantize_iq2_s(const IQ2_S *block, float *out, const SignedByte *grid) {
    for (int j = 0; j < 32; j++, out += 8) {
        int index = block->qs[j] | (block->qh[j / 4] >> j % 4 * 2 & 3) << 8;
        int scale = block->scales[j / 4] >> j % 4 / 2 * 4 & 15;
        float d = from_half(block->d) * (0.5f + (float)scale) * 0.25f;
        fill<8>(grid + index * 8, block->qs[32 + j], d, out);
    }
}

INLINE void dequantize_iq3_xxs(const IQ3_XXS *block, float *out, const SignedByte *grid) {
    for (int j = 0; j < 8; j++) {
        uint32_t packed = word<uint32_t>(block->qs + SUPER / 4 + j * 4);
        float d = from_half(block->d) * (0.5f + (float)(packed >> 28)) * 0.5f;
        for (int i = 0; i < 8; i++, out += 4) {
            Byte signs = even_signs(packed >> i / 2 * 7) >> i % 2 * 4;
            fill<4>(grid + block->qs[j * 8 + i] * 4, signs, d, out);
        }
    }
}

INLINE void dequantize_iq3_s(const IQ3_S *block, float *out, const SignedByte *grid) {
    for (int j = 0; j < 64; j++, out += 4) {
        int index = block->qs[j] | (block->qh[j / 8] >> j % 8 & 1) << 8;
        int scale = block->scales[j / 16] >> j / 8 % 2 * 4 & 15;
        float d = from_half(block->d) * (float)(1 + 2 * scale);
        fill<4>(grid + index * 4, block->signs[j / 2] >> j % 2 * 4, d, out);
    }
}

// vector (8,) -> out (8,): d * (vector +- delta).
INLINE void fill_moved(const SignedByte *vector, bool minus, float d, float *out) {
    for (int i = 0; i < 8; i++) out[i] = ((float)vector[i] + (minus ? -0.125f : 0.125f)) * d;
}

INLINE void dequantize_iq1_s(const IQ1_S *block, float *out, const SignedByte *grid) {
    for (int j = 0; j < 32; j++, out += 8) {
        int qh = block->qh[j / 4];
        float d = from_half(block->d) * (float)(2 * (qh >> 12 & 7) + 1);
        int index = block->qs[j] | (qh >> j % 4 * 3 & 7) << 8;
        fill_moved(grid + index * 8, qh >> 15, d, out);
    }
}

INLINE void dequantize_iq1_m(const IQ1_M *block, float *out, const SignedByte *grid) {
    uint16_t words[4], d = 0;
    memcpy(words, block->scales, sizeof words);
    for (int j = 0; j < 4; j++) d |= words[j] >> 12 << 4 * j;
    for (int j = 0; j < 32; j++, out += 8) {
        int qh = block->qh[j / 2] >> j % 2 * 4, scale = words[j / 8] >> j % 8 / 2 * 3 & 7;
        float scaled = from_half(d) * (float)(2 * scale + 1);
        fill_moved(grid + (block->qs[j] | (qh & 7) << 8) * 8, qh >> 3 & 1, scaled, out);
    }
}

}  // namespace
