/**
 * @file hdf5.c
 * @brief Datasets of HDF5 files, given as "file.h5:/dataset": floats of up to 8 bytes, integers and booleans, in either
 * byte order.
 *
 * File locking is off, as shared file systems often lack it. The HDF5 library's own printing of errors is off while a
 * file is read; its text goes into ours.
 *
 * SPDX-License-Identifier: MIT
 */
#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data/loaders.h"

enum { TEXT_CHARS = 256 };

/* What is open; negative identifiers are not. */
typedef struct h5_place {
  sntk_context *ctx;
  const char *place; /* as given, for messages */
  hid_t access, file, dataset, type, space, memory;
} h5_place;

/* What a dataset's elements are read as: HDF5 converts any float to double and any integer to one of 64 bits. */
typedef enum h5_kind { H5_REAL, H5_SIGNED, H5_UNSIGNED } h5_kind;

static herr_t innermost(unsigned depth, const H5E_error2_t *error, void *text) {
  if (depth == 0) snprintf(text, TEXT_CHARS, "%s", error->desc);
  return 0;
}

/* Fails with the library's innermost reason. */
static sntk_status library_failed(const h5_place *h, sntk_status status, const char *what) {
  char text[TEXT_CHARS] = "no reason given";
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, innermost, text);
  return sntk_fail(h->ctx, status, "%s: %s: %s", h->place, what, text);
}

static herr_t list_name(hid_t group, const char *name, const H5L_info_t *info, void *list) {
  (void)group;
  (void)info;
  char *text = list;
  const size_t used = strlen(text);
  snprintf(text + used, TEXT_CHARS - used, "%s/%s", used ? ", " : "", name);
  return 0;
}

static sntk_status no_dataset(const h5_place *h, const char *name) {
  char list[TEXT_CHARS] = "";
  H5Literate(h->file, H5_INDEX_NAME, H5_ITER_INC, NULL, list_name, list);
  return sntk_fail(h->ctx, SNTK_ERR_DATA, "%s: no dataset %s can be opened; the file's root has: %s", h->place, name,
                   *list ? list : "nothing");
}

static sntk_status find_kind(const h5_place *h, h5_kind *kind) {
  const H5T_class_t class = H5Tget_class(h->type);
  const size_t size = H5Tget_size(h->type);
  if (class == H5T_FLOAT && size <= sizeof(double)) {
    *kind = H5_REAL;
    return SNTK_OK;
  }
  bool is_signed = true;
  if (class == H5T_INTEGER) is_signed = H5Tget_sign(h->type) != H5T_SGN_NONE;
  /* Booleans come as an enumeration of integers. */
  if ((class == H5T_INTEGER || class == H5T_ENUM) && size <= sizeof(int64_t)) {
    *kind = is_signed ? H5_SIGNED : H5_UNSIGNED;
    return SNTK_OK;
  }
  return sntk_fail(h->ctx, SNTK_ERR_DATA,
                   "%s: its elements are neither floats of up to 8 bytes nor integers; store the dataset as float64",
                   h->place);
}

/* The 64-bit integers that lie in the array's memory, to float64. */
static sntk_status convert_integers(const h5_place *h, h5_kind kind, sntk_array *array) {
  for (int64_t j = 0; j < array->rows * array->cols; j++) {
    unsigned char bytes[8];
    uint64_t word;
    memcpy(&word, &array->values[j], sizeof word);
    for (int b = 0; b < 8; b++) bytes[b] = (unsigned char)(word >> 8 * b);
    const char type = kind == H5_SIGNED ? 'i' : 'u';
    if (!sntk_decode(bytes, type, 8, false, &array->values[j]))
      return sntk_fail_inexact(h->ctx, h->place, j / array->cols, j % array->cols, type, array->values[j]);
  }
  return SNTK_OK;
}

