/**
 * @file h5_write.c
 * @brief The child's side of writing an HDF5 file: the only place that calls the HDF5 library to write.
 *
 * After a failure all that comes is read and thrown away, and the file is never finished.
 *
 * SPDX-License-Identifier: MIT
 */
#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/child.h"
#include "core/h5_internal.h"

/* H5Pset_file_locking came with 1.10.7 and 1.12.1. */
#if H5_VERSION_GE(1, 12, 1) || (H5_VERSION_GE(1, 10, 7) && !H5_VERSION_GE(1, 12, 0))
#define HAVE_FILE_LOCKING_PROPERTY 1
#else
#define HAVE_FILE_LOCKING_PROPERTY 0
#endif

enum { PIECE_BYTES = 1 << 20, FIRST_FREE = 3, LAST_CLOSED = 1024 };

typedef struct writer {
  int link;
  hid_t file;
  char *piece; /* PIECE_BYTES */
  h5_answer answer;
} writer;

static herr_t take_innermost(unsigned n, const H5E_error2_t *error, void *user) {
  if (n == 0 && error->desc) snprintf(user, H5_REASON_CHARS, "HDF5: %s", error->desc);
  return 0;
}

/* Keeps the first reason: the innermost text of HDF5's error stack, before any other call of it. Returns false. */
static bool refuse(writer *w, const char *otherwise) {
  if (!w->answer.done) return false;
  w->answer.done = false;
  snprintf(w->answer.reason, sizeof w->answer.reason, "%s", otherwise);
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, take_innermost, w->answer.reason);
  return false;
}

/* Opens the file through its descriptor, so that no other of that name is ever written to. */
static bool open_file(writer *w, int fd) {
  char path[32];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  H5dont_atexit(); /* fails where the host program has opened the library already; no exit handler runs here anyway */
  if (H5open() < 0) return refuse(w, "the HDF5 library cannot be opened");
  H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
  const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
#if HAVE_FILE_LOCKING_PROPERTY
  const bool unlocked = access >= 0 && H5Pset_file_locking(access, false, true) >= 0;
#else
  const bool unlocked = access >= 0 && setenv("HDF5_USE_FILE_LOCKING", "FALSE", 1) == 0;
#endif
  if (!unlocked || (w->file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, access)) < 0)
    return refuse(w, "the file cannot be created");
  return true;
}

/* Little-endian in the file, so that it reads the same everywhere. */
static hid_t file_type(char type) {
  return type == 'd' ? H5T_IEEE_F64LE : type == 'f' ? H5T_IEEE_F32LE : type == 'l' ? H5T_STD_I64LE : H5T_STD_I8LE;
}

static hid_t memory_type(char type) {
  return type == 'd'   ? H5T_NATIVE_DOUBLE
         : type == 'f' ? H5T_NATIVE_FLOAT
         : type == 'l' ? H5T_NATIVE_INT64
                       : H5T_NATIVE_INT8;
}

static bool make_dataset(writer *w, const h5_order *o, const char *name) {
  const hsize_t shape[2] = {(hsize_t)o->rows, (hsize_t)o->cols};
  const hid_t space = H5Screate_simple(o->cols == 0 ? 1 : 2, shape, NULL);
  const hid_t links = H5Pcreate(H5P_LINK_CREATE), creation = H5Pcreate(H5P_DATASET_CREATE);
  if (space < 0 || links < 0 || H5Pset_create_intermediate_group(links, 1) < 0 || creation < 0 ||
      H5Pset_obj_track_times(creation, 0) < 0) /* without times, so that the same run gives the same bytes */
    return refuse(w, "no memory for a dataset");
  const hid_t dataset = H5Dcreate2(w->file, name, file_type(o->type), space, links, creation, H5P_DEFAULT);
  if (dataset < 0 || H5Dclose(dataset) < 0) return refuse(w, "the dataset cannot be made");
  return H5Pclose(links) >= 0 && H5Pclose(creation) >= 0 && H5Sclose(space) >= 0;
}

/* Elements [first, first + count) of a row on, or whole rows, of what is stored, from the piece. */
static bool store_piece(writer *w, const h5_order *o, hid_t dataset, hid_t space, const hsize_t *start,
                        const hsize_t *extent) {
  const hsize_t elements = o->cols == 0 ? extent[0] : extent[0] * extent[1];
  const hid_t memory = H5Screate_simple(1, &elements, NULL);
  if (memory < 0 || H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, extent, NULL) < 0 ||
      H5Dwrite(dataset, memory_type(o->type), memory, space, H5P_DEFAULT, w->piece) < 0)
    return refuse(w, "the elements cannot be written");
  return H5Sclose(memory) >= 0;
}

/* Takes what follows the order, a piece at a time. False where the other side is gone. */
static bool store(writer *w, const h5_order *o, const char *name) {
  const int64_t size = sntk_h5_type_size(o->type), row = o->count * size;
  const int64_t rows = row > 0 && row < PIECE_BYTES ? PIECE_BYTES / row : 1; /* at a time, or parts of one */
  const int64_t columns = row <= PIECE_BYTES ? o->count : PIECE_BYTES / size;
  const hid_t dataset = w->answer.done ? H5Dopen2(w->file, name, H5P_DEFAULT) : H5I_INVALID_HID;
  const hid_t space = dataset >= 0 ? H5Dget_space(dataset) : H5I_INVALID_HID;
  if (space < 0) refuse(w, "the dataset cannot be opened");
  for (int64_t r = 0; r < o->rows; r += rows)
    for (int64_t c = 0; c < o->count; c += columns) {
      const int64_t high = o->rows - r < rows ? o->rows - r : rows,
                    wide = o->count - c < columns ? o->count - c : columns;
      const hsize_t start[2] = {(hsize_t)r, (hsize_t)(o->first + c)}, extent[2] = {(hsize_t)high, (hsize_t)wide};
      if (!sntk_link_read(w->link, w->piece, high * wide * size)) return false;
      if (w->answer.done) store_piece(w, o, dataset, space, start, extent);
    }
  if (space >= 0) H5Sclose(space);
  if (dataset >= 0 && H5Dclose(dataset) < 0) refuse(w, "the dataset cannot be closed");
  return true;
}

/* One order; false where there are no more. */
static bool obey(writer *w) {
  h5_order o;
  if (!sntk_link_read(w->link, &o, sizeof o)) return false;
  char *name = calloc(1, (size_t)o.name_chars + 1);
  if (!name || !sntk_link_read(w->link, name, o.name_chars)) return false;
  bool more = o.action != H5_FINISH;
  if (o.action == H5_STORE)
    more = store(w, &o, name);
  else if (o.action == H5_MAKE && w->answer.done)
    make_dataset(w, &o, name);
  else if (o.action == H5_FINISH && w->answer.done && H5Fclose(w->file) < 0)
    refuse(w, "the file cannot be closed");
  free(name);
  return sntk_link_write(w->link, &w->answer, sizeof w->answer) && more;
}

void sntk_h5_serve(int link, void *user) {
  const int fd = *(const int *)user;
  writer w = {.link = link, .file = H5I_INVALID_HID, .piece = malloc(PIECE_BYTES), .answer.done = true};
  /* A lock ends with the last process that has its file open: that must not be this one. */
  for (int other = FIRST_FREE; other < LAST_CLOSED; other++)
    if (other != link && other != fd) close(other);
  if (!w.piece)
    refuse(&w, "no memory");
  else
    open_file(&w, fd);
  bool more = sntk_link_write(link, &w.answer, sizeof w.answer);
  while (more && w.piece) more = obey(&w);
}
