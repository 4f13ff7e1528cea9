/**
 * @file h5.c
 * @brief run.h5: contiguous, uncompressed datasets in a temporary file that takes the name only when it is whole.
 *
 * A file is written once, synced and renamed: appending in place is not safe against a kill. The temporary name is
 * fixed: what a killed writer left is removed by the next, and the run's lock keeps two writers apart.
 *
 * The HDF5 library works in a child: where its memory fails it crashes, and where the disk is full it cannot close a
 * file and complains when the process ends. A run that has trained for days must lose nothing to either. The child is
 * started with the file, before the work whose results it takes, so that a library that cannot be opened is met first.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <hdf5.h> /* its version alone */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/child.h"
#include "core/files.h"
#include "core/h5_internal.h"
#include "core/output.h"

enum { LIBRARY_BYTES = 1 << 28, NAME_MOST = 65535 };

typedef struct dataset {
  char *name; /* from the root, as "/history/loss" */
  char type;
  int64_t rows, cols;
} dataset;

struct sntk_h5 {
  char *path, *temporary;
  int fd;
  sntk_child child; /* pid 0: none */
  dataset *datasets;
  int64_t count, capacity;
  bool failed; /* a write failed: the file must not take the name */
};

static sntk_status fail(sntk_context *ctx, sntk_h5 *file, const char *name, const char *reason) {
  file->failed = true;
  return sntk_fail(ctx, SNTK_ERR_IO, "%s: cannot write %s: %s", file->path, name, reason);
}

static sntk_status out_of_memory(sntk_context *ctx, sntk_h5 *file) {
  file->failed = true;
  return sntk_fail(ctx, SNTK_ERR_MEMORY, "%s: no memory to write it", file->path);
}

/* ---- the child --------------------------------------------------------------------------------------------------- */

static void end_child(sntk_h5 *file) {
  if (file->child.pid > 0) sntk_child_end(&file->child);
  file->child.pid = 0;
}

/* It ended before it was told to: what became of it. */
static sntk_status lost_child(sntk_context *ctx, sntk_h5 *file, const char *name) {
  char reason[H5_REASON_CHARS] = "the HDF5 library ended the process that wrote it";
  const int ended = sntk_child_end(&file->child);
  file->child.pid = 0;
  file->failed = true;
  if (ended >= 0 && WIFSIGNALED(ended) && WTERMSIG(ended) == SIGKILL)
    return sntk_fail(ctx, SNTK_ERR_MEMORY,
                     "%s: the process that wrote it was killed, as the system does where memory is short; free memory",
                     file->path);
  if (ended >= 0 && WIFSIGNALED(ended))
    snprintf(reason, sizeof reason,
             "the HDF5 library crashed (signal %d), as it does where memory is short; free memory", WTERMSIG(ended));
  return fail(ctx, file, name, reason);
}

/* Waits for the answer. A run that was interrupted writes what it has: the wait is not interrupted too. */
static sntk_status answer(sntk_context *ctx, sntk_h5 *file, const char *name) {
  const volatile sig_atomic_t *const interrupt = ctx->interrupt;
  h5_answer a;
  int64_t got;
  ctx->interrupt = NULL;
  const sntk_status status = sntk_child_read(ctx, &file->child, &a, sizeof a, &got);
  ctx->interrupt = interrupt;
  SNTK_TRY(status);
  if (got < (int64_t)sizeof a) return lost_child(ctx, file, name);
  return a.done ? SNTK_OK : fail(ctx, file, name, a.reason);
}

static sntk_status order(sntk_context *ctx, sntk_h5 *file, const char *name, h5_order o, const void *data) {
  if (file->failed) return fail(ctx, file, name, "an earlier write to the file failed");
  o.name_chars = (int64_t)strlen(name);
  const int64_t bytes = data ? o.rows * o.count * sntk_h5_type_size(o.type) : 0;
  const int link = file->child.link;
  if (!sntk_link_write(link, &o, sizeof o) || !sntk_link_write(link, name, o.name_chars) ||
      !sntk_link_write(link, data, bytes))
    return lost_child(ctx, file, name);
  return answer(ctx, file, name);
}

