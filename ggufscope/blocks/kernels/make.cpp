// x -> blocks: all types but those that search a grid, compiled once for each instruction set.

#include "exported.h"
#include "floats.h"
#include "iq4.h"
#include "kquants.h"
#include "microscale.h"
#include "simple.h"
#include "ternary.h"
#include "weights.h"

namespace {

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
            if (group == 1 || some == group) {
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

struct Maker {
    int number, length;
    void (*quantize)(const float *x, void *blocks, int64_t count);
    void (*weigh_and_quantize)(const float *x, void *blocks, int64_t rows, int64_t row,
                               const float *importance);  // null where ggml minds no importance
};

#define MADE(Block, name, made) \
    {Block::number, Block::length, quantize<Block, made, quantize_##name>, nullptr}
#define WEIGHED(Block, name, made, group, sigma2)                               \
    {Block::number, Block::length, quantize<Block, made, quantize_##name>,      \
     weigh_and_quantize<Block, group, Sigma2::sigma2, quantize_##name>}

// How many blocks a kernel takes at a time; also by importance, and what a format makes then of the
// size of the weights around.
const Maker MAKERS[] = {
    MADE(F16, f16, W),
    WEIGHED(Q4_0, q4_0, W, LANES, OF_ROW),
    WEIGHED(Q4_1, q4_1, W, LANES, OF_ROW),
    WEIGHED(Q5_0, q5_0, W, LANES, OF_ROW),
    WEIGHED(Q5_1, q5_1, W, LANES, OF_ROW),
    MADE(Q8_0, q8_0, W),
    WEIGHED(Q2_K, q2_k, GROUP_OF_MANY<16>, W, OF_BLOCK),
    WEIGHED(Q3_K, q3_k, DESCENTS, W, TWICE),
    WEIGHED(Q4_K, q4_k, GROUP_OF_MANY<32>, W, TWICE),
    WEIGHED(Q5_K, q5_k, GROUP_OF_MANY<32>, W, TWICE),
    WEIGHED(Q6_K, q6_k, GROUP<16>, GROUP<16>, NONE),
    WEIGHED(IQ4_NL, iq4_nl, LANES, LANES, TIMES_TWO),
    WEIGHED(IQ4_XS, iq4_xs, GROUP<32>, GROUP<32>, TIMES_TWO),
    MADE(BF16, bf16, LANES),
    MADE(TQ1_0, tq1_0, W),
    MADE(TQ2_0, tq2_0, W),
    MADE(MXFP4, mxfp4, W),
    MADE(NVFP4, nvfp4, W / 4),
    MADE(Q1_0, q1_0, W),
    MADE(Q2_0, q2_0, W),
};

}  // namespace

// x (rows, row) -> blocks (rows, row / length); importance (row,) or null.
EXPORT int NAMED(quantize)(int type, const float *x, void *blocks, int64_t rows, int64_t row,
                           const float *importance) {
    const Maker *maker = entry_of(MAKERS, type);
    if (!maker) return UNKNOWN;
    if (rows * row == 0) return DONE;
    if (importance && maker->weigh_and_quantize)
        maker->weigh_and_quantize(x, blocks, rows, row, importance);
    else
        maker->quantize(x, blocks, rows * (row / maker->length));
    return DONE;
}

EXPORT int NAMED(makes)(int type) { return entry_of(MAKERS, type) != nullptr; }
