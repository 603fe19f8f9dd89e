// All kernels, compiled once for each instruction set: ISA is its name.

#include "codebooks.h"
#include "floats.h"
#include "iq1.h"
#include "iq3.h"
#include "iq4.h"
#include "kquants.h"
#include "microscale.h"
#include "simple.h"
#include "ternary.h"

namespace {

constexpr int DONE = 0, UNKNOWN = 1, NOT_MADE_YET = 2, REFUSED = 3;

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
    bool weighed;  // whether ggml makes it by importance
    void (*quantize)(const float *x, void *blocks, int64_t count);
    void (*dequantize)(const void *blocks, float *out, int64_t count, const SignedByte *grid);
};

#define CODEC(Block, weighed, quantize, dequantize) \
    {Block::number, Block::length, sizeof(Block), weighed, quantize, dequantize}
#define READ(Block, name) CODEC(Block, false, nullptr, (dequantize<Block, 1, dequantize_##name>))
#define BY_GRID(Block, name) \
    CODEC(Block, false, nullptr, (dequantize_by_grid<Block, dequantize_##name>))
#define MADE(Block, name, weighed, made, read)                     \
    CODEC(Block, weighed, (quantize<Block, made, quantize_##name>), \
          (dequantize<Block, read, dequantize_##name>))

// Whether it is weighed, and how many blocks a kernel takes at a time, to make and to read them.
const Codec CODECS[] = {
    MADE(F16, f16, false, W, W),
    MADE(Q4_0, q4_0, true, W, 1),
    MADE(Q4_1, q4_1, true, W, 1),
    MADE(Q5_0, q5_0, true, W, 1),
    MADE(Q5_1, q5_1, true, W, 1),
    MADE(Q8_0, q8_0, false, W, 1),
    READ(Q8_1, q8_1),
    MADE(Q2_K, q2_k, true, GROUP<16>, 1),
    MADE(Q3_K, q3_k, true, 1, 1),
    MADE(Q4_K, q4_k, true, GROUP<32>, 1),
    MADE(Q5_K, q5_k, true, GROUP<32>, 1),
    MADE(Q6_K, q6_k, true, GROUP<16>, 1),
    READ(Q8_K, q8_k),
    BY_GRID(IQ2_XXS, iq2_xxs),
    BY_GRID(IQ2_XS, iq2_xs),
    BY_GRID(IQ3_XXS, iq3_xxs),
    BY_GRID(IQ1_S, iq1_s),
    MADE(IQ4_NL, iq4_nl, true, LANES, 1),
    BY_GRID(IQ3_S, iq3_s),
    BY_GRID(IQ2_S, iq2_s),
    MADE(IQ4_XS, iq4_xs, true, GROUP<32>, 1),
    BY_GRID(IQ1_M, iq1_m),
    MADE(BF16, bf16, false, W, W),
    MADE(TQ1_0, tq1_0, false, W, 1),
    MADE(TQ2_0, tq2_0, false, W, 1),
    MADE(MXFP4, mxfp4, false, W, 1),
    MADE(NVFP4, nvfp4, false, W / 4, 1),
    MADE(Q1_0, q1_0, false, W, 1),
    MADE(Q2_0, q2_0, false, W, 1),
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
    if (importance && codec->weighed) return NOT_MADE_YET;
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

// The bytes of a block, 0 for a type that is not here; whether it is made, and by importance.
EXPORT int NAMED(ISA, block_bytes)(int type) { return codec_of(type) ? codec_of(type)->bytes : 0; }
EXPORT int NAMED(ISA, makes)(int type) { return codec_of(type) && codec_of(type)->quantize; }
EXPORT int NAMED(ISA, searches)(int type) { return search_of(type) != nullptr; }
EXPORT int NAMED(ISA, weighs)(int type) { return codec_of(type) && codec_of(type)->weighed; }
