/**
 * @file h5.c
 * @brief run.h5: contiguous, uncompressed datasets in a temporary file that takes the name only when it is whole.
 *
 * Appending to an HDF5 file in place is not safe against a kill (its metadata live in a cache), so a file is written
 * once, synced and renamed. The temporary name is fixed: what a killed writer left is removed by the next, and the
 * run's lock keeps two writers apart.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/files.h"
#include "core/output.h"

/* H5Pset_file_locking came with 1.10.7 and 1.12.1. */
#if H5_VERSION_GE(1, 12, 1) || (H5_VERSION_GE(1, 10, 7) && !H5_VERSION_GE(1, 12, 0))
#define HAVE_FILE_LOCKING_PROPERTY 1
#else
#define HAVE_FILE_LOCKING_PROPERTY 0
#endif

/* Room for HDF5's own records: of a file, and of a dataset with the groups above it. */
enum { FILE_RECORD_BYTES = 16384, DATASET_RECORD_BYTES = 8192 };

struct sntk_h5 {
  char *path, *temporary;
  int fd; /* HDF5's own of the temporary file, once more */
  int64_t reserved;
  hid_t file;
  bool failed; /* a write failed: the file must not take the name */
};

/* A host program's own error reporting is put back after every call of ours. */
typedef struct quiet {
  H5E_auto2_t function;
  void *data;
} quiet;

static quiet quiet_begin(void) {
  quiet before = {NULL, NULL};
  H5Eget_auto2(H5E_DEFAULT, &before.function, &before.data);
  H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
  return before;
}

static void quiet_end(quiet before) { H5Eset_auto2(H5E_DEFAULT, before.function, before.data); }

static herr_t take_innermost(unsigned n, const H5E_error2_t *error, void *user) {
  char *text = user;
  if (n == 0 && error->desc) {
    strncpy(text, error->desc, SNTK_ERROR_CHARS - 1);
    for (char *c = text; *c; c++)
      if (*c == '\n') *c = ' ';
  }
  return 0;
}

/* Fails with the innermost text of HDF5's error stack; before any other HDF5 call, which would clear it. */
static sntk_status h5_fail(sntk_context *ctx, sntk_h5 *file, const char *what, const char *name) {
  char text[SNTK_ERROR_CHARS] = "no reason given";
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, take_innermost, text);
  file->failed = true;
  return sntk_fail(ctx, SNTK_ERR_IO, "%s: cannot %s%s: HDF5: %s", file->path, what, name, text);
}

/* Takes `bytes` more of the disk before HDF5 writes them. HDF5 cannot close a file whose records do not fit the disk:
 * it keeps the descriptor, and complains on stderr when the process ends. So a full disk must be met here. */
static sntk_status reserve(sntk_context *ctx, sntk_h5 *file, int64_t bytes) {
  const int64_t wanted = sntk_size_add(file->reserved, bytes);
  int error = EFBIG;
  if (wanted >= 0) {
    do {
      error = posix_fallocate(file->fd, (off_t)file->reserved, (off_t)bytes);
    } while (error == EINTR);
  }
  /* The last two: the file system cannot reserve. HDF5 then finds out by itself. */
  if (error == 0 || error == EOPNOTSUPP || error == EINVAL) {
    file->reserved = wanted;
    return SNTK_OK;
  }
  char text[32];
  file->failed = true;
  return sntk_fail(ctx, SNTK_ERR_IO, "%s: no room for %s more in %s: %s", file->path, sntk_format_bytes(bytes, text),
                   file->temporary, strerror(error));
}

static void h5_free(sntk_h5 *file) {
  if (file->fd >= 0) close(file->fd);
  free(file->path);
  free(file->temporary);
  free(file);
}

/* Is there room for a file at all? HDF5 must not find out, see above. */
static sntk_status try_room(sntk_context *ctx, sntk_h5 *file) {
  file->fd = sntk_file_create(file->temporary);
  if (file->fd < 0)
    return sntk_fail(ctx, SNTK_ERR_IO, "%s: cannot create %s: %s", file->path, file->temporary, strerror(errno));
  const sntk_status status = reserve(ctx, file, FILE_RECORD_BYTES);
  close(file->fd);
  file->fd = -1;
  file->reserved = 0;
  unlink(file->temporary);
  return status;
}

static hid_t unlocked_access(void) {
  const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
#if HAVE_FILE_LOCKING_PROPERTY
  const bool unlocked = access >= 0 && H5Pset_file_locking(access, false, true) >= 0;
#else
  const bool unlocked = access >= 0 && setenv("HDF5_USE_FILE_LOCKING", "FALSE", 1) == 0;
#endif
  /* strong: the file closes even where an identifier leaked */
  if (unlocked && H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) >= 0) return access;
  if (access >= 0) H5Pclose(access);
  return H5I_INVALID_HID;
}

