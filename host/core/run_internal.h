/**
 * @file run_internal.h
 * @brief A run, for the files that make it: run.c its directory and points, run_document.c run.json.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SOFTNTK_RUN_INTERNAL_H
#define SOFTNTK_RUN_INTERNAL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/core.h"
#include "softntk/run.h"

typedef struct run_point {
  char *text;
  const char *file; /* name of the points file it was read from, or that it was added to */
  int64_t line;     /* 0 where it was added by us */
  const char *seen; /* the file read last that holds it */
} run_point;

typedef struct name_list {
  char **names;
  size_t count;
} name_list;

struct sntk_run {
  char *directory, *own_name, *own_path, *json_path, *temporary;
  char *command;
  json_t *config;
  char *notice;
  int shard_index, shard_count;
  char *share;      /* "I/N" */
  int64_t items;    /* that are dealt to the shards; 0 where nobody said */
  bool ours;        /* not sharded, and nothing was there when it was opened */
  bool made;        /* the directory was not there */
  bool begun;       /* run.json is written */
  bool created;     /* so was our file of points */
  bool kept;        /* a file of results was put in place */
  json_t *document; /* run.json as this process sees it */
  json_t *results;  /* its member "results" */
  char *unfinished; /* what other shards owe, once this one has finished */
  double wall_before, started;
  name_list files;
  run_point *points;
  int64_t count, capacity;
  json_t *index; /* kind -> id -> number of the point: looked up without memory of its own */
  int64_t twice; /* lines that repeat another of their file */
  int fd;
  bool locked;    /* false where the file system has no locks */
  int64_t length; /* bytes of whole lines in our file */
  bool torn;      /* up to torn_bytes beyond `length` could not be cut off yet */
  size_t torn_bytes;
};

sntk_status sntk_run_no_memory(sntk_context *ctx, const char *path);

/* The names in a directory that are wanted, sorted. */
sntk_status sntk_run_list(sntk_context *ctx, const char *directory, bool (*wanted)(const char *name), name_list *list);
void sntk_run_names_free(name_list *list);

/* Reads the run.json that is there, if any (*previous NULL otherwise), and checks that it is of the same command and
 * configuration. */
sntk_status sntk_run_read_previous(sntk_context *ctx, const sntk_run *run, json_t **previous);

/* Makes run->document; `previous` may be NULL. */
sntk_status sntk_run_make_document(sntk_context *ctx, sntk_run *run, const json_t *previous);

/* Writes run.json with this shard in a state: "running", or how it ended. `whole` is the run's status where every shard
 * is done. */
sntk_status sntk_run_write_document(sntk_context *ctx, sntk_run *run, const char *state, const char *whole);

#endif
