/**
 * @file status.c
 * @brief Names and exit codes of statuses.
 *
 * SPDX-License-Identifier: MIT
 */
#include "softntk/status.h"

#include <stddef.h>

static const struct {
  const char *name;
  int exit_code;
} table[] = {
    [SNTK_OK] = {"ok", 0},
    [SNTK_ERR_ARGUMENT] = {"argument", 2},
    [SNTK_ERR_CONFIG] = {"configuration", 2},
    [SNTK_ERR_DATA] = {"data", 2},
    [SNTK_ERR_SHAPE] = {"shape", 2},
    [SNTK_ERR_IO] = {"input/output", 2},
    [SNTK_ERR_EXISTS] = {"exists", 2},
    [SNTK_ERR_BACKEND] = {"backend", 3},
    [SNTK_ERR_DEVICE] = {"device", 3},
    [SNTK_ERR_MEMORY] = {"memory", 4},
    [SNTK_ERR_OVERFLOW] = {"overflow", 5},
    [SNTK_ERR_DIVERGED] = {"diverged", 5},
    [SNTK_ERR_NUMERICAL] = {"numerical", 5},
    [SNTK_ERR_INTERRUPTED] = {"interrupted", 75},
    [SNTK_ERR_INTERNAL] = {"internal", 1},
};

static int known(sntk_status status) { return (int)status >= 0 && (size_t)status < sizeof table / sizeof *table; }

const char *sntk_status_name(sntk_status status) { return known(status) ? table[status].name : "unknown"; }

int sntk_status_exit_code(sntk_status status) { return known(status) ? table[status].exit_code : 1; }
