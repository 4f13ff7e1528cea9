/**
 * @file files.h
 * @brief What tests of readers share: a folder of their own, files in it, and failures with a text.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SOFTNTK_TESTS_FILES_H
#define SOFTNTK_TESTS_FILES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data/loaders.h"

enum { FILES_PATH_CHARS = 512 };

static sntk_context *files_ctx;
static char files_folder[FILES_PATH_CHARS / 2];

/* A path in the folder; good until seven more are made. */
static inline const char *in_folder(const char *name) {
  static char paths[8][FILES_PATH_CHARS];
  static int next;
  char *path = paths[next++ % 8];
  snprintf(path, FILES_PATH_CHARS, "%s/%s", files_folder, name);
  return path;
}

static inline const char *write_file(const char *name, const void *bytes, size_t size) {
  const char *path = in_folder(name);
  FILE *file = fopen(path, "wb");
  assert_non_null(file);
  assert_int_equal(fwrite(bytes, 1, size, file), size);
  assert_int_equal(fclose(file), 0);
  return path;
}

/* The last call failed with this status and a text that has all parts ('|' between them) and one line. */
static inline void check_failure(sntk_status got, sntk_status wanted, const char *parts, const char *what) {
  const char *text = got == SNTK_OK ? "" : sntk_context_error(files_ctx);
  if (got != wanted)
    fail_msg("%s: status %s, not %s, for \"%s\" (%s)", what, sntk_status_name(got), sntk_status_name(wanted), parts,
             text);
  if (strchr(text, '\n')) fail_msg("%s: more than one line: %s", what, text);
  char copy[512];
  snprintf(copy, sizeof copy, "%s", parts);
  char *rest = NULL;
  for (char *part = strtok_r(copy, "|", &rest); part; part = strtok_r(NULL, "|", &rest))
    if (!strstr(text, part)) fail_msg("%s: \"%s\" is not in \"%s\"", what, part, text);
}

static inline void check_ok(sntk_status status, const char *what) {
  if (status != SNTK_OK) fail_msg("%s: %s: %s", what, sntk_status_name(status), sntk_context_error(files_ctx));
}

static inline int files_set_up(void **state) {
  (void)state;
  const char *base = getenv("TMPDIR");
  snprintf(files_folder, sizeof files_folder, "%s/softntk_test_files_XXXXXX", base && *base ? base : "/tmp");
  return !mkdtemp(files_folder) || sntk_context_create(&files_ctx) != SNTK_OK;
}

/* A file, or a folder and all that is in it. */
static inline int files_remove(const char *path) {
  DIR *list = remove(path) == 0 ? NULL : opendir(path);
  if (!list) return access(path, F_OK) == 0;
  for (const struct dirent *entry; (entry = readdir(list));) {
    char inner[4096];
    if (snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name) >= (int)sizeof inner) continue;
    if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) files_remove(inner);
  }
  closedir(list);
  return remove(path) != 0;
}

static inline int files_tear_down(void **state) {
  (void)state;
  sntk_context_free(files_ctx);
  return files_remove(files_folder);
}

#endif
