/**
 * @file philox.c
 * @brief Philox words by Random123, and uniforms and normals made of them.
 *
 * Compiled without contraction (see float_ops.h), so that every machine gives the same bits.
 *
 * SPDX-License-Identifier: MIT
 */
#include <Random123/philox.h>

#include "core/normal.h"
#include "softntk/rng.h"

static philox4x32_ctr_t block_of(uint64_t seed, uint64_t stream, uint64_t block) {
  const philox4x32_ctr_t counter = {
      {(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)stream, (uint32_t)(stream >> 32)}};
  const philox4x32_key_t key = {{(uint32_t)seed, (uint32_t)(seed >> 32)}};
  return philox4x32(counter, key);
}

uint32_t sntk_rng_word(uint64_t seed, uint64_t stream, uint64_t index) {
  return block_of(seed, stream, index / 4).v[index % 4];
}

double sntk_rng_uniform(uint64_t seed, uint64_t stream, uint64_t index) {
  const philox4x32_ctr_t b = block_of(seed, stream, index / 2);
  const uint64_t high = b.v[2 * (index % 2)], low = b.v[2 * (index % 2) + 1];
  const uint64_t bits = (high << 32 | low) >> 12; /* 52 bits, and a half, so that neither 0 nor 1 comes out */
  return ((double)bits + 0.5) * 0x1p-52;
}

float sntk_rng_normal(uint64_t seed, uint64_t stream, uint64_t index) {
  const philox4x32_ctr_t b = block_of(seed, stream, index / 4);
  float even, odd;
  sntk_normal_pair(b.v[index % 4 & 2], b.v[(index % 4 & 2) + 1], &even, &odd);
  return index % 2 ? odd : even;
}

enum { BATCH = 64 }; /* blocks of four normals at a time: 1 KiB of words */

/* Runs where the fused multiply-add is an instruction if the machine has it: a call to libm's would cost ten times the
 * rest. */
#if defined(SNTK_HAVE_TARGET_CLONES)
__attribute__((target_clones("default", "fma", "avx512f")))
#endif
static void
pairs_of_batch(const uint32_t *w0, const uint32_t *w1, float *even, float *odd) {
#pragma omp simd
  for (int j = 0; j < 2 * BATCH; j++) sntk_normal_pair(w0[j], w1[j], &even[j], &odd[j]);
}

void sntk_rng_normals(uint64_t seed, uint64_t stream, uint64_t first, int64_t count, float *out) {
  uint32_t w0[2 * BATCH], w1[2 * BATCH];
  float even[2 * BATCH], odd[2 * BATCH];
  uint64_t block = first / 4;
  int64_t skip = (int64_t)(first % 4), done = 0;
  while (done < count) {
    for (int b = 0; b < BATCH; b++) {
      const philox4x32_ctr_t words = block_of(seed, stream, block + (uint64_t)b);
      w0[2 * b] = words.v[0];
      w1[2 * b] = words.v[1];
      w0[2 * b + 1] = words.v[2];
      w1[2 * b + 1] = words.v[3];
    }
    pairs_of_batch(w0, w1, even, odd);
    for (int64_t j = skip; j < 4 * BATCH && done < count; j++) out[done++] = j % 2 ? odd[j / 2] : even[j / 2];
    skip = 0;
    block += BATCH;
  }
}
