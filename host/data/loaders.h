/**
 * @file loaders.h
 * @brief Internals of the data layer: files, readers of each format, generators and targets.
 *
 * Every reader has the same shape: it checks the whole file as far as that is possible without storing it, keeps the
 * first `limit` rows (0: all) and tells how many there are. An array with more than two dimensions is flattened behind
 * the first, a vector has one column. On failure `array` is empty and owns nothing.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SOFTNTK_LOADERS_H
#define SOFTNTK_LOADERS_H

#include "core/core.h"
#include "softntk/data.h"

/* Whole numbers up to here are exact in float64. */
#define SNTK_EXACT_INTEGER (INT64_C(1) << 53)

/* ---- files (input.c) ---- */

/* Opens for reading. *size is -1 where the file is not a regular one (a pipe). A folder is refused. */
sntk_status sntk_file_open(sntk_context *ctx, const char *path, int *descriptor, int64_t *size);

/* ---- contents that may be gzip-compressed (stream.c) ---- */

/* Whether it is compressed the content says, not the name. Opening reads the first bytes. */
typedef struct sntk_input sntk_input;
sntk_status sntk_input_open(sntk_context *ctx, const char *path, sntk_input **input);
void sntk_input_close(sntk_input *input);
/* Fewer bytes than wanted only at the end. All members of a gzip file are read; one that is damaged or cut, or
 * something other than zero bytes behind the last one, is SNTK_ERR_DATA. */
sntk_status sntk_input_read(sntk_context *ctx, sntk_input *input, void *to, int64_t wanted, int64_t *got);
/* The most bytes that the content can have, known before reading it; *exact says that it is the size itself. -1: not
 * known. */
int64_t sntk_input_bound(const sntk_input *input, bool *exact);

/* ---- files of another format (formats.c) ---- */

enum { SNTK_HEAD_BYTES = 1024 }; /* as many of a file's first bytes suffice */

/* For a file that is not what its reader takes, `wanted` ("an NPY file"): fails with what its first bytes show it to be
 * and the cure, or with `unknown`. Where that is NULL text will do, and SNTK_OK is returned for what is not known. */
sntk_status sntk_fail_format(sntk_context *ctx, const char *path, const char *wanted, const char *unknown,
                             const void *head, int64_t size);

/* ---- what the readers share (input.c) ---- */

/* One element of a binary format: kind 'f' (size 4, 8), 'i', 'u' (1, 2, 4, 8) or 'b' (1). False where float64 does not
 * hold the integer exactly or a boolean is neither 0 nor 1; *value is then the nearest. */
bool sntk_decode(const unsigned char *bytes, char kind, int size, bool big_endian, double *value);
/* The failure that goes with it, for element [row, col]. */
sntk_status sntk_fail_inexact(sntk_context *ctx, const char *path, int64_t row, int64_t col, char kind, double value);

/* Text as a message can show it: short, without control characters or bytes beyond ASCII. Returns buffer. */
enum { SNTK_EXCERPT_CHARS = 64 };
const char *sntk_excerpt(const char *text, int64_t size, char *buffer);

/* rows x cols of float64 for the content of `path`, after checking that neither is 0 and that they fit the memory
 * limit. */
sntk_status sntk_array_create(sntk_context *ctx, const char *path, int64_t rows, int64_t cols, sntk_array *array);
/* SNTK_ERR_SHAPE where rows x cols does not fit, SNTK_ERR_MEMORY above the context's limit, naming `what`. */
sntk_status sntk_check_memory(sntk_context *ctx, const char *what, int64_t rows, int64_t cols);

/* ---- readers ---- */

sntk_status sntk_npy_load(sntk_context *ctx, const char *path, int64_t limit, sntk_array *array, int64_t *total);
/* header: as in sntk_data_options, or SNTK_HEADER_OF_LABELS: as -1, but a first line 0 of one column is a label, since
 * the inputs' rows tell how many labels there are. */
enum { SNTK_HEADER_OF_LABELS = -2 };
sntk_status sntk_csv_load(sntk_context *ctx, const char *path, int header, int64_t limit, sntk_array *array,
                          int64_t *total);
/* place: "file.h5:/dataset". allow_external: as in sntk_data_options. */
sntk_status sntk_hdf5_load(sntk_context *ctx, const char *place, bool allow_external, int64_t limit, sntk_array *array,
                           int64_t *total);
sntk_status sntk_idx_load(sntk_context *ctx, const char *path, int64_t limit, sntk_array *array, int64_t *total);

/* ---- generators and targets ---- */

/* Samples and held-out rows together; no overflow once the options are checked. */
static inline int64_t sntk_data_rows(const sntk_data *data) { return data->samples + data->test_samples; }

/* Fills samples, test_samples, dim and inputs of a synthetic source. */
sntk_status sntk_generate_inputs(sntk_context *ctx, const sntk_data_options *options, sntk_data *data);

/* out[j] = normal(first + j) as float64. */
sntk_status sntk_fill_normals(sntk_context *ctx, uint64_t seed, uint64_t stream, uint64_t first, int64_t count,
                              double *out);

/* Divides a Gaussian row by its norm: a uniform direction. */
void sntk_make_direction(double *row, int64_t dim);

/* Euclidean norm without overflow or underflow on the way. */
double sntk_row_norm(const double *row, int64_t dim);

/* Fills outputs and targets by `rule`, from the normalized inputs. labels: one row for each of the inputs, for values
 * and classes from a file. */
sntk_status sntk_make_targets(sntk_context *ctx, const sntk_data_options *options, sntk_targets rule,
                              const sntk_array *labels, sntk_data *data);

#endif
