/**
 * @file npy.c
 * @brief NumPy's .npy format, versions 1 to 3 (numpy.lib.format): numbers and booleans, C and Fortran order.
 *
 * The header is a Python dictionary literal. It is parsed by the grammar that NumPy writes and nothing else, and the
 * size of the file must be the one that it announces: a truncated file and one with something behind its data are
 * refused before any allocation.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data/loaders.h"

enum {
  MAX_DIMS = 32,         /* NumPy's own limit */
  MAX_HEADER = 1 << 16,  /* a numeric array's header has some hundred bytes */
  CHUNK_ELEMENTS = 8192, /* at most 64 KiB at a time */
  HEADER_ALIGNMENT = 64, /* what NumPy pads to */
  PREFIX_V1 = 10         /* magic, version, two bytes of length */
};

static const unsigned char magic[6] = {0x93, 'N', 'U', 'M', 'P', 'Y'};

typedef struct npy_header {
  char kind; /* 'f', 'i', 'u', 'b' */
  int size;
  bool fortran;
  int dims;
  int64_t shape[MAX_DIMS];
} npy_header;

typedef struct npy_parser {
  sntk_context *ctx;
  const char *path;
  const char *at;
} npy_parser;

static sntk_status malformed(const npy_parser *p, const char *wanted) {
  char shown[SNTK_EXCERPT_CHARS];
  return sntk_fail(p->ctx, SNTK_ERR_DATA,
                   "%s: malformed NPY header, at \"%s\": %s; write the file again with numpy.save", p->path,
                   sntk_excerpt(p->at, (int64_t)strlen(p->at), shown), wanted);
}

static void skip_space(npy_parser *p) {
  while (*p->at && strchr(" \t\n\r\f", *p->at)) p->at++;
}

static bool accept(npy_parser *p, char c) {
  skip_space(p);
  if (*p->at != c) return false;
  p->at++;
  return true;
}

/* 'text' or "text", at most size - 1 characters; a Python 2 program may put u before it. */
static sntk_status parse_string(npy_parser *p, char *text, size_t size) {
  skip_space(p);
  if ((*p->at == 'u' || *p->at == 'U') && (p->at[1] == '\'' || p->at[1] == '"')) p->at++;
  const char quote = *p->at;
  if (quote != '\'' && quote != '"') return malformed(p, "a quoted string is wanted");
  const char *end = strchr(p->at + 1, quote);
  if (!end) return malformed(p, "the string is not closed");
  const size_t used = (size_t)(end - p->at - 1);
  if (used >= size) return malformed(p, "the string is too long");
  memcpy(text, p->at + 1, used);
  text[used] = '\0';
  p->at = end + 1;
  return SNTK_OK;
}

/* Is the text one of the words that spaces separate? */
static bool is_among(const char *text, const char *words) {
  const size_t size = strlen(text);
  for (const char *at = words; *at; at += strspn(at, " ")) {
    const size_t length = strcspn(at, " ");
    if (length == size && memcmp(at, text, size) == 0) return true;
    at += length;
  }
  return false;
}

static sntk_status parse_descr(npy_parser *p, npy_header *header) {
  skip_space(p);
  if (*p->at == '[' || *p->at == '(')
    return sntk_fail(p->ctx, SNTK_ERR_DATA,
                     "%s: a structured array (fields with names); save one plain numeric array, such as a['field']",
                     p->path);
  char text[32], shown[SNTK_EXCERPT_CHARS];
  SNTK_TRY(parse_string(p, text, sizeof text));
  /* NumPy writes the first spelling of a type; numpy.load takes the others too. */
  static const struct {
    const char *spellings;
    char kind;
    int size;
  } known[] = {{"<f4 f4 =f4 <f f float32 single", 'f', 4},
               {"<f8 f8 =f8 <d d float64 double float", 'f', 8},
               {"|i1 <i1 i1 b int8", 'i', 1},
               {"<i2 i2 =i2 <h h int16", 'i', 2},
               {"<i4 i4 =i4 <i i int32", 'i', 4},
               {"<i8 i8 =i8 <q <l q l int64 int", 'i', 8},
               {"|u1 <u1 u1 B uint8", 'u', 1},
               {"<u2 u2 =u2 <H H uint16", 'u', 2},
               {"<u4 u4 =u4 <I I uint32", 'u', 4},
               {"<u8 u8 =u8 <Q <L Q L uint64", 'u', 8},
               {"|b1 <b1 b1 |? ? bool", 'b', 1}};
  for (size_t k = 0; k < sizeof known / sizeof *known; k++) {
    if (!is_among(text, known[k].spellings)) continue;
    header->kind = known[k].kind;
    header->size = known[k].size;
    return SNTK_OK;
  }
  sntk_excerpt(text, (int64_t)strlen(text), shown);
  if (text[0] == '>')
    return sntk_fail(p->ctx, SNTK_ERR_DATA,
                     "%s: type %s is big-endian; save it little-endian: numpy.save(file, a.astype('<f8'))", p->path,
                     shown);
  return sntk_fail(p->ctx, SNTK_ERR_DATA,
                   "%s: type %s cannot be read; <f4, <f8, |b1 and integers of 1 to 8 bytes can: numpy.save(file, "
                   "a.astype('<f8'))",
                   p->path, shown);
}

