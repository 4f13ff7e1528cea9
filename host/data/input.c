/**
 * @file input.c
 * @brief What the file readers share: opening, elements of binary formats, arrays within the memory limit.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data/loaders.h"

sntk_status sntk_file_open(sntk_context *ctx, const char *path, int *descriptor, int64_t *size) {
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return sntk_fail(ctx, SNTK_ERR_IO, "%s: cannot be opened: %s", path, strerror(errno));
  struct stat info;
  if (fstat(fd, &info) != 0) {
    const int reason = errno;
    close(fd);
    return sntk_fail(ctx, SNTK_ERR_IO, "%s: cannot be examined: %s", path, strerror(reason));
  }
  if (S_ISDIR(info.st_mode)) {
    close(fd);
    return sntk_fail(ctx, SNTK_ERR_IO, "%s: is a folder; give a file in it", path);
  }
  *descriptor = fd;
  *size = S_ISREG(info.st_mode) ? (int64_t)info.st_size : -1;
  return SNTK_OK;
}

bool sntk_decode(const unsigned char *bytes, char kind, int size, bool big_endian, double *value) {
  uint64_t word = 0;
  for (int b = 0; b < size; b++) word |= (uint64_t)bytes[b] << 8 * (big_endian ? size - 1 - b : b);
  if (kind == 'f') {
    if (size == 4) {
      const uint32_t half = (uint32_t)word;
      float single;
      memcpy(&single, &half, sizeof single);
      *value = (double)single;
    } else {
      memcpy(value, &word, sizeof *value);
    }
    return true;
  }
  if (kind == 'i') {
    const uint64_t sign = UINT64_C(1) << (8 * size - 1);
    const uint64_t magnitude = word & sign ? (sign << 1) - word : word; /* size 8: 2^64 - word, by wrapping */
    *value = word & sign ? -(double)magnitude : (double)magnitude;
    return magnitude <= (uint64_t)SNTK_EXACT_INTEGER;
  }
  *value = (double)word;
  return word <= (kind == 'b' ? 1 : (uint64_t)SNTK_EXACT_INTEGER);
}

sntk_status sntk_fail_inexact(sntk_context *ctx, const char *path, int64_t row, int64_t col, char kind, double value) {
  if (kind == 'b')
    return sntk_fail(ctx, SNTK_ERR_DATA, "%s: element [%lld, %lld] of a boolean array is %.17g; it must be 0 or 1",
                     path, (long long)row, (long long)col, value);
  return sntk_fail(ctx, SNTK_ERR_DATA,
                   "%s: element [%lld, %lld] is the integer %.0f, beyond 2^53, which float64 does not hold exactly; "
                   "store the array as float64 if rounded values will do",
                   path, (long long)row, (long long)col, value);
}

const char *sntk_excerpt(const char *text, int64_t size, char *buffer) {
  int64_t used = 0;
  for (; used < size && used < SNTK_EXCERPT_CHARS - 4; used++)
    buffer[used] = text[used] >= ' ' && text[used] < 127 ? text[used] : '?';
  strcpy(buffer + used, used < size ? "..." : "");
  return buffer;
}

sntk_status sntk_check_memory(sntk_context *ctx, const char *what, int64_t rows, int64_t cols) {
  const int64_t bytes = sntk_size_mul(sntk_size_mul(rows, cols), (int64_t)sizeof(double));
  if (bytes < 0)
    return sntk_fail(ctx, SNTK_ERR_SHAPE, "%s: %lld x %lld values are more than 63 bits can count", what,
                     (long long)rows, (long long)cols);
  const int64_t limit = sntk_host_budget(ctx);
  if (bytes > limit) {
    char need[32], have[32];
    return sntk_fail(ctx, SNTK_ERR_MEMORY,
                     "%s: %lld x %lld float64 values take %s, and %s may be used; raise --memory-limit or take fewer "
                     "samples",
                     what, (long long)rows, (long long)cols, sntk_format_bytes(bytes, need),
                     sntk_format_bytes(limit, have));
  }
  return SNTK_OK;
}

sntk_status sntk_array_create(sntk_context *ctx, const char *path, int64_t rows, int64_t cols, sntk_array *array) {
  *array = (sntk_array){0};
  if (rows == 0 || cols == 0)
    return sntk_fail(ctx, SNTK_ERR_DATA,
                     "%s: the array has shape (%lld, %lld); at least one row and one column are needed", path,
                     (long long)rows, (long long)cols);
  SNTK_TRY(sntk_check_memory(ctx, path, rows, cols));
  void *values;
  SNTK_TRY(sntk_alloc(ctx, path, sntk_size_mul(rows, cols), sizeof(double), &values));
  *array = (sntk_array){.rows = rows, .cols = cols, .values = values};
  return SNTK_OK;
}

double sntk_row_norm(const double *row, int64_t dim) {
  double sum = 0.0, largest = 0.0;
  for (int64_t k = 0; k < dim; k++) {
    sum += row[k] * row[k];
    largest = fmax(largest, fabs(row[k]));
  }
  /* The plain sum is right while no square left the normal range; 1e-140 keeps even the squares' last bits. */
  if (largest == 0.0 || (largest > 1e-140 && sum <= 1e300)) return sqrt(sum);
  sum = 0.0;
  for (int64_t k = 0; k < dim; k++) sum += (row[k] / largest) * (row[k] / largest);
  return largest * sqrt(sum);
}
