// What is done with blocks as they are, compiled once for each instruction set: they are decoded,
// multiplied with, compared and hashed.

#include "codebooks.h"
#include "errors.h"
#include "exported.h"
#include "floats.h"
#include "iq1.h"
#include "iq3.h"
#include "iq4.h"
#include "kquants.h"
#include "microscale.h"
#include "products.h"
#include "simple.h"
#include "ternary.h"
#include "xxh64.h"

namespace {

constexpr int F32_NUMBER = 0;  // of no blocks: there is nothing to decode

template <class Block, int group, void kernel(const Block *, float *)>
void dequantize(const void *blocks, float *out, int64_t count, const SignedByte *) {
    const Block *block = (const Block *)blocks;
    for (; count >= group; count -= group, block += group, out += group * Block::length)
        kernel(block, out);
    if (count == 0) return;
    Block filled[group] = {};
    float made[group * Block::length];
    memcpy(filled, block, sizeof(Block) * (size_t)count);
    kernel(filled, made);
    memcpy(out, made, sizeof(float) * Block::length * (size_t)count);
}

template <class Block, void kernel(const Block *, float *, const SignedByte *)>
void dequantize_by_grid(const void *blocks, float *out, int64_t count, const SignedByte *grid) {
    const Block *block = (const Block *)blocks;
    for (; count > 0; count--, block++, out += Block::length) kernel(block, out, grid);
}

struct Reader {
    int number, length, bytes;
    Decode *dequantize;
};

#define READ(Block, name, group) \
    {Block::number, Block::length, sizeof(Block), dequantize<Block, group, dequantize_##name>}
#define BY_GRID(Block, name) \
    {Block::number, Block::length, sizeof(Block), dequantize_by_grid<Block, dequantize_##name>}

// How many blocks a kernel reads at a time.
const Reader READERS[] = {
    READ(F16, f16, W),
    READ(Q4_0, q4_0, 1),
    READ(Q4_1, q4_1, 1),
    READ(Q5_0, q5_0, 1),
    READ(Q5_1, q5_1, 1),
    READ(Q8_0, q8_0, 1),
    READ(Q8_1, q8_1, 1),
    READ(Q2_K, q2_k, 1),
    READ(Q3_K, q3_k, 1),
    READ(Q4_K, q4_k, 1),
    READ(Q5_K, q5_k, 1),
    READ(Q6_K, q6_k, 1),
    READ(Q8_K, q8_k, 1),
    BY_GRID(IQ2_XXS, iq2_xxs),
    BY_GRID(IQ2_XS, iq2_xs),
    BY_GRID(IQ3_XXS, iq3_xxs),
    BY_GRID(IQ1_S, iq1_s),
    READ(IQ4_NL, iq4_nl, 1),
    BY_GRID(IQ3_S, iq3_s),
    BY_GRID(IQ2_S, iq2_s),
    READ(IQ4_XS, iq4_xs, 1),
    BY_GRID(IQ1_M, iq1_m),
    READ(BF16, bf16, W),
    READ(TQ1_0, tq1_0, 1),
    READ(TQ2_0, tq2_0, 1),
    READ(MXFP4, mxfp4, 1),
    READ(NVFP4, nvfp4, 1),
    READ(Q1_0, q1_0, 1),
    READ(Q2_0, q2_0, 1),
};

// How a type is read, F32 too.
bool find_stored(int number, const SignedByte *grid, Stored *stored) {
    const Reader *reader = entry_of(READERS, number);
    if (reader)
        *stored = {reader->dequantize, reader->length, reader->bytes, grid};
    else
        *stored = {copy_f32, 1, sizeof(float), grid};
    return (reader || number == F32_NUMBER) && CHUNK % stored->length == 0;
}

}  // namespace

// blocks (count,) -> out (count, length); grid (entries, k) for the types that have one.
EXPORT int NAMED(dequantize)(int type, const void *blocks, float *out, int64_t count,
                             const int8_t *grid) {
    const Reader *reader = entry_of(READERS, type);
    if (!reader) return UNKNOWN;
    reader->dequantize(blocks, out, count, grid);
    return DONE;
}

// blocks (rows, row / length), x (chunks, tokens, PITCH) -> y (tokens, stride), its first `rows`.
EXPORT int NAMED(multiply)(int type, const void *blocks, int64_t rows, int64_t row,
                           const int8_t *grid, const float *x, int64_t tokens, float *y,
                           int64_t stride, float *tile) {
    Stored stored;
    if (!find_stored(type, grid, &stored)) return UNKNOWN;
    multiply(stored, (const Byte *)blocks, rows, row, x, tokens, y, stride, tile);
    return DONE;
}

// blocks (count,), reference (count, length) -> sums (3,), added to: see add_errors.
EXPORT int NAMED(errors)(int type, const void *blocks, int64_t count, const int8_t *grid,
                         const float *reference, double *sums) {
    Stored stored;
    if (!find_stored(type, grid, &stored)) return UNKNOWN;
    add_errors(stored, (const Byte *)blocks, count, reference, sums);
    return DONE;
}

// How x is cut for, how far apart the pieces lie, and how many of those are room to work in.
EXPORT int NAMED(chunk)() { return CHUNK; }
EXPORT int NAMED(pitch)() { return PITCH; }
EXPORT int NAMED(tile)() { return TILE; }

// The bytes of a block, 0 for a type that is not here.
EXPORT int NAMED(block_bytes)(int type) {
    const Reader *reader = entry_of(READERS, type);
    return reader ? reader->bytes : 0;
}

// lanes (4,), changed in place, over stripes (n, 32) of data.
EXPORT void NAMED(xxh64)(uint64_t *lanes, const void *data, int64_t stripes) {
    xxh64_lanes(lanes, data, stripes);
}
