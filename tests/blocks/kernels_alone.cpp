// The kernels of one instruction set as a program, without Python: for sanitizers, and for other machines.
//
// stdin: jobs, each eight int64: make (1), read (0) or multiply (2), type, bytes of x or of blocks,
// bytes of what comes out, rows, weights in a row (or blocks), bytes of the grid, tokens; then x or
// blocks, the grid, and what is multiplied with.
// stdout: what comes out of each. Every array is allocated with its very size.

#include <stdio.h>
#include <stdlib.h>

#include "make.cpp"
#include "read.cpp"
#include "search.cpp"

namespace {

void *read_bytes(int64_t count) {
    void *bytes = malloc((size_t)count);
    if (count && fread(bytes, (size_t)count, 1, stdin) != 1) exit(3);
    return bytes;
}

}  // namespace

int main() {
    int64_t job[8];
    while (fread(job, sizeof job, 1, stdin) == 1) {
        const int64_t rows = job[4], row = job[5], tokens = job[7], chunk = NAMED(chunk)();
        const int64_t floats = (row + chunk - 1) / chunk * tokens * NAMED(pitch)();
        void *from = read_bytes(job[2]), *grid = read_bytes(job[6]), *out = malloc((size_t)job[3]);
        void *with = read_bytes(job[0] == 2 ? floats * 4 : 0);
        void *room = malloc((size_t)(NAMED(tile)() * NAMED(pitch)() * 4));
        int type = (int)job[1], failed = 0;
        if (job[0] == 2)
            failed = NAMED(multiply)(type, from, rows, row, (const int8_t *)grid, (float *)with,
                                     tokens, (float *)out, rows, (float *)room);
        else if (job[0] == 1)
            failed = NAMED(quantize)(type, (const float *)from, out, rows, row, nullptr);
        else
            failed = NAMED(dequantize)(type, from, (float *)out, row, (const int8_t *)grid);
        if (failed || fwrite(out, (size_t)job[3], 1, stdout) != 1) return 4;
        free(from);
        free(grid);
        free(with);
        free(room);
        free(out);
    }
    return 0;
}
