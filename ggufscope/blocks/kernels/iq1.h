// IQ1_S and IQ1_M: made by trying every split of the sorted weights in three. What iq1.py does.

#pragma once

#include "vectors.h"

namespace {

constexpr float DELTA = 0.125f;

// x (k, W), with their places and what they count -> sorted, of equals the earlier place first.
// Batcher's network: the same comparisons for every lane.
template <int k> INLINE void sort(F *x, I *places, F *weights) {
    for (int run = 1; run < k; run *= 2)
        for (int apart = run; apart > 0; apart /= 2)
            for (int start = apart % run; start + apart < k; start += 2 * apart)
                for (int i = start; i < start + apart && i + apart < k; i++) {
                    int j = i + apart;
                    if (i / (2 * run) != j / (2 * run)) continue;
                    F a = x[i], b = x[j], of_a = weights[i], of_b = weights[j];
                    I at_a = places[i], at_b = places[j];
                    I turned = (b < a) | ((b == a) & (at_b < at_a));
                    x[i] = turned ? b : a;
                    x[j] = turned ? a : b;
                    weights[i] = turned ? of_b : of_a;
                    weights[j] = turned ? of_a : of_b;
                    places[i] = turned ? at_b : at_a;
                    places[j] = turned ? at_a : at_b;
                }
}

// The best split so far of each lane.
struct Split {
    F best = splat(-LARGEST), scale = {};
    I first = splat(-1), second = splat(-1), minus = splat(-1);

