/**
 * @file rng.h
 * @brief Counter-based random numbers: every value is a pure function of (seed, stream, index).
 *
 * Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011) with
 * key = {seed low, seed high} and counter = {low(index / 4), high(index / 4), stream low, stream high}; word index % 4
 * of the block is the value. The same mapping gives cuRAND's Philox sequence for (seed, subsequence = stream, offset =
 * index).
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SOFTNTK_RNG_H
#define SOFTNTK_RNG_H

#include <stdint.h>

#include "softntk/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/** @brief Streams in use; one purpose each, so that no two purposes share numbers. */
typedef enum sntk_stream {
  SNTK_STREAM_WEIGHTS = 0,         /**< normal k + dim q of neuron (iid) or pair (symmetric) q */
  SNTK_STREAM_SIGNS = 1,           /**< word l + outputs q; its highest bit set: -1 */
  SNTK_STREAM_INPUTS = 2,          /**< synthetic inputs */
  SNTK_STREAM_TARGETS = 3,         /**< random and harmonic targets */
  SNTK_STREAM_TEACHER_WEIGHTS = 4, /**< as WEIGHTS, for teacher targets */
  SNTK_STREAM_TEACHER_SIGNS = 5,   /**< as SIGNS, for teacher targets */
  SNTK_STREAM_KRYLOV = 6,          /**< start vectors of eigenvalue iterations */
  SNTK_STREAM_DIRECTIONS = 8       /**< random directions of perturbations, as WEIGHTS of single neurons */
} sntk_stream;

/** @brief 32 random bits. */
SNTK_API uint32_t sntk_rng_word(uint64_t seed, uint64_t stream, uint64_t index);

/** @brief out[j] = sntk_rng_word(seed, stream, first + j), faster. */
SNTK_API void sntk_rng_words(uint64_t seed, uint64_t stream, uint64_t first, int64_t count, uint32_t *out);

/** @brief Uniform in (0, 1), 52 bits, from words 2 index and 2 index + 1. */
SNTK_API double sntk_rng_uniform(uint64_t seed, uint64_t stream, uint64_t index);

/** @brief Standard normal (float32-valued): the same bits on every backend. |value| <= 6.77. */
SNTK_API float sntk_rng_normal(uint64_t seed, uint64_t stream, uint64_t index);

/** @brief out[j] = sntk_rng_normal(seed, stream, first + j), faster. */
SNTK_API void sntk_rng_normals(uint64_t seed, uint64_t stream, uint64_t first, int64_t count, float *out);

#ifdef __cplusplus
}
#endif

#endif
