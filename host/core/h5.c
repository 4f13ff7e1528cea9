/**
 * @file h5.c
 * @brief run.h5: contiguous, uncompressed datasets in a temporary file that takes the name only when it is whole.
 *
 * A file is written once, synced and renamed: appending in place is not safe against a kill. The temporary name is
 * fixed: what a killed writer left is removed by the next, and the run's lock keeps two writers apart.
 *
 * The HDF5 library is not called. Where its memory fails it crashes, and where the disk is full it cannot close a file:
 * a run that has trained for days must lose nothing to either. What is needed of the format is small (HDF5 File Format
 * Specification, version 2.0: superblock 2, object headers 2, groups that hold their links in the header), and the
 * library reads it. Data go to their place as they come; the headers follow behind them when the file is closed, and
 * the superblock, which leads to them, last.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <hdf5.h> /* its version alone */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/files.h"
#include "core/output.h"

enum { SUPERBLOCK_BYTES = 48, FIRST_ADDRESS = 64, ALIGNMENT = 8, NAME_MOST = 65535 };

#define UNDEFINED UINT64_MAX /* an address of nothing */

typedef struct dataset {
  char *name; /* from the root, as "/history/loss" */
  char type;  /* 'd', 'f', 'l' (int64) and 'b' (int8) */
  int64_t rows, cols;
  int64_t address;
} dataset;

