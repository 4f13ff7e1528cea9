/**
 * @file registry.c
 * @brief Finds a backend by name and opens it for a context.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/backend.h"

#define SNTK_BACKEND(name) extern const sntk_backend sntk_backend_##name;
#include "backends/backends.def"
#undef SNTK_BACKEND

static const sntk_backend *const table[] = {
#define SNTK_BACKEND(name) &sntk_backend_##name,
#include "backends/backends.def"
#undef SNTK_BACKEND
};

sntk_status sntk_backend_find(sntk_context *ctx, const char *name, const sntk_backend **backend) {
  *backend = NULL;
  if (strcmp(name, "auto") == 0) {
    *backend = table[0];
    return SNTK_OK;
  }
  for (size_t i = 0; i < sizeof table / sizeof *table; i++)
    if (strcmp(table[i]->name, name) == 0) {
      *backend = table[i];
      return SNTK_OK;
    }
  if (strcmp(name, "cuda") == 0)
    return sntk_fail(ctx, SNTK_ERR_BACKEND, "backend cuda is not part of this build; use --backend cpu or auto");
  return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "backend \"%s\" is unknown; use auto, ref, cpu or cuda", name);
}

sntk_status sntk_context_open(sntk_context *ctx, const sntk_context_options *options) {
  if (ctx->backend)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "this context has backend %s open already", ctx->backend->name);
  if (options->device < 0)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "device %d is negative; devices count from 0", options->device);
  if (options->threads < 0)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "%d threads: use a positive number, or 0 for all processors",
                     options->threads);
  if (options->memory_limit < 0) return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "the memory limit is negative");
  const sntk_backend *backend;
  SNTK_TRY(sntk_backend_find(ctx, options->backend ? options->backend : "auto", &backend));
  ctx->threads = options->threads;
  ctx->memory_limit = options->memory_limit;
  ctx->device = options->device;
  SNTK_TRY(backend->open(ctx, options->device));
  ctx->backend = backend;
  return SNTK_OK;
}

void sntk_context_free(sntk_context *ctx) {
  if (!ctx) return;
  if (ctx->backend) ctx->backend->close(ctx);
  free(ctx);
}

const char *sntk_context_backend(const sntk_context *ctx) { return ctx->backend ? ctx->backend->name : "none"; }

sntk_precision sntk_context_precision(const sntk_context *ctx, sntk_precision wanted) {
  return ctx->backend ? ctx->backend->precision(ctx, wanted) : wanted;
}
