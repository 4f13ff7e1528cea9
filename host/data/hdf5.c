/**
 * @file hdf5.c
 * @brief Datasets of HDF5 files, given as "file.h5:/dataset": floats of up to 8 bytes, integers and booleans, in either
 * byte order.
 *
 * A child reads the file and sends what it reads; this side only receives, and trusts nothing of it.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/child.h"
#include "data/hdf5_internal.h"

enum {
  RECEIVE_ELEMENTS = 1 << 13,
  LIBRARY_BYTES = 1 << 28, /* what the library takes beside the elements: its code's data, caches, parts of a chunk */
  SUPERBLOCKS = 20         /* places where a file's signature may stand: 0, 512, 1024, and so on */
};

/* An array under way. */
typedef struct h5_receiver {
  sntk_context *ctx;
  const h5_request *request;
  sntk_child child;
  bool ready; /* it has opened the library */
  h5_kind kind;
  int dims;
  int64_t shape[H5S_MAX_RANK], stride[H5S_MAX_RANK];
  int64_t received; /* elements */
  double missing[H5_MISSING];
  sntk_array *array;
} h5_receiver;

/* ---- the file ---- */

/* What there is of `size` bytes; -1 with errno. */
static ssize_t read_at(int fd, char *to, size_t size, off_t at) {
  size_t got = 0;
  while (got < size) {
    const ssize_t part = pread(fd, to + got, size - got, at + (off_t)got);
    if (part < 0 && errno == EINTR) continue;
    if (part < 0) return -1;
    if (part == 0) break;
    got += (size_t)part;
  }
  return (ssize_t)got;
}

/* Has it HDF5's signature, behind a user block perhaps? Only the library knows more, and it is not asked here. */
static sntk_status find_signature(sntk_context *ctx, const char *path, int fd, bool *found) {
  static const char signature[] = "\x89HDF\r\n\x1a\n";
  char bytes[sizeof signature - 1];
  off_t at = 0;
  *found = false;
  for (int k = 0; k < SUPERBLOCKS && !*found; k++, at = at ? 2 * at : 512) {
    const ssize_t got = read_at(fd, bytes, sizeof bytes, at);
    if (got < 0) return sntk_fail(ctx, SNTK_ERR_IO, "%s: reading failed: %s", path, strerror(errno));
    if (got < (ssize_t)sizeof bytes) break;
    *found = memcmp(bytes, signature, sizeof bytes) == 0;
  }
  return SNTK_OK;
}

static sntk_status check_file(sntk_context *ctx, const char *path) {
  int fd = -1;
  int64_t size = 0;
  SNTK_TRY(sntk_file_open(ctx, path, &fd, &size)); /* the system's reason, better than the library's */
  bool found = false;
  sntk_status status = size < 0 ? sntk_fail(ctx, SNTK_ERR_IO, "%s: not a regular file; copy it into one", path)
                                : find_signature(ctx, path, fd, &found);
  if (status == SNTK_OK && !found) {
    char head[SNTK_HEAD_BYTES];
    const ssize_t got = read_at(fd, head, sizeof head, 0);
    status = sntk_fail_format(ctx, path, "an HDF5 file", "it has no HDF5 signature; write it with h5py or MATLAB -v7.3",
                              head, got > 0 ? got : 0);
  }
  close(fd);
  return status;
}

/* ---- the child ---- */

/* It said nothing before it ended: what became of it. */
static sntk_status lost_child(h5_receiver *r) {
  const char *const place = r->request->place;
  const int ended = sntk_child_end(&r->child);
  r->child.pid = -1;
  SNTK_TRY(sntk_check_interrupt(r->ctx));
  if (ended >= 0 && WIFSIGNALED(ended) && WTERMSIG(ended) == SIGKILL)
    return sntk_fail(r->ctx, SNTK_ERR_MEMORY,
                     "%s: the process that read it was killed, as the system does where memory is short; take fewer "
                     "samples or free memory",
                     place);
  if (!r->ready)
    return sntk_fail(r->ctx, SNTK_ERR_MEMORY,
                     "%s: the HDF5 library cannot be opened, as happens where memory is short; free memory", place);
  if (ended >= 0 && WIFSIGNALED(ended))
    return sntk_fail(
        r->ctx, SNTK_ERR_DATA,
        "%s: the HDF5 library crashed reading it (signal %d): the file is damaged or hostile, or memory is "
        "short; fetch or write it again",
        place, WTERMSIG(ended));
  return sntk_fail(
      r->ctx, SNTK_ERR_DATA,
      "%s: the HDF5 library ended the process that read it: the file is damaged or hostile; fetch or write "
      "it again",
      place);
}

