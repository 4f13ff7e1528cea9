/**
 * @file dispatch.c
 * @brief Picks the passes for the processor at hand.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>

#include "backends/cpu/kernels.h"

extern const sntk_cpu_kernels sntk_cpu_kernels_portable;

#if defined(SNTK_HAVE_X86_KERNELS)
extern const sntk_cpu_kernels sntk_cpu_kernels_avx2, sntk_cpu_kernels_avx512;
#endif

const sntk_cpu_kernels *sntk_cpu_kernels_pick(void) {
#if defined(SNTK_HAVE_X86_KERNELS)
  /* SOFTNTK_ISA=portable|avx2|avx512 asks for less than the best, for tests and comparisons. */
  const char *wanted = getenv("SOFTNTK_ISA");
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512cd");
  if (wanted && strcmp(wanted, "portable") == 0) return &sntk_cpu_kernels_portable;
  if (avx512 && !(wanted && strcmp(wanted, "avx2") == 0)) return &sntk_cpu_kernels_avx512;
  if (avx2) return &sntk_cpu_kernels_avx2;
#endif
  return &sntk_cpu_kernels_portable;
}
