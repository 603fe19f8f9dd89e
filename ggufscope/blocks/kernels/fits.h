// The searches for a scale: qkx2, qx and q3. What they search, and how, is told in fits.py.
//
// x is (k, W), one sub-block a lane. The quick form rounds by adding MAGIC and clamps the float; the
// careful one reads the bits as ggml does, and keeps the levels.

#pragma once

#include "ordered.h"
#include "packing.h"

namespace {

constexpr float ALL_ZERO = 1e-15f;

// Round t to a level in [low, high].
template <bool careful, int low, int high> INLINE F nearest_level(F t) {
    if (careful) return to_float(smaller(larger(nearest_int(t), splat(low)), splat(high)));
    return smaller(larger(t + MAGIC, splat(MAGIC + low)), splat(MAGIC + high)) - MAGIC;
}

// x (k,) -> levels (k,): round((x + m) / d) - low, clamped. The last rounding of every K-quant.
template <int k, int low, int high, bool shifted = false>
INLINE void requantize(const float *x, float d, float m, Byte *levels) {
    for (int i = 0; i < k; i += W) {
        F t = shifted ? load(x + i) + m : load(x + i);
        I level = smaller(larger(nearest_int(t / d), splat(low)), splat(high)) - low;
        store(levels + i, to<Bytes>(level));
    }
}

struct Fit {
    F scale, minimum;
    I leaving;  // lanes that may have left the range of the quick form
};

// x, weights (k, W) -> scale, minimum <= 0 (W,). `make_qkx2_quants`.
template <class Search, bool careful>
INLINE Fit qkx2(const F *x, const F *weights, F *kept) {
    constexpr int k = Search::k, top = Search::top;
    const F zero = {};
    F low = smallest<k>(x), high = largest<k>(x);
    F minimum = low > 0 ? zero : low;
    F spread = high - minimum, thinnest = spread, thickest = spread, bound = spread * 0x1p-16f;
    I flat = high == minimum;
    F sum_w = {}, sum_x = {};
    for (int i = 0; i < k; i++) {
        sum_w += weights[i];
        sum_x += weights[i] * x[i];
    }
    F levels[k];

    auto misfit = [&](F scale, F minimum) {
        F sum = {};
        for (int i = 0; i < k; i++) {
            F error = levels[i] * scale + minimum - x[i];
            sum += (Search::absolute ? magnitude(error) : error * error) * weights[i];
        }
        return sum;
    };

    F iscale = (float)top / spread;
    for (int i = 0; i < k; i++) levels[i] = nearest_level<careful, 0, top>((x[i] - minimum) * iscale);
    F scale = 1.f / iscale, best = misfit(scale, minimum);
    if (careful) memcpy(kept, levels, sizeof levels);
    for (int step = 0; step <= Search::last; step++) {
        iscale = (Search::first + Search::step * (float)step + (float)top) / spread;
        F sum_l = {}, sum_l2 = {}, sum_xl = {};
        for (int i = 0; i < k; i++) {
            levels[i] = nearest_level<careful, 0, top>((x[i] - minimum) * iscale);
            F weighted = weights[i] * levels[i];
            sum_l += weighted;
            sum_l2 += weighted * levels[i];
            sum_xl += weighted * x[i];
        }
        F det = sum_w * sum_l2 - sum_l * sum_l;
        F new_scale = (sum_w * sum_xl - sum_x * sum_l) / det;
        F new_minimum = (sum_l2 * sum_x - sum_l * sum_xl) / det;
        I above = new_minimum > 0;
        new_scale = above ? sum_xl / sum_l2 : new_scale;
        new_minimum = above ? zero : new_minimum;
        F error = misfit(new_scale, new_minimum);
        I better = (det > 0) & (error < best);
        best = better ? error : best;
        scale = better ? new_scale : scale;
        minimum = better ? new_minimum : minimum;
        if (careful)
            for (int i = 0; i < k; i++) kept[i] = better ? levels[i] : kept[i];
        spread = high - minimum;  // the next try starts from the new minimum
        thinnest = smaller(spread, thinnest);
        thickest = larger(spread, thickest);
    }
    if (careful)
        for (int i = 0; i < k; i++) kept[i] = flat ? zero : kept[i];
    I inside = (thinnest >= bound) & (thinnest > 1e-30f) & (thickest < 1e38f)
             & (magnitude(sum_x) <= LARGEST);
    return {flat ? zero : scale, minimum, ~(inside | flat)};
}

// x (k, W) -> scale (W,), for levels [-top, top - 1]. `make_qx_quants` of rmse type 1.
template <int k, int top, bool careful> INLINE F qx(const F *x, F *kept) {
    const F zero = {};
    F most = extreme<k>(x);
    F weights[k], weighted[k], levels[k], sum_lx, sum_l2;
    for (int i = 0; i < k; i++) {
        weights[i] = x[i] * x[i];
        weighted[i] = weights[i] * x[i];
    }

    auto fit = [&](float factor) {
        F iscale = -factor / most;
        sum_lx = sum_l2 = zero;
        for (int i = 0; i < k; i++) {
            F level = nearest_level<careful, -top, top - 1>(x[i] * iscale);
            sum_lx += weighted[i] * level;
            sum_l2 += weights[i] * level * level;
            if (careful) levels[i] = level;
        }
    };

    fit(top);
    F scale = sum_l2 != 0 ? sum_lx / sum_l2 : zero;
    F best = scale * sum_lx;
    if (careful) memcpy(kept, levels, sizeof levels);
    for (int step = -9; step <= 9; step++) {
        if (step == 0) continue;
        fit((float)top + 0.1f * (float)step);
        I better = (sum_l2 > 0) & (sum_lx * sum_lx > best * sum_l2);
        scale = better ? sum_lx / sum_l2 : scale;
        best = better ? scale * sum_lx : best;
        if (careful)
            for (int i = 0; i < k; i++) kept[i] = better ? levels[i] : kept[i];
    }
    I nothing = magnitude(most) < ALL_ZERO;
    if (careful)
        for (int i = 0; i < k; i++) kept[i] = nothing ? zero : kept[i] + (float)top;
    return nothing ? zero : scale;
}

// x (k, W) -> scale (W,), levels + top (k, W). `make_q3_quants` with rmse: a descent by coordinates.
template <int k, int top> INLINE F q3(const F *x, F *levels) {
    const F zero = {};
    F most = extreme<k>(x), iscale = (float)-top / most;
    F sum_lx = {}, sum_l2 = {};
    for (int i = 0; i < k; i++) {
        F weight = x[i] * x[i];
        levels[i] = nearest_level<true, -top, top - 1>(x[i] * iscale);
        sum_lx += weight * x[i] * levels[i];
        sum_l2 += weight * levels[i] * levels[i];
    }
    I changed = splat(-1);
    for (int round = 0; round < 5 && any(changed); round++) {
        changed = I{};
        for (int i = 0; i < k; i++) {
            F weight = x[i] * x[i], weighted = weight * x[i];
            F lx = sum_lx - weighted * levels[i];
            F l2 = sum_l2 - weight * levels[i] * levels[i];
            F level = nearest_level<true, -top, top - 1>(x[i] * l2 / lx);
            I moved = (lx > 0) & (level != levels[i]);
            lx += weighted * level;
            l2 += weight * level * level;
            moved &= (l2 > 0) & (lx * lx * sum_l2 > sum_lx * sum_lx * l2);
            levels[i] = moved ? level : levels[i];
            sum_lx = moved ? lx : sum_lx;
            sum_l2 = moved ? l2 : sum_l2;
            changed |= moved;
        }
    }
    I nothing = magnitude(most) < ALL_ZERO;
    for (int i = 0; i < k; i++) levels[i] = nothing ? zero : levels[i] + (float)top;
    return nothing ? zero : (sum_l2 > 0 ? sum_lx / sum_l2 : zero);
}

}  // namespace
