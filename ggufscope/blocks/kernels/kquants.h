// K-quants, Q2_K to Q6_K: what kquants.py does.

#pragma once

#include "fits.h"

namespace {

// What a format asks of qkx2: see `AffineSearch` in fits.py.
struct SearchQ2_K {
    static constexpr int k = 16, top = 3, last = 15;
    static constexpr float first = -0.5f, step = 0.1f;
    static constexpr bool absolute = true;
    static INLINE void weigh(const Lanes *x, Lanes *weights) {
        for (int i = 0; i < k; i++) weights[i] = magnitude(x[i]);
    }
};

struct SearchOf32 {
    static constexpr int k = 32;
    static constexpr float step = 0.1f;
    static constexpr bool absolute = false;
    static INLINE void weigh(const Lanes *x, Lanes *weights) {
        Lanes squares = {};
        for (int i = 0; i < k; i++) squares += x[i] * x[i];
        Lanes root_mean_square = square_root(squares / (float)k);
        for (int i = 0; i < k; i++) weights[i] = root_mean_square + magnitude(x[i]);
    }
};

struct SearchQ4_K : SearchOf32 {
    static constexpr int top = 15, last = 20;
    static constexpr float first = -1.0f;
};

struct SearchQ5_K : SearchOf32 {
    static constexpr int top = 31, last = 15;
    static constexpr float first = -0.5f;
};

// x (group, k) -> scales, minimums (group,), the minimums negated.
template <class Search, int group>
INLINE void search(const float *x, float *scales, float *minimums) {
    for (int lane = 0; lane < group; lane += LANES) {
        Lanes lanes[Search::k], weights[Search::k], kept[Search::k];
        turn<Search::k>(x + lane * Search::k, lanes);
        Search::weigh(lanes, weights);
        Fit fit = qkx2<Search, false>(lanes, weights, kept);
        if (any(fit.leaving)) fit = qkx2<Search, true>(lanes, weights, kept);
        store(scales + lane, fit.scale);
        store(minimums + lane, -fit.minimum);
    }
}

// kept (k, lanes) -> levels (k,) of one lane.
template <int k> INLINE void take_lane(const Lanes *kept, int lane, Byte *levels) {
    for (int i = 0; i < k; i++) levels[i] = (Byte)((const float *)(kept + i))[lane];
}

// x (group, k) -> levels (k,) of one lane: those that the search ended with.
template <class Search>
static __attribute__((noinline)) void searched(const float *x, int lane, Byte *levels) {
    Lanes lanes[Search::k], weights[Search::k], kept[Search::k];
    turn<Search::k>(x + lane / LANES * LANES * Search::k, lanes);
    Search::weigh(lanes, weights);
    qkx2<Search, true>(lanes, weights, kept);
    take_lane<Search::k>(kept, lane % LANES, levels);
}

template <int k, int top>
static __attribute__((noinline)) void searched_qx(const float *x, int lane, Byte *levels) {
    Lanes lanes[k], kept[k];
    turn<k>(x + lane / LANES * LANES * k, lanes);
    qx<k, top, true>(lanes, kept);
    take_lane<k>(kept, lane % LANES, levels);
}

INLINE float top_scale(const float *scales, int count) {
    float top = 0;
    for (int j = 0; j < count; j++)
        if (scales[j] > top) top = scales[j];
    return top;
}

INLINE float inverse(float top, int levels) { return top > 0 ? (float)levels / top : 0; }

template <class Search, class Block> INLINE void quantize_affine(const float *x, Block *out) {
    constexpr int k = Search::k, count = SUPER / k, group = GROUP<k>;
    constexpr int most = k == 16 ? 15 : 63;  // what a scale can be
    float scales[group * count], minimums[group * count];
    search<Search, group * count>(x, scales, minimums);
    for (int block = 0; block < group; block++, out++) {
        const float *scale = scales + block * count, *minimum = minimums + block * count;
        float top = top_scale(scale, count), top_minimum = top_scale(minimum, count);
        float inverse_top = inverse(top, most), inverse_minimum = inverse(top_minimum, most);
        out->d = to_half(top / (float)most);
        out->dmin = to_half(top_minimum / (float)most);
        float d = from_half(out->d), dmin = from_half(out->dmin);
        Byte s[count], m[count], levels[SUPER];
        for (int j = 0; j < count; j++) {  // C stores the integer in a byte before the minimum
            s[j] = (Byte)nearest_int(inverse_top * scale[j]);
            m[j] = (Byte)nearest_int(inverse_minimum * minimum[j]);
            if (k == 32) {
                s[j] = s[j] < 63 ? s[j] : 63;
                m[j] = m[j] < 63 ? m[j] : 63;
            } else {
                out->scales[j] = s[j] |= m[j] << 4;
                s[j] &= 15;
                m[j] = out->scales[j] >> 4;
            }
        }
        for (int j = 0; j < count; j++) {
            int lane = block * count + j;
            float scaled = d * s[j];
            requantize<k, 0, Search::top, true>(x + lane * k, scaled, dmin * m[j], levels + j * k);
            if (scaled == 0) searched<Search>(x, lane, levels + j * k);
        }
        if constexpr (k == 32) pack_scales_mins(s, m, out->scales);
        if constexpr (k == 16) pack_fields<2, 32>(levels, sizeof out->qs, out->qs);
        if constexpr (k == 32) pack_fields<4, 32>(levels, sizeof out->qs, out->qs);
        if constexpr (Search::top == 31) pack_fields<1, 32, 4>(levels, sizeof out->qh, out->qh);
    }
}

INLINE void quantize_q2_k(const float *x, Q2_K *out) { quantize_affine<SearchQ2_K>(x, out); }
INLINE void quantize_q4_k(const float *x, Q4_K *out) { quantize_affine<SearchQ4_K>(x, out); }
INLINE void quantize_q5_k(const float *x, Q5_K *out) { quantize_affine<SearchQ5_K>(x, out); }

// x (16,) -> levels (16,): those that the search ended with.
static __attribute__((noinline)) void searched_q3(const float *x, Byte *levels) {
    float each[W * 16] = {}, scales[W], kept[W * 16];
    memcpy(each, x, 16 * sizeof *x);
    q3<16, 4, W, true>(each, scales, kept);
    bool nothing = fabsf(extreme(x, 16)) < ALL_ZERO;
    for (int i = 0; i < 16; i++) levels[i] = nothing ? 0 : (Byte)kept[i];
}

// x (256,), scales (16,) -> a block.
INLINE void finish_q3_k(const float *x, const float *scales, Q3_K *out) {
    constexpr int count = SUPER / 16;
    float top = extreme(scales, count), iscale = -32 / top;
    out->d = top != 0 ? to_half(1 / iscale) : 0;
    float d = from_half(out->d);
    float scaled[count];
    Byte stored[count], levels[SUPER];
    write_levels<count, true>(stored, [&](int j) {
        I scale = nearest_int(iscale * load(scales + j)) << 24 >> 24;  // C stores it in a byte
        scale = top != 0 ? smaller(larger(scale, splat(-32)), splat(31)) : splat(-32);
        store(scaled + j, d * to_float(scale));
        return scale + 32;
    });
    for (int j = 0; j < count; j++) {
        requantize<16, -4, 3>(x + j * 16, scaled[j], 0, levels + j * 16);
        if (scaled[j] == 0) searched_q3(x + j * 16, levels + j * 16);
    }
    pack_sixteen_scales(stored, out->scales);
    pack_fields<1, 32, 2>(levels, sizeof out->hmask, out->hmask);
    pack_fields<2, 32>(levels, sizeof out->qs, out->qs);
}

constexpr int DESCENTS = 16;  // super-blocks whose sub-blocks share the lanes of a descent

INLINE void quantize_q3_k(const float *x, Q3_K *out) {
    constexpr int count = SUPER / 16;
    float scales[DESCENTS * count]; alignas(64) float levels[DESCENTS * SUPER];
    q3<16, 4, DESCENTS * count, false>(x, scales, levels);
    for (int block = 0; block < DESCENTS; block++)
        finish_q3_k(x + block * SUPER, scales + block * count, out + block);
}
INLINE void quantize_q6_k(const float *x, Q6_K *out) {
    constexpr int count = SUPER / 16, group = GROUP<16>;
    float scales[group * count], *scale = scales;
    for (int lane = 0; lane < group * count; lane += LANES) {
        Lanes lanes[16];
        turn<16>(x + lane * 16, lanes);
        store(scales + lane, qx<16, 32, false>(lanes, nullptr));
    }
    for (int block = 0; block < group; block++, out++, scale += count) {
        float top = extreme(scale, count), iscale = -128 / top;
        if (fabsf(top) < ALL_ZERO) {  // too small to be scaled
            memset(out, 0, sizeof *out);
            continue;
        }
        out->d = to_half(1 / iscale);
        float d = from_half(out->d);
        float scaled[count];
        Byte levels[SUPER];
        write_levels<count>((Byte *)out->scales, [&](int j) {
            I stored = smaller(nearest_int(iscale * load(scale + j)), splat(127)) << 24 >> 24;
            store(scaled + j, d * to_float(stored));
            return stored;
        });
        for (int j = 0; j < count; j++) {
            int lane = block * count + j;
            requantize<16, -32, 31>(x + lane * 16, scaled[j], 0, levels + j * 16);
            if (scaled[j] == 0) searched_qx<16, 32>(x, lane, levels + j * 16);
        }
        pack_fields<4, 64>(levels, sizeof out->ql, out->ql);
        pack_fields<2, 32, 4>(levels, sizeof out->qh, out->qh);
    }
}

INLINE void dequantize_q2_k(const Q2_K *block, float *out) {
    Byte levels[SUPER];
    float d = from_half(block->d), dmin = from_half(block->dmin);
    unpack_fields<2, 32>(block->qs, sizeof block->qs, levels);
    for (int j = 0; j < 16; j++)
        shift<16, true>(levels + j * 16, d * (block->scales[j] & 15),
                        dmin * (block->scales[j] >> 4), out + j * 16);
}

INLINE void dequantize_q3_k(const Q3_K *block, float *out) {
    Byte levels[SUPER], scales[16];
    float d = from_half(block->d);
    unpack_fields<2, 32>(block->qs, sizeof block->qs, levels);
    unpack_fields<1, 32, 2, true>(block->hmask, sizeof block->hmask, levels);
    unpack_sixteen_scales(block->scales, scales);
    for (int j = 0; j < 16; j++)
        scale<16, 4>(levels + j * 16, d * (float)(scales[j] - 32), out + j * 16);
}

template <class Block> INLINE void dequantize_affine_32(const Block *block, float *out) {
    Byte levels[SUPER], scales[8], minimums[8];
    float d = from_half(block->d), dmin = from_half(block->dmin);
    unpack_fields<4, 32>(block->qs, sizeof block->qs, levels);
    if constexpr (Block::number == Q5_K::number)
        unpack_fields<1, 32, 4, true>(block->qh, sizeof block->qh, levels);
    unpack_scales_mins(block->scales, scales, minimums);
    for (int j = 0; j < 8; j++)
        shift<32, true>(levels + j * 32, d * scales[j], dmin * minimums[j], out + j * 32);
}

INLINE void dequantize_q4_k(const Q4_K *block, float *out) { dequantize_affine_32(block, out); }
INLINE void dequantize_q5_k(const Q5_K *block, float *out) { dequantize_affine_32(block, out); }

INLINE void dequantize_q6_k(const Q6_K *block, float *out) {
    Byte levels[SUPER];
    float d = from_half(block->d);
    unpack_fields<4, 64>(block->ql, sizeof block->ql, levels);
    unpack_fields<2, 32, 4, true>(block->qh, sizeof block->qh, levels);
    for (int j = 0; j < 16; j++)
        scale<16, 32>(levels + j * 16, d * block->scales[j], out + j * 16);
}

INLINE void dequantize_q8_k(const Q8_K *block, float *out) { scale<SUPER>(block->qs, block->d, out); }

}  // namespace
