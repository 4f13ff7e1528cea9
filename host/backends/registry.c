/**
 * @file registry.c
 * @brief Finds a backend by name and opens it for a context.
 *
 * The host backends are built in. The cuda backend is a module, opened at run time: a program linked to cuBLAS and
 * cuSOLVER would take hundreds of megabytes before it did anything, and would not start where they are absent.
 *
 * SPDX-License-Identifier: MIT
 */
#include <dlfcn.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends/backend.h"
#include "softntk/version.h"

#define SNTK_BACKEND(name) extern const sntk_backend sntk_backend_##name;
#include "backends/backends.def"
#undef SNTK_BACKEND

static const sntk_backend *const table[] = {
#define SNTK_BACKEND(name) &sntk_backend_##name,
#include "backends/backends.def"
#undef SNTK_BACKEND
};

/* ---- the cuda module ---- */

enum { PATH_CHARS = 4096 };

/* The folder of the file that this code was mapped from, by the kernel's word: what the loader says of a program is its
 * argv[0], and of a library it may be relative to a working directory that is another by now. "" where it is unknown.
 */
static void own_folder(char *folder, size_t size) {
  FILE *maps = fopen("/proc/self/maps", "r");
  char line[PATH_CHARS + 128];
  const uintptr_t here = (uintptr_t)(const void *)table;
  folder[0] = '\0';
  while (maps && !folder[0] && fgets(line, sizeof line, maps)) {
    uintptr_t low, high;
    const char *path = strchr(line, '/'), *slash = strrchr(line, '/');
    if (!path || sscanf(line, "%" SCNxPTR "-%" SCNxPTR, &low, &high) != 2 || here < low || here >= high) continue;
    snprintf(folder, size, "%.*s", (int)(slash - path), path);
  }
  if (maps) fclose(maps);
}

/* Beside this code (build tree, library), where the install puts it seen from the program, or anywhere on the loader's
 * path. */
static void *open_module(char *reason, size_t size) {
  static const char name[] = "libsoftntk_cuda.so";
  char folder[PATH_CHARS / 2], path[PATH_CHARS];
  own_folder(folder, sizeof folder);
  const char *const beside[] = {".", SNTK_LIBRARY_FROM_PROGRAM};
  for (size_t i = 0; i < sizeof beside / sizeof *beside && folder[0]; i++) {
    snprintf(path, sizeof path, "%s/%s/%s", folder, beside[i], name);
    if (access(path, F_OK) != 0) continue;
    void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!module) snprintf(reason, size, "%s", dlerror());
    return module; /* a module that is there and does not load is the answer, not another one's absence */
  }
  void *module = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (!module) snprintf(reason, size, "%s", dlerror());
  return module;
}

/* The module stays open: its backend's table must outlive every context. */
static const sntk_backend *cuda_backend(char *reason, size_t size) {
  static const sntk_backend *found;
  if (found) return found;
  void *module = open_module(reason, size);
  if (!module) return NULL;
  const char *(*version)(void);
  const sntk_backend *(*entry)(void);
  *(void **)&version = dlsym(module, "sntk_cuda_module_version");
  *(void **)&entry = dlsym(module, "sntk_cuda_module");
  if (!version || !entry || strcmp(version(), SNTK_VERSION_STRING) != 0) {
    snprintf(reason, size, "libsoftntk_cuda.so is of version %s, this is %s", version ? version() : "unknown",
             SNTK_VERSION_STRING);
    dlclose(module);
    return NULL;
  }
  found = entry();
  return found;
}

/* ---- choosing ---- */

sntk_status sntk_backend_find(sntk_context *ctx, const char *name, const sntk_backend **backend) {
  *backend = NULL;
  for (size_t i = 0; i < sizeof table / sizeof *table; i++)
    if (strcmp(table[i]->name, name) == 0) {
      *backend = table[i];
      return SNTK_OK;
    }
  if (strcmp(name, "cuda") != 0)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "backend \"%s\" is unknown; use auto, ref, cpu or cuda", name);
  char reason[SNTK_ERROR_CHARS / 2] = "";
  *backend = cuda_backend(reason, sizeof reason);
  if (*backend) return SNTK_OK;
  return sntk_fail(ctx, SNTK_ERR_BACKEND, "backend cuda: %s; use --backend cpu or auto", reason);
}

static sntk_status open_backend(sntk_context *ctx, const char *name) {
  const sntk_backend *backend;
  SNTK_TRY(sntk_backend_find(ctx, name, &backend));
  if (ctx->tensor_cores && !backend->tensor_cores)
    return sntk_fail(ctx, SNTK_ERR_BACKEND, "backend %s has no tensor cores; use tensor_cores false, or --backend cuda",
                     name);
  int library; /* eigenvalues are the host's whatever the backend; the cpu backend has the context's own threads there
                */
  if (backend != table[0]) SNTK_TRY(sntk_threads_open(ctx, 0, &library));
  SNTK_TRY(backend->open(ctx, ctx->device));
  ctx->backend = backend;
  return SNTK_OK;
}

/* A real device first; an emulated one is never chosen unasked. */
static sntk_status open_best(sntk_context *ctx) {
  char reason[SNTK_ERROR_CHARS / 2];
  const sntk_backend *cuda = cuda_backend(reason, sizeof reason);
  const int threads = ctx->threads;
  if (cuda && !cuda->emulated && open_backend(ctx, cuda->name) == SNTK_OK) return SNTK_OK;
  ctx->error[0] = '\0';
  ctx->threads = threads;
  return open_backend(ctx, table[0]->name);
}

sntk_status sntk_context_open(sntk_context *ctx, const sntk_context_options *options) {
  if (ctx->backend)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "this context has backend %s open already", ctx->backend->name);
  if (options->device < 0)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "device %d is negative; devices count from 0", options->device);
  if (options->threads < 0 || options->threads > SNTK_MAX_THREADS)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "%d threads: use a number from 1 to %d, or 0 for all processors",
                     options->threads, (int)SNTK_MAX_THREADS);
  if (options->memory_limit < 0) return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "the memory limit is negative");
  SNTK_TRY(sntk_isa_check(ctx));
  ctx->threads = options->threads;
  ctx->memory_limit = options->memory_limit;
  ctx->device = options->device;
  ctx->tensor_cores = options->tensor_cores;
  const char *name = options->backend ? options->backend : "auto";
  return strcmp(name, "auto") == 0 ? open_best(ctx) : open_backend(ctx, name);
}

void sntk_context_free(sntk_context *ctx) {
  if (!ctx) return;
  if (ctx->backend) ctx->backend->close(ctx);
  free(ctx);
}

/* ---- what a context says of its backend ---- */

const char *sntk_context_backend(const sntk_context *ctx) { return ctx->backend ? ctx->backend->name : "none"; }

bool sntk_context_emulated(const sntk_context *ctx) { return ctx->backend && ctx->backend->emulated; }

sntk_precision sntk_context_precision(const sntk_context *ctx, sntk_precision wanted) {
  return ctx->backend ? ctx->backend->precision(ctx, wanted) : wanted;
}

int64_t sntk_context_memory(sntk_context *ctx) {
  const int64_t there = ctx->backend && ctx->backend->memory ? ctx->backend->memory(ctx) : sntk_host_memory();
  /* a limit above what a device has would plan for an allocation that must fail; on the host it is the user's own
   * judgement */
  if (ctx->memory_limit > 0 && (ctx->memory_limit < there || !ctx->backend || !ctx->backend->memory))
    return ctx->memory_limit;
  return there;
}
