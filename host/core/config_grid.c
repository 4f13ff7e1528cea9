/**
 * @file config_grid.c
 * @brief The grid of a sweep: axes, the points of their product, and each point's name.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>

#include "core/config_internal.h"

static void axis_clear(sntk_config_axis *axis) {
  for (int64_t i = 0; i < axis->count; i++) sntk_config_value_clear(&axis->values[i]);
  free(axis->values);
  free(axis->origin);
  *axis = (sntk_config_axis){0};
}

void sntk_config_grid_clear(sntk_config *config) {
  for (int64_t i = 0; i < config->axis_count; i++) axis_clear(&config->axes[i]);
  free(config->axes);
  config->axes = NULL;
  config->axis_count = 0;
}

const sntk_config_axis *sntk_config_grid_find(const sntk_config *config, const sntk_config_row *row) {
  for (int64_t i = 0; i < config->axis_count; i++)
    if (config->axes[i].row == row) return &config->axes[i];
  return NULL;
}

void sntk_config_grid_remove(sntk_config *config, const sntk_config_row *row) {
  const sntk_config_axis *axis = sntk_config_grid_find(config, row);
  if (!axis) return;
  const int64_t at = axis - config->axes;
  axis_clear(&config->axes[at]);
  config->axis_count--;
  memmove(&config->axes[at], &config->axes[at + 1], (size_t)(config->axis_count - at) * sizeof *config->axes);
}

/* ---- reading ------------------------------------------------------------------------------------ */

/* By text, then by place: of equal values the first in the list comes first. */
static int compare_values(const void *a, const void *b) {
  const sntk_config_value *x = *(const sntk_config_value *const *)a, *y = *(const sntk_config_value *const *)b;
  const int order = strcmp(x->text, y->text);
  return order ? order : (x > y) - (x < y);
}

/* The first value that is in the list before, with the one that it repeats; *again NULL where there is none. */
static sntk_status find_repeated(sntk_context *ctx, const sntk_config_axis *axis, const sntk_config_value **first,
                                 const sntk_config_value **again) {
  *first = *again = NULL;
  const sntk_config_value **sorted = malloc((size_t)axis->count * sizeof *sorted);
  if (!sorted) return sntk_config_no_memory(ctx);
  for (int64_t i = 0; i < axis->count; i++) sorted[i] = &axis->values[i];
  qsort(sorted, (size_t)axis->count, sizeof *sorted, compare_values);
  for (int64_t i = 1; i < axis->count; i++) {
    if (strcmp(sorted[i - 1]->text, sorted[i]->text) || (*again && sorted[i] > *again)) continue;
    *first = sorted[i - 1];
    *again = sorted[i];
  }
  free(sorted);
  return SNTK_OK;
}

/* Fills an axis whose row is set; what it holds on failure is cleared by the caller. */
static sntk_status axis_read(sntk_context *ctx, const sntk_config_source *source, yaml_document_t *document,
                             const yaml_node_t *node, const char *key, sntk_config_axis *axis) {
  char where[SNTK_CONFIG_WHERE_CHARS];
  const yaml_node_item_t *items = node->data.sequence.items.start;
  const int64_t count = node->data.sequence.items.top - items;
  axis->origin = strdup(sntk_config_where(source, node->start_mark, where));
  axis->values = calloc((size_t)count, sizeof *axis->values);
  if (!axis->origin || !axis->values) return sntk_config_no_memory(ctx);
  for (axis->count = 0; axis->count < count; axis->count++) {
    const yaml_node_t *item = yaml_document_get_node(document, items[axis->count]);
    SNTK_TRY(sntk_config_value_read(ctx, source, document, item, key, axis->row, &axis->values[axis->count]));
  }
  const sntk_config_value *first, *again;
  SNTK_TRY(find_repeated(ctx, axis, &first, &again));
  if (again)
    return sntk_config_refuse(ctx, again->origin, key,
                              "%.80s%s is in the list twice (value %lld and value %lld); keep one of the two",
                              again->text, strlen(again->text) > 80 ? "..." : "", (long long)(first - axis->values) + 1,
                              (long long)(again - axis->values) + 1);
  return SNTK_OK;
}

/* Puts an axis where one of the same key is, else at the end. The configuration owns it afterwards. */
static sntk_status axis_put(sntk_context *ctx, sntk_config *config, const sntk_config_axis *axis) {
  const sntk_config_axis *old = sntk_config_grid_find(config, axis->row);
  int64_t at = config->axis_count;
  if (old) {
    at = old - config->axes;
    axis_clear(&config->axes[at]);
  } else {
    sntk_config_axis *more = realloc(config->axes, (size_t)(at + 1) * sizeof *more);
    if (!more) return sntk_config_no_memory(ctx);
    config->axes = more;
    config->axis_count++;
  }
  config->axes[at] = *axis;
  return SNTK_OK;
}