    INLINE void take(int i, int j, int moved, F sum_qx, F sum_q2) {
        I better = (sum_q2 > 0) & (sum_qx * sum_qx > best * sum_q2);
        if (!any(better)) return;
        scale = better ? sum_qx / sum_q2 : scale;
        best = better ? scale * sum_qx : best;
        first = better ? splat(i) : first;
        second = better ? splat(j) : second;
        minus = better ? splat(moved) : minus;
    }
};

// weighted, weights (32, W), sorted: every split, all moved up or all down. Of quantize_row_iq1_s_impl.
INLINE Split split_one(const F *weighted, const F *weights, const I *) {
    constexpr int k = 32;
    F sum_x[k + 1], sum_w[k + 1], high_x[2][k + 1], high_w[2][k + 1];
    sum_x[0] = sum_w[0] = F{};
    for (int i = 0; i < k; i++) {
        sum_x[i + 1] = sum_x[i] + weighted[i];
        sum_w[i + 1] = sum_w[i] + weights[i];
    }
    for (int i = 0; i <= k; i++)
        for (int minus = 0; minus < 2; minus++) {
            float high = minus ? 1 - DELTA : 1 + DELTA;
            high_x[minus][i] = (sum_x[k] - sum_x[i]) * high;
            high_w[minus][i] = (sum_w[k] - sum_w[i]) * high * high;
        }
    Split split;
    for (int i = 0; i <= k; i++) {
        F low_x[2], low_w[2];
        for (int minus = 0; minus < 2; minus++) {
            float low = minus ? -1 - DELTA : -1 + DELTA;
            low_x[minus] = sum_x[i] * low;
            low_w[minus] = sum_w[i] * low * low;
        }
        for (int j = i; j <= k; j++) {
            F middle_x = (sum_x[j] - sum_x[i]) * DELTA, middle_w = (sum_w[j] - sum_w[i]) * DELTA * DELTA;
            split.take(i, j, 0, low_x[0] + middle_x + high_x[0][j], low_w[0] + middle_w + high_w[0][j]);
            split.take(i, j, 1, low_x[1] - middle_x + high_x[1][j], low_w[1] + middle_w + high_w[1][j]);
        }
    }
    return split;
}

// weighted, weights, places (16, W), sorted: every split, each half moved up or down. Of
// quantize_row_iq1_m_impl.
INLINE Split split_two(const F *weighted, const F *weights, const I *places) {
    constexpr int k = 16;
    constexpr float high[] = {1 + DELTA, 1 - DELTA};
    constexpr float left[] = {0.75f, 1.25f}, right[] = {-1.25f, -0.75f};  // low^2 - mid^2, mid^2 - high^2
    F sum_x[2][k + 1], sum_w[2][k + 1];
    for (int half = 0; half < 2; half++) {
        sum_x[half][0] = sum_w[half][0] = F{};
        for (int i = 0; i < k; i++) {
            I here = half ? places[i] >= k / 2 : places[i] < k / 2;
            sum_x[half][i + 1] = here ? sum_x[half][i] + weighted[i] : sum_x[half][i];
            sum_w[half][i + 1] = here ? sum_w[half][i] + weights[i] : sum_w[half][i];
        }
    }
    Split split;
    for (int i = 0; i <= k; i++)
        for (int j = i; j <= k; j++) {
            F qx[2][2], q2[2][2];
            for (int half = 0; half < 2; half++) {
                F out = sum_x[half][i] + sum_x[half][j];
                for (int minus = 0; minus < 2; minus++) {
                    qx[half][minus] = sum_x[half][k] * high[minus] - out;
                    q2[half][minus] = sum_w[half][k] * high[minus] * high[minus]
                                      + sum_w[half][i] * left[minus] + sum_w[half][j] * right[minus];
                }
            }
            for (int minus = 0; minus < 4; minus++)
                split.take(i, j, minus, qx[0][minus >> 1] + qx[1][minus & 1],
                           q2[0][minus >> 1] + q2[1][minus & 1]);
        }
    return split;
}

// x, weights (k, W) -> scale (W,) from 0, points (k / 8, W), minus (W,): which runs are moved down.
// False where ggml ends.
template <int k, int runs>
INLINE bool search_split(const Codebook &book, const F *x, const F *weights, float least, F *scale,
                         I *points, I *minus) {
    F peak = magnitude(x[0]), sorted[k], weighted[k], counts[k];
    I places[k];
    for (int i = 1; i < k; i++) peak = larger(peak, magnitude(x[i]));
    for (int i = 0; i < k; i++) {
        sorted[i] = x[i];
        counts[i] = weights[i];
        places[i] = splat(i);
    }
    sort<k>(sorted, places, counts);
    for (int i = 0; i < k; i++) weighted[i] = counts[i] * sorted[i];
    Split split = runs == 1 ? split_one(weighted, counts, places) : split_two(weighted, counts, places);

    I live = ~(peak < least) & (split.minus >= 0), below = split.scale < 0;
    F found = below ? -split.scale : split.scale;
    I moved = below ? split.minus ^ ((1 << runs) - 1) : split.minus;
    for (int v = 0; v < k / 8; v++) points[v] = I{};
    for (int i = 0; i < k; i++) {
        // A place is at or beyond a split where the lanes of `i >= first` are -1.
        I level = -(splat(i) >= split.first) - (splat(i) >= split.second);
        level = below ? 2 - level : level;
        I bits = level << (places[i] & 7) * 2;
        for (int v = 0; v < k / 8; v++) points[v] |= places[i] >> 3 == v ? bits : I{};
    }

    Rows<k> rows_x, rows_w;
    rows_x.fill(x);
    rows_w.fill(weights);
    float scales[W];
    store(scales, found);
    I off = {};
    bool made = true;
    F sum_qx = {}, sum_q2 = {};
    for (int v = 0; v < k / 8; v++) {
        I down = moved >> (runs == 1 ? 0 : 1 - v) & 1;
        for (int lane = 0; lane < W; lane++) {
            int point = points[v][lane];
            if (!live[lane] || book.place[point] >= 0) continue;
            const int from = lane * k + v * 8;
            point = nearest<2, 1>(book, point, rows_x.at + from, rows_w.at + from, scales[lane],
                                  down[lane] ? -1 - DELTA : -1 + DELTA);
            made &= point >= 0;
            points[v][lane] = point < 0 ? 0 : point;
            off[lane] = -1;
        }
        F lowest = down ? splat(-1 - DELTA) : splat(-1 + DELTA);
        for (int i = 0; i < 8; i++) {
            F q = to_float(points[v] >> 2 * i & 3) + lowest;
            sum_qx += weights[v * 8 + i] * q * x[v * 8 + i];
            sum_q2 += weights[v * 8 + i] * q * q;
        }
        points[v] &= live;
    }
    found = off & (sum_qx > 0) & (sum_q2 > 0) ? sum_qx / sum_q2 : found;
    *scale = live ? found : F{};
    *minus = moved & live;
    return made && !any(*scale != *scale);
}

INLINE bool quantize_iq1_s(const Group &group, IQ1_S *out) {
    F sigma2 = sigma2_of<2>(group), scales[8];
    I points[32], minus[8], levels[8], zero;
    for (int j = 0; j < 8; j++) {
        F x[32], weights[32];
        turn_rows<32>(group.x, j * 32, x);
        weigh<32>(group, j * 32, x, sigma2, F{}, weights);
        if (!search_split<32, 1>(group.book, x, weights, 1e-12f, scales + j, points + j * 4, minus + j))
            return false;
    }
    F d = stored_scales<8, 15, 8>(scales, levels, &zero);
    for (int lane = 0; lane < W; lane++) {
        out[lane].d = to_half(d[lane] * 1.125f);
        for (int j = 0; j < 8; j++) {
            int high = zero[lane] ? 0 : (levels[j][lane] | minus[j][lane] << 3) << 12;
            for (int i = 0; i < 4; i++) {
                int entry = group.book.place[points[j * 4 + i][lane]];
                out[lane].qs[j * 4 + i] = (Byte)entry;
                high |= entry >> 8 << 3 * i;
            }
            out[lane].qh[j] = (uint16_t)high;
        }
    }
    return true;
}

INLINE bool quantize_iq1_m(const Group &group, IQ1_M *out) {
    F sigma2 = sigma2_of<2>(group), scales[16], sum_qx = {}, sum_q2 = {};
    I points[32], minus[16], levels[16], zero;
    F x[16], weights[16];
    for (int j = 0; j < 16; j++) {
        turn_rows<16>(group.x, j * 16, x);
        weigh<16>(group, j * 16, x, sigma2, F{}, weights);
        if (!search_split<16, 2>(group.book, x, weights, 1e-7f, scales + j, points + j * 2, minus + j))
            return false;
    }
    F d = stored_scales<16, 15, 8>(scales, levels, &zero);
    // The scale of the super-block is solved for again, with all that is stored.
    for (int j = 0; j < 16; j++) {
        turn_rows<16>(group.x, j * 16, x);
        weigh<16>(group, j * 16, x, sigma2, F{}, weights);
        F scale = to_float(2 * levels[j] + 1);
        for (int i = 0; i < 16; i++) {
            I down = minus[j] >> (1 - i / 8) & 1;
            F lowest = down ? splat(-1 - DELTA) : splat(-1 + DELTA);
            F q = (to_float(points[j * 2 + i / 8] >> i % 8 * 2 & 3) + lowest) * scale;
            sum_qx += weights[i] * q * x[i];
            sum_q2 += weights[i] * q * q;
        }
    }
    d = sum_q2 > 0 ? sum_qx / sum_q2 : d;
    for (int lane = 0; lane < W; lane++) {
        uint16_t words[4], bits = to_half(d[lane] * 1.1125f);
        for (int part = 0; part < 4; part++) {
            words[part] = (uint16_t)((bits >> 4 * part & 15) << 12);
            for (int i = 0; i < 4; i++) words[part] |= levels[part * 4 + i][lane] << 3 * i;
        }
        for (int j = 0; j < 16; j++) {
            int one = group.book.place[points[j * 2][lane]], two = group.book.place[points[j * 2 + 1][lane]];
            int down = zero[lane] ? 0 : minus[j][lane];
            out[lane].qs[j * 2] = (Byte)one;
            out[lane].qs[j * 2 + 1] = (Byte)two;
            out[lane].qh[j] = (Byte)(one >> 8 | down >> 1 << 3 | two >> 8 << 4 | (down & 1) << 7);
        }
        if (zero[lane]) memset(words, 0, sizeof words);
        memcpy(out[lane].scales, words, sizeof words);
    }
    return true;
}

}  // namespace
