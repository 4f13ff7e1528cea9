/**
 * @file config.h
 * @brief The configuration: YAML, --set and grid under one schema table.
 *
 * Keys are dotted ("network.width"); a key's row in the table (config.c) gives its type, range, default and help line.
 * Numbers are decimal, finite and fully consumed: 64.5, 010, 0x10, nan, 1e400 or "64" (quoted) are errors where a whole
 * number is wanted. Every value remembers where it came from, so that a later check can name file, line and column.
 * Errors are one line, "<file>:<line>:<column>: <key>: <value> is ...; <what would be right>", lines and columns from
 * 1. At an alias they are those of its anchor, where the value is written.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SOFTNTK_CONFIG_H
#define SOFTNTK_CONFIG_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "core/core.h"

typedef struct sntk_config sntk_config;

/* Loads a file; path NULL gives a configuration of defaults, to be filled by sntk_config_set. Errors: SNTK_ERR_CONFIG
 * (unknown or duplicate key, wrong type, out of range, empty file, not YAML, larger than 16 MiB), SNTK_ERR_IO,
 * SNTK_ERR_MEMORY. *config is NULL on failure. */
sntk_status sntk_config_load(sntk_context *ctx, const char *path, sntk_config **config);

/* "a.b=value" as given to --set; overrides the file. The value is read as YAML (lists in brackets, text with special
 * characters in quotes); its relative paths are relative to the working directory. The last --set of a key wins.
 * "grid.a.b=[..]" sets an axis, in the place of the file's axis of that key where there is one; "a.b=value" takes such
 * an axis out. On failure nothing changes. */
sntk_status sntk_config_set(sntk_context *ctx, sntk_config *config, const char *assignment);

/* As sntk_config_set, for an option of its own such as --seed: `origin` ("--seed") is named in errors. */
sntk_status sntk_config_set_value(sntk_context *ctx, sntk_config *config, const char *key, const char *value,
                                  const char *origin);

void sntk_config_free(sntk_config *config);

/* Was the key given (not defaulted, nor an axis of the grid only)? The key must be in the table (a defect of the
 * program otherwise). */
bool sntk_config_given(const sntk_config *config, const char *key);

/* Given, or an axis of the grid. */
bool sntk_config_asked(const sntk_config *config, const char *key);

/* Is this canonical text (NULL: no value) the key's value, or where the key is an axis of the grid one of its values?
 */
bool sntk_config_takes(const sntk_config *config, const char *key, const char *text);

/* Does the key have a value (given or default)? data.seed has that of seed where it is not given. */
bool sntk_config_has(const sntk_config *config, const char *key);

/* Values; the key must be in the table with that type and have a value. */
int64_t sntk_config_int(const sntk_config *config, const char *key);
double sntk_config_real(const sntk_config *config, const char *key);
bool sntk_config_bool(const sntk_config *config, const char *key);
/* Strings, paths (already relative to the working directory) and words of an enumeration; of any other type its
 * canonical text, numbers in the fewest of 15 to 17 digits that read back. */
const char *sntk_config_text(const sntk_config *config, const char *key);
/* Index of an enumeration's word in its table row, which is the value of its C enumerator. Of a number-or-word key that
 * holds a number: the number of words (train.eta: SNTK_ETA_VALUE). */
int sntk_config_choice(const sntk_config *config, const char *key);
/* A number-or-word key (train.eta): true and *value where it is a number, false where it is a word (sntk_config_text).
 */
bool sntk_config_number(const sntk_config *config, const char *key, double *value);
/* List of whole numbers, or of any; *count may be 0, and is for a key without a value. */
const int64_t *sntk_config_ints(const sntk_config *config, const char *key, int64_t *count);
const double *sntk_config_reals(const sntk_config *config, const char *key, int64_t *count);

/* Where the value came from: "file.yaml:3:12", "--set", "--seed", "default"; of an axis of the grid, where its list is;
 * without a value, the file or "command line". Valid until the key is set again or config freed. */
const char *sntk_config_origin(const sntk_config *config, const char *key);

/* Fails with "<origin>: <key>: <text>"; for checks across keys, made by the commands. */
sntk_status sntk_config_error(sntk_context *ctx, const sntk_config *config, const char *key, sntk_status status,
                              const char *format, ...) __attribute__((format(printf, 5, 6)));

/* Fails with SNTK_ERR_CONFIG, naming the file, the key, its help line and what would be right, unless the key has a
 * value or is an axis of the grid. */
sntk_status sntk_config_require(sntk_context *ctx, const sntk_config *config, const char *key);

/* The grid: axes in file order, those of --set after them, the last axis fastest; 1 point without one. -1 if the
 * product overflows. */
int64_t sntk_config_grid_count(const sntk_config *config);
int64_t sntk_config_grid_axes(const sntk_config *config);
/* Name and number of values of an axis. */
const char *sntk_config_grid_axis(const sntk_config *config, int64_t axis, int64_t *values);
/* A configuration with that point's values in place of the base's, with their origins, and no grid. SNTK_ERR_ARGUMENT
 * out of range, SNTK_ERR_SHAPE where the number of points overflows. */
sntk_status sntk_config_grid_point(sntk_context *ctx, const sntk_config *config, int64_t index, sntk_config **point);
/* "network.activation=softmax,seed=1" for a point, in canonical text; "-" without a grid. NULL without memory. Free
 * with free(). */
char *sntk_config_grid_id(const sntk_config *config, int64_t index);

/* All keys that have a value, nested by section in the order of the table, resolved; the grid, where there is one,
 * under "grid" as
 * {"network.width": [..]}. New reference; NULL without memory. */
json_t *sntk_config_to_json(const sntk_config *config);

/* The table for --help: a line a key (name, type or choices, default, help), with sections as headings. */
void sntk_config_print_schema(FILE *file);

#endif
