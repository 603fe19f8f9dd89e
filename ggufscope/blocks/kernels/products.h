// x @ W.T from stored blocks: decoded a cache's worth at a time, and multiplied from there.
//
// The sum for one row and one token takes no notice of the others, of the type, or of the threads:
// chunk by chunk, each chunk in 16 lanes that are folded in halves, whatever a vector holds. So it
// has the same bits alone and among many, and on every machine that multiplies and adds in one.

#pragma once

#include "lanes.h"

namespace {

constexpr int CHUNK = 1024;         // weights of a row that are multiplied in one go
constexpr int PITCH = CHUNK + 16;   // no two rows begin at the same place of the first cache
constexpr int TILE = 64;            // rows that are decoded together: they stay in the second cache
constexpr int AHEAD = 128;          // weights between those in use and those on their way here
constexpr int PARTS = 16 / W;

// Rows and tokens whose sums are in registers at the same time.
#if defined(__AVX512F__)
constexpr int ROWS = 4, TOKENS = 6;
#elif defined(__FMA__) || defined(__aarch64__)
constexpr int ROWS = 2, TOKENS = 3;
#else
constexpr int ROWS = 1, TOKENS = 3;
#endif

// sums (count, 16 lanes) -> totals (count,): lane i and i + 8, then i + 4, and so on.
template <int count> INLINE void fold_sums(const F (*sums)[PARTS], float *totals) {
    constexpr int some = count < W ? count : W;
    F rows[some];
    for (int i = 0; i < some; i++) {
        F parts[PARTS];
        for (int part = 0; part < PARTS; part++) parts[part] = sums[i][part];
        for (int left = PARTS / 2; left > 0; left /= 2)
            for (int part = 0; part < left; part++) parts[part] += parts[part + left];
        rows[i] = parts[0];
    }
    F folded = fold_each<some>(rows, [](F a, F b) { return a + b; });
    for (int i = 0; i < some; i++) totals[i] = folded[i];
    if constexpr (count > W) fold_sums<count - W>(sums + W, totals + W);
}

// weights (ROWS, PITCH), x (tokens, PITCH), of which `length` count -> y (tokens, stride), added to
// the first `rows` of each token.
template <int tokens>
INLINE void add_products(const float *weights, const float *x, int length, float *y, int64_t stride,
                         int rows) {
    F sums[tokens * ROWS][PARTS] = {};
    for (int i = 0; i < length; i += 16) {
        for (int row = 0; row < ROWS; row++) __builtin_prefetch(weights + row * PITCH + i + AHEAD);
        for (int part = 0; part < PARTS; part++) {
            F some[ROWS];
            for (int row = 0; row < ROWS; row++)
                some[row] = load(weights + row * PITCH + i + part * W);
            for (int token = 0; token < tokens; token++) {
                F numbers = load(x + token * PITCH + i + part * W);
                for (int row = 0; row < ROWS; row++) {
                    F &sum = sums[token * ROWS + row][part];
                    sum = fused(some[row], numbers, sum);
                }
            }
        }
    }
    float totals[tokens * ROWS];
    fold_sums<tokens * ROWS>(sums, totals);
    for (int token = 0; token < tokens; token++, y += stride)
        for (int row = 0; row < ROWS; row++)
            if (row < rows) y[row] += totals[token * ROWS + row];
}

// The same for any number of tokens up to `most`.
template <int most>
INLINE void add_some_products(int tokens, const float *weights, const float *x, int length,
                              float *y, int64_t stride, int rows) {
    if (tokens == most)
        add_products<most>(weights, x, length, y, stride, rows);
    else if constexpr (most > 1)
        add_some_products<most - 1>(tokens, weights, x, length, y, stride, rows);
}

typedef void Decode(const void *blocks, float *out, int64_t count, const SignedByte *grid);

struct Stored {
    Decode *decode;
    int length, bytes;  // of a block
    const SignedByte *grid;
};

// blocks (rows, row / length), x (chunks, tokens, PITCH) filled up with zeros
// -> y (tokens, stride), of which `rows` are written; tile (TILE, PITCH) is room to work in.
static void multiply(const Stored &stored, const Byte *blocks, int64_t rows, int64_t row,
                     const float *x, int64_t tokens, float *y, int64_t stride, float *tile) {
    const int64_t row_bytes = row / stored.length * stored.bytes;
    const int64_t groups = (tokens + TOKENS - 1) / TOKENS;
    const int most = groups == 1 ? 8 : TILE;  // rows that are used once can stay in the first cache
    for (int64_t token = 0; token < tokens; token++)
        memset(y + token * stride, 0, sizeof(float) * (size_t)rows);
    for (int64_t top = 0; top < rows; top += most) {
        int here = (int)(rows - top < most ? rows - top : most);
        for (int64_t at = 0; at < row; at += CHUNK) {
            int length = (int)(row - at < CHUNK ? row - at : CHUNK);
            for (int i = 0; i < here; i++) {
                const Byte *from = blocks + (top + i) * row_bytes + at / stored.length * stored.bytes;
                stored.decode(from, tile + i * PITCH, length / stored.length, stored.grid);
                memset(tile + i * PITCH + length, 0, sizeof(float) * (size_t)(PITCH - length));
            }
            for (int i = here; i % ROWS; i++) memset(tile + i * PITCH, 0, sizeof(float) * PITCH);
            const float *numbers = x + at / CHUNK * tokens * PITCH;
            for (int64_t group = 0; group < groups; group++) {  // as even as can be
                int64_t first = tokens * group / groups, next = tokens * (group + 1) / groups;
                for (int i = 0; i < here; i += ROWS)
                    add_some_products<TOKENS>((int)(next - first), tile + i * PITCH,
                                              numbers + first * PITCH, (length + 15) & ~15,
                                              y + first * stride + top + i, stride, here - i);
            }
        }
    }
}

// F32 weights (count,) -> out (count,).
static void copy_f32(const void *weights, float *out, int64_t count, const SignedByte *) {
    memcpy(out, weights, sizeof(float) * (size_t)count);
}

}  // namespace
