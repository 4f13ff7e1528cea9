/**
 * @file memory.h
 * @brief What memory.c and cgroup.c read; tests give them a folder of made-up files.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SOFTNTK_MEMORY_H
#define SOFTNTK_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "core/core.h"

/* First whole number after the word `key` in a file of "key number" lines, or the file's first number for key "". -1:
 * not there. */
int64_t sntk_read_number(const char *path, const char *key);

/* Bytes that the control groups of this process leave it, INT64_MAX where none has a limit. `root` stands before every
 * path that is read: "", or in a test a folder with a /proc of its own. */
int64_t sntk_cgroup_memory(const char *root);

#endif
