// What each weight counts in a fit by importance: what weights.py does.

#pragma once

#include "ordered.h"

namespace {

// What a format makes of the sum of squares over a row, or a block: they round, and overflow, in
// orders of their own. `NONE`: a weight counts the importance alone.
enum class Sigma2 { NONE, OF_ROW, OF_BLOCK, TWICE, TIMES_TWO };

template <Sigma2 kind> INLINE F sigma2_of(F sum, float length) {
    if (kind == Sigma2::TWICE) return 2.f * sum / length;
    if (kind == Sigma2::TIMES_TWO) return sum * (2.f / length);
    return sum / length;
}

// x (count, length), count up to W -> (W,): x * x added up over each run, one after the other.
INLINE F sums_of_squares(const float *x, int64_t count, int64_t length) {
    F sum = {};
    for (int64_t start = 0; start < length; start += W) {
        float some[W * W] = {};
        F lanes[W];
        for (int i = 0; i < W && i < count; i++) store(some + i * W, load(x + i * length + start));
        turn<W>(some, lanes);
        for (int i = 0; i < W; i++) sum += lanes[i] * lanes[i];
    }
    return sum;
}

// importance, x (length,) -> weights (length,): importance * sqrt(sigma2 + x * x).
template <int length>
INLINE void weigh(const float *importance, const float *x, float sigma2, float *weights) {
    for (int i = 0; i < length; i += W)
        store(weights + i, load(importance + i) * square_root(sigma2 + load(x + i) * load(x + i)));
}

}  // namespace
