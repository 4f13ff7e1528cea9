/**
 * @file cmd_info.c
 * @brief softntk info: what this build is and what this machine offers.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/app.h"

static const char *const backends[] = {"cpu", "ref", "cuda"};

/* Could a backend not be asked? What a device lacks is an answer. */
static bool unanswered(const char *name, sntk_status status) {
  return status == SNTK_ERR_IO || (status == SNTK_ERR_MEMORY && strcmp(name, "cuda") != 0);
}

/* Opens a backend in a context of its own; its device, or why it is not available. */
static sntk_status probe(app *a, const char *name, const sntk_context_options *chosen, json_t *list) {
  sntk_context *ctx;
  sntk_context_options options = *chosen;
  options.backend = name;
  if (sntk_context_create(&ctx) != SNTK_OK) return sntk_fail(a->ctx, SNTK_ERR_MEMORY, "no memory for a context");
  const sntk_status opened = sntk_context_open(ctx, &options);
  sntk_status status = unanswered(name, opened) ? sntk_fail(a->ctx, opened, "%s", sntk_context_error(ctx)) : SNTK_OK;
  sntk_record *entry = sntk_record_create();
  sntk_record_text(entry, "name", name);
  sntk_record_bool(entry, "available", opened == SNTK_OK);
  sntk_record_text(entry, opened == SNTK_OK ? "device" : "reason",
                   opened == SNTK_OK ? sntk_context_device(ctx) : sntk_context_error(ctx));
  if (opened == SNTK_OK) sntk_record_int(entry, "threads", sntk_context_threads(ctx));
  if (status == SNTK_OK && (!sntk_record_complete(entry) || json_array_append(list, sntk_record_members(entry)) != 0))
    status = sntk_fail(a->ctx, SNTK_ERR_MEMORY, "no memory for what the backends answer");
  sntk_record_free(entry);
  sntk_context_free(ctx);
  return status;
}

/* An array of what each backend answers. New reference. */
static sntk_status probe_all(app *a, const sntk_context_options *options, json_t **list) {
  *list = json_array();
  if (!*list) return sntk_fail(a->ctx, SNTK_ERR_MEMORY, "no memory for what the backends answer");
  sntk_status status = SNTK_OK;
  for (size_t i = 0; i < sizeof backends / sizeof *backends && status == SNTK_OK; i++)
    status = probe(a, backends[i], options, *list);
  if (status != SNTK_OK) json_decref(*list);
  return status;
}

static sntk_status run(app *a) {
  /* The choice made on the command line must work: asking for a backend that is not there is exit 3. */
  SNTK_TRY(app_open_backend(a));
  const int64_t available = sntk_context_memory(a->ctx);
  if (available < 0) return SNTK_ERR_DEVICE; /* the reason is the context's error */
  const sntk_context_options options = {.backend = NULL,
                                        .device = a->options.device,
                                        .threads = (int)sntk_config_int(a->config, "threads"),
                                        .memory_limit = a->options.memory_limit};
  json_t *list;
  SNTK_TRY(probe_all(a, &options, &list));
  if (a->options.json) {
    sntk_record *info = sntk_record_create();
    sntk_record_text(info, "kind", "info");
    sntk_record_text(info, "version", sntk_version());
    sntk_record_text(info, "git_commit", sntk_git_commit());
    sntk_record_text(info, "backend", sntk_context_backend(a->ctx));
    sntk_record_int(info, "threads", sntk_context_threads(a->ctx));
    sntk_record_int(info, "memory_available_bytes", available);
    sntk_record_json(info, "backends", list);
    return app_print_record(a, info);
  }
  if (!a->options.quiet) {
    char memory[32];
    app_line(stdout, "softntk %s, commit %s", sntk_version(), sntk_git_commit());
    app_line(stdout, "backend %s, %d thread%s, memory available %s", sntk_context_backend(a->ctx),
             sntk_context_threads(a->ctx), sntk_context_threads(a->ctx) == 1 ? "" : "s",
             sntk_format_bytes(available, memory));
    size_t index;
    json_t *entry;
    json_array_foreach(list, index, entry) {
      const bool there = json_is_true(json_object_get(entry, "available"));
      app_line(stdout, "  %-4s  %s: %s", app_text(entry, "name"), there ? "available" : "not available",
               app_text(entry, there ? "device" : "reason"));
    }
  }
  json_decref(list);
  return SNTK_OK;
}

const app_command app_cmd_info = {"info", "What this build is and what this machine offers.", false, run};
