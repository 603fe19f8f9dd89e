// MXFP4 and NVFP4: four-bit floats under a scale that is a tiny float. What microscale.py does.

#pragma once

#include "ordered.h"
#include "packing.h"

namespace {

constexpr SignedByte FP4_VALUES[] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
constexpr float FP4_MIDDLES[] = {0.5f, 1.5f, 2.5f, 3.5f, 5, 7, 10};

// Half of 2**(e - 127): exact, a denormal for e < 2.
INLINE float half_e8m0(Byte e) { return float_of(e < 2 ? 0x200000u << e : (e - 1u) << 23); }

// Half of the unsigned float with 4 bits of exponent (bias 7) and 3 of mantissa.
INLINE float half_ue4m3(Byte code) {
    uint32_t exponent = code >> 3 & 15, mantissa = code & 7;
    if (code == 0x7f) return 0;
    float raw = (float)(exponent ? mantissa | 8 : mantissa);
    return raw * float_of(((exponent ? exponent : 1) + 127 - (7 + 3 + 1)) << 23);
}

// Round to the code, half up; from 256 on all is 0x7e.
INLINE Byte to_ue4m3(float x) {
    if (!(x > 0)) return 0;
    x = x < 448 ? x : 448;
    int bits = (int)bits_of(x), exponent = (bits >> 23) - 127 + 7;
    if (exponent <= 0) {
        int tiny = (int)(x * 512 + 0.5f);
        return (Byte)(tiny < 7 ? tiny : 7);
    }
    int normal = (exponent << 3 | (bits >> 20 & 7)) + (bits >> 19 & 1);
    return (Byte)(normal < 15 << 3 ? normal : 0x7e);
}

// The exponent that puts the top magnitude between 4 and 8: ggml's floorf(log2f(top)) - 2, whose
// logarithm rounds up to the integer for the last floats below a power of two.
INLINE Byte e8m0_for(float top) {
    if (!(top > 0)) return 0;
    uint32_t bits = bits_of(top);
    bool plain = bits >= 0x800000 && bits < 0x7f800000 && (bits & 0x7fffff) < 0x7fff00;
    if (plain) return (Byte)((bits >> 23) - 2);
    float logarithm = floorf((float)log2((double)top));
    return (Byte)truncate(splat(logarithm - 2 + 127))[0];
}

// x (k,), d, top magnitude -> codes (k,): the nearest, the first of equals, by the middles.
template <int k> INLINE void nearest_codes(const float *x, float d, float top, Byte *codes) {
    float limit = 2 * 12 * d;
    if (top <= limit && d > 0 && limit <= LARGEST) {
        return write_levels<k>(codes, [&](int i) {
            I code = {}, negative = as_bits(load(x + i)) < 0;
            for (float middle : FP4_MIDDLES) code -= magnitude(load(x + i)) > middle * d;
            return code | (negative & (code > 0) & 8);
        });
    }
    for (int i = 0; i < k; i++) {  // far beyond the largest value: measured as ggml does
        float best = fabsf(0 - x[i]);
        codes[i] = 0;
        for (int code = 1; code < 16; code++) {
            float error = fabsf(FP4_VALUES[code] * d - x[i]);
            if (error < best) {
                codes[i] = (Byte)code;
                best = error;
            }
        }
    }
}

// x (W, 32).
INLINE void quantize_mxfp4(const float *x, MXFP4 *out) {
    F top = peak_of_rows<32>(x);
    for (int row = 0; row < W; row++, x += 32, out++) {
        Byte codes[32];
        out->e = e8m0_for(top[row]);
        nearest_codes<32>(x, half_e8m0(out->e), top[row], codes);
        pack_fields<4, 16>(codes, 16, out->qs);
    }
}

INLINE void dequantize_mxfp4(const MXFP4 *block, float *out) {
    SignedByte values[32];
    unpack_fields<4, 16>(block->qs, 16, (Byte *)values);
    look_up<32>(FP4_VALUES, values);
    scale<32>(values, half_e8m0(block->e), out);
}

// x (W, 16), four rows a block.
INLINE void quantize_nvfp4(const float *x, NVFP4 *out) {
    F top = peak_of_rows<16>(x), scale = top / 6.f;
    for (int row = 0; row < W; row++, x += 16) {
        Byte codes[16], &d = out[row / 4].d[row % 4];
        d = to_ue4m3(scale[row]);
        nearest_codes<16>(x, half_ue4m3(d), top[row], codes);
        pack_fields<4, 8>(codes, 8, out[row / 4].qs + row % 4 * 8);
    }
}

INLINE void dequantize_nvfp4(const NVFP4 *block, float *out) {
    SignedByte values[64];
    unpack_fields<4, 8>(block->qs, 32, (Byte *)values);
    look_up<64>(FP4_VALUES, values);
    for (int j = 0; j < 4; j++) scale<16>(values + j * 16, half_ue4m3(block->d[j]), out + j * 16);
}

}  // namespace
