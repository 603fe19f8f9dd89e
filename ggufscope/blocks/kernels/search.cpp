// x -> blocks of the types that search a grid, compiled once for each instruction set.

#include "codebooks.h"
#include "exported.h"
#include "iq1.h"
#include "iq3.h"

namespace {

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


}  // namespace

// x (rows, row) -> blocks (rows, row / length), with a type's codebook; importance (row,) or null.
// REFUSED where ggml would end.
EXPORT int NAMED(search)(int type, const float *x, void *blocks, int64_t rows, int64_t row,
                         const float *importance, const int32_t *place, const uint16_t *near) {
    const Searcher *search = entry_of(SEARCHES, type);
    if (!search || (search->by_importance && !importance)) return UNKNOWN;
    return search->quantize(x, blocks, rows, row, importance, {place, near}) ? DONE : REFUSED;
}

EXPORT int NAMED(searches)(int type) { return entry_of(SEARCHES, type) != nullptr; }
