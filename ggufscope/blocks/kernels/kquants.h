// K-quants, Q2_K to Q6_K: what kquants.py does.

#pragma once

#include "fits.h"

namespace {

// What a format asks of qkx2: see `AffineSearch` in fits.py.
struct SearchQ2_K {
    static constexpr int k = 16, top = 3, last = 15;
    static constexpr float first = -0.5f, step = 0.1f;
    static constexpr bool absolute = true, weighed = false;
    template <class V> static INLINE void weigh(const V *x, V *weights) {
        for (int i = 0; i < k; i++) weights[i] = magnitude(x[i]);
    }
};

struct SearchOf32 {
    static constexpr int k = 32;
    static constexpr float step = 0.1f;
    static constexpr bool absolute = false, weighed = false;
    template <class V> static INLINE void weigh(const V *x, V *weights) {
        V squares = {};
        for (int i = 0; i < k; i++) squares += x[i] * x[i];
        V root_mean_square = square_root(squares / (float)k);
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

// What a search found for each lane; what the weights of a lane count in all.
template <int lanes> struct Found {
    float scale[lanes], minimum[lanes], iscale[lanes], start[lanes], total[lanes];
};

INLINE float top_scale(const float *scales, int count) {
    float top = 0;
    for (int j = 0; j < count; j++)
        if (scales[j] > top) top = scales[j];
    return top;
}

INLINE float inverse(float top, int levels) { return top > 0 ? (float)levels / top : 0; }

// found, super-block by super-block -> their scales and minimums as bytes; d, dmin into out.
template <int group, int count, int most, class Block>
INLINE void steps_to_top(const Found<group * count> &found, Block *out, Byte *s, Byte *m) {
    for (int block = 0; block < group; block++, out++) {
        const float *scale = found.scale + block * count, *minimum = found.minimum + block * count;
        float top = top_scale(scale, count), top_minimum = top_scale(minimum, count);
        float inverse_top = inverse(top, most), inverse_minimum = inverse(top_minimum, most);
        out->d = to_half(top / (float)most);
        out->dmin = to_half(top_minimum / (float)most);
        for (int j = 0; j < count; j++) {
            *s++ = (Byte)nearest_int(inverse_top * scale[j]);
            *m++ = (Byte)nearest_int(inverse_minimum * minimum[j]);
        }
    }
}

// values (W, count) -> lanes (count, W).
template <int count> INLINE void by_block(const float *values, F *lanes) {
    for (int j = 0; j < count; j++)
        for (int block = 0; block < W; block++) lanes[j][block] = values[block * count + j];
}

// The same for W super-blocks, side by side, by what fits best.
template <int count, int most, class Block>
INLINE void steps_that_fit(const Found<W * count> &found, Block *out, Byte *s, Byte *m) {
    F scale[count], minimum[count], total[count];
    Lanes both[count], totals[count], levels[count];
    by_block<count>(found.scale, scale);
    by_block<count>(found.minimum, minimum);
    by_block<count>(found.total, total);
    for (int j = 0; j < count; j++) {
        both[j] = {scale[j], minimum[j]};
        totals[j] = {total[j], total[j]};
    }
    Lanes fitted = qp<count, most>(both, totals, levels);
    I d = to_half(fitted.one), dmin = to_half(fitted.two);
    for (int block = 0; block < W; block++) {
        out[block].d = (Half)d[block];
        out[block].dmin = (Half)dmin[block];
        for (int j = 0; j < count; j++) {
            *s++ = (Byte)levels[j].one[block];
            *m++ = (Byte)levels[j].two[block];
        }
    }
}

// x (group, 256), weights of the same shape, or null for those of the type.
template <class Search, class Block>
INLINE void quantize_affine(const float *x, const float *weights, Block *out) {
    constexpr int k = Search::k, count = SUPER / k, most = k == 16 ? 15 : 63;
    constexpr int group = Search::weighed ? W : GROUP_OF_MANY<k>;
    Found<group * count> found;
    for (int lane = 0; lane < group * count; lane += lanes_in<Many>) {
        Many lanes[k], counts[k], total = {};
        turn<k>(x + lane * k, lanes);
        if constexpr (Search::weighed) turn<k>(weights + lane * k, counts);
        else Search::weigh(lanes, counts);
        Fit<Many> fit = search_affine<Search>(lanes, counts);
        for (int i = 0; i < k; i++) total += counts[i];
        store(found.scale + lane, fit.scale);
        store(found.minimum + lane, -fit.minimum);
        store(found.iscale + lane, fit.iscale);
        store(found.start + lane, fit.start);
        store(found.total + lane, total);
    }
    Byte scales[group * count], minimums[group * count], *s = scales, *m = minimums;
    if constexpr (Search::weighed) steps_that_fit<count, most>(found, out, s, m);
    else steps_to_top<group, count, most>(found, out, s, m);
    for (int block = 0; block < group; block++, out++, s += count, m += count) {
        if constexpr (k == 16) {
            for (int j = 0; j < count; j++) {
                out->scales[j] = s[j] |= m[j] << 4;
                s[j] &= 15;
                m[j] = out->scales[j] >> 4;
            }
        } else {
            // ggml takes no minimum for Q4_K by importance.
            for (int j = 0; j < count && !(Search::weighed && Search::top == 15); j++) {
                s[j] = s[j] < most ? s[j] : most;
                m[j] = m[j] < most ? m[j] : most;
            }
            pack_scales_mins(s, m, out->scales);
            unpack_scales_mins(out->scales, s, m);
        }
        float d = from_half(out->d), dmin = from_half(out->dmin);
        Byte levels[SUPER];
        for (int j = 0; j < count; j++) {
            int lane = block * count + j;
            const float *from = x + lane * k;
            float scaled = d * s[j];
            requantize<k, 0, Search::top, true>(from, scaled, dmin * m[j], levels + j * k);
            if (scaled == 0)
                searched_levels<k, 0, Search::top>(from, found.iscale[lane], found.start[lane],
                                                   levels + j * k);
        }
        if constexpr (k == 16) pack_fields<2, 32>(levels, sizeof out->qs, out->qs);
        if constexpr (k == 32) pack_fields<4, 32>(levels, sizeof out->qs, out->qs);
        if constexpr (Search::top == 31) pack_fields<1, 32, 4>(levels, sizeof out->qh, out->qh);
    }
}

INLINE void quantize_q2_k(const float *x, Q2_K *out) { quantize_affine<SearchQ2_K>(x, nullptr, out); }
INLINE void quantize_q4_k(const float *x, Q4_K *out) { quantize_affine<SearchQ4_K>(x, nullptr, out); }
INLINE void quantize_q5_k(const float *x, Q5_K *out) { quantize_affine<SearchQ5_K>(x, nullptr, out); }

INLINE void quantize_q2_k(const float *x, const float *weights, Q2_K *out) {
    quantize_affine<ByImportance<16, 3>>(x, weights, out);
}

INLINE void quantize_q4_k(const float *x, const float *weights, Q4_K *out) {
    quantize_affine<ByImportance<32, 15>>(x, weights, out);
}

INLINE void quantize_q5_k(const float *x, const float *weights, Q5_K *out) {
    quantize_affine<ByImportance<32, 31>>(x, weights, out);
}

// x (256,), scales + 32 (16,), as they are stored and times d -> out, but for d. `searched` writes
// the levels that the search of a sub-block ended with.
template <class Searched>
INLINE void store_q3_k(const float *x, const Byte *stored, const float *scaled, Q3_K *out,
                       Searched searched) {
    Byte levels[SUPER];
    for (int j = 0; j < SUPER / 16; j++) {
        requantize<16, -4, 3>(x + j * 16, scaled[j], 0, levels + j * 16);
        if (scaled[j] == 0) searched(j, levels + j * 16);
    }
    pack_sixteen_scales(stored, out->scales);
    pack_fields<1, 32, 2>(levels, sizeof out->hmask, out->hmask);
    pack_fields<2, 32>(levels, sizeof out->qs, out->qs);
}

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
    float d = from_half(out->d), scaled[count];
    Byte stored[count];
    write_levels<count, true>(stored, [&](int j) {
        I scale = nearest_int(iscale * load(scales + j)) << 24 >> 24;  // C stores it in a byte
        scale = top != 0 ? smaller(larger(scale, splat(-32)), splat(31)) : splat(-32);
        store(scaled + j, d * to_float(scale));
        return scale + 32;
    });
    store_q3_k(x, stored, scaled, out,
               [&](int j, Byte *levels) { searched_q3(x + j * 16, levels); });
}

constexpr int DESCENTS = 16;  // super-blocks whose sub-blocks share the lanes of a descent

INLINE void quantize_q3_k(const float *x, Q3_K *out) {
    constexpr int count = SUPER / 16;
    float scales[DESCENTS * count];
    alignas(64) float levels[DESCENTS * SUPER];
    q3<16, 4, DESCENTS * count, false>(x, scales, levels);
    for (int block = 0; block < DESCENTS; block++)
        finish_q3_k(x + block * SUPER, scales + block * count, out + block);
}

// x, weights (W, 256).
INLINE void quantize_q3_k(const float *x, const float *weights, Q3_K *out) {
    constexpr int count = SUPER / 16;
    Found<W * count> found;
    for (int lane = 0; lane < W * count; lane += LANES) {
        Lanes lanes[16], counts[16], total = {};
        turn<16>(x + lane * 16, lanes);
        turn<16>(weights + lane * 16, counts);
        SymmetricFit<Lanes> fit = search_symmetric<16, 4>(lanes, counts);
        for (int i = 0; i < 16; i++) total += counts[i];
        store(found.scale + lane, fit.scale);
        store(found.iscale + lane, fit.iscale);
        store(found.total + lane, total);
    }
    F scales[count], totals[count];
    by_block<count>(found.scale, scales);
    by_block<count>(found.total, totals);
    SymmetricFit<F> fit = search_symmetric<count, 32>(scales, totals);
    I halves = to_half(fit.scale);
    for (int block = 0; block < W; block++, x += SUPER, out++) {
        const float *iscale = found.iscale + block * count;
        Byte stored[count];
        searched_levels<count, -32, 31>(found.scale + block * count, fit.iscale[block], 0, stored);
        out->d = (Half)halves[block];
        float d = from_half(out->d), scaled[count];
        for (int j = 0; j < count; j++) scaled[j] = d * (float)(stored[j] - 32);
        store_q3_k(x, stored, scaled, out, [&](int j, Byte *levels) {
            searched_levels<16, -4, 3>(x + j * 16, iscale[j], 0, levels);
        });
    }
}

// x (group, 256), weights of the same shape, or null for the squares.
template <bool weighed> INLINE void quantize_q6_k(const float *x, const float *weights, Q6_K *out) {
    constexpr int count = SUPER / 16, group = GROUP<16>;
    float scales[group * count], searched[group * count], *scale = scales;
    for (int lane = 0; lane < group * count; lane += LANES) {
        Lanes lanes[16], counts[16];
        turn<16>(x + lane * 16, lanes);
        if constexpr (weighed) turn<16>(weights + lane * 16, counts);
        else for (int i = 0; i < 16; i++) counts[i] = lanes[i] * lanes[i];
        SymmetricFit<Lanes> fit = search_symmetric<16, 32>(lanes, counts);
        store(scales + lane, fit.scale);
        store(searched + lane, fit.iscale);
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
            const float *from = x + lane * 16;
            requantize<16, -32, 31>(from, scaled[j], 0, levels + j * 16);
            if (scaled[j] == 0) searched_levels<16, -32, 31>(from, searched[lane], 0, levels + j * 16);
        }
        pack_fields<4, 64>(levels, sizeof out->ql, out->ql);
        pack_fields<2, 32, 4>(levels, sizeof out->qh, out->qh);
    }
}

INLINE void quantize_q6_k(const float *x, Q6_K *out) { quantize_q6_k<false>(x, nullptr, out); }

INLINE void quantize_q6_k(const float *x, const float *weights, Q6_K *out) {
    quantize_q6_k<true>(x, weights, out);
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

// A block's scales times d, then its minimums times dmin -> out (16,).
template <class Block> INLINE void scaled_pairs(const Block *block, float *out) {
    I both[16 / W];
    widen(unpack_scales_mins(block->scales), both);
    float d = from_half(block->d), dmin = from_half(block->dmin);
    for (int i = 0; i < 16; i += W)
        store(out + i, to_float(both[i / W]) * (splat(i) + lane_numbers() < 8 ? splat(d) : splat(dmin)));
}

INLINE void dequantize_q4_k(const Q4_K *block, float *out) {
    float scaled[16];
    scaled_pairs(block, scaled);
    const Byte *packed = block->qs;
    for (int j = 0; j < 8; j += 2, packed += 32, out += 64) {
#if defined(__AVX512F__)
        // What each level stands for fits into a vector, where it can be looked up.
        const F level = to_float(lane_numbers());
        F low = scaled[j] * level - scaled[j + 8], high = scaled[j + 1] * level - scaled[j + 9];
        for (int i = 0; i < 32; i += W) {
            I some;
            widen(load<Sixteen>(packed + i), &some);
            store(out + i, look_up(low, some));
            store(out + 32 + i, look_up(high, some >> 4));
        }
#else
        Byte levels[64];
        unpack_fields<4, 32>(packed, 32, levels);
        shift<32, true>(levels, scaled[j], scaled[j + 8], out);
        shift<32, true>(levels + 32, scaled[j + 1], scaled[j + 9], out + 32);
#endif
    }
}

INLINE void dequantize_q5_k(const Q5_K *block, float *out) {
    Byte levels[SUPER];
    float scaled[16];
    scaled_pairs(block, scaled);
    unpack_fields<4, 32>(block->qs, sizeof block->qs, levels);
    unpack_fields<1, 32, 4, true>(block->qh, sizeof block->qh, levels);
    for (int j = 0; j < 8; j++)
        shift<32, true>(levels + j * 32, scaled[j], scaled[j + 8], out + j * 32);
}

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
