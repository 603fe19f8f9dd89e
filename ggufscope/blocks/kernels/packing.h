// How small numbers share bytes: packing.py has the pictures.

#pragma once

#include "layouts.h"
#include "lanes.h"

namespace {

// -> levels (k,): the low byte of what `level` gives for W weights from i. bytes: it has no other.
template <int k, bool bytes = false, class Level>
INLINE void write_levels(Byte *levels, Level level) {
    for (int start = 0; start < k; start += 16) {
        I some[16 / W];
        for (int i = 0; i < 16; i += W) some[i / W] = level(start + i);
        store(levels + start, narrow<bytes>(some));
    }
}

// levels (k,), with a sign -> `top` where they are higher.
template <int k> INLINE void cap_levels(Byte *levels, SignedByte top) {
    typedef SignedByte Signed __attribute__((vector_size(16)));
    for (int i = 0; i < k; i += 16) {
        Signed some = load<Signed>(levels + i);
        store(levels + i, some < top ? some : top - Signed{});
    }
}

// levels (k,) -> out (k,): what `weight` makes of each as a float, less `zero`.
template <int k, int zero, class Weight>
INLINE void read_levels(const Byte *levels, float *out, Weight weight) {
    for (int start = 0; start < k; start += 16) {
        I some[16 / W];
        widen(load<Sixteen>(levels + start), some);
        for (int i = 0; i < 16; i += W) store(out + start + i, weight(to_float(some[i / W] - zero)));
    }
}

// levels (k,), d -> out (k,): d * (level - zero).
template <int k, int zero> INLINE void scale(const Byte *levels, float d, float *out) {
    read_levels<k, zero>(levels, out, [=](F level) { return d * level; });
}

// levels (k,), d -> out (k,): d * level, for levels with a sign.
template <int k> INLINE void scale(const SignedByte *levels, float d, float *out) {
    for (int start = 0; start < k; start += 16) {
        Sixteen moved = load<Sixteen>(levels + start) ^ 128;
        scale<16, 128>((Byte *)&moved, d, out + start);
    }
}

// levels (k,), d, m -> out (k,): d * level + m, or less m, which differs where m is a NaN.
template <int k, bool less> INLINE void shift(const Byte *levels, float d, float m, float *out) {
    read_levels<k, 0>(levels, out, [=](F level) { return less ? d * level - m : d * level + m; });
}

// out (k,): change the sign, of a NaN too, where minus (k,) is 1.
template <int k> INLINE void flip_signs(const Byte *minus, float *out) {
    for (int start = 0; start < k; start += 16) {
        I some[16 / W];
        widen(load<Sixteen>(minus + start), some);
        for (int i = start; i < start + 16; i += W)
            store(out + i, as_bits(load(out + i)) ^ some[(i - start) / W] << 31);
    }
}

// Bytes that are worked on at a time: those of fields that lie `apart` weights apart.
template <int apart> struct Run {
    static constexpr int most = W > 4 ? 32 : 16;  // what a register takes
    typedef Byte bytes __attribute__((vector_size(apart < most ? apart : most)));
};
template <> struct Run<1> {
    typedef Byte bytes;
};

// packed (bytes,) -> fields (bytes * 8 / bits,): each `field << up`, or'ed in where `more`.
template <int bits, int apart, int up = 0, bool more = false>
INLINE void unpack_fields(const Byte *packed, int bytes, Byte *fields) {
    typedef typename Run<apart>::bytes Some;
    constexpr Byte mask = (1 << bits) - 1;
    for (int start = 0; start < bytes; start += apart)
        for (int place = 0; place < 8 / bits; place++, fields += apart)
            for (int i = 0; i < apart; i += sizeof(Some)) {
                Some field = load<Some>(packed + start + i) >> (Byte)(place * bits) & mask;
                field = field << (Byte)up;
                store<Some>(fields + i, more ? load<Some>(fields + i) | field : field);
            }
}

// fields (bytes * 8 / bits,) -> packed (bytes,): bits `down` and up of each.
template <int bits, int apart, int down = 0>
INLINE void pack_fields(const Byte *fields, int bytes, Byte *packed) {
    typedef typename Run<apart>::bytes Some;
    constexpr Byte mask = (1 << bits) - 1;
    for (int start = 0; start < bytes; start += apart, fields += 8 / bits * apart)
        for (int i = 0; i < apart; i += sizeof(Some)) {
            Some byte = {};
            for (int place = 0; place < 8 / bits; place++) {
                Some field = load<Some>(fields + place * apart + i) >> (Byte)down & mask;
                byte |= field << (Byte)(place * bits);
            }
            store<Some>(packed + start + i, byte);
        }
}

// packed (bytes,) -> fields (8 * bytes,): each bit, next to each other, as bit `up` of a field.
template <int up, bool more = false>
INLINE void unpack_bits(const Byte *packed, int bytes, Byte *fields) {
    const Sixteen each = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    for (int i = 0; i < bytes; i += 2) {
        Sixteen both = {packed[i], packed[i + 1]};
        both = __builtin_shufflevector(both, both, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
        Sixteen set = (Sixteen)((both & each) != 0) & (Byte)(1 << up);
        store(fields + i * 8, more ? load<Sixteen>(fields + i * 8) | set : set);
    }
}

// fields (8 * bytes,) -> packed (bytes,): bit `down` of each.
template <int down> INLINE void pack_bits(const Byte *fields, int bytes, Byte *packed) {
#if defined(__x86_64__)
    for (int i = 0; i < bytes; i += 2) {
        __m128i some = _mm_loadu_si128((const __m128i *)(fields + i * 8));
        store(packed + i, (uint16_t)_mm_movemask_epi8(_mm_slli_epi16(some, 7 - down)));
    }
#else
    pack_fields<1, 1, down>(fields, bytes, packed);
#endif
}

// codes (k,), each under 16 -> their values (k,), in place.
template <int k> INLINE void look_up(const SignedByte *values, SignedByte *codes) {
#if defined(__AVX2__)
    __m128i table = _mm_loadu_si128((const __m128i *)values);
    for (int i = 0; i < k; i += 16) {
        __m128i found = _mm_shuffle_epi8(table, _mm_loadu_si128((const __m128i *)(codes + i)));
        _mm_storeu_si128((__m128i *)(codes + i), found);
    }
#else
    for (int i = 0; i < k; i++) codes[i] = values[(Byte)codes[i]];
#endif
}

// packed (12,) -> (16,), scales (8,), then minimums (8,): the 6-bit pairs of Q4_K and Q5_K.
INLINE Sixteen unpack_scales_mins(const Byte *packed) {
    typedef uint32_t Fours __attribute__((vector_size(16)));
    uint32_t first, second, third;
    memcpy(&first, packed, 4);
    memcpy(&second, packed + 4, 4);
    memcpy(&third, packed + 8, 4);
    return (Sixteen)Fours{first & 0x3f3f3f3f, (third & 0x0f0f0f0f) | (first >> 2 & 0x30303030),
                          second & 0x3f3f3f3f, (third >> 4 & 0x0f0f0f0f) | (second >> 2 & 0x30303030)};
}

INLINE void unpack_scales_mins(const Byte *packed, Byte *scales, Byte *minimums) {
    Sixteen both = unpack_scales_mins(packed);
    memcpy(scales, &both, 8);
    memcpy(minimums, (Byte *)&both + 8, 8);
}

INLINE void pack_scales_mins(const Byte *scales, const Byte *minimums, Byte *packed) {
    for (int j = 0; j < 4; j++) {
        packed[j] = scales[j] | (scales[j + 4] >> 4 << 6);
        packed[j + 4] = minimums[j] | (minimums[j + 4] >> 4 << 6);
        packed[j + 8] = (scales[j + 4] & 15) | (minimums[j + 4] & 15) << 4;
    }
}

// packed (12,) -> scales (16,): those of Q3_K.
INLINE void unpack_sixteen_scales(const Byte *packed, Byte *scales) {
    unpack_fields<4, 8>(packed, 8, scales);
    unpack_fields<2, 4, 4, true>(packed + 8, 4, scales);
}

INLINE void pack_sixteen_scales(const Byte *scales, Byte *packed) {
    pack_fields<4, 8>(scales, 8, packed);
    pack_fields<2, 4, 4>(scales, 4, packed + 8);
}

}  // namespace
