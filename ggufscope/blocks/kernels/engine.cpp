// All kernels, compiled once for each instruction set: ISA is its name.

#include "floats.h"
#include "iq4.h"
#include "kquants.h"
#include "microscale.h"
#include "simple.h"
#include "ternary.h"

namespace {

constexpr int DONE = 0, UNKNOWN = 1, NOT_MADE_YET = 2;

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
void dequantize(const void *blocks, float *out, int64_t count) {
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

struct Codec {
    int number, length, bytes;
    void (*quantize)(const float *x, void *blocks, int64_t count);
    void (*dequantize)(const void *blocks, float *out, int64_t count);
};

#define READ(Block, name, group) \
    {Block::number, Block::length, sizeof(Block), nullptr, dequantize<Block, group, dequantize_##name>}
#define MADE(Block, name, made, read)                                                       \
    {Block::number, Block::length, sizeof(Block), quantize<Block, made, quantize_##name>, \
     dequantize<Block, read, dequantize_##name>}

// How many blocks a kernel takes at a time, to make them and to read them.
const Codec CODECS[] = {
    MADE(F16, f16, W, W),
    MADE(Q4_0, q4_0, W, 1),
    MADE(Q4_1, q4_1, W, 1),
    MADE(Q5_0, q5_0, W, 1),
    MADE(Q5_1, q5_1, W, 1),
    MADE(Q8_0, q8_0, W, 1),
    READ(Q8_1, q8_1, 1),
    MADE(Q2_K, q2_k, GROUP<16>, 1),
    MADE(Q3_K, q3_k, 1, 1),
    MADE(Q4_K, q4_k, GROUP<32>, 1),
    MADE(Q5_K, q5_k, GROUP<32>, 1),
    MADE(Q6_K, q6_k, GROUP<16>, 1),
    READ(Q8_K, q8_k, 1),
    MADE(IQ4_NL, iq4_nl, LANES, 1),
    MADE(IQ4_XS, iq4_xs, GROUP<32>, 1),
    MADE(BF16, bf16, W, W),
    MADE(TQ1_0, tq1_0, W, 1),
    MADE(TQ2_0, tq2_0, W, 1),
    MADE(MXFP4, mxfp4, W, 1),
    MADE(NVFP4, nvfp4, W / 4, 1),
    MADE(Q1_0, q1_0, W, 1),
    MADE(Q2_0, q2_0, W, 1),
};

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
    if (importance) return NOT_MADE_YET;
    codec->quantize(x, blocks, rows * (row / codec->length));
    return DONE;
}

// blocks (count,) -> out (count, length).
EXPORT int NAMED(ISA, dequantize)(int type, const void *blocks, float *out, int64_t count) {
    const Codec *codec = codec_of(type);
    if (!codec) return UNKNOWN;
    codec->dequantize(blocks, out, count);
    return DONE;
}

// The bytes of a block, 0 for a type that is not here; whether it can be made.
EXPORT int NAMED(ISA, block_bytes)(int type) { return codec_of(type) ? codec_of(type)->bytes : 0; }
EXPORT int NAMED(ISA, makes)(int type) { return codec_of(type) && codec_of(type)->quantize; }
