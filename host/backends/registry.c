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
#include <errno.h>
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
 * argv[0], and of a library it may be relative to a working directory that is another by now. "" where the kernel does
 * not say; false, with errno, where it could not be asked: a module that is not looked for is not absent. */
static bool own_folder(char *folder, size_t size) {
  FILE *maps = fopen("/proc/self/maps", "r");
  char line[PATH_CHARS + 128];
  const uintptr_t here = (uintptr_t)(const void *)table;
  folder[0] = '\0';
  if (!maps) return errno == ENOENT || errno == EACCES || errno == EPERM;
  errno = 0;
  while (!folder[0] && fgets(line, sizeof line, maps)) {
    uintptr_t low, high;
    const char *path = strchr(line, '/'), *slash = strrchr(line, '/');
    if (!path || sscanf(line, "%" SCNxPTR "-%" SCNxPTR, &low, &high) != 2 || here < low || here >= high) continue;
    snprintf(folder, size, "%.*s", (int)(slash - path), path);
  }
  const int error = folder[0] || !ferror(maps) ? 0 : errno;
  fclose(maps);
  errno = error;
  return error == 0;
}

/* A reason counts once it is given twice running: the loader may lack memory for a moment, for the reason too. */
static void *load_module(const char *path, char *reason, size_t size) {
  enum { ATTEMPTS = 4 };
  char before[SNTK_ERROR_CHARS / 2] = "";
  reason[0] = '\0';
  for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
    void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (module) return module;
    const char *error = dlerror();
    snprintf(before, sizeof before, "%s", reason);
    snprintf(reason, size, "%s", error ? error : "the loader gives no reason");
    if (strcmp(before, reason) == 0) break;
  }
  return NULL;
}

/* Beside this code (build tree, library), where the install puts it seen from the program, or anywhere on the loader's
 * path. */
static sntk_status open_module(sntk_context *ctx, void **module) {
  static const char name[] = "libsoftntk_cuda.so";
  char folder[PATH_CHARS / 2], path[PATH_CHARS], reason[SNTK_ERROR_CHARS / 2];
  if (!own_folder(folder, sizeof folder))
    return sntk_fail(ctx, SNTK_ERR_IO, "/proc/self/maps: cannot be read: %s", strerror(errno));
  snprintf(path, sizeof path, "%s", name); /* anywhere on the loader's path */
  const char *const beside[] = {".", SNTK_LIBRARY_FROM_PROGRAM};
  for (size_t i = 0; i < sizeof beside / sizeof *beside && folder[0]; i++) {
    char there[PATH_CHARS];
    snprintf(there, sizeof there, "%s/%s/%s", folder, beside[i], name);
    if (access(there, F_OK) == 0) { /* one that is there and does not load is the answer, not another one's absence */
      snprintf(path, sizeof path, "%s", there);
      break;
    }
    if (errno != ENOENT && errno != ENOTDIR && errno != EACCES)
      return sntk_fail(ctx, SNTK_ERR_IO, "%s: cannot be looked for: %s", there, strerror(errno));
  }
  *module = load_module(path, reason, sizeof reason);
  if (*module) return SNTK_OK;
  return sntk_fail(ctx, SNTK_ERR_BACKEND, "backend cuda: %s; use --backend cpu or auto", reason);
}

/* The module stays open: its backend's table must outlive every context. */
static sntk_status cuda_backend(sntk_context *ctx, const sntk_backend **backend) {
  static const sntk_backend *found;
  *backend = found;
  if (found) return SNTK_OK;
  void *module;
  SNTK_TRY(open_module(ctx, &module));
  const char *(*version)(void);
  const sntk_backend *(*entry)(void);
  *(void **)&version = dlsym(module, "sntk_cuda_module_version");
  *(void **)&entry = dlsym(module, "sntk_cuda_module");
  if (!version || !entry || strcmp(version(), SNTK_VERSION_STRING) != 0) {
    sntk_fail(ctx, SNTK_ERR_BACKEND,
              "backend cuda: libsoftntk_cuda.so is of version %s, this is %s; use --backend cpu or auto",
              version ? version() : "unknown", SNTK_VERSION_STRING);
    dlclose(module);
    return SNTK_ERR_BACKEND;
  }
  *backend = found = entry();
  return SNTK_OK;
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
  return cuda_backend(ctx, backend);
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
  const sntk_backend *cuda;
  const int threads = ctx->threads;
  const sntk_status status = cuda_backend(ctx, &cuda);
  if (status != SNTK_OK && status != SNTK_ERR_BACKEND) return status; /* nobody knows whether it is there */
  if (status == SNTK_OK && !cuda->emulated && open_backend(ctx, cuda->name) == SNTK_OK) return SNTK_OK;
  ctx->error[0] = '\0';
  ctx->threads = threads;
  return open_backend(ctx, table[0]->name);
}

sntk_status sntk_context_open(sntk_context *ctx, const sntk_context_options *options) {
  SNTK_NEED(ctx, ctx, "ctx");
  SNTK_NEED(ctx, options, "options");
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

const char *sntk_context_backend(const sntk_context *ctx) { return ctx && ctx->backend ? ctx->backend->name : "none"; }

bool sntk_context_emulated(const sntk_context *ctx) { return ctx && ctx->backend && ctx->backend->emulated; }

sntk_precision sntk_context_precision(const sntk_context *ctx, sntk_precision wanted) {
  return ctx && ctx->backend ? ctx->backend->precision(ctx, wanted) : wanted;
}

static bool on_host(const sntk_context *ctx) { return !ctx->backend || !ctx->backend->memory; }

int64_t sntk_context_held(const sntk_context *ctx) { return on_host(ctx) ? sntk_host_resident() : 0; }

int64_t sntk_context_peak(const sntk_context *ctx) { return on_host(ctx) ? sntk_host_peak() : 0; }

int64_t sntk_context_memory(sntk_context *ctx) {
  if (!ctx) return -1;
  const int64_t there = on_host(ctx) ? sntk_host_memory() : ctx->backend->memory(ctx);
  /* a limit above what a device has would plan for an allocation that must fail; on the host it is the user's own
   * judgement */
  if (ctx->memory_limit > 0 && (ctx->memory_limit < there || on_host(ctx))) return ctx->memory_limit;
  return there;
}
