// What this processor can run, asked at run time; and what made this library.

#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#if defined(_WIN32)
#define EXPORT extern "C" __declspec(dllexport)
#else
#define EXPORT extern "C" __attribute__((visibility("default")))
#endif

#if defined(__x86_64__)
// The registers that the operating system keeps for each program (XCR0).
static unsigned kept_registers() {
    unsigned low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static bool runs_avx2(bool avx512) {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1)) return false;  // may XCR0 be read?
    if (!(c >> 12 & 1) || !(c >> 29 & 1)) return false;  // FMA and F16C, which came with AVX2
    unsigned registers = kept_registers();
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    bool avx2 = (registers & 0x06) == 0x06 && (b >> 5 & 1);
    constexpr unsigned f_dq_bw_vl = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;
    return avx2 && (!avx512 || ((registers & 0xe6) == 0xe6 && (b & f_dq_bw_vl) == f_dq_bw_vl));
}
#endif

EXPORT int kernels_run(const char *isa) {
    if (!strcmp(isa, "baseline")) return 1;
#if defined(__x86_64__)
    if (!strcmp(isa, "avx2")) return runs_avx2(false);
    if (!strcmp(isa, "avx512")) return runs_avx2(true);
#endif
    return 0;
}

EXPORT const char *kernels_sources() { return SOURCES; }

EXPORT const char *kernels_compiler() {
#if defined(__clang__)
    return "clang " __clang_version__;
#else
    return "GCC " __VERSION__;
#endif
}
