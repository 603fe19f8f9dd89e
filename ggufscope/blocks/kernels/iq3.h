// IQ3_XXS and IQ3_S: made by a search of their grids. What iq3.py does.

#pragma once

#include "iq2.h"

namespace {

INLINE bool quantize_iq3_xxs(const Group &group, IQ3_XXS *out) {
    typedef Search<32, 3, 15, true, Again::OFF_GRID> How;
    Fitted<How> fitted;
    if (!fit_vectors<How, 2>({0.2f, 1e-8f}, group, 0, fitted)) return false;
    I levels[8], zero;
    F d = stored_scales<8, 31, 16>(fitted.scales, levels, &zero);
    for (int lane = 0; lane < W; lane++) {
        IQ3_XXS &block = out[lane];
        block.d = to_half(d[lane] * 1.0125f);
        for (int i = 0; i < SUPER / 4; i++)
            block.qs[i] = (Byte)group.book.place[fitted.points[i][lane]];
        for (int j = 0; j < 8; j++) {
            uint32_t signs = pack_even_signs(fitted.signs + j * 4, lane, levels[j][lane]);
            memcpy(block.qs + SUPER / 4 + j * 4, &signs, sizeof signs);
        }
        if (zero[lane]) memset(block.qs, 0, sizeof block.qs);
    }
    return true;
}

INLINE bool quantize_iq3_s(const Group &group, IQ3_S *out) {
    typedef Search<32, 3, 9, false, Again::IF_ANY> How;
    Fitted<How> fitted;
    if (!fit_vectors<How, 2>({0.2f, 0}, group, 0, fitted)) return false;
    I levels[8], zero;
    F d = stored_scales<8, 31, 16>(fitted.scales, levels, &zero);
    for (int lane = 0; lane < W; lane++) {
        IQ3_S &block = out[lane];
        memset(&block, 0, sizeof block);
        block.d = to_half(d[lane] * 1.033f);
        Byte *qs = block.qs, *signs = block.signs;
        for (int j = 0; j < 8; j++) {
            if (!fitted.live[j][lane]) continue;  // as in ggml the next one takes its place
            for (int i = j * 8; i < j * 8 + 8; i++) {
                int entry = group.book.place[fitted.points[i][lane]];
                *qs++ = (Byte)entry;
                block.qh[j] |= entry >> 8 << i % 8;
            }
            for (int i = j * 4; i < j * 4 + 4; i++) *signs++ = (Byte)fitted.signs[i][lane];
        }
        for (int j = 0; j < 4; j++)
            block.scales[j] = (Byte)(levels[2 * j][lane] | levels[2 * j + 1][lane] << 4);
    }
    return true;
}

}  // namespace
