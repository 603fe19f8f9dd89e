// All kernels, compiled once for each instruction set: ISA is its name.

#include "codebooks.h"
#include "errors.h"
#include "floats.h"
#include "iq1.h"
#include "iq3.h"
#include "iq4.h"
#include "kquants.h"
#include "microscale.h"
#include "products.h"
#include "simple.h"
#include "ternary.h"
#include "weights.h"
#include "xxh64.h"

namespace {

constexpr int DONE = 0, UNKNOWN = 1, REFUSED = 2;
constexpr int F32_NUMBER = 0;  // of no blocks: there is nothing to decode

// Quantize x (count, length), `group` blocks at a time. The last ones are filled up with zeros.
template <class Block, int group, void kernel(const float *, Block *)>
void quantize(const float *x, void *blocks, int64_t count) {
    Block *out = (Block *)blocks;
    for (; count >= group; count -= group, x += group * Block::length, out += group) kernel(x, out);
    if (count == 0) return;
    float filled[group * Block::length] = {};
    Block made[group];
    memcpy(filled, x, sizeof(float) * Block::length * (size_t)count);
    kernel(filled, made);
    memcpy(out, made, sizeof(Block) * (size_t)count);
}

// Quantize x (rows, row) by the importance (row,) of columns, `group` blocks at a time.
template <class Block, int group, Sigma2 kind, void kernel(const float *, const float *, Block *)>
void weigh_and_quantize(const float *x, void *blocks, int64_t rows, int64_t row,
                        const float *importance) {
    constexpr int length = Block::length;
    constexpr bool sized = kind != Sigma2::NONE;
    const int64_t run = kind == Sigma2::OF_ROW ? row : length, runs = rows * row / run;
    Block *out = (Block *)blocks;
    for (int64_t first = 0, column = 0; first < runs; first += LANES) {
        int64_t here = runs - first < LANES ? runs - first : LANES, count = here * run / length;
        float sigma2[LANES];
        for (int64_t i = 0; sized && i < here; i += W)
            store(sigma2 + i, sigma2_of<kind>(sums_of_squares(x + i * run, here - i, run), (float)run));
        for (int64_t done = 0; done < count; done += group) {
            float weights[group * length] = {};
            int64_t some = count - done < group ? count - done : group;
            const float *from = x + done * length;
            for (int64_t i = 0; i < some * length; i += length, column = (column + length) % row) {
                if constexpr (sized)
                    weigh<length>(importance + column, from + i, sigma2[(done * length + i) / run],
                                  weights + i);
                else memcpy(weights + i, importance + column, sizeof(float) * length);
            }
            if (some == group) {
                kernel(from, weights, out + done);
            } else {
                float filled[group * length] = {};
                Block made[group];
                memcpy(filled, from, sizeof(float) * length * (size_t)some);
                kernel(filled, weights, made);
                memcpy(out + done, made, sizeof(Block) * (size_t)some);
            }
        }
        x += here * run;
        out += count;
    }
}

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

struct Codec {
    int number, length, bytes;
    void (*quantize)(const float *x, void *blocks, int64_t count);
    void (*weigh_and_quantize)(const float *x, void *blocks, int64_t rows, int64_t row,
                               const float *importance);  // null where ggml minds no importance
    void (*dequantize)(const void *blocks, float *out, int64_t count, const SignedByte *grid);
};

#define CODEC(Block, quantize, weighed, dequantize) \
    {Block::number, Block::length, sizeof(Block), quantize, weighed, dequantize}
#define READ(Block, name) CODEC(Block, nullptr, nullptr, (dequantize<Block, 1, dequantize_##name>))
#define BY_GRID(Block, name) \
    CODEC(Block, nullptr, nullptr, (dequantize_by_grid<Block, dequantize_##name>))
#define MADE(Block, name, made, read)                               \
    CODEC(Block, (quantize<Block, made, quantize_##name>), nullptr, \
          (dequantize<Block, read, dequantize_##name>))
#define WEIGHED(Block, name, made, group, sigma2)                              \
    CODEC(Block, (quantize<Block, made, quantize_##name>),                     \
          (weigh_and_quantize<Block, group, Sigma2::sigma2, quantize_##name>), \
          (dequantize<Block, 1, dequantize_##name>))

// How many blocks a kernel takes at a time: to make and to read them; to make them, also by
// importance, and what a format makes of the size of the weights around.
const Codec CODECS[] = {
    MADE(F16, f16, W, W),
    WEIGHED(Q4_0, q4_0, W, LANES, OF_ROW),
    WEIGHED(Q4_1, q4_1, W, LANES, OF_ROW),
    WEIGHED(Q5_0, q5_0, W, LANES, OF_ROW),
    WEIGHED(Q5_1, q5_1, W, LANES, OF_ROW),
    MADE(Q8_0, q8_0, W, 1),
    READ(Q8_1, q8_1),
    WEIGHED(Q2_K, q2_k, GROUP<16>, W, OF_BLOCK),
    WEIGHED(Q3_K, q3_k, DESCENTS, W, TWICE),
    WEIGHED(Q4_K, q4_k, GROUP<32>, W, TWICE),
    WEIGHED(Q5_K, q5_k, GROUP<32>, W, TWICE),
    WEIGHED(Q6_K, q6_k, GROUP<16>, GROUP<16>, NONE),
    READ(Q8_K, q8_k),
    BY_GRID(IQ2_XXS, iq2_xxs),
    BY_GRID(IQ2_XS, iq2_xs),
    BY_GRID(IQ3_XXS, iq3_xxs),
    BY_GRID(IQ1_S, iq1_s),
    WEIGHED(IQ4_NL, iq4_nl, LANES, LANES, TIMES_TWO),
    BY_GRID(IQ3_S, iq3_s),
    BY_GRID(IQ2_S, iq2_s),
    WEIGHED(IQ4_XS, iq4_xs, GROUP<32>, GROUP<32>, TIMES_TWO),
    BY_GRID(IQ1_M, iq1_m),
    MADE(BF16, bf16, LANES, W),
    MADE(TQ1_0, tq1_0, W, 1),
    MADE(TQ2_0, tq2_0, W, 1),
    MADE(MXFP4, mxfp4, W, 1),
    MADE(NVFP4, nvfp4, W / 4, 1),
    MADE(Q1_0, q1_0, W, 1),
    MADE(Q2_0, q2_0, W, 1),
};

// Quantize x (rows, row) with a search of a grid, W blocks at a time; false where ggml would end.
template <class Block, bool kernel(const Group &, Block *)>
bool search_grid(const float *x, void *blocks, int64_t rows, int64_t row, const float *importance,
                 Codebook book) {
    const int64_t in_row = row / Block::length, count = rows * in_row;
    Group group = {{}, {}, importance != nullptr, book};
    for (int64_t start = 0; start < count; start += W) {
        Block made[W];
        int64_t here = count - start < W ? count - start : W;
        for (int64_t lane = 0; lane < W; lane++) {
            int64_t block = start + (lane < here ? lane : 0);  // the first one fills the last lanes
            group.x[lane] = x + block * Block::length;
            if (importance) group.importance[lane] = importance + block % in_row * Block::length;
        }
        if (!kernel(group, made)) return false;
        memcpy((Block *)blocks + start, made, sizeof(Block) * (size_t)here);
    }
    return true;
}

struct Searcher {
    int number;
    bool by_importance;  // whether it is made by nothing else
    bool (*quantize)(const float *x, void *blocks, int64_t rows, int64_t row,
                     const float *importance, Codebook book);
};

#define SEARCHED(Block, name, by_importance) \
    {Block::number, by_importance, search_grid<Block, quantize_##name>}
const Searcher SEARCHES[] = {
    SEARCHED(IQ2_XXS, iq2_xxs, true), SEARCHED(IQ2_XS, iq2_xs, true), SEARCHED(IQ2_S, iq2_s, false),
    SEARCHED(IQ3_XXS, iq3_xxs, false), SEARCHED(IQ3_S, iq3_s, false),
    SEARCHED(IQ1_S, iq1_s, true), SEARCHED(IQ1_M, iq1_m, false),
};

const Searcher *search_of(int number) {
    for (const Searcher &search : SEARCHES)
        if (search.number == number) return &search;
    return nullptr;
}

const Codec *codec_of(int number) {
    for (const Codec &codec : CODECS)
        if (codec.number == number) return &codec;
    return nullptr;
}

// How a type is read, F32 too.
bool find_stored(int number, const SignedByte *grid, Stored *stored) {
    const Codec *codec = codec_of(number);
    if (codec)
        *stored = {codec->dequantize, codec->length, codec->bytes, grid};
    else
        *stored = {copy_f32, 1, sizeof(float), grid};
    return (codec || number == F32_NUMBER) && CHUNK % stored->length == 0;
}

}  // namespace

#define PASTE(isa, name) isa##_##name
#define NAMED(isa, name) PASTE(isa, name)
#if defined(_WIN32)
#define EXPORT extern "C" __declspec(dllexport)
#else
#define EXPORT extern "C" __attribute__((visibility("default")))
#endif

// x (rows, row) -> blocks (rows, row / length); importance (row,) or null.
EXPORT int NAMED(ISA, quantize)(int type, const float *x, void *blocks, int64_t rows, int64_t row,
                                const float *importance) {
    const Codec *codec = codec_of(type);
    if (!codec || !codec->quantize) return UNKNOWN;
    if (rows * row == 0) return DONE;
    if (importance && codec->weigh_and_quantize)
        codec->weigh_and_quantize(x, blocks, rows, row, importance);
    else
        codec->quantize(x, blocks, rows * (row / codec->length));
    return DONE;
}

// The same for the types that search a grid, with their codebook. REFUSED where ggml would end.
EXPORT int NAMED(ISA, search)(int type, const float *x, void *blocks, int64_t rows, int64_t row,
                              const float *importance, const int32_t *place, const uint16_t *near) {
    const Searcher *search = search_of(type);
    if (!search || (search->by_importance && !importance)) return UNKNOWN;
    return search->quantize(x, blocks, rows, row, importance, {place, near}) ? DONE : REFUSED;
}

// blocks (count,) -> out (count, length); grid (entries, k) for the types that have one.
EXPORT int NAMED(ISA, dequantize)(int type, const void *blocks, float *out, int64_t count,
                                  const int8_t *grid) {
    const Codec *codec = codec_of(type);
    if (!codec) return UNKNOWN;
    codec->dequantize(blocks, out, count, grid);
    return DONE;
}

// blocks (rows, row / length), x (chunks, tokens, PITCH) -> y (tokens, stride), its first `rows`.
EXPORT int NAMED(ISA, multiply)(int type, const void *blocks, int64_t rows, int64_t row,
                                const int8_t *grid, const float *x, int64_t tokens, float *y,
                                int64_t stride, float *tile) {
    Stored stored;
    if (!find_stored(type, grid, &stored)) return UNKNOWN;
    multiply(stored, (const Byte *)blocks, rows, row, x, tokens, y, stride, tile);
    return DONE;
}

// blocks (count,), reference (count, length) -> sums (3,), added to: see add_errors.
EXPORT int NAMED(ISA, errors)(int type, const void *blocks, int64_t count, const int8_t *grid,
                              const float *reference, double *sums) {
    Stored stored;
    if (!find_stored(type, grid, &stored)) return UNKNOWN;
    add_errors(stored, (const Byte *)blocks, count, reference, sums);
    return DONE;
}

// How x is cut for, how far apart the pieces lie, and how many of those are room to work in.
EXPORT int NAMED(ISA, chunk)() { return CHUNK; }
EXPORT int NAMED(ISA, pitch)() { return PITCH; }
EXPORT int NAMED(ISA, tile)() { return TILE; }

// The bytes of a block, 0 for a type that is not here; whether it is made.
EXPORT int NAMED(ISA, block_bytes)(int type) { return codec_of(type) ? codec_of(type)->bytes : 0; }
EXPORT int NAMED(ISA, makes)(int type) { return codec_of(type) && codec_of(type)->quantize; }
EXPORT int NAMED(ISA, searches)(int type) { return search_of(type) != nullptr; }

// lanes (4,), changed in place, over stripes (n, 32) of data.
EXPORT void NAMED(ISA, xxh64)(uint64_t *lanes, const void *data, int64_t stripes) {
    xxh64_lanes(lanes, data, stripes);
}