static sntk_status create_file(sntk_context *ctx, sntk_h5 *file) {
  SNTK_TRY(try_room(ctx, file));
  const quiet before = quiet_begin();
  sntk_status status = SNTK_OK;
  sntk_standard standard;
  void *descriptor = NULL;
  sntk_standard_hold(&standard);
  const hid_t access = unlocked_access();
  /* exclusive: it neither follows a link nor empties a file that another process puts there meanwhile */
  if (access < 0 || (file->file = H5Fcreate(file->temporary, H5F_ACC_EXCL, H5P_DEFAULT, access)) < 0 ||
      H5Fget_vfd_handle(file->file, access, &descriptor) < 0)
    status = h5_fail(ctx, file, "create ", file->temporary);
  else if ((file->fd = fcntl(*(const int *)descriptor, F_DUPFD_CLOEXEC, 3)) < 0)
    status = sntk_fail(ctx, SNTK_ERR_IO, "%s: cannot create %s: %s", file->path, file->temporary, strerror(errno));
  sntk_standard_release(&standard);
  if (file->file >= 0 && file->fd < 0) unlink(file->temporary);
  if (access >= 0) H5Pclose(access);
  quiet_end(before);
  return status == SNTK_OK ? reserve(ctx, file, FILE_RECORD_BYTES) : status;
}

sntk_status sntk_h5_create(sntk_context *ctx, const char *path, sntk_h5 **out) {
  *out = NULL;
  const size_t length = strlen(path);
  sntk_h5 *file = calloc(1, sizeof *file);
  if (!file) return sntk_fail(ctx, SNTK_ERR_MEMORY, "%s: no memory to open it", path);
  file->fd = -1;
  file->file = H5I_INVALID_HID;
  file->path = malloc(length + 1);
  file->temporary = malloc(length + sizeof ".tmp");
  if (!file->path || !file->temporary) {
    h5_free(file);
    return sntk_fail(ctx, SNTK_ERR_MEMORY, "%s: no memory to open it", path);
  }
  memcpy(file->path, path, length + 1);
  memcpy(file->temporary, path, length);
  memcpy(file->temporary + length, ".tmp", sizeof ".tmp");
  const sntk_status status = create_file(ctx, file);
  if (status == SNTK_OK)
    *out = file;
  else
    sntk_h5_close(ctx, file, false);
  return status;
}

/* Types: 'd', 'f', 'l' (int64) and 'b' (int8); little-endian in the file, so that it reads the same everywhere. */
static hid_t file_type(char type) {
  return type == 'd' ? H5T_IEEE_F64LE : type == 'f' ? H5T_IEEE_F32LE : type == 'l' ? H5T_STD_I64LE : H5T_STD_I8LE;
}

static hid_t memory_type(char type) {
  return type == 'd'   ? H5T_NATIVE_DOUBLE
         : type == 'f' ? H5T_NATIVE_FLOAT
         : type == 'l' ? H5T_NATIVE_INT64
                       : H5T_NATIVE_INT8;
}

static int64_t type_size(char type) { return type == 'f' ? 4 : type == 'b' ? 1 : 8; }

