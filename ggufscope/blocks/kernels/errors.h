// What storing weights in a type did to them, summed up: what error.py keeps.

#pragma once

#include "products.h"

namespace {

typedef double D __attribute__((vector_size(4 * W)));
typedef int64_t Long __attribute__((vector_size(4 * W)));
typedef float Narrow __attribute__((vector_size(2 * W)));  // as many as there are doubles in a D

#if defined(__AVX512F__)
INLINE D larger(D a, D b) { return (D)_mm512_max_pd((__m512d)a, (__m512d)b); }
#elif defined(__AVX2__)
INLINE D larger(D a, D b) { return (D)_mm256_max_pd((__m256d)a, (__m256d)b); }
#elif defined(__x86_64__)
INLINE D larger(D a, D b) { return (D)_mm_max_pd((__m128d)a, (__m128d)b); }
#else
INLINE D larger(D a, D b) { return a > b ? a : b; }
#endif
INLINE D magnitude(D x) { return (D)((Long)x & INT64_MAX); }

constexpr int STEP = 16;  // sums side by side, whatever a vector holds: the same bits everywhere

// blocks (count,), reference (count, length) -> sums: of (c - r)^2, of r^2, and the largest |c - r|.
static void add_errors(const Stored &stored, const Byte *blocks, int64_t count,
                       const float *reference, double *sums) {
    constexpr int parts = 2 * STEP / W;
    D squared_error[parts] = {}, squared_weights[parts] = {}, largest[parts] = {};
    const int64_t most = CHUNK / stored.length;
    for (; count > 0; count -= most, blocks += most * stored.bytes, reference += CHUNK) {
        float weights[CHUNK], filled[CHUNK];
        int64_t here = count < most ? count : most;
        const float *others = reference;
        if (here < most) {
            memset(weights, 0, sizeof weights), memset(filled, 0, sizeof filled);
            memcpy(filled, reference, sizeof(float) * (size_t)(here * stored.length));
            others = filled;
        }
        stored.decode(blocks, weights, here, stored.grid);
        for (int i = 0; i < CHUNK; i += STEP)
            for (int part = 0; part < parts; part++) {
                int at = i + part * W / 2;
                D r = __builtin_convertvector(load<Narrow>(others + at), D);
                D gap = __builtin_convertvector(load<Narrow>(weights + at), D) - r;
                squared_error[part] += gap * gap;
                squared_weights[part] += r * r;
                largest[part] = larger(magnitude(gap), largest[part]);
            }
    }
    for (int i = 0; i < STEP; i++) {
        sums[0] += squared_error[i / (W / 2)][i % (W / 2)];
        sums[1] += squared_weights[i / (W / 2)][i % (W / 2)];
        double size = largest[i / (W / 2)][i % (W / 2)];
        sums[2] = size > sums[2] ? size : sums[2];
    }
}

}  // namespace
