/**
 * @file dispatch.c
 * @brief Picks the passes for the processor at hand.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>

#include "backends/backend.h"
#include "backends/cpu/kernels.h"

extern const sntk_cpu_kernels sntk_cpu_kernels_portable;

#if defined(SNTK_HAVE_X86_KERNELS)
extern const sntk_cpu_kernels sntk_cpu_kernels_avx2, sntk_cpu_kernels_avx512;

static bool has_avx2(void) {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
}

static bool has_avx512(void) {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd");
}
#endif

/* The words of SOFTNTK_ISA, the best first; those that this build lacks are words all the same. */
static const struct {
  const char *name;
  const sntk_cpu_kernels *kernels;
  bool (*there)(void); /* NULL: always */
} isas[] = {
#if defined(SNTK_HAVE_X86_KERNELS)
    {"avx512", &sntk_cpu_kernels_avx512, has_avx512},
    {"avx2", &sntk_cpu_kernels_avx2, has_avx2},
#else
    {"avx512", NULL, NULL},
    {"avx2", NULL, NULL},
#endif
    {"portable", &sntk_cpu_kernels_portable, NULL}};

enum { ISAS = sizeof isas / sizeof *isas };

static bool usable(int isa) { return isas[isa].kernels && (!isas[isa].there || isas[isa].there()); }

/* SOFTNTK_ISA asks for less than the best, for tests and comparisons; NULL where it is not set or empty. */
static const char *wanted_isa(void) {
  const char *text = getenv("SOFTNTK_ISA");
  return text && *text ? text : NULL;
}

const sntk_cpu_kernels *sntk_cpu_kernels_pick(void) {
  const char *wanted = wanted_isa();
  for (int i = 0; i < ISAS; i++)
    if (wanted ? strcmp(isas[i].name, wanted) == 0 : usable(i)) return usable(i) ? isas[i].kernels : NULL;
  return NULL;
}

sntk_status sntk_isa_check(sntk_context *ctx) {
  const char *wanted = wanted_isa();
  if (!wanted || sntk_cpu_kernels_pick()) return SNTK_OK;
  for (int i = 0; i < ISAS; i++)
    if (strcmp(isas[i].name, wanted) == 0)
      return sntk_fail(ctx, SNTK_ERR_BACKEND,
                       "SOFTNTK_ISA is %s, which this processor or build lacks; use portable, or unset it", wanted);
  return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "SOFTNTK_ISA is \"%s\"; use portable, avx2 or avx512, or unset it", wanted);
}
