/**
 * @file idx.c
 * @brief MNIST's IDX format, plain or gzip-compressed: unsigned and signed bytes, short, int, float, double,
 * big-endian.
 *
 * Bytes 0 0 type dims, then one 32-bit extent a dimension, then the elements, the last dimension fastest.
 *
 * SPDX-License-Identifier: MIT
 */
#include <string.h>

#include "data/loaders.h"

enum { CHUNK_BYTES = 1 << 16 }; /* a multiple of every element size */

typedef struct idx_type {
  unsigned char code;
  char kind;
  int size;
} idx_type;

static const idx_type types[] = {{0x08, 'u', 1}, {0x09, 'i', 1}, {0x0B, 'i', 2},
                                 {0x0C, 'i', 4}, {0x0D, 'f', 4}, {0x0E, 'f', 8}};

typedef struct idx_header {
  idx_type type;
  int64_t rows, cols;
} idx_header;

static sntk_status truncated(sntk_context *ctx, const char *path, int64_t wanted, int64_t got) {
  return sntk_fail(
      ctx, SNTK_ERR_DATA,
      "%s: the IDX header announces %lld bytes of elements, the file has %lld: it is truncated; fetch it again", path,
      (long long)wanted, (long long)got);
}

/* For a file with these first bytes. */
static sntk_status not_idx(sntk_context *ctx, const char *path, sntk_input *input, const unsigned char *start,
                           int64_t size) {
  unsigned char head[SNTK_HEAD_BYTES];
  int64_t more = 0;
  memcpy(head, start, (size_t)size);
  if (size == 4) SNTK_TRY(sntk_input_read(ctx, input, head + 4, (int64_t)sizeof head - 4, &more));
  return sntk_fail_format(ctx, path, "an IDX file",
                          "its first bytes must be 0 0, a type (08, 09, 0B, 0C, 0D or 0E) and the number of dimensions",
                          head, size + more);
}

static sntk_status read_header(sntk_context *ctx, const char *path, sntk_input *input, idx_header *header,
                               int64_t *bytes) {
  unsigned char start[4];
  int64_t got;
  SNTK_TRY(sntk_input_read(ctx, input, start, sizeof start, &got));
  size_t t = 0;
  const size_t known = sizeof types / sizeof *types;
  if (got == (int64_t)sizeof start && start[0] == 0 && start[1] == 0)
    while (t < known && types[t].code != start[2]) t++;
  else
    t = known;
  if (t == known) return not_idx(ctx, path, input, start, got);
  header->type = types[t];
  if (start[3] == 0)
    return sntk_fail(ctx, SNTK_ERR_DATA, "%s: the IDX header announces 0 dimensions; at least 1 is needed", path);
  header->rows = header->cols = 1;
  for (int j = 0; j < start[3]; j++) {
    unsigned char extent[4];
    SNTK_TRY(sntk_input_read(ctx, input, extent, sizeof extent, &got));
    if (got != (int64_t)sizeof extent)
      return sntk_fail(ctx, SNTK_ERR_DATA, "%s: the IDX file ends in its header, which announces %d dimensions", path,
                       start[3]);
    double value;
    sntk_decode(extent, 'u', 4, true, &value);
    if (j == 0)
      header->rows = (int64_t)value;
    else
      header->cols = sntk_size_mul(header->cols, (int64_t)value);
  }
  *bytes = sntk_size_mul(sntk_size_mul(header->rows, header->cols), header->type.size);
  bool exact;
  const int64_t bound = sntk_input_bound(input, &exact);
  const int64_t offset = 4 + 4 * (int64_t)start[3];
  if (bound < 0)
    return sntk_fail(ctx, SNTK_ERR_IO, "%s: not a regular file, whose size could be checked; copy it into one", path);
  if (*bytes < 0)
    return sntk_fail(ctx, SNTK_ERR_DATA, "%s: the IDX header's shape does not fit 63 bits: the file is damaged", path);
  if (exact && *bytes != bound - offset) {
    if (*bytes > bound - offset) return truncated(ctx, path, *bytes, bound - offset);
    return sntk_fail(
        ctx, SNTK_ERR_DATA,
        "%s: the IDX header announces %lld bytes of elements, the file has %lld: it has something behind its data",
        path, (long long)*bytes, (long long)(bound - offset));
  }
  if (*bytes > bound)
    return sntk_fail(
        ctx, SNTK_ERR_DATA,
        "%s: the IDX header announces %lld bytes of elements, more than a gzip file of this size can hold: the "
        "file is damaged",
        path, (long long)*bytes);
  return SNTK_OK;
}

/* Reads all elements, so that a truncated gzip file is found, and keeps those of the array's rows. */
static sntk_status read_elements(sntk_context *ctx, const char *path, sntk_input *input, const idx_header *header,
                                 int64_t bytes, sntk_array *array) {
  unsigned char chunk[CHUNK_BYTES];
  const int size = header->type.size;
  const int64_t kept = array->rows * array->cols;
  int64_t index = 0, got;
  for (int64_t done = 0; done < bytes; done += got) {
    const int64_t part = bytes - done < (int64_t)CHUNK_BYTES ? bytes - done : (int64_t)CHUNK_BYTES;
    SNTK_TRY(sntk_input_read(ctx, input, chunk, part, &got));
    if (got < part) return truncated(ctx, path, bytes, done + got);
    for (int64_t b = 0; b < part && index < kept; b += size, index++)
      sntk_decode(chunk + b, header->type.kind, size, true, &array->values[index]);
  }
  SNTK_TRY(sntk_input_read(ctx, input, chunk, 1, &got));
  if (got != 0)
    return sntk_fail(ctx, SNTK_ERR_DATA,
                     "%s: something follows the %lld bytes of elements that the IDX header announces", path,
                     (long long)bytes);
  return SNTK_OK;
}

sntk_status sntk_idx_load(sntk_context *ctx, const char *path, int64_t limit, sntk_array *array, int64_t *total) {
  *array = (sntk_array){0};
  sntk_input *input;
  SNTK_TRY(sntk_input_open(ctx, path, &input));
  idx_header header;
  int64_t bytes = 0;
  sntk_status status = read_header(ctx, path, input, &header, &bytes);
  if (status == SNTK_OK) {
    *total = header.rows;
    const int64_t rows = limit > 0 && limit < header.rows ? limit : header.rows;
    status = sntk_array_create(ctx, path, rows, header.cols, array);
  }
  if (status == SNTK_OK) {
    status = read_elements(ctx, path, input, &header, bytes, array);
    if (status != SNTK_OK) sntk_array_free(array);
  }
  sntk_input_close(input);
  return status;
}
