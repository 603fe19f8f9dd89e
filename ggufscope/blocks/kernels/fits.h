// The searches for a scale: qkx2, qx, qp and q3. What they search, and how, is told in fits.
//
// x is (k, lanes), one sub-block a lane. The quick form rounds by adding MAGIC and clamps the float;
// the careful one reads the bits as ggml does.

#pragma once

#include "ordered.h"
#include "packing.h"

namespace {

constexpr float ALL_ZERO = 1e-15f;

// Super-blocks whose sub-blocks of k weights fill the lanes of a search.
template <int k, class V = Lanes>
constexpr int GROUP = lanes_in<V> * k > SUPER ? lanes_in<V> * k / SUPER : 1;
template <int k> constexpr int GROUP_OF_MANY = GROUP<k, Many>;

// Round t to a level in [low, high]. Where the largest weight gets no more than its level and a
// half, and so nothing is `beyond`, one comparison is spared: with the top one where there is a
// minimum, with the bottom one where the largest weight, of either sign, is given the far end.
template <bool careful, int low, int high> INLINE F nearest_level(F t, bool beyond = true) {
    if (careful) return to_float(smaller(larger(nearest_int(t), splat(low)), splat(high)));
    t += MAGIC;
    if (low == 0 || beyond) t = larger(t, splat(MAGIC + low));
    if (low != 0 || beyond) t = smaller(t, splat(MAGIC + high));
    return t - MAGIC;
}

template <bool careful, int low, int high, class V>
INLINE Two<V> nearest_level(Two<V> t, bool beyond) {
    return {nearest_level<careful, low, high>(t.one, beyond),
            nearest_level<careful, low, high>(t.two, beyond)};
}

// x (k,) -> levels (k,): round((x + m) / d) - low, clamped. The last rounding of every K-quant.
template <int k, int low, int high, bool shifted = false>
INLINE void requantize(const float *x, float d, float m, Byte *levels) {
    write_levels<k, true>(levels, [&](int i) {
        F t = shifted ? load(x + i) + m : load(x + i);
        I level = nearest_bits(t / d);
        return smaller(larger(level, splat(NO_INT + low)), splat(NO_INT + high)) - (NO_INT + low);
    });
}

template <class V> struct Fit {
    V scale, minimum, iscale, start;  // see `AffineFit`
    typename V::Truth leaving;        // lanes that may have left the range of the quick form
};

// x, weights (k, lanes) -> the fit of each lane. `make_qkx2_quants`, `make_qkx3_quants`.
template <class Search, bool careful, class V> INLINE Fit<V> qkx2(const V *x, const V *weights) {
    typedef typename V::Truth Truth;
    constexpr int k = Search::k, top = Search::top;
    const V zero = {};
    V low = smallest<k>(x), high = largest<k>(x);
    V minimum = choose(low > 0, zero, low), start = minimum;
    V spread = high - minimum, thinnest = spread, thickest = spread, bound = spread * 0x1p-16f;
    Truth flat = high == minimum;
    V sum_w = {}, sum_x = {};
    for (int i = 0; i < k; i++) {
        sum_w += weights[i];
        sum_x += weights[i] * x[i];
    }
    V levels[k];

    auto misfit = [&](V scale, V minimum) {
        V sum = {};
        for (int i = 0; i < k; i++) {
            V error = levels[i] * scale + minimum - x[i];
            sum += (Search::absolute ? magnitude(error) : error * error) * weights[i];
        }
        return sum;
    };

    V iscale = (float)top / spread, kept = iscale;
    for (int i = 0; i < k; i++) levels[i] = nearest_level<careful, 0, top>((x[i] - minimum) * iscale, false);
    V scale = 1.f / iscale, best = misfit(scale, minimum);
    for (int step = 0; step <= Search::last; step++) {
        float factor = Search::first + Search::step * (float)step + (float)top;
        bool beyond = factor > top + 0.49f;
        iscale = factor / spread;
        V sum_l = {}, sum_l2 = {}, sum_xl = {};
        for (int i = 0; i < k; i++) {
            levels[i] = nearest_level<careful, 0, top>((x[i] - minimum) * iscale, beyond);
            V weighted = weights[i] * levels[i];
            sum_l += weighted;
            sum_l2 += weighted * levels[i];
            sum_xl += weighted * x[i];
        }
        V det = sum_w * sum_l2 - sum_l * sum_l;
        V new_scale = (sum_w * sum_xl - sum_x * sum_l) / det;
        V new_minimum = (sum_l2 * sum_x - sum_l * sum_xl) / det;
        Truth above = new_minimum > 0;
        if (any(above)) {
            new_scale = choose(above, sum_xl / sum_l2, new_scale);
            new_minimum = choose(above, zero, new_minimum);
        }
        V error = misfit(new_scale, new_minimum);
        Truth better = (det > 0) & (error < best);
        best = choose(better, error, best);
        scale = choose(better, new_scale, scale);
        kept = choose(better, iscale, kept);
        start = choose(better, minimum, start);
        minimum = choose(better, new_minimum, minimum);
        spread = high - minimum;  // the next try starts from the new minimum
        thinnest = smaller(spread, thinnest);
        thickest = larger(spread, thickest);
    }
    Truth inside = (thinnest >= bound) & (thinnest > 1e-30f) & (thickest < 1e38f)
             & (magnitude(sum_x) <= LARGEST);
    return {choose(flat, zero, scale), minimum, choose(flat, zero, kept), start, ~(inside | flat)};
}

template <class Search, class V> APART Fit<V> search_affine(const V *x, const V *weights) {
    Fit<V> fit = qkx2<Search, false>(x, weights);
    return any(fit.leaving) ? qkx2<Search, true>(x, weights) : fit;
}

// What every format asks of qkx2 where columns have an importance: see `by_importance`.
template <int k_, int top_> struct ByImportance {
    static constexpr int k = k_, top = top_, last = 36;
    static constexpr float first = -0.9f, step = 0.05f;
    static constexpr bool absolute = false, weighed = true;
};

template <class V> struct SymmetricFit {
    V scale, iscale;
    decltype(V{} > V{}) leaving;
};

// x, weights (k, lanes) -> the fit of each lane, for levels [-top, top - 1]. `make_qx_quants`.
template <int k, int top, bool careful, class V>
INLINE SymmetricFit<V> qx(const V *x, const V *weights) {
    const V zero = {}, all = zero + (float)top;
    V most = extreme<k>(x);
    V weighted[k], sum_lx, sum_l2;
    for (int i = 0; i < k; i++) weighted[i] = weights[i] * x[i];

    auto fit = [&](float factor) {
        V iscale = -factor / most;
        bool beyond = factor > top + 0.49f;
        sum_lx = sum_l2 = zero;
        for (int i = 0; i < k; i++) {
            V level = nearest_level<careful, -top, top - 1>(x[i] * iscale, beyond);
            sum_lx += weighted[i] * level;
            sum_l2 += weights[i] * level * level;
        }
    };

    fit(top);
    auto lost = ~(magnitude(sum_lx) <= LARGEST);  // only where x is a NaN, infinite or huge
    V scale = choose(sum_l2 != 0, sum_lx / sum_l2, zero);
    V best = scale * sum_lx, kept = all;
    for (int step = -9; step <= 9; step++) {
        if (step == 0) continue;
        float factor = (float)top + 0.1f * (float)step;
        fit(factor);
        auto better = (sum_l2 > 0) & (sum_lx * sum_lx > best * sum_l2);
        scale = choose(better, sum_lx / sum_l2, scale);
        best = choose(better, scale * sum_lx, best);
        kept = choose(better, zero + factor, kept);
    }
    auto nothing = magnitude(most) < ALL_ZERO;
    V iscale = choose(nothing, zero + NAN, -kept / most);
    return {choose(nothing, zero, scale), iscale, lost & ~nothing};
}

template <int k, int top, class V>
APART SymmetricFit<V> search_symmetric(const V *x, const V *weights) {
    SymmetricFit<V> fit = qx<k, top, false>(x, weights);
    return any(fit.leaving) ? qx<k, top, true>(x, weights) : fit;
}

// x (k,) of one lane -> levels - low (k,) that a search ended with. None was, where iscale is a NaN.
template <int k, int low, int high>
INLINE void searched_levels(const float *x, float iscale, float start, Byte *levels) {
    if (iscale != iscale) return (void)memset(levels, 0, k);
    write_levels<k>(levels, [&](int i) {
        I level = nearest_int((load(x + i) - start) * iscale);
        return smaller(larger(level, splat(low)), splat(high)) - low;
    });
}

INLINE F nearest_up_to(F t, int high) { return to_float(smaller(nearest_int(t), splat(high))); }
INLINE Lanes nearest_up_to(Lanes t, int high) {
    return {nearest_up_to(t.one, high), nearest_up_to(t.two, high)};
}
INLINE F low_byte(F level) { return to_float(truncate(level) & 255); }
INLINE Lanes low_byte(Lanes level) { return {low_byte(level.one), low_byte(level.two)}; }

// x, weights (k, lanes) -> scale (lanes,), levels (k, lanes), which are bytes. `make_qp_quants`.
template <int k, int top, class V> INLINE V qp(const V *x, const V *weights, V *levels) {
    const V zero = {};
    constexpr int anything = 1 << 23;
    V most = zero;
    for (int i = 0; i < k; i++) most = larger(most, x[i]);
    auto nothing = most < ALL_ZERO;

    auto misfit = [&](V iscale, bool first) {
        V scale = 1.f / iscale, sum = zero;
        for (int i = 0; i < k; i++) {
            V level = nearest_up_to(x[i] * iscale, first ? anything : top);
            V error = x[i] - scale * (first ? low_byte(level) : level);
            sum += weights[i] * error * error;
        }
        return sum;
    };

    V iscale = (float)top / most, best = misfit(iscale, true);
    for (int step = -4; step <= 4; step++) {
        if (step == 0) continue;
        V tried = (0.1f * (float)step + (float)top) / most, error = misfit(tried, false);
        auto better = error < best;
        best = choose(better, error, best);
        iscale = choose(better, tried, iscale);
    }
    V weighted[k], sum_lx = zero, sum_l2 = zero;
    for (int i = 0; i < k; i++) {
        V level = nearest_up_to(x[i] * iscale, top);
        weighted[i] = weights[i] * x[i];
        sum_lx += weighted[i] * level;
        sum_l2 += weights[i] * level * level;
        levels[i] = low_byte(level);
    }
    auto changed = zero == zero;
    for (int round = 0; round < 5 && any(changed); round++) {
        changed = zero != zero;
        for (int i = 0; i < k; i++) {
            V lx = sum_lx - weighted[i] * levels[i];
            V l2 = sum_l2 - weights[i] * levels[i] * levels[i];
            V level = nearest_up_to(x[i] * l2 / lx, top);
            auto moved = (lx > 0) & (l2 > 0) & (level != levels[i]);
            lx += weighted[i] * level;
            l2 += weights[i] * level * level;
            moved = moved & (lx * lx * sum_l2 > sum_lx * sum_lx * l2);
            levels[i] = choose(moved, low_byte(level), levels[i]);
            sum_lx = choose(moved, lx, sum_lx);
            sum_l2 = choose(moved, l2, sum_l2);
            changed = changed | moved;
        }
    }
    for (int i = 0; i < k; i++) levels[i] = choose(nothing, zero, levels[i]);
    return choose(nothing | ~(sum_l2 > 0), zero, sum_lx / sum_l2);
}

// Where a weight may get another level than it has. No weight that surely stays needs a division.
template <int top> INLINE I may_move(F v, F level, F sum_lx, F sum_l2) {
    F weight = v * v, lx = sum_lx - weight * v * level, l2 = sum_l2 - weight * level * level;
    F off = v * l2 - level * lx, reach = lx * 0.4999f;  // of v * l2 / lx - level
    I below = (off < reach) | (level == (float)(top - 1));
    I above = (off > -reach) | (level == (float)-top);
    return (lx > 0) & ~(below & above);
}

// x (count, k) -> scales (count,), levels + top (count, k) if careful. `make_q3_quants` with rmse: a
// descent by coordinates. Where the largest weight is positive, every level has the sign that its
// weight has not, and ggml moves none. Of the other sub-blocks, more than half stay, and few move
// more than two weights. So each goes from one weight that may move to the next, and those that
// wait for a new level fill the lanes together.
template <int k, int top, int count, bool careful>
INLINE void q3(const float *x, float *scales, float *levels) {
    static_assert(count <= 256);
    struct Descent {
        Byte row, next, round;  // next: the weight to look at
        bool changed;           // in this round
    } descents[count];
    float sum_lx[count], sum_l2[count], first[count];
    int left = 0;
    for (int row = 0; row < count; row += W) {
        F lanes[k], lx = {}, l2 = {};
        turn<k>(x + row * k, lanes);
        F most = extreme<k>(lanes), iscale = (float)-top / most;
        I scaled = (magnitude(most) >= ALL_ZERO) & (magnitude(most) <= LARGEST);
        for (int i = 0; i < k; i++) {
            F level = nearest_level<false, -top, top - 1>(lanes[i] * iscale, false);
            F weight = lanes[i] * lanes[i];
            lx += weight * lanes[i] * level;
            l2 += weight * level * level;
        }
        store(first + row, iscale);
        store(sum_lx + row, scaled ? lx : F{});
        store(sum_l2 + row, scaled ? l2 : F{});
    }
    for (int row = 0; row < count; row++) {
        descents[left] = {(Byte)row, 0, 0, false};
        left += sum_lx[row] > 0;
    }
    for (int n = 0; n < (careful ? count : left); n++) {
        int row = careful ? n : descents[n].row;
        for (int i = row * k; i < (row + 1) * k; i += W)
            store(levels + i, nearest_level<careful, -top, top - 1>(load(x + i) * first[row], false));
    }
    while (left > 0) {
        float v[count], from[count], old_lx[count], old_l2[count];
        int waiting = 0;
        for (int n = 0; n < left; n++) {
            Descent at = descents[n];
            const float *row = x + at.row * k, *level = levels + at.row * k;
            F lx = splat(sum_lx[at.row]), l2 = splat(sum_l2[at.row]);
            unsigned found = 0;
            for (int i = 0; i < k; i += W)
                found |= lanes_of(may_move<top>(load(row + i), load(level + i), lx, l2)) << i;
            unsigned later = found >> at.next << at.next;
            bool ends = !later;  // the round
            bool over = (at.changed == false) | (at.round == 4);
            bool stays = (found == 0) | (ends & over);  // without a branch, which nobody can predict
            at.round = (Byte)(at.round + ends);
            at.changed &= !ends;
            int place = __builtin_ctz((ends ? found : later) | 1 << (k - 1));
            at.next = (Byte)(place + 1);
            v[waiting] = row[place];
            from[waiting] = level[place];
            old_lx[waiting] = lx[0];
            old_l2[waiting] = l2[0];
            descents[waiting] = at;
            waiting += !stays;
        }
        left = waiting;
        for (int start = 0; start < left; start += W) {
            F at = load(v + start), level = load(from + start), weight = at * at;
            F was_lx = load(old_lx + start), was_l2 = load(old_l2 + start);
            F lx = was_lx - weight * at * level, l2 = was_l2 - weight * level * level;
            F to = nearest_level<true, -top, top - 1>(at * l2 / lx);
            lx += weight * at * to;
            l2 += weight * to * to;
            I moved = (to != level) & (l2 > 0) & (lx * lx * was_l2 > was_lx * was_lx * l2);
            for (int n = start; n < start + W && n < left; n++) {
                if (!moved[n - start]) continue;
                Descent &each = descents[n];
                each.changed = true;
                levels[each.row * k + each.next - 1] = to[n - start];
                sum_lx[each.row] = lx[n - start];
                sum_l2[each.row] = l2[n - start];
            }
        }
    }
    for (int row = 0; row < count; row += W) {
        F lx = load(sum_lx + row), l2 = load(sum_l2 + row);
        store(scales + row, l2 > 0 ? lx / l2 : F{});
    }
    for (int i = 0; careful && i < count * k; i += W) store(levels + i, load(levels + i) + (float)top);
}

}  // namespace
