// IQ4_NL and IQ4_XS: sixteen levels that are not evenly spaced. What iq4.py does.

#pragma once

#include "fits.h"

namespace {

constexpr SignedByte IQ4_VALUES[] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                     1,    13,   25,  38,  53,  69,  89,  113};

constexpr float middle(int code) { return (IQ4_VALUES[code - 1] + IQ4_VALUES[code]) / 2.f; }

// t -> the nearest level; a middle belongs to the one above it, and a NaN to the highest.
template <class V> INLINE V nearest_value(V t) {
    V value = V{} + (float)IQ4_VALUES[0];
    for (int code = 1; code < 16; code++)
        value = choose(t < middle(code), value, V{} + (float)IQ4_VALUES[code]);
    return value;
}

// x (32,) -> codes (32,) of x * inverse.
INLINE void nearest_codes(const float *x, float inverse, Byte *codes) {
    write_levels<32>(codes, [&](int i) {
        I code = splat(15);
        for (int above = 1; above < 16; above++) code += load(x + i) * inverse < middle(above);
        return code;
    });
}

// x, weights (32, lanes) -> scale (lanes,): the search in `quantize_row_iq4_nl_impl`.
APART Lanes search_iq4(const Lanes *x, const Lanes *weights) {
    const Lanes zero = {};
    constexpr float lowest = IQ4_VALUES[0];
    Lanes most = extreme<32>(x), sum_qx, sum_q2;

    auto fit = [&](Lanes inverse) {
        sum_qx = sum_q2 = zero;
        for (int i = 0; i < 32; i++) {
            Lanes value = nearest_value(x[i] * inverse);
            Lanes weighted = weights[i] * value;
            sum_qx += weighted * x[i];
            sum_q2 += weighted * value;
        }
    };

    fit(1.f / (-most / lowest));
    Lanes scale = choose(sum_q2 > 0, sum_qx / sum_q2, zero), best = scale * sum_qx;
    for (int step = -7; step <= 7; step++) {
        fit(((float)step + lowest) / most);
        Mask better = (sum_q2 > 0) & (sum_qx * sum_qx > best * sum_q2);
        scale = choose(better, sum_qx / sum_q2, scale);
        best = choose(better, scale * sum_qx, best);
    }
    return choose(magnitude(most) < ALL_ZERO, zero, scale);
}

// x (LANES, 32), weights of the same shape -> scales (LANES,). Not `weighed`, the squares count.
template <bool weighed> INLINE void search_rows(const float *x, const float *weights, float *scales) {
    Lanes lanes[32], counts[32];
    turn<32>(x, lanes);
    if constexpr (weighed) turn<32>(weights, counts);
    else for (int i = 0; i < 32; i++) counts[i] = lanes[i] * lanes[i];
    store(scales, search_iq4(lanes, counts));
}

template <bool weighed>
INLINE void quantize_iq4_nl(const float *x, const float *weights, IQ4_NL *out) {
    float scales[LANES];
    search_rows<weighed>(x, weights, scales);
    for (int block = 0; block < LANES; block++, x += 32, out++) {
        Byte codes[32];
        nearest_codes(x, reciprocal(scales[block]), codes);
        out->d = to_half(scales[block]);
        pack_fields<4, 16>(codes, 16, out->qs);
    }
}

template <bool weighed>
INLINE void quantize_iq4_xs(const float *x, const float *weights, IQ4_XS *out) {
    constexpr int count = SUPER / 32, group = GROUP<32>;
    float scales[group * count], *scale = scales;
    for (int lane = 0; lane < group * count; lane += LANES)
        search_rows<weighed>(x + lane * 32, weights + lane * 32, scales + lane);
    for (int block = 0; block < group; block++, out++, scale += count) {
        float d = -extreme(scale, count) / 32, inverse = reciprocal(d);
        Byte codes[SUPER], low[count];
        uint16_t high = 0;
        for (int j = 0; j < count; j++, x += 32) {
            int stored = nearest_int(inverse * scale[j]);
            stored = stored < -32 ? -32 : stored > 31 ? 31 : stored;
            // The weights are rounded with d as it was before it became a half.
            nearest_codes(x, reciprocal(d * (float)stored), codes + j * 32);
            low[j] = (stored + 32) & 15;
            high |= (stored + 32) >> 4 << 2 * j;
        }
        out->d = to_half(d);
        out->scales_h = high;
        pack_fields<4, 1>(low, sizeof out->scales_l, out->scales_l);
        pack_fields<4, 16>(codes, sizeof out->qs, out->qs);
    }
}

INLINE void quantize_iq4_nl(const float *x, IQ4_NL *out) { quantize_iq4_nl<false>(x, x, out); }
INLINE void quantize_iq4_xs(const float *x, IQ4_XS *out) { quantize_iq4_xs<false>(x, x, out); }

INLINE void quantize_iq4_nl(const float *x, const float *weights, IQ4_NL *out) {
    quantize_iq4_nl<true>(x, weights, out);
}

INLINE void quantize_iq4_xs(const float *x, const float *weights, IQ4_XS *out) {
    quantize_iq4_xs<true>(x, weights, out);
}

INLINE void dequantize_iq4_nl(const IQ4_NL *block, float *out) {
    SignedByte values[32];
    unpack_fields<4, 16>(block->qs, 16, (Byte *)values);
    look_up<32>(IQ4_VALUES, values);
    scale<32>(values, from_half(block->d), out);
}

INLINE void dequantize_iq4_xs(const IQ4_XS *block, float *out) {
    SignedByte values[SUPER];
    Byte low[8];
    float d = from_half(block->d);
    unpack_fields<4, 16>(block->qs, sizeof block->qs, (Byte *)values);
    unpack_fields<4, 1>(block->scales_l, sizeof block->scales_l, low);
    look_up<SUPER>(IQ4_VALUES, values);
    for (int j = 0; j < 8; j++) {
        int stored = low[j] | (block->scales_h >> 2 * j & 3) << 4;
        scale<32>(values + j * 32, d * (float)(stored - 32), out + j * 32);
    }
}

}  // namespace
