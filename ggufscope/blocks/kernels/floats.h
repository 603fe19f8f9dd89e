// The types without blocks, W weights at a time: what floats.py does.

#pragma once

#include "layouts.h"
#include "ordered.h"

namespace {

INLINE void quantize_f16(const float *x, F16 *out) { store(out, to_shorts(to_half(load(x)))); }

INLINE void dequantize_f16(const F16 *bits, float *out) {
    store(out, from_half(load<Shorts>(bits)));
}

INLINE void quantize_bf16(const float *x, BF16 *out) {
    I bits = as_bits(load(x)), rounded = bits + 0x7fff + (bits >> 16 & 1);
    store(out, to_shorts(load(x) == load(x) ? rounded >> 16 : bits >> 16 | 0x40));
}

INLINE void dequantize_bf16(const BF16 *bits, float *out) {
    store(out, (F)(to_int(load<Shorts>(bits)) << 16));
}

}  // namespace