static sntk_status parse_order(npy_parser *p, npy_header *header) {
  skip_space(p);
  header->fortran = strncmp(p->at, "True", 4) == 0;
  if (!header->fortran && strncmp(p->at, "False", 5) != 0) return malformed(p, "True or False is wanted");
  p->at += header->fortran ? 4 : 5;
  return SNTK_OK;
}

static sntk_status parse_extent(npy_parser *p, int64_t *extent) {
  skip_space(p);
  if (*p->at < '0' || *p->at > '9') return malformed(p, "a whole number is wanted");
  int64_t value = 0;
  for (; *p->at >= '0' && *p->at <= '9'; p->at++) {
    value = sntk_size_add(sntk_size_mul(value, 10), *p->at - '0');
    if (value < 0) return malformed(p, "an extent does not fit 63 bits");
  }
  if (*p->at == 'L') p->at++; /* Python 2 writes its long integers so */
  *extent = value;
  return SNTK_OK;
}

static sntk_status parse_shape(npy_parser *p, npy_header *header) {
  if (!accept(p, '(')) return malformed(p, "a tuple is wanted");
  bool comma = true; /* (3) is a number in Python, (3,) a tuple */
  while (!accept(p, ')')) {
    if (!comma) return malformed(p, "a comma or ) is wanted");
    if (header->dims == MAX_DIMS) return malformed(p, "more than 32 dimensions");
    SNTK_TRY(parse_extent(p, &header->shape[header->dims++]));
    comma = accept(p, ',');
  }
  if (header->dims == 1 && !comma) return malformed(p, "a tuple of one has a comma: (n,)");
  if (header->dims == 0)
    return sntk_fail(p->ctx, SNTK_ERR_DATA, "%s: a scalar (shape ()); save an array of one or two dimensions", p->path);
  return SNTK_OK;
}

static sntk_status parse_header(npy_parser *p, npy_header *header) {
  bool seen[3] = {false};
  static const char *const keys[3] = {"descr", "fortran_order", "shape"};
  if (!accept(p, '{')) return malformed(p, "{ is wanted");
  bool comma = true;
  while (!accept(p, '}')) {
    if (!comma) return malformed(p, "a comma or } is wanted");
    char key[16];
    SNTK_TRY(parse_string(p, key, sizeof key));
    int k = 0;
    while (k < 3 && strcmp(key, keys[k]) != 0) k++;
    if (k == 3) return malformed(p, "a key other than descr, fortran_order and shape");
    if (seen[k]) return malformed(p, "a key comes twice");
    seen[k] = true;
    if (!accept(p, ':')) return malformed(p, "a colon is wanted");
    SNTK_TRY(k == 0 ? parse_descr(p, header) : k == 1 ? parse_order(p, header) : parse_shape(p, header));
    comma = accept(p, ',');
  }
  if (!seen[0] || !seen[1] || !seen[2]) return malformed(p, "descr, fortran_order or shape is missing");
  skip_space(p);
  if (*p->at) return malformed(p, "nothing may follow }");
  return SNTK_OK;
}

static sntk_status not_npy(sntk_context *ctx, const char *path, FILE *file) {
  unsigned char head[SNTK_HEAD_BYTES];
  rewind(file);
  const size_t got = fread(head, 1, sizeof head, file);
  return sntk_fail_format(ctx, path, "an NPY file", "it does not begin with \\x93NUMPY; write it with numpy.save", head,
                          (int64_t)got);
}

/* *whole: `size` bytes were there. A file that cannot be read is none that ends. */
static sntk_status take(sntk_context *ctx, const char *path, FILE *file, void *to, size_t size, bool *whole) {
  *whole = fread(to, 1, size, file) == size;
  return ferror(file) ? sntk_fail(ctx, SNTK_ERR_IO, "%s: reading failed: %s", path, strerror(errno)) : SNTK_OK;
}

