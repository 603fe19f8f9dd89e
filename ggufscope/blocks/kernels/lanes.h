// The vector plumbing: numbers side by side, in the vector types of GCC and clang.
//
// One source serves every instruction set. W, the lanes of a vector, follows from the flags of the
// compiler: GCC wants the width of the registers, clang cuts a longer vector up by itself.
// Comparisons give lanes of 0 and -1, and `mask ? a : b` chooses lane by lane, as in both compilers.

#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#define INLINE inline __attribute__((always_inline))

namespace {

#if defined(__clang__) || defined(__AVX512F__)
constexpr int W = 16;
#elif defined(__AVX2__)
constexpr int W = 8;
#else
constexpr int W = 4;
#endif

constexpr int LANES = 16;  // sub-blocks that a search takes at a time, in LANES / W vectors

typedef float F __attribute__((vector_size(4 * W)));
typedef int32_t I __attribute__((vector_size(4 * W)));
typedef uint32_t U __attribute__((vector_size(4 * W)));
typedef uint16_t Shorts __attribute__((vector_size(2 * W)));
typedef uint8_t Bytes __attribute__((vector_size(W)));
typedef int8_t SignedBytes __attribute__((vector_size(W)));

template <class V, class T> INLINE V load(const T *from) {
    V v;
    memcpy(&v, from, sizeof v);
    return v;
}

template <class V, class T> INLINE void store(T *to, V v) { memcpy(to, &v, sizeof v); }

INLINE F load(const float *from) { return load<F>(from); }
INLINE F splat(float x) { return x - F{}; }  // x + 0 would lose the sign of a zero
INLINE I splat(int32_t x) { return x - I{}; }
INLINE I as_bits(F x) { return (I)x; }
INLINE F to_float(I x) { return __builtin_convertvector(x, F); }
template <class V> INLINE V to(I x) { return __builtin_convertvector(x, V); }
template <class V> INLINE I to_int(V x) { return __builtin_convertvector(x, I); }
INLINE F magnitude(F x) { return (F)(as_bits(x) & 0x7fffffff); }
INLINE F larger(F a, F b) { return a > b ? a : b; }   // b where a lane is not a number
INLINE F smaller(F a, F b) { return a < b ? a : b; }
INLINE I larger(I a, I b) { return a > b ? a : b; }
INLINE I smaller(I a, I b) { return a < b ? a : b; }

INLINE F square_root(F x) {
    for (int lane = 0; lane < W; lane++) x[lane] = __builtin_sqrtf(x[lane]);
    return x;
}

// Towards zero; the lowest integer for what does not fit, as on x86.
INLINE I truncate(F x) {
#if defined(__x86_64__)
    return to_int(x);
#else
    return magnitude(x) < 2147483648.f ? to_int(x) : splat(INT32_MIN);
#endif
}

template <int... i> struct Indices {};
template <int n, int... i> struct UpTo : UpTo<n - 1, n - 1, i...> {};
template <int... i> struct UpTo<0, i...> { typedef Indices<i...> indices; };
typedef UpTo<W>::indices Each;

template <int by, class V, int... i> INLINE V rotate(V v, Indices<i...>) {
    return __builtin_shufflevector(v, v, (i + by) % W...);
}

template <int... i> INLINE I count_up(Indices<i...>) { return I{i...}; }
INLINE I lane_numbers() { return count_up(Each{}); }

// Fold the lanes of v with `fold`; every lane of the result has it.
template <int by = W / 2, class V, class Fold> INLINE V across(V v, Fold fold) {
    if constexpr (by > 0) return across<by / 2>(fold(v, rotate<by>(v, Each{})), fold);
    return v;
}

INLINE bool any(I mask) {
    return across(mask, [](I a, I b) { return a | b; })[0];
}

template <int half, int... i> INLINE F interleave(F a, F b, Indices<i...>) {
    return __builtin_shufflevector(a, b, (i % 2 * W + i / 2 + half * W / 2)...);
}

// x (W, k) -> lanes (k, W): each run of k numbers becomes a column.
template <int k> INLINE void turn(const float *x, F *lanes) {
    for (int start = 0; start < k; start += W) {
        F rows[W], mixed[W];
        for (int i = 0; i < W; i++) rows[i] = load(x + i * k + start);
        for (int round = 1; round < W; round *= 2) {
            for (int i = 0; i < W / 2; i++) {
                mixed[2 * i] = interleave<0>(rows[i], rows[i + W / 2], Each{});
                mixed[2 * i + 1] = interleave<1>(rows[i], rows[i + W / 2], Each{});
            }
            memcpy(rows, mixed, sizeof rows);
        }
        memcpy(lanes + start, rows, sizeof rows);
    }
}

}  // namespace
