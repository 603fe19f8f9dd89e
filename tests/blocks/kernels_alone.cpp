// The kernels of one instruction set as a program, without Python: for sanitizers, and for other machines.
//
// stdin: jobs, each eight int64: make (1) or read (0), type, bytes of x or of blocks, bytes of what
// comes out, rows, weights in a row (or blocks), bytes of the grid, 0; then x or blocks, and the grid.
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
        void *from = read_bytes(job[2]), *grid = read_bytes(job[6]), *out = malloc((size_t)job[3]);
        int failed = job[0] ? NAMED(quantize)((int)job[1], (const float *)from, out, job[4], job[5],
                                              nullptr)
                            : NAMED(dequantize)((int)job[1], from, (float *)out, job[5],
                                                (const int8_t *)grid);
        if (failed || fwrite(out, (size_t)job[3], 1, stdout) != 1) return 4;
        free(from);
        free(grid);
        free(out);
    }
    return 0;
}
