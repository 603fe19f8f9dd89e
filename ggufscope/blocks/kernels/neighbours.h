// The entry of a grid that fits best among the neighbours of a point. What neighbours.py tells of.
//
// A level at a place costs the same in every entry. So the costs of all levels at all places, 32
// numbers, are worked out first, and what an entry costs is the sum of 4 or 8 of them.

#pragma once

#include "ordered.h"
#include "packing.h"

namespace {

// The way from a point to entries, made in Python: see `Codebook` there.
struct Codebook {
    const int32_t *place;
    const uint16_t *near;
};

constexpr int COSTS = 32;
constexpr int SLACK = 16;  // floats behind the last of an array that `nearest` may read

#if defined(__AVX512F__)
INLINE F pick(F table, I index) { return (F)_mm512_permutexvar_ps((__m512i)index, (__m512)table); }
#elif defined(__AVX2__)
INLINE F pick(F table, I index) { return (F)_mm256_permutevar8x32_ps((__m256)table, (__m256i)index); }
#endif

// x, weights (8,) or (4,), with SLACK behind them, and the point they were rounded to -> the point
// of the best entry, or -1 where no cost is a number below LARGEST. Level l stands for
// lowest + step * l; the cost is weight * (scale * level - x)**2, and of equals the first is taken.
template <int bits, int step>
INLINE int nearest(const Codebook &book, int point, const float *x, const float *weights,
                   float scale, float lowest) {
    constexpr int length = bits == 2 ? 8 : 4, mask = (1 << bits) - 1;
    const uint16_t *list = book.near + ~book.place[point];
    int count = *list++;
#if defined(__AVX2__)
    F costs[COSTS / W];
    for (int t = 0; t < COSTS / W; t++) {
        I number = lane_numbers() + t * W;
        F level = to_float(number & mask) * (float)step + lowest;
        F gap = scale * level - pick(load(x), number >> bits);
        costs[t] = pick(load(weights), number >> bits) * gap * gap;
    }
    F best = splat(LARGEST);
    I rank = {};
    for (int start = 0; start < count; start += W) {
        I entry = to_int(load<Shorts>(list + start)), here = lane_numbers() + start;
        F cost = pick(costs[0], entry & mask);
        for (int i = 1; i < length; i++) {
            I digit = entry >> bits * i & mask;
            cost += pick(costs[(i << bits) / W], digit | ((i << bits) % W));
        }
        I better = (cost < best) & (here < count);
        best = better ? cost : best;
        rank = better ? here : rank;
    }
    F least = across(best, [](F a, F b) { return smaller(a, b); });
    if (!(least[0] < LARGEST)) return -1;
    unsigned tied = lanes_of(best == least);
    int found = INT32_MAX, ranks[W];
    if (count <= W) return list[__builtin_ctz(tied)];
    store(ranks, rank);
    for (; tied; tied &= tied - 1)
        found = ranks[__builtin_ctz(tied)] < found ? ranks[__builtin_ctz(tied)] : found;
    return list[found];
#else
    float costs[COSTS], best = LARGEST;
    for (int t = 0; t < COSTS; t++) {
        float gap = scale * ((float)(t & mask) * (float)step + lowest) - x[t >> bits];
        costs[t] = weights[t >> bits] * gap * gap;
    }
    int found = -1;
    for (int j = 0; j < count; j++) {
        float cost = costs[list[j] & mask];
        for (int i = 1; i < length; i++)
            cost += costs[(list[j] >> bits * i & mask) | i << bits];
        if (cost < best) {
            best = cost;
            found = list[j];
        }
    }
    return found;
#endif
}

}  // namespace