sntk_status sntk_config_grid_set(sntk_context *ctx, sntk_config *config, const sntk_config_source *source,
                                 yaml_document_t *document, const yaml_node_t *node, const char *where,
                                 const char *key) {
  char name[SNTK_CONFIG_SHOW_CHARS], shown[SNTK_CONFIG_SHOW_CHARS], at[SNTK_CONFIG_WHERE_CHARS];
  sntk_config_axis axis = {.row = sntk_config_row_find(key)};
  snprintf(name, sizeof name, "grid.%s", key);
  if (axis.row->no_axis)
    return sntk_config_refuse(ctx, where, name, "cannot be an axis of the grid; give %s one value outside the grid",
                              key);
  sntk_config_where(source, node->start_mark, at);
  if (node->type != YAML_SEQUENCE_NODE) {
    const bool empty = node->type == YAML_SCALAR_NODE && !node->data.scalar.length;
    return sntk_config_refuse(ctx, at, name,
                              "%s is not a list of values; give one in brackets, such as %s: [VALUE, VALUE]",
                              empty ? "nothing" : sntk_config_describe(node, shown), key);
  }
  if (node->data.sequence.items.top == node->data.sequence.items.start)
    return sntk_config_refuse(ctx, at, name, "[] is an empty list; give at least one value, or leave the axis out");
  sntk_status status = axis_read(ctx, source, document, node, name, &axis);
  if (status == SNTK_OK) status = axis_put(ctx, config, &axis);
  if (status != SNTK_OK) axis_clear(&axis);
  return status;
}

sntk_status sntk_config_grid_read(sntk_context *ctx, sntk_config *config, const sntk_config_source *source,
                                  yaml_document_t *document, const yaml_node_t *mapping) {
  const yaml_node_pair_t *pairs = mapping->data.mapping.pairs.start;
  const int64_t count = mapping->data.mapping.pairs.top - pairs;
  for (int64_t i = 0; i < count; i++) {
    char where[SNTK_CONFIG_WHERE_CHARS], shown[SNTK_CONFIG_SHOW_CHARS], name[SNTK_CONFIG_SHOW_CHARS + 8];
    const char *key;
    SNTK_TRY(sntk_config_key_text(ctx, source, document, mapping, i, "grid.", &key));
    const yaml_node_t *node = yaml_document_get_node(document, pairs[i].key);
    sntk_config_where(source, node->start_mark, where);
    if (!sntk_config_row_find(key)) {
      snprintf(name, sizeof name, "grid.%s", sntk_config_describe(node, shown));
      return sntk_config_refuse_unknown(ctx, where, name, key);
    }
    SNTK_TRY(sntk_config_grid_set(ctx, config, source, document, yaml_document_get_node(document, pairs[i].value),
                                  where, key));
  }
  return SNTK_OK;
}

/* ---- points ------------------------------------------------------------------------------------- */

int64_t sntk_config_grid_count(const sntk_config *config) {
  int64_t count = 1;
  for (int64_t i = 0; i < config->axis_count; i++) count = sntk_size_mul(count, config->axes[i].count);
  return count;
}

int64_t sntk_config_grid_axes(const sntk_config *config) { return config->axis_count; }

const char *sntk_config_grid_axis(const sntk_config *config, int64_t axis, int64_t *values) {
  *values = config->axes[axis].count;
  return config->axes[axis].row->key;
}

/* An axis's value at a point: the number of points that share it is the product of the axes after it. */
static const sntk_config_value *value_at(const sntk_config *config, int64_t axis, int64_t index) {
  for (int64_t i = config->axis_count - 1; i > axis; i--) index /= config->axes[i].count;
  return &config->axes[axis].values[index % config->axes[axis].count];
}

sntk_status sntk_config_grid_point(sntk_context *ctx, const sntk_config *config, int64_t index, sntk_config **point) {
  const int64_t count = sntk_config_grid_count(config);
  *point = NULL;
  if (count < 0)
    return sntk_fail(ctx, SNTK_ERR_SHAPE, "the grid has more than 2^63 - 1 points; take values or axes out of it");
  if (index < 0 || index >= count)
    return sntk_fail(ctx, SNTK_ERR_ARGUMENT, "point %lld is not in the grid; it has %lld points, from 0",
                     (long long)index, (long long)count);
  SNTK_TRY(sntk_config_clone(ctx, config, point));
  for (int64_t i = 0; i < config->axis_count; i++) {
    sntk_config_value *value = &(*point)->values[sntk_config_row_index(config->axes[i].row)];
    sntk_config_value_clear(value);
    const sntk_status status = sntk_config_value_copy(ctx, value_at(config, i, index), value);
    if (status == SNTK_OK) continue;
    sntk_config_free(*point);
    *point = NULL;
    return status;
  }
  return SNTK_OK;
}

char *sntk_config_grid_id(const sntk_config *config, int64_t index) {
  size_t size = sizeof "-", used = 0;
  for (int64_t i = 0; i < config->axis_count; i++)
    size += strlen(config->axes[i].row->key) + strlen(value_at(config, i, index)->text) + strlen("=,");
  char *id = malloc(size);
  if (!id) return NULL;
  snprintf(id, size, "-");
  for (int64_t i = 0; i < config->axis_count; i++)
    used += (size_t)snprintf(id + used, size - used, "%s%s=%s", i ? "," : "", config->axes[i].row->key,
                             value_at(config, i, index)->text);
  return id;
}

json_t *sntk_config_grid_json(const sntk_config *config) {
  json_t *grid = json_object();
  bool complete = grid != NULL;
  for (int64_t i = 0; complete && i < config->axis_count; i++) {
    const sntk_config_axis *axis = &config->axes[i];
    json_t *values = json_array();
    complete = values != NULL;
    for (int64_t k = 0; complete && k < axis->count; k++)
      complete = !json_array_append_new(values, sntk_config_value_json(axis->row, &axis->values[k]));
    if (complete)
      complete = !json_object_set_new(grid, axis->row->key, values);
    else
      json_decref(values);
  }
  if (complete) return grid;
  json_decref(grid);
  return NULL;
}