static sntk_status receive(h5_receiver *r, void *to, int64_t size) {
  int64_t got;
  SNTK_TRY(sntk_child_read(r->ctx, &r->child, to, size, &got));
  return got == size ? SNTK_OK : lost_child(r);
}

static sntk_status nonsense(const h5_receiver *r) {
  return sntk_fail(r->ctx, SNTK_ERR_DATA,
                   "%s: reading it went wrong in the HDF5 library: the file is damaged or hostile; fetch or write it "
                   "again",
                   r->request->place);
}

static sntk_status take_shape(h5_receiver *r, const h5_message *m, int64_t *total) {
  if (r->dims > 0 || m->dims < 1 || m->dims > H5S_MAX_RANK || m->kind < H5_REAL || m->kind > H5_UNSIGNED)
    return nonsense(r);
  const int64_t limit = r->request->limit;
  int64_t cols = 1;
  for (int j = m->dims - 1; j >= 0; j--) {
    r->shape[j] = m->count[j];
    r->stride[j] = cols;
    if (j > 0) cols = sntk_size_mul(cols, m->count[j]);
  }
  if (cols < 0 || m->count[0] < 0)
    return sntk_fail(r->ctx, SNTK_ERR_DATA, "%s: the dataset's shape does not fit 63 bits: the file is damaged",
                     r->request->place);
  r->dims = m->dims;
  r->kind = m->kind;
  memcpy(r->missing, m->missing, sizeof r->missing);
  *total = m->count[0];
  if (limit > 0 && limit < *total) r->shape[0] = limit;
  r->stride[0] = cols;
  return sntk_array_create(r->ctx, r->request->place, r->shape[0], cols, r->array);
}

/* The elements of a block to their places. */
static sntk_status take_elements(h5_receiver *r, const h5_message *m, int64_t elements) {
  double buffer[RECEIVE_ELEMENTS];
  int64_t index[H5S_MAX_RANK] = {0}, place = 0;
  for (int j = 0; j < r->dims; j++) place += m->first[j] * r->stride[j];
  for (int64_t done = 0; done < elements;) {
    const int64_t part = elements - done < RECEIVE_ELEMENTS ? elements - done : RECEIVE_ELEMENTS;
    SNTK_TRY(receive(r, buffer, part * (int64_t)sizeof *buffer));
    for (int64_t k = 0; k < part; k++) {
      int j = r->dims - 1;
      r->array->values[place] = buffer[k];
      place += r->stride[j];
      for (; j > 0 && ++index[j] == m->count[j]; j--) {
        place += r->stride[j - 1] - m->count[j] * r->stride[j];
        index[j] = 0;
      }
    }
    done += part;
  }
  return SNTK_OK;
}

static sntk_status take_block(h5_receiver *r, const h5_message *m) {
  int64_t elements = 1;
  bool whole = true; /* whole rows, which follow each other */
  if (m->dims != r->dims || r->dims == 0) return nonsense(r);
  for (int j = 0; j < r->dims; j++) {
    if (m->first[j] < 0 || m->count[j] < 1 || m->first[j] > r->shape[j] - m->count[j]) return nonsense(r);
    whole &= j == 0 || m->count[j] == r->shape[j];
    elements *= m->count[j]; /* no overflow: inside the array */
  }
  r->received += elements;
  if (!whole) return take_elements(r, m, elements);
  return receive(r, r->array->values + m->first[0] * r->stride[0], elements * (int64_t)sizeof(double));
}

