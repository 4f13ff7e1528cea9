/**
 * @file core.c
 * @brief Context, failures, checked sizes, allocation.
 *
 * SPDX-License-Identifier: MIT
 */
#include "core/core.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/git_commit.h"
#include "softntk/version.h"

const char *sntk_version(void) { return SNTK_VERSION_STRING; }

const char *sntk_git_commit(void) { return SNTK_GIT_COMMIT; }

sntk_status sntk_context_create(sntk_context **ctx) {
  if (!ctx) return SNTK_ERR_ARGUMENT;
  *ctx = calloc(1, sizeof **ctx);
  if (!*ctx) return SNTK_ERR_MEMORY;
  (*ctx)->threads = 1;
  snprintf((*ctx)->device_name, sizeof(*ctx)->device_name, "none");
  return SNTK_OK;
}

const char *sntk_context_error(const sntk_context *ctx) { return ctx ? ctx->error : "no context"; }

const char *sntk_context_device(const sntk_context *ctx) { return ctx ? ctx->device_name : "none"; }

int sntk_context_threads(const sntk_context *ctx) { return ctx ? ctx->threads : 1; }

void sntk_context_set_interrupt(sntk_context *ctx, const volatile sig_atomic_t *flag) {
  if (ctx) ctx->interrupt = flag;
}

void sntk_context_set_progress(sntk_context *ctx, sntk_progress_fn fn, void *user) {
  if (!ctx) return;
  ctx->progress = fn;
  ctx->progress_user = user;
}

sntk_status sntk_fail(sntk_context *ctx, sntk_status status, const char *format, ...) {
  if (ctx) {
    char text[SNTK_ERROR_CHARS]; /* the arguments may point into ctx->error */
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    memcpy(ctx->error, text, sizeof text);
  }
  return status;
}

sntk_status sntk_fail_prefix(sntk_context *ctx, sntk_status status, const char *format, ...) {
  if (ctx) {
    char prefix[SNTK_ERROR_CHARS], text[SNTK_ERROR_CHARS];
    va_list args;
    va_start(args, format);
    vsnprintf(prefix, sizeof prefix, format, args);
    va_end(args);
    const size_t used = strlen(prefix);
    memcpy(text, prefix, used);
    snprintf(text + used, sizeof text - used, ": %.*s", (int)(sizeof text - used), ctx->error);
    memcpy(ctx->error, text, sizeof text);
  }
  return status;
}

sntk_status sntk_check_interrupt(sntk_context *ctx) {
  if (ctx->interrupt && *ctx->interrupt) return sntk_fail(ctx, SNTK_ERR_INTERRUPTED, "interrupted");
  return SNTK_OK;
}

void sntk_report_progress(sntk_context *ctx, const char *what, int64_t done, int64_t total, double loss) {
  if (!ctx->progress) return;
  const sntk_progress progress = {.what = what, .done = done, .total = total, .loss = loss};
  ctx->progress(ctx->progress_user, &progress);
}

int64_t sntk_size_mul(int64_t a, int64_t b) {
  int64_t c;
  return a < 0 || b < 0 || __builtin_mul_overflow(a, b, &c) ? -1 : c;
}

int64_t sntk_size_add(int64_t a, int64_t b) {
  int64_t c;
  return a < 0 || b < 0 || __builtin_add_overflow(a, b, &c) ? -1 : c;
}

/* What a process can address: 47 bits on x86-64, little more elsewhere. */
#define ADDRESS_SPACE ((int64_t)1 << 47)

sntk_status sntk_check_array(sntk_context *ctx, const char *what, int64_t rows, int64_t cols) {
  if (rows < 1 || cols < 1)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "%s: %lld x %lld numbers; give at least 1 x 1", what, (long long)rows,
                     (long long)cols);
  const int64_t bytes = sntk_size_mul(sntk_size_mul(rows, cols), 8);
  if (bytes >= 0 && bytes <= ADDRESS_SPACE) return SNTK_OK;
  return sntk_fail(ctx, SNTK_ERR_SHAPE, "%s: %lld x %lld numbers do not fit an address space", what, (long long)rows,
                   (long long)cols);
}

sntk_status sntk_alloc(sntk_context *ctx, const char *what, int64_t count, size_t size, void **out) {
  *out = NULL;
  const int64_t bytes = sntk_size_mul(count, (int64_t)size);
  if (bytes < 0 || bytes > INT64_MAX - 64)
    return sntk_fail(ctx, SNTK_ERR_SHAPE, "%s: %lld elements of %zu bytes do not fit an address", what,
                     (long long)count, size);
  *out = aligned_alloc(64, (size_t)(bytes / 64 + 1) * 64);
  if (!*out) {
    char text[32];
    return sntk_fail(ctx, SNTK_ERR_MEMORY, "%s: no memory for %s", what, sntk_format_bytes(bytes, text));
  }
  return SNTK_OK;
}

const char *sntk_format_bytes(int64_t bytes, char *buffer) {
  static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double value = (double)bytes;
  size_t unit = 0;
  while (value >= 1024.0 && unit + 1 < sizeof units / sizeof *units) {
    value /= 1024.0;
    unit++;
  }
  snprintf(buffer, 32, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
  return buffer;
}

double sntk_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