/* ---- the file ---------------------------------------------------------------------------------------------------- */

static void h5_free(sntk_h5 *file) {
  end_child(file);
  if (file->fd >= 0) close(file->fd);
  for (int64_t i = 0; i < file->count; i++) free(file->datasets[i].name);
  free(file->datasets);
  free(file->path);
  free(file->temporary);
  free(file);
}

static sntk_status create(sntk_context *ctx, const char *path, sntk_h5 *file) {
  file->path = sntk_format("%s", path);
  file->temporary = sntk_format("%s.tmp", path);
  if (!file->path || !file->temporary) return sntk_fail(ctx, SNTK_ERR_MEMORY, "%s: no memory to open it", path);
  file->fd = sntk_file_create(file->temporary);
  if (file->fd < 0)
    return sntk_fail(ctx, SNTK_ERR_IO, "%s: cannot create %s: %s", path, file->temporary, strerror(errno));
  SNTK_TRY(sntk_child_start(ctx, path, LIBRARY_BYTES, sntk_h5_serve, &file->fd, &file->child));
  return answer(ctx, file, file->temporary);
}

sntk_status sntk_h5_create(sntk_context *ctx, const char *path, sntk_h5 **out) {
  *out = NULL;
  sntk_h5 *file = calloc(1, sizeof *file);
  if (!file) return sntk_fail(ctx, SNTK_ERR_MEMORY, "%s: no memory to open it", path);
  file->fd = -1;
  const sntk_status status = create(ctx, path, file);
  if (status == SNTK_OK)
    *out = file;
  else
    sntk_h5_close(ctx, file, false);
  return status;
}

sntk_status sntk_h5_close(sntk_context *ctx, sntk_h5 *file, bool commit) {
  if (!file) return SNTK_OK;
  sntk_status status = SNTK_OK;
  if (commit && file->failed)
    status = sntk_fail(ctx, SNTK_ERR_IO, "%s: not replaced: an earlier write to it failed", file->path);
  else if (commit)
    status = order(ctx, file, file->temporary, (h5_order){.action = H5_FINISH}, NULL);
  if (commit && status == SNTK_OK) status = sntk_replace_file(ctx, file->fd, file->temporary, file->path);
  if (file->fd >= 0 && (!commit || status != SNTK_OK) && sntk_file_is_at(file->fd, file->temporary))
    unlink(file->temporary);
  h5_free(file);
  return status;
}

/* ---- datasets ---------------------------------------------------------------------------------------------------- */

/* HDF5 would read "//a" and "/a/" as "/a". */
static bool is_name(const char *name) {
  const size_t length = strlen(name);
  return name[0] == '/' && name[length - 1] != '/' && !strstr(name, "//") && length <= NAME_MOST;
}

static sntk_status add_dataset(sntk_context *ctx, sntk_h5 *file, const char *name, char type, int64_t rows,
                               int64_t cols) {
  if (sntk_size_mul(sntk_size_mul(rows, cols == 0 ? 1 : cols), sntk_h5_type_size(type)) < 0) {
    file->failed = true;
    return sntk_fail(ctx, SNTK_ERR_SHAPE, "%s: %s: a shape of %lld x %lld is negative or does not fit 63 bits of bytes",
                     file->path, name, (long long)rows, (long long)cols);
  }
  if (!is_name(name)) return fail(ctx, file, name, "a name is made of parts behind slashes, as in /history/loss");
  if (file->count == file->capacity) {
    const int64_t capacity = 2 * file->capacity + 16;
    dataset *grown = realloc(file->datasets, (size_t)capacity * sizeof *grown);
    if (!grown) return out_of_memory(ctx, file);
    file->datasets = grown;
    file->capacity = capacity;
  }
  char *kept = sntk_format("%s", name);
  if (!kept) return out_of_memory(ctx, file);
  file->datasets[file->count++] = (dataset){kept, type, rows, cols};
  return order(ctx, file, name, (h5_order){.action = H5_MAKE, .type = type, .rows = rows, .cols = cols}, NULL);
}

