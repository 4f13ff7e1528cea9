/**
 * @file core.h
 * @brief Internals shared by every layer: the context's fields, failures with a text, checked sizes, memory.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SOFTNTK_CORE_H
#define SOFTNTK_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "softntk/context.h"
#include "softntk/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SNTK_ERROR_CHARS = 1024, SNTK_DEVICE_CHARS = 256 };

struct sntk_context {
  const struct sntk_backend *backend; /* NULL until opened */
  void *backend_state;                /* the backend's own */
  int device, threads;
  int library_threads;  /* of the linear algebra library; 0 until they are known (see sntk_threads_use) */
  bool tensor_cores;    /* asked for; a backend without them refuses */
  int64_t memory_limit; /* 0: none given */
  char device_name[SNTK_DEVICE_CHARS];
  char error[SNTK_ERROR_CHARS];
  const volatile sig_atomic_t *interrupt;
  sntk_progress_fn progress;
  void *progress_user;
};

/* Passes a failure on; for functions that own nothing that must be freed. */
#define SNTK_TRY(call)                                                                                                 \
  do {                                                                                                                 \
    const sntk_status sntk_try_status_ = (call);                                                                       \
    if (sntk_try_status_ != SNTK_OK) return sntk_try_status_;                                                          \
  } while (0)

/* Refuses a NULL that a public function's caller has handed over for `name`. */
#define SNTK_NEED(ctx, pointer, name)                                                                                  \
  do {                                                                                                                 \
    if (!(pointer)) return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "%s: %s is NULL", __func__, name);                        \
  } while (0)

/* Refuses a context that is NULL, or has no backend open. */
#define SNTK_NEED_OPEN(ctx)                                                                                            \
  do {                                                                                                                 \
    SNTK_NEED(ctx, ctx, "ctx");                                                                                        \
    if (!(ctx)->backend) return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "no backend is open in this context");               \
  } while (0)

/* Sets the context's error text and returns `status`. ctx may be NULL. */
sntk_status sntk_fail(sntk_context *ctx, sntk_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " (as printf) before the error text that is there; returns `status`. */
sntk_status sntk_fail_prefix(sntk_context *ctx, sntk_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* SNTK_ERR_INTERRUPTED with a text once the flag is raised. */
sntk_status sntk_check_interrupt(sntk_context *ctx);

/* Calls the progress function, if any. */
void sntk_report_progress(sntk_context *ctx, const char *what, int64_t done, int64_t total, double loss);

/* Sizes: each returns -1 where the result does not fit in 63 bits or an argument is negative, so that they can be
 * nested. */
int64_t sntk_size_mul(int64_t a, int64_t b);
int64_t sntk_size_add(int64_t a, int64_t b);

/* Can a caller have an array of rows x cols numbers of 8 bytes? SNTK_ERR_ARGUMENT where one of them is below 1,
 * SNTK_ERR_SHAPE where no address space holds it. */
sntk_status sntk_check_array(sntk_context *ctx, const char *what, int64_t rows, int64_t cols);

/* malloc of count * size bytes aligned to 64, never zero bytes; SNTK_ERR_SHAPE on overflow, SNTK_ERR_MEMORY with `what`
 * in the text. Free with free(). */
sntk_status sntk_alloc(sntk_context *ctx, const char *what, int64_t count, size_t size, void **out);

/* Bytes that the process may still take: the kernel's estimate, less where a control group or resource limit allows
 * less. */
int64_t sntk_host_memory(void);

/* Bytes of memory that the process has now, and the most that it has had: its resident set, as Slurm's MaxRSS and
 * time(1) count it. 0 where the system does not say. */
int64_t sntk_host_resident(void);
int64_t sntk_host_peak(void);

/* Bytes of the backend's memory that the process has already, its data among them, and the most that it has had: those
 * of the host; 0 where the backend's memory is a device's, which tells only what is free. */
int64_t sntk_context_held(const sntk_context *ctx);
int64_t sntk_context_peak(const sntk_context *ctx);

/* Bytes of host memory that may be planned for: the limit given, else what the process may still take. */
int64_t sntk_host_budget(const sntk_context *ctx);

/* "1.5 GiB" into buffer (at least 32 bytes); returns buffer. */
const char *sntk_format_bytes(int64_t bytes, char *buffer);

/* Monotonic seconds. */
double sntk_seconds(void);

#ifdef __cplusplus
}
#endif

#endif
