// IQ2_XXS, IQ2_XS, IQ2_S: made by a search of their grids. What iq2.py does.

#pragma once

#include "vectors.h"

namespace {

// Seven sign bits of each of four vectors, below a scale of four bits.
INLINE uint32_t pack_even_signs(const I *signs, int lane, int scale) {
    uint32_t packed = (uint32_t)scale << 28;
    for (int i = 0; i < 4; i++) packed |= (uint32_t)(signs[i][lane] & 127) << 7 * i;
    return packed;
}

INLINE bool quantize_iq2_xxs(const Group &group, IQ2_XXS *out) {
    typedef Search<32, 2, 6, true, Again::ALL> How;
    Fitted<How> fitted;
    if (!fit_vectors<How, 1>({0.1f, 1e-15f}, group, 0, fitted)) return false;
    I levels[8], zero;
    F d = stored_scales<8, 31, 16>(fitted.scales, levels, &zero);
    for (int lane = 0; lane < W; lane++) {
        Byte *qs = (Byte *)out[lane].qs;
        out[lane].d = to_half(d[lane]);
        for (int j = 0; j < 8; j++, qs += 8) {
            uint32_t signs = pack_even_signs(fitted.signs + j * 4, lane, levels[j][lane]);
            for (int i = 0; i < 4; i++) qs[i] = group.book.place[fitted.points[j * 4 + i][lane]];
            memcpy(qs + 4, &signs, sizeof signs);
        }
        if (zero[lane]) memset(out[lane].qs, 0, sizeof out[lane].qs);
    }
    return true;
}

INLINE bool quantize_iq2_xs(const Group &group, IQ2_XS *out) {
    typedef Search<16, 2, 9, true, Again::OFF_GRID> How;
    Fitted<How> fitted;
    if (!fit_vectors<How, 1>({0.1f, 1e-15f}, group, 0, fitted)) return false;
    I levels[16], zero;
    F d = stored_scales<16, 31, 16>(fitted.scales, levels, &zero);
    for (int lane = 0; lane < W; lane++) {
        out[lane].d = to_half(d[lane]);
        for (int j = 0; j < 8; j++)
            out[lane].scales[j] = (Byte)(levels[2 * j][lane] | levels[2 * j + 1][lane] << 4);
        for (int i = 0; i < 32; i++)
            out[lane].qs[i] = (uint16_t)(group.book.place[fitted.points[i][lane]]
                                         | (fitted.signs[i][lane] & 127) << 9);
        if (zero[lane]) memset(out[lane].qs, 0, sizeof out[lane].qs);
    }
    return true;
}

INLINE bool quantize_iq2_s(const Group &group, IQ2_S *out) {
    typedef Search<16, 2, 9, false, Again::OFF_GRID> How;
    Fitted<How> fitted;
    if (!fit_vectors<How, 2>({0.1f, 1e-8f}, group, 0.25f, fitted)) return false;
    I levels[16], zero;
    F d = stored_scales<16, 31, 16>(fitted.scales, levels, &zero);
    for (int lane = 0; lane < W; lane++) {
        IQ2_S &block = out[lane];
        memset(&block, 0, sizeof block);
        block.d = to_half(d[lane] * 0.9875f);
        for (int j = 0; j < 8; j++)
            block.scales[j] = (Byte)(levels[2 * j][lane] | levels[2 * j + 1][lane] << 4);
        for (int i = 0; i < 32; i++) {
            int entry = group.book.place[fitted.points[i][lane]];
            block.qs[i] = (Byte)entry;
            block.qs[32 + i] = (Byte)fitted.signs[i][lane];
            block.qh[i / 4] |= entry >> 8 << i % 4 * 2;
        }
    }
    return true;
}

}  // namespace
