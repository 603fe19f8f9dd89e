// Vectors out of a grid: the search of IQ2 and IQ3, and what IQ1 shares. What fits/vectors.py does.
//
// A super-block is a lane: W of them are searched side by side, a sub-block after the other.

#pragma once

#include "fits.h"
#include "neighbours.h"

namespace {

// W super-blocks: where their weights are, and the importance of their columns, or null.
struct Group {
    const float *x[W], *importance[W];
    bool weighed;
    Codebook book;
};

// rows (W,) of at least k numbers from `from` on -> lanes (k, W).
template <int k> INLINE void turn_rows(const float *const *rows, int from, F *lanes) {
    for (int start = 0; start < k; start += W) {
        float tile[W * W];
        for (int i = 0; i < W; i++) store(tile + i * W, load(rows[i] + from + start));
        turn<W>(tile, lanes + start);
    }
}

// lanes (k, W) -> rows (W, k), with SLACK behind them.
template <int k> struct Rows {
    float at[W * k + SLACK];

    INLINE void fill(const F *lanes) {
        float tile[W * W];
        F turned[W];
        for (int start = 0; start < k; start += W) {
            memcpy(tile, lanes + start, sizeof tile);
            turn<W>(tile, turned);
            for (int i = 0; i < W; i++) store(at + i * k + start, turned[i]);
        }
    }
};

// -> (W,): `times` the mean square of each super-block.
template <int times> INLINE F sigma2_of(const Group &group) {
    F sum = {}, lanes[W];
    for (int start = 0; start < SUPER; start += W) {
        turn_rows<W>(group.x, start, lanes);
        for (int i = 0; i < W; i++) sum += lanes[i] * lanes[i];
    }
    return (float)times * sum / (float)SUPER;
}

// x (k, W), the sub-block from column `from` on -> weights (k, W): what each counts. Where there is
// no importance a weight counts x * x, and `flat` more.
template <int k>
INLINE void weigh(const Group &group, int from, const F *x, F sigma2, F flat, F *weights) {
    if (!group.weighed) {
        for (int i = 0; i < k; i++) weights[i] = flat + x[i] * x[i];
        return;
    }
    turn_rows<k>(group.importance, from, weights);
    for (int i = 0; i < k; i++) weights[i] *= square_root(sigma2 + x[i] * x[i]);
}

// How a format searches: as `Search` of fits/vectors.py.
enum class Again { ALL, OFF_GRID, IF_ANY };

template <int length_, int bits_, int steps_, bool even_, Again again_> struct Search {
    static constexpr int length = length_, bits = bits_, steps = steps_;
    static constexpr bool even = even_, by_qp = again_ == Again::ALL;
    static constexpr Again again = again_;
    static constexpr int levels = bits == 2 ? 3 : 8, of = bits == 2 ? 8 : 4;  // of: a vector's weights
    static constexpr int top = levels - 1, vectors = length / of, subs = SUPER / length;
    float step, least;
};

// What is found of W super-blocks. A sub-block that is not live is stored as zeros.
template <class S> struct Fitted {
    F scales[S::subs];
    I live[S::subs];
    I points[SUPER / S::of], signs[SUPER / 8];
};

// x, weights (k, W) -> values (k, W), which are x without signs, and signs (k / 8, W).
template <int k, bool even>
INLINE void magnitudes(const F *x, const F *weights, F *values, I *signs) {
    for (int v = 0; v < k; v += 8) {
        I minus = {}, odd = {}, least = {};
        F lowest = weights[v] * x[v] * x[v];
        for (int i = 0; i < 8; i++) {
            I below = ~(x[v + i] >= 0);
            values[v + i] = below ? -x[v + i] : x[v + i];
            minus |= below & 1 << i;
            odd ^= below;
            F cost = weights[v + i] * x[v + i] * x[v + i];
            I less = cost < lowest;
            lowest = less ? cost : lowest;
            least = less ? splat(i) : least;
        }
        for (int i = 0; even && i < 8; i++) {
            I change = odd & (least == i);
            values[v + i] = change ? -values[v + i] : values[v + i];
            minus ^= change & 1 << i;
        }
        signs[v / 8] = minus;
    }
}

// The search for one sub-block of each lane: weights (k, W) and what they count.
template <class S> struct Searched {
    static constexpr int k = S::length, vectors = S::vectors;
    const Codebook &book;
    const F *x, *weights;
    Rows<k> values, roots;
    F weighted[k], sum_qx, sum_q2;
    bool made = true;

    INLINE Searched(const Codebook &book, const F *x, const F *weights)
        : book(book), x(x), weights(weights) {
        F root[k];
        for (int i = 0; i < k; i++) {
            root[i] = square_root(weights[i]);
            weighted[i] = weights[i] * x[i];
        }
        values.fill(x);
        roots.fill(root);
    }

    // Round the vectors of the lanes `where`: points (vectors, W), and which are no entries.
    INLINE void round(F inverse, F scale, const I *where, I *points, I *off) {
        float scales[W];
        store(scales, scale);
        for (int v = 0; v < vectors; v++) {
            I point = {};
            for (int i = 0; i < S::of; i++) {
                I level = nearest_int(0.5f * (inverse * x[v * S::of + i] - 1.f));
                point |= smaller(larger(level, I{}), splat(S::top)) << S::bits * i;
            }
            int32_t at[W], outside[W] = {}, asked[W];
            store(at, point);
            store(asked, where[v]);
            for (int lane = 0; lane < W; lane++) {
                if (!asked[lane] || book.place[at[lane]] >= 0) continue;
                const int from = lane * k + v * S::of;
                int found = nearest<S::bits, 2>(book, at[lane], values.at + from, roots.at + from,
                                                scales[lane], 1.f);
                made &= found >= 0;
                at[lane] = found < 0 ? 0 : found;
                outside[lane] = -1;
            }
            points[v] = load<I>(at);
            off[v] = load<I>(outside);
        }
    }

    INLINE void sum(const I *points) {
        sum_qx = sum_q2 = F{};
        for (int i = 0; i < k; i++) {
            I level = points[i / S::of] >> i % S::of * S::bits & ((1 << S::bits) - 1);
            F q = to_float(2 * level + 1);
            sum_qx += weighted[i] * q;
            sum_q2 += weights[i] * q * q;
        }
    }
};

// x, weights (k, W) -> scale (W,) from 0, points (vectors, W), signs (k / 8, W) of one sub-block.
// False where ggml ends.
template <class S>
INLINE bool search(const S &how, const Codebook &book, const F *x, const F *weights, F *scale,
                   I *searched, I *points, I *signs) {
    constexpr int k = S::length, vectors = S::vectors;
    F values[k];
    magnitudes<k, S::even>(x, weights, values, signs);
    F peak = values[0];
    for (int i = 1; i < k; i++) peak = larger(peak, values[i]);
    I live = how.least == 0 ? peak != 0 : ~(peak < how.least);
    F found = peak / (float)(2 * S::top + 1);
    if constexpr (S::by_qp) {
        F levels[k];
        found = qp<k, S::levels + 1>(values, weights, levels);
        peak = found * (float)S::levels;
        live &= ~(peak <= 0);
    }

    *searched = live;
    Searched<S> part(book, values, weights);
    F best = {};
    I asked[vectors], tried[vectors], off[vectors], kept_off[vectors];
    for (int v = 0; v < vectors; v++) {
        asked[v] = live;
        points[v] = I{};
        kept_off[v] = S::again == Again::IF_ANY ? splat(-1) : I{};
    }
    for (int step = -S::steps; step <= S::steps; step++) {
        F inverse = ((float)(2 * S::levels - 1) + (float)step * how.step) / peak;
        part.round(inverse, 1.f / inverse, asked, tried, off);
        part.sum(tried);
        F sum_qx = part.sum_qx, sum_q2 = part.sum_q2;
        I better = (sum_q2 > 0) & (sum_qx * sum_qx > best * sum_q2);
        found = better ? sum_qx / sum_q2 : found;
        best = better ? found * sum_qx : best;
        for (int v = 0; v < vectors; v++) {
            points[v] = better ? tried[v] : points[v];
            kept_off[v] = better ? off[v] : kept_off[v];
        }
    }
    I some = {};
    for (int v = 0; v < vectors; v++) some |= kept_off[v];
    if (S::again == Again::ALL) some = splat(-1);
    some &= live & (found > 0);
    for (int v = 0; v < vectors; v++) asked[v] = S::again == Again::OFF_GRID ? some & kept_off[v] : some;
    part.round(1.f / found, found, asked, tried, off);
    for (int v = 0; v < vectors; v++) points[v] = asked[v] ? tried[v] : points[v];
    part.sum(points);
    found = some & (part.sum_q2 > 0) ? part.sum_qx / part.sum_q2 : found;

    I below = found < 0;
    for (int i = 0; i < k / 8; i++) signs[i] = (signs[i] ^ (below & 255)) & live;
    for (int v = 0; v < vectors; v++) points[v] &= live;
    *scale = live ? (below ? -found : found) : F{};
    return part.made && !any(*scale != *scale);
}

template <class S, int times>
INLINE bool fit_vectors(const S &how, const Group &group, float flat, Fitted<S> &fitted) {
    F sigma2 = sigma2_of<times>(group);
    bool made = true;
    for (int j = 0; j < S::subs; j++) {
        F x[S::length], weights[S::length];
        turn_rows<S::length>(group.x, j * S::length, x);
        weigh<S::length>(group, j * S::length, x, sigma2, flat ? flat * sigma2 : F{}, weights);
        made &= search(how, group.book, x, weights, fitted.scales + j, fitted.live + j,
                       fitted.points + j * S::vectors, fitted.signs + j * S::length / 8);
    }
    return made;
}

// scales (subs, W) -> d (W,), which makes the largest `top`; levels (subs, W), each for
// d * (2 * l + 1); and which super-blocks are zeros (W,).
template <int subs, int top, int count>
INLINE F stored_scales(const F *scales, I *levels, I *zero) {
    F most = scales[0];
    for (int j = 1; j < subs; j++) most = larger(scales[j], most);
    F d = most / (float)top, inverse = 1.f / d;
    *zero = most == 0;
    for (int j = 0; j < subs; j++) {
        I level = nearest_int(0.5f * (inverse * scales[j] - 1.f));
        levels[j] = ~*zero & smaller(larger(level, I{}), splat(count - 1));
    }
    return *zero ? F{} : d;
}

}  // namespace
