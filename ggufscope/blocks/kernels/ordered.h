// Float32 arithmetic in C's order: what ordered.py does, and why.

#pragma once

#include "lanes.h"

namespace {

constexpr float MAGIC = 12582912.f;  // 1.5 * 2**23: adding it rounds to nearest, even
constexpr float LARGEST = 3.40282346638528859812e38f;

INLINE float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

INLINE uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

// x (k, lanes) -> (lanes,): C's `if (v < min) min = v`.
template <int k, class V> INLINE V smallest(const V *x) {
    V found = x[0];
    for (int i = 1; i < k; i++) found = smaller(x[i], found);
    return found;
}

template <int k, class V> INLINE V largest(const V *x) {
    V found = x[0];
    for (int i = 1; i < k; i++) found = larger(x[i], found);
    return found;
}

// x (k, lanes) -> (lanes,): the first weight of the largest magnitude, with its sign.
template <int k, class V> INLINE V extreme(const V *x) {
    V high = {}, low = {}, found = {}, top = {};
    for (int i = 0; i < k; i++) {
        high = larger(x[i], high);
        low = smaller(x[i], low);
    }
    if (!any((high == -low) & (high != found))) return choose(high > -low, high, low) + found;
    for (int i = 0; i < k; i++) {
        auto more = magnitude(x[i]) > top;
        top = choose(more, magnitude(x[i]), top);
        found = choose(more, x[i], found);
    }
    return found;
}

// x (k,) -> the same of numbers in a row.
INLINE float extreme(const float *x, int k) {
    float found = 0;
    for (int i = 0; i < k; i++)
        if (fabsf(x[i]) > fabsf(found)) found = x[i];
    return found;
}

// x (W, k) -> (W,): as `extreme`, row by row.
template <int k> INLINE F extreme_of_rows(const float *x) {
    F high = fold_rows<k>(x, F{}, [](F top, F v) { return larger(v, top); });
    F low = fold_rows<k>(x, F{}, [](F top, F v) { return smaller(v, top); });
    F found = (high > -low ? high : low) + F{};  // of zeros, clang may take the negative one
    I tied = (high == -low) & (high != 0);
    for (int row = 0; row < W && any(tied); row++) found[row] = extreme(x + row * k, k);
    return found;
}

// x (W, k) -> (W,): `if (amax < fabsf(v)) amax = fabsf(v)`, from 0.
template <int k> INLINE F peak_of_rows(const float *x) {
    return fold_rows<k>(x, F{}, [](F top, F v) { return larger(magnitude(v), top); });
}

// x (W, k) -> (W,): `amax = MAX(amax, fabsf(v))`, whose macro takes a NaN, and loses it again.
template <int k> INLINE F peak_by_macro(const float *x) {
    F top = peak_of_rows<k>(x);
    I lost = {};
    for (int i = 0; i < W * k; i += W) lost |= load(x + i) != load(x + i);
    for (int row = 0; row < W && any(lost); row++) {
        top[row] = 0;
        for (int i = 0; i < k; i++)
            top[row] = top[row] > fabsf(x[row * k + i]) ? top[row] : fabsf(x[row * k + i]);
    }
    return top;
}

// x (W, k), found (W,) -> found, with the sign of the row's first zero where it is a zero.
template <int k> INLINE F first_zero(const float *x, F found) {
    if (!any(found == 0)) return found;
    for (int row = 0; row < W; row++)
        for (int i = k - 1; found[row] == 0 && i >= 0; i--)
            if (x[row * k + i] == 0) found[row] = x[row * k + i];
    return found;
}

// x (W, k) -> (W,): C's `if (v < min) min = v` from FLT_MAX. Of zeros the first one stays.
template <int k> INLINE F smallest_of_rows(const float *x) {
    auto fold = [](F low, F v) { return smaller(v, low); };
    return first_zero<k>(x, fold_rows<k>(x, splat(LARGEST), fold));
}

template <int k> INLINE F largest_of_rows(const float *x) {
    auto fold = [](F high, F v) { return larger(v, high); };
    return first_zero<k>(x, fold_rows<k>(x, splat(-LARGEST), fold));
}

INLINE F reciprocal(F d) { return d != 0 ? 1.f / d : F{}; }
INLINE float reciprocal(float d) { return d != 0 ? 1 / d : 0; }

// To nearest, ties to even, read from the mantissa as ggml does, whatever x is; with NO_INT added.
constexpr int32_t NO_INT = 0x400000;
INLINE I nearest_bits(F x) { return as_bits(x + MAGIC) & 0x7fffff; }
INLINE I nearest_int(F x) { return nearest_bits(x) - NO_INT; }

INLINE int32_t nearest_int(float x) { return (int32_t)(bits_of(x + MAGIC) & 0x7fffff) - 0x400000; }

// The number whose truncation is roundf(x).
INLINE F nudge_away(F x) {
    return x + (F)((as_bits(x) & INT32_MIN) | 0x3effffff);  // the largest float below one half
}

// Round to float16, ties to even, as its bits. Any NaN becomes the canonical one.
INLINE I to_half(F x) {
    I sign = as_bits(x) >> 16 & 0x8000, bits = as_bits(magnitude(x));
    I normal = (bits + 0xfff + (bits >> 13 & 1) - (112 << 23)) >> 13;
    I denormal = as_bits(magnitude(x) + 0.5f) - 0x3f000000;  // one half has the unit of a denormal
    I beyond = bits > 0x7f800000 ? splat(0x7e00) : splat(0x7c00);
    I half = bits < 0x38800000 ? denormal : normal;
    return sign | (bits < 0x47800000 ? half : beyond);
}

INLINE uint16_t to_half(float x) { return (uint16_t)to_half(splat(x))[0]; }
INLINE float from_half(uint16_t half) { return from_half(Shorts{} + half)[0]; }

}  // namespace
