/**
 * @file context.h
 * @brief The context: backend, threads, memory limit, error text, progress and interruption.
 *
 * A context belongs to one host thread at a time. Two contexts are independent, except that the cpu backend's thread
 * count is the process's (OpenMP and OpenBLAS keep one).
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SOFTNTK_CONTEXT_H
#define SOFTNTK_CONTEXT_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "softntk/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sntk_context sntk_context;

/** @brief Element type of the computation. Weights at initialization are float32-valued in both. */
typedef enum sntk_precision { SNTK_F32 = 0, SNTK_F64 = 1 } sntk_precision;

/** @brief What sntk_context_open() chooses from. */
typedef struct sntk_context_options {
  const char *backend;  /**< "auto", "ref", "cpu" or "cuda" */
  int device;           /**< index of the device; the host backends have only 0 */
  int threads;          /**< host threads; 0: OMP_NUM_THREADS, else all processors the process may use */
  int64_t memory_limit; /**< bytes the engine may plan for; 0: what the machine has available */
  bool tensor_cores;    /**< cuda, f32: matrix products of the fused passes as three TensorFloat-32 products each */
} sntk_context_options;

#define SNTK_CONTEXT_OPTIONS_INIT                                                                                      \
  { "auto", 0, 0, 0, false }

/** @brief A unit of work under way, for a progress line. */
typedef struct sntk_progress {
  const char *what;    /**< "train", "gram", ... */
  int64_t done, total; /**< steps, neurons, ...; total 0: not known */
  double loss;         /**< current loss, NaN where there is none */
} sntk_progress;

typedef void (*sntk_progress_fn)(void *user, const sntk_progress *progress);

/**
 * @brief Creates a context without a backend: enough for data and error texts.
 * @param[out] ctx  The context; NULL on failure.
 * @return SNTK_OK; SNTK_ERR_MEMORY.
 */
SNTK_API sntk_status sntk_context_create(sntk_context **ctx);

/**
 * @brief Opens the backend; needed before any computation. May be called once per context.
 * @return SNTK_OK; SNTK_ERR_ARGUMENT for an unknown name; SNTK_ERR_BACKEND or SNTK_ERR_DEVICE with the reason.
 */
SNTK_API sntk_status sntk_context_open(sntk_context *ctx, const sntk_context_options *options);

/** @brief Frees the context and its backend; NULL is allowed. */
SNTK_API void sntk_context_free(sntk_context *ctx);

/** @brief Text of the last failure: what was wrong, with the value, and what would be right. Never NULL. */
SNTK_API const char *sntk_context_error(const sntk_context *ctx);

/** @brief Name of the open backend ("ref", "cpu", ...), or "none". */
SNTK_API const char *sntk_context_backend(const sntk_context *ctx);

/** @brief Is the backend's device code run on the host by an emulator? Such a run tests correctness and says nothing of
 * speed. */
SNTK_API bool sntk_context_emulated(const sntk_context *ctx);

/** @brief The device in words, such as the processor's name and instruction set. Never NULL. */
SNTK_API const char *sntk_context_device(const sntk_context *ctx);

/** @brief Threads in use (at least 1). */
SNTK_API int sntk_context_threads(const sntk_context *ctx);

/** @brief Bytes the engine may plan for: the limit given, else what the machine has available now; -1, with the reason
 * in sntk_context_error, where the device does not say. */
SNTK_API int64_t sntk_context_memory(sntk_context *ctx);

/** @brief The type in which the open backend computes when asked for `wanted` (ref: always SNTK_F64). */
SNTK_API sntk_precision sntk_context_precision(const sntk_context *ctx, sntk_precision wanted);

/** @brief Sets a flag polled between steps; nonzero stops with SNTK_ERR_INTERRUPTED. The flag must outlive the context.
 */
SNTK_API void sntk_context_set_interrupt(sntk_context *ctx, const volatile sig_atomic_t *flag);

/** @brief Sets a function called between steps, from the calling thread. NULL removes it. */
SNTK_API void sntk_context_set_progress(sntk_context *ctx, sntk_progress_fn fn, void *user);

#ifdef __cplusplus
}
#endif

#endif