/* The 64-bit integers that lie in the array's memory, to float64. */
static sntk_status convert_integers(const h5_receiver *r) {
  sntk_array *const array = r->array;
  for (int64_t j = 0; j < array->rows * array->cols; j++) {
    unsigned char bytes[8];
    uint64_t word;
    memcpy(&word, &array->values[j], sizeof word);
    for (int b = 0; b < 8; b++) bytes[b] = (unsigned char)(word >> 8 * b);
    const char type = r->kind == H5_SIGNED ? 'i' : 'u';
    if (!sntk_decode(bytes, type, 8, false, &array->values[j]))
      return sntk_fail_inexact(r->ctx, r->request->place, j / array->cols, j % array->cols, type, array->values[j]);
  }
  return SNTK_OK;
}

/* A value that its attributes name as standing for a missing one is none. */
static sntk_status check_missing(const h5_receiver *r) {
  const sntk_array *const array = r->array;
  for (int64_t j = 0; j < array->rows * array->cols; j++)
    if (array->values[j] == r->missing[0] || array->values[j] == r->missing[1])
      return sntk_fail(r->ctx, SNTK_ERR_DATA,
                       "%s: element [%lld, %lld] is %g, which stands for a missing value (attribute _FillValue or "
                       "missing_value); remove its row or fill it in",
                       r->request->place, (long long)(j / array->cols), (long long)(j % array->cols), array->values[j]);
  return SNTK_OK;
}

static sntk_status take_end(const h5_receiver *r) {
  if (r->dims == 0 || r->received != r->array->rows * r->array->cols) return nonsense(r);
  if (r->kind != H5_REAL) SNTK_TRY(convert_integers(r));
  return check_missing(r);
}

static sntk_status take_failure(const h5_receiver *r, h5_message *m) {
  m->text[sizeof m->text - 1] = '\0';
  if (m->status == SNTK_ERR_MEMORY) return sntk_fail(r->ctx, SNTK_ERR_MEMORY, "%s", m->text);
  return m->text[0] ? sntk_fail(r->ctx, SNTK_ERR_DATA, "%s", m->text) : nonsense(r);
}

static sntk_status receive_dataset(h5_receiver *r, int64_t *total) {
  for (;;) {
    h5_message m;
    SNTK_TRY(receive(r, &m, sizeof m));
    switch (m.word) {
      case H5_READY:
        r->ready = true;
        break;
      case H5_SHAPE:
        SNTK_TRY(take_shape(r, &m, total));
        break;
      case H5_BLOCK:
        SNTK_TRY(take_block(r, &m));
        break;
      case H5_END:
        return take_end(r);
      case H5_FAILED:
        return take_failure(r, &m);
      default:
        return nonsense(r);
    }
  }
}

sntk_status sntk_hdf5_load(sntk_context *ctx, const char *place, bool allow_external, int64_t limit, sntk_array *array,
                           int64_t *total) {
  *array = (sntk_array){0};
  const char *split = NULL; /* the last ":/", as a folder's name may have one too */
  for (const char *at = strstr(place, ":/"); at; at = strstr(at + 1, ":/")) split = at;
  if (!split || split == place || !split[2])
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "%s: an HDF5 dataset is given as file.h5:/dataset", place);
  h5_request request = {
      .ctx = ctx, .place = place, .name = split + 1, .limit = limit, .allow_external = allow_external};
  char *path = strndup(place, (size_t)(split - place));
  if (!path) return sntk_fail(ctx, SNTK_ERR_MEMORY, "%s: no memory for its name", place);
  h5_receiver r = {.ctx = ctx, .request = &request, .array = array, .child = {.pid = -1, .link = -1}};
  sntk_status status = check_file(ctx, path);
  if (status == SNTK_OK && !realpath(path, request.path))
    status = sntk_fail(ctx, SNTK_ERR_IO, "%s: cannot be opened: %s", path, strerror(errno));
  free(path);
  if (status == SNTK_OK)
    status = sntk_child_start(ctx, place, sntk_size_add(sntk_host_budget(ctx), LIBRARY_BYTES), sntk_h5_child, &request,
                              &r.child);
  if (status == SNTK_OK) status = receive_dataset(&r, total);
  if (r.child.pid > 0) sntk_child_end(&r.child);
  if (status != SNTK_OK) sntk_array_free(array);
  return status;
}
