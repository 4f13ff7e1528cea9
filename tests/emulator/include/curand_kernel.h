/**
 * @file curand_kernel.h
 * @brief Stands in for cuRAND's header of this name: Philox4x32-10 with cuRAND's mapping of seed, subsequence, offset.
 *
 * key = {lo(seed), hi(seed)}; counter = {lo(offset / 4), hi(offset / 4), lo(subsequence), hi(subsequence)}; the first
 * word is offset % 4 of the block. Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3; SC 2011.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef EMU_CURAND_KERNEL_H
#define EMU_CURAND_KERNEL_H

#include "cuda_runtime.h"

struct curandStatePhilox4_32_10 {
  unsigned counter[4];
  unsigned key[2];
  unsigned output[4]; /* the block that the counter names */
  unsigned position;  /* next word of it */
};
typedef struct curandStatePhilox4_32_10 curandStatePhilox4_32_10_t;

namespace emu {

inline void philox_block(curandStatePhilox4_32_10_t *state) {
  unsigned c[4] = {state->counter[0], state->counter[1], state->counter[2], state->counter[3]};
  unsigned k[2] = {state->key[0], state->key[1]};
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = UINT64_C(0xD2511F53) * c[0], b = UINT64_C(0xCD9E8D57) * c[2];
    const unsigned c0 = (unsigned)(b >> 32) ^ c[1] ^ k[0], c2 = (unsigned)(a >> 32) ^ c[3] ^ k[1];
    c[1] = (unsigned)b;
    c[3] = (unsigned)a;
    c[0] = c0;
    c[2] = c2;
    k[0] += 0x9E3779B9u;
    k[1] += 0xBB67AE85u;
  }
  for (int i = 0; i < 4; ++i) state->output[i] = c[i];
}

/* counter += blocks, as a 128-bit number */
inline void philox_advance(curandStatePhilox4_32_10_t *state, unsigned long long blocks) {
  const uint64_t low = (uint64_t)state->counter[1] << 32 | state->counter[0];
  const uint64_t sum = low + blocks;
  state->counter[0] = (unsigned)sum;
  state->counter[1] = (unsigned)(sum >> 32);
  if (sum < low && ++state->counter[2] == 0) ++state->counter[3];
}

}  // namespace emu

inline void skipahead(unsigned long long words, curandStatePhilox4_32_10_t *state) {
  state->position += (unsigned)(words & 3u);
  emu::philox_advance(state, words / 4 + state->position / 4);
  state->position &= 3u;
  emu::philox_block(state);
}

inline void curand_init(unsigned long long seed, unsigned long long subsequence, unsigned long long offset,
                        curandStatePhilox4_32_10_t *state) {
  *state = curandStatePhilox4_32_10_t{};
  state->key[0] = (unsigned)seed;
  state->key[1] = (unsigned)(seed >> 32);
  state->counter[2] = (unsigned)subsequence;
  state->counter[3] = (unsigned)(subsequence >> 32);
  skipahead(offset, state);
}

inline unsigned curand(curandStatePhilox4_32_10_t *state) {
  const unsigned word = state->output[state->position++];
  if (state->position == 4) {
    state->position = 0;
    emu::philox_advance(state, 1);
    emu::philox_block(state);
  }
  return word;
}

inline uint4 curand4(curandStatePhilox4_32_10_t *state) {
  uint4 words;
  words.x = curand(state);
  words.y = curand(state);
  words.z = curand(state);
  words.w = curand(state);
  return words;
}

#endif