/* data NULL: only makes the dataset. */
static sntk_status write_dataset(sntk_context *ctx, sntk_h5 *file, const char *name, char type, int64_t rows,
                                 int64_t cols, const void *data) {
  const int64_t elements = sntk_size_mul(rows, cols == 0 ? 1 : cols);
  const int64_t bytes = sntk_size_add(sntk_size_mul(elements, type_size(type)), DATASET_RECORD_BYTES);
  if (bytes < 0) {
    file->failed = true;
    return sntk_fail(ctx, SNTK_ERR_SHAPE, "%s: %s: a shape of %lld x %lld is negative or does not fit 63 bits of bytes",
                     file->path, name, (long long)rows, (long long)cols);
  }
  SNTK_TRY(reserve(ctx, file, bytes));
  const quiet before = quiet_begin();
  sntk_status status = SNTK_OK;
  const hsize_t shape[2] = {(hsize_t)rows, (hsize_t)cols};
  hid_t links = H5I_INVALID_HID, creation = H5I_INVALID_HID, dataset = H5I_INVALID_HID;
  const hid_t space = H5Screate_simple(cols == 0 ? 1 : 2, shape, NULL);
  if (space < 0 || (links = H5Pcreate(H5P_LINK_CREATE)) < 0 || H5Pset_create_intermediate_group(links, 1) < 0 ||
      /* without times, so that the same run gives the same bytes */
      (creation = H5Pcreate(H5P_DATASET_CREATE)) < 0 || H5Pset_obj_track_times(creation, 0) < 0 ||
      (dataset = H5Dcreate2(file->file, name, file_type(type), space, links, creation, H5P_DEFAULT)) < 0)
    status = h5_fail(ctx, file, "create ", name);
  else if (data && elements > 0 && H5Dwrite(dataset, memory_type(type), H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0)
    status = h5_fail(ctx, file, "write ", name);
  if (dataset >= 0 && H5Dclose(dataset) < 0 && status == SNTK_OK) status = h5_fail(ctx, file, "write ", name);
  if (creation >= 0) H5Pclose(creation);
  if (links >= 0) H5Pclose(links);
  if (space >= 0) H5Sclose(space);
  quiet_end(before);
  return status;
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
  return write_dataset(ctx, file, name, type, rows, cols, NULL);
}

sntk_status sntk_h5_write_columns(sntk_context *ctx, sntk_h5 *file, const char *name, int64_t first, int64_t count,
                                  const void *data) {
  const quiet before = quiet_begin();
  sntk_status status = SNTK_OK;
  hsize_t shape[2] = {0, 0};
  hid_t space = H5I_INVALID_HID, stored = H5I_INVALID_HID, native = H5I_INVALID_HID, part = H5I_INVALID_HID;
  const hid_t dataset = H5Dopen2(file->file, name, H5P_DEFAULT);
  if (dataset < 0 || (space = H5Dget_space(dataset)) < 0) {
    status = h5_fail(ctx, file, "open ", name);
    goto cleanup;
  }
  const bool matrix = H5Sget_simple_extent_ndims(space) == 2 && H5Sget_simple_extent_dims(space, shape, NULL) == 2;
  if (!matrix || first < 0 || count < 0 || first > (int64_t)shape[1] - count) {
    file->failed = true;
    status = sntk_fail(ctx, SNTK_ERR_SHAPE, "%s: %s: %lld columns from column %lld on are not inside its %lld",
                       file->path, name, (long long)count, (long long)first, (long long)shape[1]);
    goto cleanup;
  }
  if (shape[0] == 0 || count == 0) goto cleanup;
  const hsize_t start[2] = {0, (hsize_t)first}, extent[2] = {shape[0], (hsize_t)count};
  if ((stored = H5Dget_type(dataset)) < 0 || (native = H5Tget_native_type(stored, H5T_DIR_ASCEND)) < 0 ||
      (part = H5Screate_simple(2, extent, NULL)) < 0 ||
      H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, extent, NULL) < 0 ||
      H5Dwrite(dataset, native, part, space, H5P_DEFAULT, data) < 0)
    status = h5_fail(ctx, file, "write ", name);
cleanup:
  if (dataset >= 0 && H5Dclose(dataset) < 0 && status == SNTK_OK) status = h5_fail(ctx, file, "write ", name);
  if (part >= 0) H5Sclose(part);
  if (native >= 0) H5Tclose(native);
  if (stored >= 0) H5Tclose(stored);
  if (space >= 0) H5Sclose(space);
  quiet_end(before);
  return status;
}

sntk_status sntk_h5_close(sntk_context *ctx, sntk_h5 *file, bool commit) {
  if (!file) return SNTK_OK;
  sntk_status status = SNTK_OK;
  if (commit && file->failed)
    status = sntk_fail(ctx, SNTK_ERR_IO, "%s: not replaced: an earlier write to it failed", file->path);
  const quiet before = quiet_begin();
  if (file->file >= 0 && H5Fclose(file->file) < 0 && commit && status == SNTK_OK)
    status = h5_fail(ctx, file, "write ", file->temporary);
  quiet_end(before);
  if (commit && status == SNTK_OK) status = sntk_replace_file(ctx, file->fd, file->temporary, file->path);
  if (file->fd >= 0 && (!commit || status != SNTK_OK) && sntk_file_is_at(file->fd, file->temporary))
    unlink(file->temporary);
  h5_free(file);
  return status;
}

const char *sntk_h5_version(char text[SNTK_H5_VERSION_CHARS]) {
  unsigned major = 0, minor = 0, release = 0;
  H5get_libversion(&major, &minor, &release);
  snprintf(text, SNTK_H5_VERSION_CHARS, "%u.%u.%u", major, minor, release);
  return text;
}
