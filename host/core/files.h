/**
 * @file files.h
 * @brief Files that a program writes: opened apart from the standard descriptors, written whole, synced, put in place.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SOFTNTK_FILES_H
#define SOFTNTK_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/core.h"

/* Descriptors 0 to 2 that were closed, occupied while something is opened by a library that takes the lowest one. What
 * the host prints would go into that file otherwise. */
typedef struct sntk_standard {
  int held[3], count;
} sntk_standard;
void sntk_standard_hold(sntk_standard *standard);
void sntk_standard_release(const sntk_standard *standard);

/* open() with mode 0666, closed on exec, never descriptor 0, 1 or 2; -1 with errno. */
int sntk_file_descriptor(const char *path, int flags);

/* A new empty file of this name, open to read and write. What had the name (a killed run's leftover, a link) loses it
 * and is not written to. -1 with errno. */
int sntk_file_create(const char *path);

/* Is it this file that has the name now? A link that leads to it is another file. Where it is not, errno is 0 or says
 * why nobody knows. */
bool sntk_file_is_at(int fd, const char *path);

/* fsync over interruptions; false with errno. */
bool sntk_file_sync(int fd);

/* True once all is written; false with errno. */
bool sntk_file_write(int fd, const char *text, size_t size);

/* All of a file, with a NUL after it; errors name `path`. Free with free(). */
sntk_status sntk_file_read(sntk_context *ctx, int fd, const char *path, char **text, int64_t *length);

/* Makes the directory entry of `path` durable. */
sntk_status sntk_sync_parent(sntk_context *ctx, const char *path);

/* A directory and its parents; *made (kept where it is true) tells whether the last one was not there. */
sntk_status sntk_make_directories(sntk_context *ctx, const char *directory, bool *made);

/* Puts a finished temporary file of the same directory, open as `fd`, in the place of `path`: sync, rename, sync of the
 * directory. */
sntk_status sntk_replace_file(sntk_context *ctx, int fd, const char *temporary, const char *path);

/* The same where nothing has the name yet; *taken, and nothing done, where something has it by now. A file system
 * without links cannot tell, and replaces it. */
sntk_status sntk_place_file(sntk_context *ctx, int fd, const char *temporary, const char *path, bool *taken);

/* printf into memory of its own; NULL without memory. */
char *sntk_format(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
