// TQ1_0 and TQ2_0: what ternary.py does.

#pragma once

#include "ordered.h"
#include "packing.h"

namespace {

// x (256,) -> round(x / d) + 1 (256,), modulo 256; d, the peak.
INLINE float ternary_levels(const float *x, Byte *levels) {
    float d = peak_by_macro<SUPER>(x), inverse = reciprocal(d);
    for (int i = 0; i < SUPER; i += W)
        store(levels + i, to_bytes(truncate(nudge_away(load(x + i) * inverse)) + 1));
    return d;
}

// digits (count * bytes,) -> packed (bytes,): the first digit of each byte is its highest.
template <int count, int bytes> INLINE void pack_digits(const Byte *digits, Byte *packed) {
    for (int i = 0; i < bytes; i++) {
        Byte number = 0;
        for (int place = 0; place < 5; place++)
            number = number * 3 + (place < count ? digits[place * bytes + i] : 0);
        packed[i] = (Byte)((number * 256 + 242) / 243);
    }
}

template <int count, int bytes> INLINE void unpack_digits(const Byte *packed, Byte *digits) {
    constexpr Byte powers[] = {1, 3, 9, 27, 81};
    for (int place = 0; place < count; place++)
        for (int i = 0; i < bytes; i++)
            digits[place * bytes + i] = (Byte)(packed[i] * powers[place]) * 3 >> 8;
}

INLINE void quantize_tq1_0(const float *x, TQ1_0 *out) {
    Byte levels[SUPER];
    out->d = to_half(ternary_levels(x, levels));
    pack_digits<5, 32>(levels, out->qs);
    pack_digits<5, 16>(levels + 160, out->qs + 32);
    pack_digits<4, 4>(levels + 240, out->qh);
}

INLINE void dequantize_tq1_0(const TQ1_0 *block, float *out) {
    SignedByte levels[SUPER];
    unpack_digits<5, 32>(block->qs, (Byte *)levels);
    unpack_digits<5, 16>(block->qs + 32, (Byte *)levels + 160);
    unpack_digits<4, 4>(block->qh, (Byte *)levels + 240);
    for (int i = 0; i < SUPER; i++) levels[i] -= 1;
    scale<SUPER>(levels, from_half(block->d), out);
}

INLINE void quantize_tq2_0(const float *x, TQ2_0 *out) {
    Byte levels[SUPER];
    out->d = to_half(ternary_levels(x, levels));
    pack_fields<2, 32>(levels, sizeof out->qs, out->qs);
}

INLINE void dequantize_tq2_0(const TQ2_0 *block, float *out) {
    SignedByte levels[SUPER];
    unpack_fields<2, 32>(block->qs, sizeof block->qs, (Byte *)levels);
    for (int i = 0; i < SUPER; i++) levels[i] -= 1;
    scale<SUPER>(levels, from_half(block->d), out);
}

}  // namespace
