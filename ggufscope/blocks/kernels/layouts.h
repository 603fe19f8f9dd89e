// The blocks, as in layouts.py: the same fields in the same order. The loader compares their sizes.

#pragma once

#include <stdint.h>

namespace {

typedef uint8_t Byte;
typedef int8_t SignedByte;
typedef uint16_t Half;  // the bits of a float16

constexpr int SUPER = 256;
constexpr int SCALE_BYTES = 12;

#define BLOCK(name, number_, length_, ...)                       \
    struct __attribute__((packed)) name {                        \
        static constexpr int number = number_, length = length_; \
        __VA_ARGS__                                              \
    };

BLOCK(F16, 1, 1, Half bits;)
BLOCK(Q4_0, 2, 32, Half d; Byte qs[16];)
BLOCK(Q4_1, 3, 32, Half d, m; Byte qs[16];)
BLOCK(Q5_0, 6, 32, Half d; Byte qh[4], qs[16];)
BLOCK(Q5_1, 7, 32, Half d, m; Byte qh[4], qs[16];)
BLOCK(Q8_0, 8, 32, Half d; SignedByte qs[32];)
BLOCK(Q8_1, 9, 32, Half d, s; SignedByte qs[32];)
BLOCK(Q2_K, 10, SUPER, Byte scales[SUPER / 16], qs[SUPER / 4]; Half d, dmin;)
BLOCK(Q3_K, 11, SUPER, Byte hmask[SUPER / 8], qs[SUPER / 4], scales[SCALE_BYTES]; Half d;)
BLOCK(Q4_K, 12, SUPER, Half d, dmin; Byte scales[SCALE_BYTES], qs[SUPER / 2];)
BLOCK(Q5_K, 13, SUPER, Half d, dmin; Byte scales[SCALE_BYTES], qh[SUPER / 8], qs[SUPER / 2];)
BLOCK(Q6_K, 14, SUPER, Byte ql[SUPER / 2], qh[SUPER / 4]; SignedByte scales[SUPER / 16]; Half d;)
BLOCK(Q8_K, 15, SUPER, float d; SignedByte qs[SUPER]; int16_t bsums[SUPER / 16];)
BLOCK(IQ2_XXS, 16, SUPER, Half d; uint16_t qs[SUPER / 8];)
BLOCK(IQ2_XS, 17, SUPER, Half d; uint16_t qs[SUPER / 8]; Byte scales[SUPER / 32];)
BLOCK(IQ3_XXS, 18, SUPER, Half d; Byte qs[3 * SUPER / 8];)
BLOCK(IQ1_S, 19, SUPER, Half d; Byte qs[SUPER / 8]; uint16_t qh[SUPER / 32];)
BLOCK(IQ4_NL, 20, 32, Half d; Byte qs[16];)
BLOCK(IQ3_S, 21, SUPER, Half d;
      Byte qs[SUPER / 4], qh[SUPER / 32], signs[SUPER / 8], scales[SUPER / 64];)
BLOCK(IQ2_S, 22, SUPER, Half d; Byte qs[SUPER / 4], qh[SUPER / 32], scales[SUPER / 32];)
BLOCK(IQ4_XS, 23, SUPER, Half d; uint16_t scales_h; Byte scales_l[SUPER / 64], qs[SUPER / 2];)
BLOCK(IQ1_M, 29, SUPER, Byte qs[SUPER / 8], qh[SUPER / 16], scales[SUPER / 32];)
BLOCK(BF16, 30, 1, uint16_t bits;)
BLOCK(TQ1_0, 34, SUPER, Byte qs[(SUPER - SUPER / 16) / 5], qh[SUPER / 64]; Half d;)
BLOCK(TQ2_0, 35, SUPER, Byte qs[SUPER / 4]; Half d;)
BLOCK(MXFP4, 39, 32, Byte e, qs[16];)
BLOCK(NVFP4, 40, 64, Byte d[64 / 16], qs[64 / 2];)
BLOCK(Q1_0, 41, 128, Half d; Byte qs[128 / 8];)
BLOCK(Q2_0, 42, 64, Half d; Byte qs[64 / 4];)

#undef BLOCK

}  // namespace
