// The vector plumbing: numbers side by side, in the vector types of GCC and clang.
//
// One source serves every instruction set: W, the lanes of a vector, follows from the flags of the
// compiler. Comparisons give lanes of 0 and -1, and `mask ? a : b` chooses lane by lane.

#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define INLINE inline __attribute__((always_inline))
#define APART static __attribute__((noinline))  // what several kernels share, compiled once

namespace {

#if defined(__AVX512F__)
constexpr int W = 16;
#elif defined(__AVX2__)
constexpr int W = 8;
#else
constexpr int W = 4;
#endif

typedef float F __attribute__((vector_size(4 * W)));
typedef int32_t I __attribute__((vector_size(4 * W)));
typedef uint32_t U __attribute__((vector_size(4 * W)));
typedef uint16_t Shorts __attribute__((vector_size(2 * W)));
typedef uint16_t Halves __attribute__((vector_size(4 * W)));  // two for each lane, the lower first
typedef uint8_t Sixteen __attribute__((vector_size(16)));  // bytes, in 16 / W vectors of integers

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
INLINE F magnitude(F x) { return (F)(as_bits(x) & 0x7fffffff); }

INLINE I to_int(Shorts x) { return __builtin_convertvector(x, I); }
INLINE Shorts to_shorts(I x) { return __builtin_convertvector(x, Shorts); }

// larger: a > b ? a : b, so b where a lane is not a number. narrow: the low byte of each integer;
// bytes: there is no other.
// GCC does not find the instructions for these by itself.
#if defined(__AVX512F__)
INLINE F larger(F a, F b) { return (F)_mm512_max_ps((__m512)a, (__m512)b); }
INLINE F smaller(F a, F b) { return (F)_mm512_min_ps((__m512)a, (__m512)b); }
INLINE void widen(Sixteen from, I *to) { *to = (I)_mm512_cvtepu8_epi32((__m128i)from); }
template <bool bytes = false> INLINE Sixteen narrow(const I *from) {
    return (Sixteen)_mm512_cvtepi32_epi8((__m512i)*from);
}
#elif defined(__AVX2__)
INLINE F larger(F a, F b) { return (F)_mm256_max_ps((__m256)a, (__m256)b); }
INLINE F smaller(F a, F b) { return (F)_mm256_min_ps((__m256)a, (__m256)b); }
INLINE void widen(Sixteen from, I *to) {
    to[0] = (I)_mm256_cvtepu8_epi32((__m128i)from);
    to[1] = (I)_mm256_cvtepu8_epi32(_mm_srli_si128((__m128i)from, 8));
}
template <bool bytes = false> INLINE Sixteen narrow(const I *from) {
    constexpr int mask = bytes ? -1 : 255;
    __m256i mixed = _mm256_packus_epi32((__m256i)(from[0] & mask), (__m256i)(from[1] & mask));
    __m256i shorts = _mm256_permute4x64_epi64(mixed, 0xd8);
    return (Sixteen)_mm_packus_epi16(_mm256_castsi256_si128(shorts),
                                     _mm256_extracti128_si256(shorts, 1));
}
#elif defined(__x86_64__)
INLINE F larger(F a, F b) { return (F)_mm_max_ps((__m128)a, (__m128)b); }
INLINE F smaller(F a, F b) { return (F)_mm_min_ps((__m128)a, (__m128)b); }
INLINE void widen(Sixteen from, I *to) {
    const __m128i zero = _mm_setzero_si128();
    __m128i low = _mm_unpacklo_epi8((__m128i)from, zero);
    __m128i high = _mm_unpackhi_epi8((__m128i)from, zero);
    to[0] = (I)_mm_unpacklo_epi16(low, zero);
    to[1] = (I)_mm_unpackhi_epi16(low, zero);
    to[2] = (I)_mm_unpacklo_epi16(high, zero);
    to[3] = (I)_mm_unpackhi_epi16(high, zero);
}
template <bool bytes = false> INLINE Sixteen narrow(const I *from) {
    constexpr int mask = bytes ? -1 : 255;
    __m128i low = _mm_packs_epi32((__m128i)(from[0] & mask), (__m128i)(from[1] & mask));
    __m128i high = _mm_packs_epi32((__m128i)(from[2] & mask), (__m128i)(from[3] & mask));
    return (Sixteen)_mm_packus_epi16(low, high);
}
#else
INLINE F larger(F a, F b) { return a > b ? a : b; }
INLINE F smaller(F a, F b) { return a < b ? a : b; }
INLINE void widen(Sixteen from, I *to) {
    for (int i = 0; i < 16; i++) to[i / W][i % W] = from[i];
}
template <bool bytes = false> INLINE Sixteen narrow(const I *from) {
    Sixteen to;
    for (int i = 0; i < 16; i++) to[i] = (uint8_t)from[i / W][i % W];
    return to;
}
#endif

INLINE I larger(I a, I b) { return a > b ? a : b; }
INLINE I smaller(I a, I b) { return a < b ? a : b; }

// a * b + c, rounded once: for sums that no other program's bits are held to. SSE2 rounds twice.
#if defined(__AVX512F__)
INLINE F fused(F a, F b, F c) { return (F)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
#elif defined(__FMA__)
INLINE F fused(F a, F b, F c) { return (F)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
#elif defined(__aarch64__)
INLINE F fused(F a, F b, F c) {
    return (F)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
#else
INLINE F fused(F a, F b, F c) { return a * b + c; }
#endif

// Widen the bits of float16: exact; a signalling NaN becomes quiet.
#if defined(__AVX512F__)
INLINE F from_half(Shorts half) { return (F)_mm512_cvtph_ps((__m256i)half); }
#elif defined(__F16C__)
INLINE F from_half(Shorts half) { return (F)_mm256_cvtph_ps((__m128i)half); }
#else
INLINE F from_half(Shorts half) {
    I bits = (to_int(half) & 0x7fff) << 13;
    I finite = as_bits((F)bits * 0x1p112f);
    I quiet = bits > 0x0f800000 ? splat(0x7fc00000) : splat(0x7f800000);
    return (F)((to_int(half) & 0x8000) << 16 | (bits < 0x0f800000 ? finite : quiet | bits));
}
#endif

INLINE F square_root(F x) {
    for (int lane = 0; lane < W; lane++) x[lane] = __builtin_sqrtf(x[lane]);
    return x;
}

// Towards zero; the lowest integer for what does not fit, as on x86.
INLINE I truncate(F x) {
#if defined(__x86_64__)
    return __builtin_convertvector(x, I);
#else
    return magnitude(x) < 2147483648.f ? __builtin_convertvector(x, I) : splat(INT32_MIN);
#endif
}

template <int... i> struct Indices {};
template <int n, int... i> struct UpTo : UpTo<n - 1, n - 1, i...> {};
template <int... i> struct UpTo<0, i...> { typedef Indices<i...> indices; };
typedef UpTo<W>::indices Each;
typedef UpTo<2 * W>::indices EachOfTwo;

template <int by, class V, int... i> INLINE V rotate(V v, Indices<i...>) {
    return __builtin_shufflevector(v, v, (i + by) % W...);
}

// The upper half of each lane of a, then of b.
template <int... i> INLINE Halves upper_halves(I a, I b, Indices<i...>) {
    return __builtin_shufflevector((Halves)a, (Halves)b, (2 * i + 1)...);
}

template <int... i> INLINE I count_up(Indices<i...>) { return I{i...}; }
INLINE I lane_numbers() { return count_up(Each{}); }

// Fold the lanes of v with `fold`; every lane of the result has it.
template <int by = W / 2, class V, class Fold> INLINE V across(V v, Fold fold) {
    if constexpr (by > 0) return across<by / 2>(fold(v, rotate<by>(v, Each{})), fold);
    return v;
}

// The lanes of a mask as bits, the first one lowest.
INLINE unsigned lanes_of(I mask) {
#if defined(__AVX512F__)
    return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask);
#elif defined(__AVX2__)
    return (unsigned)_mm256_movemask_ps((__m256)mask);
#elif defined(__x86_64__)
    return (unsigned)_mm_movemask_ps((__m128)mask);
#else
    return (unsigned)across(mask & (splat(1) << lane_numbers()), [](I a, I b) { return a | b; })[0];
#endif
}

#if defined(__AVX512F__)
// Of 16 numbers that which the lowest four bits of each index name.
INLINE F look_up(F numbers, I indices) {
    return (F)_mm512_permutexvar_ps((__m512i)indices, (__m512)numbers);
}
#endif

INLINE bool any(I mask) { return lanes_of(mask); }

// The lanes of a and b in turn, in each four by themselves: what processors have an instruction for.
template <int half, int... i> INLINE F interleave_fours(F a, F b, Indices<i...>) {
    return __builtin_shufflevector(a, b, (i % 2 * W + i / 4 * 4 + i % 4 / 2 + half * 2)...);
}

// Of each run of 2 * left lanes the first half, or the second: those of a, then those of b; where a
// run has four lanes or less, in each four by themselves.
template <int left, int second, int... i> INLINE F halves(F a, F b, Indices<i...>) {
    constexpr int span = left < 4 ? 4 : W, of_one = span / 2;
    return __builtin_shufflevector(a, b, (i % span / of_one * W + i / span * span +
                                          i % of_one / left * 2 * left + second * left + i % left)...);
}

// rows (count, W), count up to W -> (W,): lane i has what row i is folded to, its lanes l and
// l + W / 2 first, then l + W / 4, and so on. What `halves` puts side by side says which rows meet.
template <int count, int left = W / 2, int met = 0, class Fold> INLINE F fold_each(F *rows, Fold fold) {
    constexpr int apart = left < 4 ? 2 / left : 2 * W / left;
    for (int i = 0; i < count; i++) {
        if (i & (met | apart)) continue;
        F other = rows[i + apart < count ? i + apart : i];
        rows[i] = fold(halves<left, 0>(rows[i], other, Each{}), halves<left, 1>(rows[i], other, Each{}));
    }
    if constexpr (left > 1) return fold_each<count, left / 2, met | apart>(rows, fold);
    return rows[0];
}

// Four numbers of each place, next to each other.
INLINE F load_fours(const float *x, int apart) {
#if defined(__AVX512F__)
    __m512 fours = _mm512_castps128_ps512(_mm_loadu_ps(x));
    fours = _mm512_insertf32x4(fours, _mm_loadu_ps(x + apart), 1);
    fours = _mm512_insertf32x4(fours, _mm_loadu_ps(x + 2 * apart), 2);
    return (F)_mm512_insertf32x4(fours, _mm_loadu_ps(x + 3 * apart), 3);
#elif defined(__AVX2__)
    __m256 fours = _mm256_castps128_ps256(_mm_loadu_ps(x));
    return (F)_mm256_insertf128_ps(fours, _mm_loadu_ps(x + apart), 1);
#else
    (void)apart;
    return load(x);
#endif
}

// x (W, k) -> lanes (k, W): each run of k numbers becomes a column.
template <int k> INLINE void turn(const float *x, F *lanes) {
    for (int start = 0; start < k; start += 4, x += 4, lanes += 4) {
        F row[4], mixed[4];
        for (int i = 0; i < 4; i++) row[i] = load_fours(x + i * k, 4 * k);
        for (int i = 0; i < 2; i++) {
            mixed[2 * i] = interleave_fours<0>(row[i], row[i + 2], Each{});
            mixed[2 * i + 1] = interleave_fours<1>(row[i], row[i + 2], Each{});
        }
        for (int i = 0; i < 2; i++) {
            lanes[2 * i] = interleave_fours<0>(mixed[i], mixed[i + 2], Each{});
            lanes[2 * i + 1] = interleave_fours<1>(mixed[i], mixed[i + 2], Each{});
        }
    }
}

// x (W, k) -> (W,): each run of k numbers folded to one. For folds that ask for no order.
template <int k, class Fold> INLINE F fold_rows(const float *x, F start, Fold fold) {
    F rows[W];
    for (int row = 0; row < W; row++) {
        rows[row] = start;
        for (int i = 0; i < k; i += W) rows[row] = fold(rows[row], load(x + row * k + i));
    }
    return fold_each<W>(rows, fold);
}

// Two vectors side by side, or two such pairs. A search adds one number after the other, and while
// one sum is on its way the processor works at the other's.
template <class V> struct Two {
    typedef Two<decltype(V{} < V{})> Truth;
    V one, two;
    Two() = default;
    INLINE Two(V one, V two) : one(one), two(two) {}
    INLINE Two(float x) : one(x - V{}), two(x - V{}) {}  // see `splat`

#define EACH(op, Result) \
    friend INLINE Result operator op(Two a, Two b) { return {a.one op b.one, a.two op b.two}; }
    EACH(+, Two) EACH(-, Two) EACH(*, Two) EACH(/, Two) EACH(&, Two) EACH(|, Two)
    EACH(<, Truth) EACH(>, Truth) EACH(<=, Truth) EACH(>=, Truth) EACH(==, Truth) EACH(!=, Truth)
#undef EACH
    friend INLINE Two operator~(Two a) { return {~a.one, ~a.two}; }
    friend INLINE Two operator-(Two a) { return {-a.one, -a.two}; }
    friend INLINE Two &operator+=(Two &a, Two b) { return a = a + b; }
};

typedef Two<F> Lanes;
typedef Two<I> Mask;
constexpr int LANES = 2 * W;

// What a search for a scale and a minimum goes through together: as much as registers hold. Clang
// puts four vectors of each sum into memory.
#if defined(__AVX512F__) && !defined(__clang__)
typedef Two<Lanes> Many;
#else
typedef Lanes Many;
#endif
template <class V> constexpr int lanes_in = sizeof(V) / sizeof(float);

INLINE F choose(I mask, F a, F b) { return mask ? a : b; }
template <class M, class V> INLINE Two<V> choose(Two<M> mask, Two<V> a, Two<V> b) {
    return {choose(mask.one, a.one, b.one), choose(mask.two, a.two, b.two)};
}
template <class V> INLINE Two<V> larger(Two<V> a, Two<V> b) {
    return {larger(a.one, b.one), larger(a.two, b.two)};
}
template <class V> INLINE Two<V> smaller(Two<V> a, Two<V> b) {
    return {smaller(a.one, b.one), smaller(a.two, b.two)};
}
template <class V> INLINE Two<V> magnitude(Two<V> x) { return {magnitude(x.one), magnitude(x.two)}; }
template <class V> INLINE Two<V> square_root(Two<V> x) {
    return {square_root(x.one), square_root(x.two)};
}
template <class V> INLINE bool any(Two<V> mask) { return any(mask.one | mask.two); }
template <class V> INLINE void store(float *to, Two<V> x) {
    store(to, x.one);
    store(to + lanes_in<V>, x.two);
}

// x (lanes, k) -> lanes (k, lanes).
template <int k, class V> INLINE void turn(const float *x, Two<V> *lanes) {
    V halves[2][k];
    turn<k>(x, halves[0]);
    turn<k>(x + lanes_in<V> * k, halves[1]);
    for (int i = 0; i < k; i++) lanes[i] = {halves[0][i], halves[1][i]};
}

}  // namespace
