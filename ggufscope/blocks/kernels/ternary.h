// TQ1_0 and TQ2_0: what ternary.py does.

#pragma once

#include "ordered.h"
#include "packing.h"

namespace {

// x (W, 256) -> each row in levels (256,), round(x / d) + 1 modulo 256, and d, the peak.
template <class Block, class Pack>
INLINE void quantize_ternary(const float *x, Block *out, Pack pack) {
    F d = peak_by_macro<SUPER>(x), inverse = reciprocal(d);
    I halves = to_half(d);
    for (int row = 0; row < W; row++, x += SUPER, out++) {
        Byte levels[SUPER];
        write_levels<SUPER>(levels, [&](int i) {
            return truncate(nudge_away(load(x + i) * inverse[row])) + 1;
        });
        out->d = (Half)halves[row];
        pack(levels, out);
    }
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
    quantize_ternary(x, out, [](const Byte *levels, TQ1_0 *block) {
        pack_digits<5, 32>(levels, block->qs);
        pack_digits<5, 16>(levels + 160, block->qs + 32);
        pack_digits<4, 4>(levels + 240, block->qh);
    });
}

INLINE void dequantize_tq1_0(const TQ1_0 *block, float *out) {
    Byte levels[SUPER];
    unpack_digits<5, 32>(block->qs, levels);
    unpack_digits<5, 16>(block->qs + 32, levels + 160);
    unpack_digits<4, 4>(block->qh, levels + 240);
    scale<SUPER, 1>(levels, from_half(block->d), out);
}

INLINE void quantize_tq2_0(const float *x, TQ2_0 *out) {
    quantize_ternary(x, out, [](const Byte *levels, TQ2_0 *block) {
        pack_fields<2, 32>(levels, sizeof block->qs, block->qs);
    });
}

INLINE void dequantize_tq2_0(const TQ2_0 *block, float *out) {
    Byte levels[SUPER];
    unpack_fields<2, 32>(block->qs, sizeof block->qs, levels);
    scale<SUPER, 1>(levels, from_half(block->d), out);
}

}  // namespace