/* Reads up to the first byte of the data; *offset is its place. */
static sntk_status read_header(sntk_context *ctx, const char *path, FILE *file, npy_header *header, int64_t *offset) {
  unsigned char prefix[12];
  bool whole;
  SNTK_TRY(take(ctx, path, file, prefix, 8, &whole));
  if (!whole || memcmp(prefix, magic, sizeof magic) != 0) return not_npy(ctx, path, file);
  const int major = prefix[6], minor = prefix[7];
  if (major < 1 || major > 3 || minor != 0)
    return sntk_fail(ctx, SNTK_ERR_DATA, "%s: NPY version %d.%d; 1.0, 2.0 and 3.0 are known", path, major, minor);
  const size_t field = major == 1 ? 2 : 4;
  SNTK_TRY(take(ctx, path, file, prefix + 8, field, &whole));
  if (!whole) return sntk_fail(ctx, SNTK_ERR_DATA, "%s: the NPY file ends in its header", path);
  int64_t length = 0;
  for (size_t b = 0; b < field; b++) length |= (int64_t)prefix[8 + b] << 8 * b;
  if (length > MAX_HEADER)
    return sntk_fail(ctx, SNTK_ERR_DATA,
                     "%s: an NPY header of %lld bytes; at most %d are plausible: the file is damaged", path,
                     (long long)length, MAX_HEADER);
  void *memory;
  SNTK_TRY(sntk_alloc(ctx, path, length + 1, 1, &memory));
  char *text = memory;
  sntk_status status = take(ctx, path, file, text, (size_t)length, &whole);
  if (status == SNTK_OK && !whole) {
    status = sntk_fail(ctx, SNTK_ERR_DATA, "%s: the NPY file ends in its header", path);
  } else if (status == SNTK_OK) {
    text[length] = '\0';
    npy_parser parser = {.ctx = ctx, .path = path, .at = text};
    status = parse_header(&parser, header);
    if (status == SNTK_OK && parser.at != text + length) status = malformed(&parser, "a zero byte");
  }
  free(text);
  *offset = 8 + (int64_t)field + length;
  return status;
}

/* `count` elements that follow each other in the file, to every stride-th place from `to` on. */
static sntk_status read_run(sntk_context *ctx, const char *path, FILE *file, const npy_header *header, int64_t count,
                            const sntk_array *array, double *to, int64_t stride) {
  unsigned char chunk[CHUNK_ELEMENTS * 8];
  const size_t size = (size_t)header->size;
  for (int64_t done = 0; done < count;) {
    const size_t part = count - done < CHUNK_ELEMENTS ? (size_t)(count - done) : CHUNK_ELEMENTS;
    SNTK_TRY(sntk_check_interrupt(ctx));
    if (fread(chunk, size, part, file) != part)
      return sntk_fail(ctx, SNTK_ERR_IO, "%s: reading failed: %s", path,
                       ferror(file) ? strerror(errno) : "the file shrank");
    for (size_t j = 0; j < part; j++) {
      double *place = to + (done + (int64_t)j) * stride;
      if (!sntk_decode(chunk + j * size, header->kind, header->size, false, place)) {
        const int64_t index = place - array->values;
        return sntk_fail_inexact(ctx, path, index / array->cols, index % array->cols, header->kind, *place);
      }
    }
    done += (int64_t)part;
  }
  return SNTK_OK;
}

/* Column after column; behind the first dimension the file runs through the others in the opposite order of the array's
 * columns. */
static sntk_status read_fortran(sntk_context *ctx, const char *path, FILE *file, const npy_header *header,
                                sntk_array *array) {
  const int64_t skip = (header->shape[0] - array->rows) * header->size;
  int64_t index[MAX_DIMS] = {0};
  for (int64_t q = 0; q < array->cols; q++) {
    int64_t col = 0;
    for (int j = 1; j < header->dims; j++) col = col * header->shape[j] + index[j];
    SNTK_TRY(read_run(ctx, path, file, header, array->rows, array, array->values + col, array->cols));
    if (skip > 0 && fseeko(file, (off_t)skip, SEEK_CUR) != 0)
      return sntk_fail(ctx, SNTK_ERR_IO, "%s: reading failed: %s", path, strerror(errno));
    for (int j = 1; j < header->dims && ++index[j] == header->shape[j]; j++) index[j] = 0;
  }
  return SNTK_OK;
}

