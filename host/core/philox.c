/**
 * @file philox.c
 * @brief Philox words by Random123, and uniforms and normals made of them.
 *
 * Compiled without contraction (see float_ops.h), so that every machine gives the same bits.
 *
 * SPDX-License-Identifier: MIT
 */
#include <Random123/philox.h>
#include <string.h>

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

/* The words of BATCH blocks at once: Philox4x32-10 as in Random123's header (Salmon et al., SC 2011), whose own
 * function no compiler at hand vectorizes; the tests compare every word. */
static inline __attribute__((always_inline)) void words_of_batch(uint64_t seed, uint64_t stream, uint64_t first,
                                                                 uint32_t words[4][BATCH]) {
  for (int b = 0; b < BATCH; b++) {
    const uint64_t block = first + (uint64_t)b;
    words[0][b] = (uint32_t)block;
    words[1][b] = (uint32_t)(block >> 32);
    words[2][b] = (uint32_t)stream;
    words[3][b] = (uint32_t)(stream >> 32);
  }
  uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
  for (int round = 0; round < 10; round++) {
#pragma omp simd
    for (int b = 0; b < BATCH; b++) {
      const uint64_t a = (uint64_t)PHILOX_M4x32_0 * words[0][b], c = (uint64_t)PHILOX_M4x32_1 * words[2][b];
      words[0][b] = (uint32_t)(c >> 32) ^ words[1][b] ^ key0;
      words[1][b] = (uint32_t)c;
      words[2][b] = (uint32_t)(a >> 32) ^ words[3][b] ^ key1;
      words[3][b] = (uint32_t)a;
    }
    key0 += PHILOX_W32_0;
    key1 += PHILOX_W32_1;
  }
}

#if defined(SNTK_HAVE_TARGET_CLONES)
#define SNTK_CLONES __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define SNTK_CLONES
#endif

SNTK_CLONES static void four_words_of_batch(uint64_t seed, uint64_t stream, uint64_t first, uint32_t *out) {
  uint32_t words[4][BATCH];
  words_of_batch(seed, stream, first, words);
  for (int b = 0; b < BATCH; b++)
    for (int j = 0; j < 4; j++) out[4 * b + j] = words[j][b];
}

/* Four normals of each of BATCH blocks, by whatever vectors the machine has; the fused multiply-add must be an
 * instruction where there is one: a call to libm's would cost ten times the rest. */
SNTK_CLONES static void normals_of_batch(uint64_t seed, uint64_t stream, uint64_t first, float *out) {
  uint32_t words[4][BATCH];
  float normals[4][BATCH];
  words_of_batch(seed, stream, first, words);
  for (int pair = 0; pair < 4; pair += 2) {
#pragma omp simd
    for (int b = 0; b < BATCH; b++)
      sntk_normal_pair(words[pair][b], words[pair + 1][b], &normals[pair][b], &normals[pair + 1][b]);
  }
  for (int b = 0; b < BATCH; b++)
    for (int j = 0; j < 4; j++) out[4 * b + j] = normals[j][b];
}

/* Calls `make` for batches of 4 BATCH numbers: out[0 .. count) are those from index `first` on. */
#define FILL(type, make)                                                                                               \
  uint64_t block = first / 4;                                                                                          \
  int64_t skip = (int64_t)(first % 4);                                                                                 \
  for (int64_t done = 0; out && done < count; block += BATCH) {                                                               \
    type batch[4 * BATCH];                                                                                             \
    const int64_t left = count - done, whole = 4 * BATCH - skip, here = left < whole ? left : whole;                   \
    make(seed, stream, block, here == 4 * BATCH ? out + done : batch);                                                 \
    if (here < 4 * BATCH) memcpy(out + done, batch + skip, (size_t)here * sizeof *out);                                \
    done += here;                                                                                                      \
    skip = 0;                                                                                                          \
  }

void sntk_rng_words(uint64_t seed, uint64_t stream, uint64_t first, int64_t count, uint32_t *out) {
  FILL(uint32_t, four_words_of_batch)
}

void sntk_rng_normals(uint64_t seed, uint64_t stream, uint64_t first, int64_t count, float *out) {
  FILL(float, normals_of_batch)
}