/* rows x count elements at column `first`. */
static sntk_status store(sntk_context *ctx, sntk_h5 *file, const dataset *d, int64_t first, int64_t count,
                         const void *data) {
  if (d->rows == 0 || count == 0) return SNTK_OK;
  return order(
      ctx, file, d->name,
      (h5_order){.action = H5_STORE, .type = d->type, .rows = d->rows, .cols = d->cols, .first = first, .count = count},
      data);
}

static sntk_status write_dataset(sntk_context *ctx, sntk_h5 *file, const char *name, char type, int64_t rows,
                                 int64_t cols, const void *data) {
  SNTK_TRY(add_dataset(ctx, file, name, type, rows, cols));
  return store(ctx, file, &file->datasets[file->count - 1], 0, cols == 0 ? 1 : cols, data);
}

sntk_status sntk_h5_write_f64(sntk_context *ctx, sntk_h5 *file, const char *name, int64_t rows, int64_t cols,
                              const double *data) {
  return write_dataset(ctx, file, name, 'd', rows, cols, data);
}

sntk_status sntk_h5_write_f32(sntk_context *ctx, sntk_h5 *file, const char *name, int64_t rows, int64_t cols,
                              const float *data) {
  return write_dataset(ctx, file, name, 'f', rows, cols, data);
}

sntk_status sntk_h5_write_i64(sntk_context *ctx, sntk_h5 *file, const char *name, int64_t rows, int64_t cols,
                              const int64_t *data) {
  return write_dataset(ctx, file, name, 'l', rows, cols, data);
}

sntk_status sntk_h5_write_i8(sntk_context *ctx, sntk_h5 *file, const char *name, int64_t rows, int64_t cols,
                             const int8_t *data) {
  return write_dataset(ctx, file, name, 'b', rows, cols, data);
}

sntk_status sntk_h5_begin(sntk_context *ctx, sntk_h5 *file, const char *name, char type, int64_t rows, int64_t cols) {
  if ((type != 'f' && type != 'd' && type != 'b') || cols < 1) {
    file->failed = true;
    return sntk_fail(
        ctx, SNTK_ERR_ARGUMENT,
        "%s: %s: type '%c' with %lld columns; the types are 'f', 'd' and 'b', and there is at least one column",
        file->path, name, type, (long long)cols);
  }
  return add_dataset(ctx, file, name, type, rows, cols);
}

static const dataset *find_dataset(const sntk_h5 *file, const char *name) {
  for (int64_t i = 0; i < file->count; i++)
    if (strcmp(file->datasets[i].name, name) == 0) return &file->datasets[i];
  return NULL;
}

sntk_status sntk_h5_write_columns(sntk_context *ctx, sntk_h5 *file, const char *name, int64_t first, int64_t count,
                                  const void *data) {
  const dataset *d = find_dataset(file, name);
  if (!d) return fail(ctx, file, name, "it was not begun");
  if (first < 0 || count < 0 || first > d->cols - count) {
    file->failed = true;
    return sntk_fail(ctx, SNTK_ERR_SHAPE, "%s: %s: %lld columns from column %lld on are not inside its %lld",
                     file->path, name, (long long)count, (long long)first, (long long)d->cols);
  }
  return store(ctx, file, d, first, count, data);
}

#define TEXT_OF(number) #number
#define VERSION_TEXT(major, minor, release) TEXT_OF(major) "." TEXT_OF(minor) "." TEXT_OF(release)

/* A library of another version than its header refuses to work. */
const char *sntk_h5_version(void) { return VERSION_TEXT(H5_VERS_MAJOR, H5_VERS_MINOR, H5_VERS_RELEASE); }
