/**
 * @file json.c
 * @brief JSON values as a run's files hold them: 17 digits, null where a number is not finite, keys in insertion order.
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>

#include "core/output.h"

json_t *sntk_json_real(double value) { return isfinite(value) ? json_real(value) : json_null(); }

char *sntk_json_text(const json_t *value) {
  return json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
}
