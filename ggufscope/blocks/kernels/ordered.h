// Float32 arithmetic in C's order: what ordered.py does, and why.

#pragma once

#include "lanes.h"

namespace {

constexpr float MAGIC = 12582912.f;  // 1.5 * 2**23: adding it rounds to nearest, even
constexpr float LARGEST = 3.40282346638528859812e38f;

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
    V found = {}, top = {};
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

// x (k,) -> as `extreme`, for a whole number of vectors.
template <int k> INLINE float extreme_of_row(const float *x) {
    F high = {}, low = {};
    for (int i = 0; i < k; i += W) {
        high = larger(load(x + i), high);
        low = smaller(load(x + i), low);
    }
    float most = across(high, [](F a, F b) { return larger(a, b); })[0];
    float least = across(low, [](F a, F b) { return smaller(a, b); })[0];
    if (most > -least) return most;
    return -least > most ? least : extreme(x, k);
}

// x (k,) -> `if (amax < fabsf(v)) amax = fabsf(v)`, from 0.
template <int k> INLINE float peak(const float *x) {
    F top = {};
    for (int i = 0; i < k; i += W) top = larger(magnitude(load(x + i)), top);
    return across(top, [](F a, F b) { return larger(a, b); })[0];
}

// x (k,) -> `amax = MAX(amax, fabsf(v))`, whose macro takes a NaN and loses it to the next weight.
template <int k> INLINE float peak_by_macro(const float *x) {
    I lost = {};
    for (int i = 0; i < k; i += W) lost |= load(x + i) != load(x + i);
    if (!any(lost)) return peak<k>(x);
    float top = 0;
    for (int i = 0; i < k; i++) top = top > fabsf(x[i]) ? top : fabsf(x[i]);
    return top;
}

// x (k,) -> C's `if (v < min) min = v` from FLT_MAX. Of zeros with both signs the first one stays.
template <int k> INLINE float smallest_of_row(const float *x) {
    F low = splat(LARGEST);
    for (int i = 0; i < k; i += W) low = smaller(load(x + i), low);
    float least = across(low, [](F a, F b) { return smaller(a, b); })[0];
    for (int i = 0; least == 0 && i < k; i++)
        if (x[i] == 0) return x[i];
    return least;
}

template <int k> INLINE float largest_of_row(const float *x) {
    F high = splat(-LARGEST);
    for (int i = 0; i < k; i += W) high = larger(load(x + i), high);
    float most = across(high, [](F a, F b) { return larger(a, b); })[0];
    for (int i = 0; most == 0 && i < k; i++)
        if (x[i] == 0) return x[i];
    return most;
}

INLINE float reciprocal(float d) { return d != 0 ? 1 / d : 0; }

// To nearest, ties to even, read from the mantissa as ggml does, whatever x is.
INLINE I nearest_int(F x) { return (as_bits(x + MAGIC) & 0x7fffff) - 0x400000; }

INLINE int32_t nearest_int(float x) {
    int32_t bits;
    x += MAGIC;
    memcpy(&bits, &x, sizeof bits);
    return (bits & 0x7fffff) - 0x400000;
}

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

// Widen the bits of float16: exact; a signalling NaN becomes quiet.
INLINE F from_half(I half) {
    I bits = (half & 0x7fff) << 13;
    I finite = as_bits((F)bits * 0x1p112f);
    I quiet = bits > 0x0f800000 ? splat(0x7fc00000) : splat(0x7f800000);
    return (F)((half & 0x8000) << 16 | (bits < 0x0f800000 ? finite : quiet | bits));
}

INLINE uint16_t to_half(float x) { return (uint16_t)to_half(splat(x))[0]; }
INLINE float from_half(uint16_t half) { return from_half(splat((int32_t)half))[0]; }

}  // namespace
