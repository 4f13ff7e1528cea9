/**
 * @file config_internal.h
 * @brief What config.c (schema, values, files) and config_grid.c (axes and points) share.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SOFTNTK_CONFIG_INTERNAL_H
#define SOFTNTK_CONFIG_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>
#include <yaml.h>

#include "core/config.h"

typedef enum sntk_config_type {
  SNTK_CONFIG_NAME, /* text that can name a directory */
  SNTK_CONFIG_PATH, /* stored joined with the folder it is relative to */
  SNTK_CONFIG_INT,
  SNTK_CONFIG_REAL,
  SNTK_CONFIG_BOOL,
  SNTK_CONFIG_CHOICE,         /* a word of `choices` */
  SNTK_CONFIG_REAL_OR_CHOICE, /* a number in the range, or a word of `choices` */
  SNTK_CONFIG_INTS,           /* a list of whole numbers, each in the range */
  SNTK_CONFIG_REALS           /* a list of numbers, each in the range */
} sntk_config_type;

/* A row of the schema table. */
typedef struct sntk_config_row {
  const char *key;
  sntk_config_type type;
  int64_t int_min, int_max;  /* INT, INTS */
  double min, max;           /* REAL, REALS, REAL_OR_CHOICE */
  bool min_open, max_open;   /* the bound itself is outside */
  bool no_axis;              /* cannot be an axis of the grid */
  const char *choices;       /* "softmax|relu|exp": a word's index is the value of its C enumerator */
  const char *default_value; /* read as a value given would be; NULL: none */
  const char *follows;       /* key whose value stands in where this one is not given; NULL: none */
  const char *default_note;  /* for --help, where no default_value tells it; NULL: none to tell */
  const char *help;
} sntk_config_row;

typedef struct sntk_config_value {
  char *text;      /* canonical text, equal only for equal values; NULL: no value */
  char *origin;    /* "file.yaml:3:12", "--set", "default" */
  bool given;      /* not the default */
  bool is_number;  /* REAL_OR_CHOICE: a number, not a word */
  int64_t integer; /* INT; BOOL 0 or 1; CHOICE and REAL_OR_CHOICE: the word's index (the number of words where it is a
                      number) */
  double real;     /* REAL, REAL_OR_CHOICE */
  int64_t *ints;   /* INTS; NULL where count is 0 */
  double *reals;   /* REALS; NULL where count is 0 */
  int64_t count;
} sntk_config_value;

typedef struct sntk_config_axis {
  const sntk_config_row *row;
  char *origin;
  sntk_config_value *values;
  int64_t count;
} sntk_config_axis;

struct sntk_config {
  char *label;     /* the file as messages name it, or "command line" */
  char *directory; /* what relative paths of the file are relative to, with its slash; "" for the working directory */
  sntk_config_value *values; /* one a row of the table */
  sntk_config_axis *axes;
  int64_t axis_count;
};

/* Where a text being read came from. */
typedef struct sntk_config_source {
  const char *label;     /* file, or option such as "--set" */
  const char *directory; /* as in sntk_config */
  bool marked;           /* a file: positions are given as label:line:column */
} sntk_config_source;

enum {
  SNTK_CONFIG_SHOW_CHARS = 96,   /* a value or key in a message, shortened and printable */
  SNTK_CONFIG_LABEL_CHARS = 256, /* a file's name in a message */
  SNTK_CONFIG_WHERE_CHARS = SNTK_CONFIG_LABEL_CHARS + 48
};

/* The table. */
int64_t sntk_config_row_count(void);
const sntk_config_row *sntk_config_row_at(int64_t index);
/* NULL where there is no such key. */
const sntk_config_row *sntk_config_row_find(const char *key);
/* Values of a configuration are in the order of the table. */
int64_t sntk_config_row_index(const sntk_config_row *row);

/* "file.yaml:3:12" or "--set" into `where` (SNTK_CONFIG_WHERE_CHARS); returns where. Marks count from 0, messages
 * from 1. */
const char *sntk_config_where(const sntk_config_source *source, yaml_mark_t mark, char *where);
/* What was found, for a message, into `shown` (SNTK_CONFIG_SHOW_CHARS): the text, in quotes where the file has them, "a
 * list", ... */
const char *sntk_config_describe(const yaml_node_t *node, char *shown);

/* Fails with "<where>: <key>: <text>", SNTK_ERR_CONFIG. */
sntk_status sntk_config_refuse(sntk_context *ctx, const char *where, const char *key, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* Fails because `full` ("network.widht") is not in the table; suggests what is. `key` is how the message names it. */
sntk_status sntk_config_refuse_unknown(sntk_context *ctx, const char *where, const char *key, const char *full);
sntk_status sntk_config_no_memory(sntk_context *ctx);

/* The text of a mapping's key, which must be a scalar, not a merge key and not there twice. `prefix` ("network.", "")
 * is for messages. */
sntk_status sntk_config_key_text(sntk_context *ctx, const sntk_config_source *source, yaml_document_t *document,
                                 const yaml_node_t *mapping, int64_t pair, const char *prefix, const char **text);

/* Reads a node as a value of `row`. `key` is how messages name it. On failure *value holds nothing. */
sntk_status sntk_config_value_read(sntk_context *ctx, const sntk_config_source *source, yaml_document_t *document,
                                   const yaml_node_t *node, const char *key, const sntk_config_row *row,
                                   sntk_config_value *value);
sntk_status sntk_config_value_copy(sntk_context *ctx, const sntk_config_value *from, sntk_config_value *to);
void sntk_config_value_clear(sntk_config_value *value);
/* New reference; NULL where there is no memory. */
json_t *sntk_config_value_json(const sntk_config_row *row, const sntk_config_value *value);

/* A copy with the same values and no grid. */
sntk_status sntk_config_clone(sntk_context *ctx, const sntk_config *config, sntk_config **clone);

/* Reads a mapping of axes ("grid:" of a file). */
sntk_status sntk_config_grid_read(sntk_context *ctx, sntk_config *config, const sntk_config_source *source,
                                  yaml_document_t *document, const yaml_node_t *mapping);
/* Reads one axis; replaces the axis of that key in its place, else adds one at the end. `where` is that of the key. */
sntk_status sntk_config_grid_set(sntk_context *ctx, sntk_config *config, const sntk_config_source *source,
                                 yaml_document_t *document, const yaml_node_t *node, const char *where,
                                 const char *key);
/* NULL where the key is no axis. */
const sntk_config_axis *sntk_config_grid_find(const sntk_config *config, const sntk_config_row *row);
void sntk_config_grid_remove(sntk_config *config, const sntk_config_row *row);
void sntk_config_grid_clear(sntk_config *config);
/* The axes as {"network.width": [..]}. New reference; NULL where there is no memory. */
json_t *sntk_config_grid_json(const sntk_config *config);

#endif
