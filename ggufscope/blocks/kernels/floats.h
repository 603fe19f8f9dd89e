// The types without blocks, one or two vectors of weights at a time: what floats.py does.

#pragma once

#include "layouts.h"
#include "ordered.h"

namespace {

INLINE void quantize_f16(const float *x, F16 *out) { store(out, to_shorts(to_half(load(x)))); }

INLINE void dequantize_f16(const F16 *bits, float *out) {
    store(out, from_half(load<Shorts>(bits)));
}

// Round to nearest, ties to even, in the upper half of each lane; a NaN becomes quiet.
INLINE I round_to_bf16(F x) {
    I bits = as_bits(x), rounded = bits + 0x7fff + (bits >> 16 & 1);
    return x == x ? rounded : bits | 0x400000;
}

// x (LANES,): two vectors make a whole one.
INLINE void quantize_bf16(const float *x, BF16 *out) {
    store(out, upper_halves(round_to_bf16(load(x)), round_to_bf16(load(x + W)), EachOfTwo{}));
}

INLINE void dequantize_bf16(const BF16 *bits, float *out) {
    store(out, (F)(to_int(load<Shorts>(bits)) << 16));
}

}  // namespace