static sntk_status read_dataset(h5_place *h, int64_t limit, sntk_array *array, int64_t *total) {
  h->type = H5Dget_type(h->dataset);
  h->space = H5Dget_space(h->dataset);
  if (h->type < 0 || h->space < 0) return library_failed(h, SNTK_ERR_DATA, "its type or shape cannot be read");
  h5_kind kind = H5_REAL;
  SNTK_TRY(find_kind(h, &kind));
  hsize_t shape[H5S_MAX_RANK], first[H5S_MAX_RANK] = {0};
  const int dims = H5Sget_simple_extent_ndims(h->space);
  if (dims < 0 || H5Sget_simple_extent_dims(h->space, shape, NULL) != dims)
    return library_failed(h, SNTK_ERR_DATA, "its shape cannot be read");
  if (dims == 0)
    return sntk_fail(h->ctx, SNTK_ERR_DATA, "%s: a scalar or empty dataset; one or two dimensions are needed",
                     h->place);
  int64_t cols = 1;
  for (int j = 1; j < dims; j++) cols = shape[j] > INT64_MAX ? -1 : sntk_size_mul(cols, (int64_t)shape[j]);
  if (cols < 0 || shape[0] > INT64_MAX)
    return sntk_fail(h->ctx, SNTK_ERR_DATA, "%s: the dataset's shape does not fit 63 bits: the file is damaged",
                     h->place);
  *total = (int64_t)shape[0];
  const int64_t rows = limit > 0 && limit < *total ? limit : *total;
  H5D_space_status_t stored;
  if (H5Dget_space_status(h->dataset, &stored) < 0)
    return library_failed(h, SNTK_ERR_DATA, "its storage cannot be examined");
  if (rows > 0 && cols > 0 && stored == H5D_SPACE_STATUS_NOT_ALLOCATED)
    return sntk_fail(h->ctx, SNTK_ERR_DATA, "%s: the dataset was created but nothing was written to it", h->place);
  SNTK_TRY(sntk_array_create(h->ctx, h->place, rows, cols, array));
  const hsize_t count = (hsize_t)(rows * cols);
  shape[0] = (hsize_t)rows;
  h->memory = H5Screate_simple(1, &count, NULL);
  if (h->memory < 0 || H5Sselect_hyperslab(h->space, H5S_SELECT_SET, first, NULL, shape, NULL) < 0)
    return library_failed(h, SNTK_ERR_DATA, "its rows cannot be selected");
  const hid_t as = kind == H5_REAL ? H5T_NATIVE_DOUBLE : kind == H5_SIGNED ? H5T_NATIVE_INT64 : H5T_NATIVE_UINT64;
  if (H5Dread(h->dataset, as, h->memory, h->space, H5P_DEFAULT, array->values) < 0)
    return library_failed(h, SNTK_ERR_DATA, "reading failed");
  return kind == H5_REAL ? SNTK_OK : convert_integers(h, kind, array);
}

static sntk_status open_and_read(h5_place *h, const char *path, const char *name, int64_t limit, sntk_array *array,
                                 int64_t *total) {
  int fd = -1;
  int64_t size = 0;
  SNTK_TRY(sntk_file_open(h->ctx, path, &fd, &size)); /* the system's reason, better than the library's */
  close(fd);
  if (H5Fis_hdf5(path) <= 0) return sntk_fail(h->ctx, SNTK_ERR_DATA, "%s: not an HDF5 file", path);
  h->access = H5Pcreate(H5P_FILE_ACCESS);
  if (h->access < 0 || H5Pset_file_locking(h->access, false, true) < 0)
    return library_failed(h, SNTK_ERR_INTERNAL, "the HDF5 library cannot be set up");
  h->file = H5Fopen(path, H5F_ACC_RDONLY, h->access);
  if (h->file < 0) return library_failed(h, SNTK_ERR_DATA, "the file cannot be opened");
  h->dataset = H5Dopen2(h->file, name, H5P_DEFAULT);
  if (h->dataset < 0) return no_dataset(h, name);
  return read_dataset(h, limit, array, total);
}

sntk_status sntk_hdf5_load(sntk_context *ctx, const char *place, int64_t limit, sntk_array *array, int64_t *total) {
  *array = (sntk_array){0};
  const char *split = NULL; /* the last ":/", as a folder's name may have one too */
  for (const char *at = strstr(place, ":/"); at; at = strstr(at + 1, ":/")) split = at;
  if (!split || split == place || !split[2])
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "%s: an HDF5 dataset is given as file.h5:/dataset", place);
  char *path = strndup(place, (size_t)(split - place));
  if (!path) return sntk_fail(ctx, SNTK_ERR_MEMORY, "%s: no memory for its name", place);
  H5E_auto2_t print;
  void *print_data;
  const bool silenced = H5Eget_auto2(H5E_DEFAULT, &print, &print_data) >= 0;
  H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
  h5_place h = {
      .ctx = ctx, .place = place, .access = -1, .file = -1, .dataset = -1, .type = -1, .space = -1, .memory = -1};
  const sntk_status status = open_and_read(&h, path, split + 1, limit, array, total);
  if (status != SNTK_OK) sntk_array_free(array);
  if (h.memory >= 0) H5Sclose(h.memory);
  if (h.space >= 0) H5Sclose(h.space);
  if (h.type >= 0) H5Tclose(h.type);
  if (h.dataset >= 0) H5Dclose(h.dataset);
  if (h.file >= 0) H5Fclose(h.file);
  if (h.access >= 0) H5Pclose(h.access);
  if (silenced) H5Eset_auto2(H5E_DEFAULT, print, print_data);
  free(path);
  return status;
}
