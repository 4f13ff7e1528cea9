/**
 * @file h5_internal.h
 * @brief What the two sides of writing an HDF5 file say to each other: h5.c in this process, h5_write.c in a child.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SOFTNTK_H5_INTERNAL_H
#define SOFTNTK_H5_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

/* To the child; each is answered. */
typedef enum h5_action {
  H5_MAKE,  /* a dataset of rows x cols (cols 0: a vector) */
  H5_STORE, /* columns [first, first + count) of it: rows x count elements follow; of a vector count is 1 */
  H5_FINISH /* the file is whole: close it */
} h5_action;

/* The name follows, then what is to be stored. */
typedef struct h5_order {
  h5_action action;
  char type; /* 'd', 'f', 'l' (int64) and 'b' (int8) */
  int64_t rows, cols, first, count, name_chars;
} h5_order;

enum { H5_REASON_CHARS = 256 };

/* From the child: first that the file is there, then what became of each order. */
typedef struct h5_answer {
  bool done;
  char reason[H5_REASON_CHARS]; /* where it is not */
} h5_answer;

/* Runs in the child: the file is descriptor *(const int *)user, empty. */
void sntk_h5_serve(int link, void *user);

static inline int64_t sntk_h5_type_size(char type) { return type == 'f' ? 4 : type == 'b' ? 1 : 8; }

#endif
