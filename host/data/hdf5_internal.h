/**
 * @file hdf5_internal.h
 * @brief How an HDF5 dataset goes from the process that reads it to the one that asked for it.
 *
 * The HDF5 library is made for files of friends: a damaged or hostile one crashes it, hangs it or takes all memory. So
 * it is called in a child, which sends what it reads and holds nothing that the parent needs.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SOFTNTK_HDF5_INTERNAL_H
#define SOFTNTK_HDF5_INTERNAL_H

#include <hdf5.h>
#include <limits.h>

#include "data/loaders.h"

/* What a dataset's elements are read as: HDF5 converts any float to double and any integer to one of 64 bits. */
typedef enum h5_kind { H5_REAL, H5_SIGNED, H5_UNSIGNED } h5_kind;

/* From the child: that it has opened the library, the shape, then blocks of elements of 8 bytes each, then the end; or
 * a failure at any time. */
typedef enum h5_word { H5_READY, H5_SHAPE, H5_BLOCK, H5_END, H5_FAILED } h5_word;

enum { H5_MISSING = 2 };

typedef struct h5_message {
  h5_word word;
  sntk_status status; /* failed */
  h5_kind kind;       /* shape */
  int dims;
  double missing[H5_MISSING];                       /* shape: values that stand for missing ones; NAN: none */
  int64_t first[H5S_MAX_RANK], count[H5S_MAX_RANK]; /* shape: count; block: its place, the elements follow */
  char text[SNTK_ERROR_CHARS];                      /* failed */
} h5_message;

/* What is asked for; filled by the parent, before the child starts. */
typedef struct h5_request {
  sntk_context *ctx;
  const char *place;   /* as given, for messages */
  char path[PATH_MAX]; /* without symbolic links */
  const char *name;    /* of the dataset */
  int64_t limit;       /* rows; 0: all */
  bool allow_external;
} h5_request;

/* The child's work. */
void sntk_h5_child(int link, void *request);

/* ---- inside the child ---- */

enum { H5_TEXT_CHARS = 256 };

typedef struct h5_place {
  const h5_request *request;
  sntk_context *ctx;
  const char *place;
  int link;
  char folder[PATH_MAX]; /* that of the file, ending in a slash */
  hid_t access, links;   /* how files, and links and datasets, are opened */
  hid_t file, dataset, type, space;
  bool refused; /* the failure is set, though it came through the library */
  char missing_filter[H5_TEXT_CHARS];
} h5_place;

/* Fails with the library's innermost reason; SNTK_ERR_MEMORY where it is that. */
sntk_status sntk_h5_failed(const h5_place *h, const char *what);

/* Is every element of the first `rows` rows stored somewhere? Where it is not, HDF5 would give the fill value in
 * silence. `file` is the one that holds the dataset. */
sntk_status sntk_h5_check_storage(h5_place *h, hid_t dataset, int64_t rows, int depth);

/* The file that `name` in a file of `folder` stands for. One that is missing, is no regular file, or lies outside the
 * folder of the data without permission, is refused; `what` and `dataset` say what it was for. */
sntk_status sntk_h5_find_file(h5_place *h, const char *folder, const char *name, const char *what, char *found);

/* Goes to the next index below `count`; false behind the last. */
bool sntk_h5_next_index(int dims, const hsize_t *count, hsize_t *index);

/* A dataset's shape, dims >= 1. */
typedef struct h5_extent {
  int dims;
  hsize_t shape[H5S_MAX_RANK];
} h5_extent;
bool sntk_h5_get_extent(hid_t space, h5_extent *e);

/* Opens a dataset that is to be read whole: with the largest extent that its sources give, which must be the one
 * without gaps. */
hid_t sntk_h5_open_dataset(h5_place *h, hid_t location, const char *name);

#endif