static sntk_status read_file(sntk_context *ctx, const char *path, FILE *file, int64_t file_size, int64_t limit,
                             sntk_array *array, int64_t *total) {
  npy_header header = {0};
  int64_t offset = 0;
  SNTK_TRY(read_header(ctx, path, file, &header, &offset));
  int64_t cols = 1;
  for (int j = 1; j < header.dims; j++) cols = sntk_size_mul(cols, header.shape[j]);
  const int64_t wanted = sntk_size_add(offset, sntk_size_mul(sntk_size_mul(header.shape[0], cols), header.size));
  if (wanted < 0)
    return sntk_fail(ctx, SNTK_ERR_DATA, "%s: the NPY header's shape does not fit 63 bits: the file is damaged", path);
  if (wanted != file_size)
    return sntk_fail(ctx, SNTK_ERR_DATA, "%s: the NPY header announces %lld bytes in all, the file has %lld: it %s",
                     path, (long long)wanted, (long long)file_size,
                     file_size < wanted ? "is truncated; write or fetch it again" : "has something behind its data");
  *total = header.shape[0];
  const int64_t rows = limit > 0 && limit < *total ? limit : *total;
  SNTK_TRY(sntk_array_create(ctx, path, rows, cols, array));
  const sntk_status status = header.fortran && header.dims > 1
                                 ? read_fortran(ctx, path, file, &header, array)
                                 : read_run(ctx, path, file, &header, rows * cols, array, array->values, 1);
  if (status != SNTK_OK) sntk_array_free(array);
  return status;
}

sntk_status sntk_npy_load(sntk_context *ctx, const char *path, int64_t limit, sntk_array *array, int64_t *total) {
  *array = (sntk_array){0};
  int fd = -1;
  int64_t size = 0;
  SNTK_TRY(sntk_file_open(ctx, path, &fd, &size));
  FILE *file = size >= 0 ? fdopen(fd, "rb") : NULL;
  if (!file) {
    close(fd);
    return sntk_fail(ctx, SNTK_ERR_IO, "%s: not a regular file, whose size could be checked; copy it into one", path);
  }
  const sntk_status status = read_file(ctx, path, file, size, limit, array, total);
  fclose(file);
  return status;
}

sntk_status sntk_npy_read(sntk_context *ctx, const char *path, sntk_array *array) {
  SNTK_NEED(ctx, array, "array");
  *array = (sntk_array){0};
  SNTK_NEED(ctx, ctx, "ctx");
  SNTK_NEED(ctx, path, "path");
  int64_t total;
  return sntk_npy_load(ctx, path, 0, array, &total);
}

static bool write_all(FILE *file, int64_t rows, int64_t cols, const double *values) {
  char dictionary[128];
  const int used =
      snprintf(dictionary, sizeof dictionary, "{'descr': '<f8', 'fortran_order': False, 'shape': (%lld, %lld), }",
               (long long)rows, (long long)cols);
  const int total = (PREFIX_V1 + used + 1 + HEADER_ALIGNMENT - 1) / HEADER_ALIGNMENT * HEADER_ALIGNMENT;
  const int length = total - PREFIX_V1;
  const unsigned char prefix[4] = {1, 0, (unsigned char)(length & 255), (unsigned char)(length >> 8)};
  if (fwrite(magic, 1, sizeof magic, file) != sizeof magic || fwrite(prefix, 1, sizeof prefix, file) != sizeof prefix ||
      fprintf(file, "%-*s\n", length - 1, dictionary) != length)
    return false;
  unsigned char chunk[8 * 512];
  for (int64_t done = 0, count = rows * cols; done < count;) {
    const size_t part = count - done < 512 ? (size_t)(count - done) : 512;
    for (size_t j = 0; j < part; j++) {
      uint64_t word;
      memcpy(&word, &values[done + (int64_t)j], sizeof word);
      for (int b = 0; b < 8; b++) chunk[8 * j + (size_t)b] = (unsigned char)(word >> 8 * b);
    }
    if (fwrite(chunk, 8, part, file) != part) return false;
    done += (int64_t)part;
  }
  return true;
}

sntk_status sntk_npy_write(sntk_context *ctx, const char *path, int64_t rows, int64_t cols, const double *values) {
  SNTK_NEED(ctx, ctx, "ctx");
  SNTK_NEED(ctx, path, "path");
  if (sntk_size_mul(sntk_size_mul(rows, cols), 8) < 0)
    return sntk_fail(ctx, SNTK_ERR_SHAPE, "%s: cannot write an array of shape (%lld, %lld)", path, (long long)rows,
                     (long long)cols);
  SNTK_NEED(ctx, values || rows * cols == 0, "values");
  FILE *file = fopen(path, "wb");
  if (!file) return sntk_fail(ctx, SNTK_ERR_IO, "%s: cannot be written: %s", path, strerror(errno));
  const bool written = write_all(file, rows, cols, values);
  int reason = written ? 0 : errno ? errno : EIO;
  if (fclose(file) != 0 && written) reason = errno;
  if (reason)
    return sntk_fail(ctx, SNTK_ERR_IO, "%s: writing failed, the file is incomplete: %s", path, strerror(reason));
  return SNTK_OK;
}