struct sntk_h5 {
  char *path, *temporary;
  int fd;
  int64_t end; /* of the data so far */
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

/* ---- bytes of the format --------------------------------------------------------------------------------------- */

/* Grows as it is written; once memory is short, all that follows is lost too. */
typedef struct buffer {
  unsigned char *bytes;
  size_t size, capacity;
  bool lost;
} buffer;

static void put(buffer *to, const void *bytes, size_t size) {
  if (!to->lost && to->size + size > to->capacity) {
    const size_t capacity = 2 * to->capacity + size + 256;
    unsigned char *grown = realloc(to->bytes, capacity);
    to->lost = !grown;
    if (grown) *to = (buffer){grown, to->size, capacity, false};
  }
  if (to->lost || size == 0) return;
  memcpy(to->bytes + to->size, bytes, size);
  to->size += size;
}

static void store(unsigned char *at, uint64_t value, size_t size) {
  for (size_t i = 0; i < size; i++) at[i] = (unsigned char)(value >> (8 * i));
}

/* Numbers are little-endian, whatever the host. */
static void put_number(buffer *to, uint64_t value, size_t size) {
  unsigned char bytes[8];
  store(bytes, value, size);
  put(to, bytes, size);
}

static uint64_t load(const unsigned char *from, size_t size) {
  uint64_t value = 0;
  for (size_t i = 0; i < size; i++) value |= (uint64_t)from[i] << (8 * i);
  return value;
}

static uint32_t rotate(uint32_t x, int turns) { return x << turns | x >> (32 - turns); }

/* The format's checksum, Jenkins' lookup3 from 0. */
static uint32_t checksum(const unsigned char *bytes, size_t size) {
  static const int mixing[] = {4, 6, 8, 16, 19, 4}, last[] = {14, 11, 25, 16, 4, 14, 24};
  uint32_t v[3];
  for (int w = 0; w < 3; w++) v[w] = 0xdeadbeefU + (uint32_t)size;
  while (size > 0) {
    const size_t part = size < 12 ? size : 12;
    unsigned char block[12] = {0};
    memcpy(block, bytes, part);
    for (int w = 0; w < 3; w++) v[w] += (uint32_t)load(block + 4 * w, 4);
    bytes += part;
    size -= part;
    for (int i = 0; i < 6 && size > 0; i++) {
      const int x = i % 3, y = (i + 2) % 3, z = (i + 1) % 3;
      v[x] = (v[x] - v[y]) ^ rotate(v[y], mixing[i]);
      v[y] += v[z];
    }
  }
  for (int i = 0; i < 7; i++) {
    const int x = (i + 2) % 3, y = (i + 1) % 3;
    v[x] = (v[x] ^ v[y]) - rotate(v[y], last[i]);
  }
  return v[2];
}

/* ---- object headers ---------------------------------------------------------------------------------------------- */

typedef enum message_type {
  MESSAGE_DATASPACE = 0x01,
  MESSAGE_LINK_INFO = 0x02,
  MESSAGE_DATATYPE = 0x03,
  MESSAGE_FILL = 0x05,
  MESSAGE_LINK = 0x06,
  MESSAGE_LAYOUT = 0x08,
  MESSAGE_GROUP_INFO = 0x0a
} message_type;

enum { HEADER_PREFIX = 10 }; /* signature, version, flags, size of the messages */

/* Place of an object header that begins here. */
static size_t header_begin(buffer *to) {
  static const unsigned char zeros[ALIGNMENT] = {0};
  put(to, zeros, (ALIGNMENT - to->size % ALIGNMENT) % ALIGNMENT);
  const size_t begin = to->size;
  put(to, "OHDR", 4);
  put_number(to, 2, 1);
  put_number(to, 2, 1); /* flags: the size has 4 bytes; no times, so that the same run gives the same bytes */
  put_number(to, 0, 4);
  return begin;
}

static void header_end(buffer *to, size_t begin) {
  if (to->lost) return;
  store(to->bytes + begin + HEADER_PREFIX - 4, to->size - begin - HEADER_PREFIX, 4);
  put_number(to, checksum(to->bytes + begin, to->size - begin), 4);
}

static void message_begin(buffer *to, message_type type, size_t size) {
  put_number(to, type, 1);
  put_number(to, size, 2);
  put_number(to, 0, 1);
}

static int64_t type_size(char type) { return type == 'f' ? 4 : type == 'b' ? 1 : 8; }

/* Elements are written as the host has them, and the type says how that is. */
static void put_type(buffer *to, char type) {
  const unsigned order = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__;
  const uint64_t size = (uint64_t)type_size(type), bits = 8 * size;
  if (type == 'd' || type == 'f') {
    message_begin(to, MESSAGE_DATATYPE, 20);
    put_number(to, 0x11, 1);         /* floating point */
    put_number(to, 0x20 | order, 1); /* the mantissa's first bit is implied */
    put_number(to, bits - 1, 2);     /* the sign's place */
    put_number(to, size, 4);
    put_number(to, 0, 2);
    put_number(to, bits, 2);
    put_number(to, type == 'd' ? 52 : 23, 1); /* exponent: place and bits */
    put_number(to, type == 'd' ? 11 : 8, 1);
    put_number(to, 0, 1); /* mantissa: place and bits */
    put_number(to, type == 'd' ? 52 : 23, 1);
    put_number(to, type == 'd' ? 1023 : 127, 4); /* the exponent's bias */
  } else {
    message_begin(to, MESSAGE_DATATYPE, 12);
    put_number(to, 0x10, 1);         /* whole numbers */
    put_number(to, 0x08 | order, 3); /* signed */
    put_number(to, size, 4);
    put_number(to, 0, 2);
    put_number(to, bits, 2);
  }
}

static int64_t elements_of(const dataset *d) { return d->cols == 0 ? d->rows : d->rows * d->cols; }

static int64_t bytes_of(const dataset *d) { return elements_of(d) * type_size(d->type); }

static size_t put_dataset(buffer *to, const dataset *d) {
  const size_t begin = header_begin(to), rank = d->cols == 0 ? 1 : 2;
  message_begin(to, MESSAGE_DATASPACE, 4 + 8 * rank);
  put_number(to, 2, 1);
  put_number(to, rank, 1);
  put_number(to, 0, 1); /* no larger extent */
  put_number(to, 1, 1); /* simple */
  put_number(to, (uint64_t)d->rows, 8);
  if (rank == 2) put_number(to, (uint64_t)d->cols, 8);
  put_type(to, d->type);
  message_begin(to, MESSAGE_FILL, 2);
  put_number(to, 3, 1);
  put_number(to, 0x0a, 1); /* the default value, where one was asked for */
  message_begin(to, MESSAGE_LAYOUT, 18);
  put_number(to, 3, 1);
  put_number(to, 1, 1); /* contiguous */
  put_number(to, bytes_of(d) ? (uint64_t)d->address : UNDEFINED, 8);
  put_number(to, (uint64_t)bytes_of(d), 8);
  header_end(to, begin);
  return begin;
}

static size_t name_length(const char *name) { return strcspn(name, "/"); }

/* A group of datasets whose names agree in their first `depth` characters, a slash at the end; sorted, so that those of
 * a group within it are together. `base` is the address of the buffer's beginning. */
static size_t put_group(buffer *to, uint64_t base, const dataset *datasets, int64_t count, size_t depth) {
  buffer links = {0};
  for (int64_t i = 0; i < count;) {
    const char *name = datasets[i].name + depth;
    const size_t length = name_length(name);
    int64_t same = 1; /* datasets of the group of that name */
    while (i + same < count && strncmp(datasets[i + same].name + depth, name, length + 1) == 0) same++;
    const size_t place = name[length] == '/' ? put_group(to, base, datasets + i, same, depth + length + 1)
                                             : put_dataset(to, &datasets[i]);
    message_begin(&links, MESSAGE_LINK, 4 + length + 8);
    put_number(&links, 1, 1);
    put_number(&links, 1, 1); /* a hard link, the name's length in 2 bytes */
    put_number(&links, length, 2);
    put(&links, name, length);
    put_number(&links, base + place, 8);
    i += same;
  }
  const size_t begin = header_begin(to);
  message_begin(to, MESSAGE_LINK_INFO, 18);
  put_number(to, 0, 2);
  put_number(to, UNDEFINED, 8); /* links are here, in no heap */
  put_number(to, UNDEFINED, 8);
  message_begin(to, MESSAGE_GROUP_INFO, 2);
  put_number(to, 0, 2);
  put(to, links.bytes, links.size);
  to->lost |= links.lost;
  free(links.bytes);
  header_end(to, begin);
  return begin;
}

/* ---- files ---------------------------------------------------------------------------------------------------------
 */

static sntk_status write_at(sntk_context *ctx, sntk_h5 *file, const char *name, const void *data, int64_t size,
                            int64_t at) {
  for (int64_t done = 0; done < size;) {
    const ssize_t part = pwrite(file->fd, (const char *)data + done, (size_t)(size - done), (off_t)(at + done));
    if (part < 0 && errno == EINTR) continue;
    if (part <= 0) return fail(ctx, file, name, part < 0 ? strerror(errno) : "nothing more is written");
    done += part;
  }
  return SNTK_OK;
}

static int by_name(const void *a, const void *b) {
  return strcmp(((const dataset *)a)->name, ((const dataset *)b)->name);
}

static sntk_status write_superblock(sntk_context *ctx, sntk_h5 *file, uint64_t end, uint64_t root) {
  unsigned char bytes[SUPERBLOCK_BYTES] =
      "\211HDF\r\n\032\n\002\010\010"; /* version 2; addresses, lengths of 8 bytes */
  store(bytes + 20, UNDEFINED, 8);     /* no extension */
  store(bytes + 28, end, 8);
  store(bytes + 36, root, 8);
  store(bytes + 44, checksum(bytes, SUPERBLOCK_BYTES - 4), 4);
  return write_at(ctx, file, "its superblock", bytes, SUPERBLOCK_BYTES, 0);
}

/* All headers, and what leads to them. */
static sntk_status write_headers(sntk_context *ctx, sntk_h5 *file) {
  buffer headers = {0};
  if (file->count > 1) qsort(file->datasets, (size_t)file->count, sizeof *file->datasets, by_name);
  const size_t root = put_group(&headers, (uint64_t)file->end, file->datasets, file->count, 1);
  sntk_status status = headers.lost
                           ? out_of_memory(ctx, file)
                           : write_at(ctx, file, "its headers", headers.bytes, (int64_t)headers.size, file->end);
  if (status == SNTK_OK)
    status = write_superblock(ctx, file, (uint64_t)file->end + headers.size, (uint64_t)file->end + root);
  free(headers.bytes);
  return status;
}

static void h5_free(sntk_h5 *file) {
  if (file->fd >= 0) close(file->fd);
  for (int64_t i = 0; i < file->count; i++) free(file->datasets[i].name);
  free(file->datasets);
  free(file->path);
  free(file->temporary);
  free(file);
}

sntk_status sntk_h5_create(sntk_context *ctx, const char *path, sntk_h5 **out) {
  *out = NULL;
  sntk_h5 *file = calloc(1, sizeof *file);
  if (!file) return sntk_fail(ctx, SNTK_ERR_MEMORY, "%s: no memory to open it", path);
  *file = (sntk_h5){.fd = -1, .end = FIRST_ADDRESS};
  file->path = sntk_format("%s", path);
  file->temporary = sntk_format("%s.tmp", path);
  sntk_status status = SNTK_OK;
  if (!file->path || !file->temporary)
    status = sntk_fail(ctx, SNTK_ERR_MEMORY, "%s: no memory to open it", path);
  else if ((file->fd = sntk_file_create(file->temporary)) < 0)
    status = sntk_fail(ctx, SNTK_ERR_IO, "%s: cannot create %s: %s", path, file->temporary, strerror(errno));
  if (status == SNTK_OK)
    *out = file;
  else
    h5_free(file);
  return status;
}

/* What keeps a name from being a new dataset's; NULL where nothing does. */
static const char *name_flaw(const sntk_h5 *file, const char *name) {
  const size_t length = strlen(name);
  if (name[0] != '/' || name[length - 1] == '/' || strstr(name, "//") || length > NAME_MOST)
    return "a name is made of parts behind slashes, as in /history/loss";
  for (int64_t i = 0; i < file->count; i++) {
    const char *other = file->datasets[i].name;
    const size_t size = strlen(other), shared = size < length ? size : length;
    if (strncmp(name, other, shared) != 0) continue;
    if (size == length) return "it is there already";
    if (size < length ? name[size] == '/' : other[length] == '/') return "a dataset cannot be a group too";
  }
  return NULL;
}

/* A new dataset behind the others. */
static sntk_status add_dataset(sntk_context *ctx, sntk_h5 *file, const char *name, char type, int64_t rows,
                               int64_t cols) {
  const int64_t bytes = sntk_size_mul(sntk_size_mul(rows, cols == 0 ? 1 : cols), type_size(type));
  const int64_t end = sntk_size_add(sntk_size_add(file->end, bytes), ALIGNMENT);
  if (bytes < 0 || end < 0) {
    file->failed = true;
    return sntk_fail(ctx, SNTK_ERR_SHAPE, "%s: %s: a shape of %lld x %lld is negative or does not fit 63 bits of bytes",
                     file->path, name, (long long)rows, (long long)cols);
  }
  const char *flaw = name_flaw(file, name);
  if (flaw) return fail(ctx, file, name, flaw);
  if (file->count == file->capacity) {
    const int64_t capacity = 2 * file->capacity + 16;
    dataset *grown = realloc(file->datasets, (size_t)capacity * sizeof *grown);
    if (!grown) return out_of_memory(ctx, file);
    file->datasets = grown;
    file->capacity = capacity;
  }
  char *kept = sntk_format("%s", name);
  if (!kept) return out_of_memory(ctx, file);
  file->datasets[file->count++] = (dataset){kept, type, rows, cols, file->end};
  file->end = end / ALIGNMENT * ALIGNMENT;
  return SNTK_OK;
}

static sntk_status write_dataset(sntk_context *ctx, sntk_h5 *file, const char *name, char type, int64_t rows,
                                 int64_t cols, const void *data) {
  SNTK_TRY(add_dataset(ctx, file, name, type, rows, cols));
  const dataset *d = &file->datasets[file->count - 1];
  return write_at(ctx, file, name, data, bytes_of(d), d->address);
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
  const int64_t size = type_size(d->type);
  for (int64_t r = 0; r < d->rows; r++)
    SNTK_TRY(write_at(ctx, file, name, (const char *)data + r * count * size, count * size,
                      d->address + (r * d->cols + first) * size));
  return SNTK_OK;
}

sntk_status sntk_h5_close(sntk_context *ctx, sntk_h5 *file, bool commit) {
  if (!file) return SNTK_OK;
  sntk_status status = SNTK_OK;
  if (commit && file->failed)
    status = sntk_fail(ctx, SNTK_ERR_IO, "%s: not replaced: an earlier write to it failed", file->path);
  else if (commit)
    status = write_headers(ctx, file);
  if (commit && status == SNTK_OK) status = sntk_replace_file(ctx, file->fd, file->temporary, file->path);
  if ((!commit || status != SNTK_OK) && sntk_file_is_at(file->fd, file->temporary)) unlink(file->temporary);
  h5_free(file);
  return status;
}

#define TEXT_OF(number) #number
#define VERSION_TEXT(major, minor, release) TEXT_OF(major) "." TEXT_OF(minor) "." TEXT_OF(release)

/* A library of another version than its header refuses to work. */
const char *sntk_h5_version(void) { return VERSION_TEXT(H5_VERS_MAJOR, H5_VERS_MINOR, H5_VERS_RELEASE); }
