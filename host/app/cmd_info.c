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

/* Opens a backend in a context of its own; its device, or why it is not available. */
static json_t *probe(const app *a, const char *name, const sntk_context_options *chosen) {
  sntk_context *ctx;
  sntk_context_options options = *chosen;
  options.backend = name;
  json_t *entry = json_pack("{s:s}", "name", name);
  if (!entry || sntk_context_create(&ctx) != SNTK_OK) return entry;
  const sntk_status status = sntk_context_open(ctx, &options);
  (void)a;
  json_object_set_new(entry, "available", json_boolean(status == SNTK_OK));
  json_object_set_new(entry, status == SNTK_OK ? "device" : "reason",
                      json_string(status == SNTK_OK ? sntk_context_device(ctx) : sntk_context_error(ctx)));
  if (status == SNTK_OK) json_object_set_new(entry, "threads", json_integer(sntk_context_threads(ctx)));
  sntk_context_free(ctx);
  return entry;
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
  json_t *list = json_array();
  for (size_t i = 0; i < sizeof backends / sizeof *backends; i++)
    json_array_append_new(list, probe(a, backends[i], &options));
  json_t *info =
      json_pack("{s:s, s:s, s:s, s:s, s:i, s:I, s:o}", "kind", "info", "version", sntk_version(), "git_commit",
                sntk_git_commit(), "backend", sntk_context_backend(a->ctx), "threads", sntk_context_threads(a->ctx),
                "memory_available_bytes", (json_int_t)available, "backends", list);
  if (!info) return sntk_fail(a->ctx, SNTK_ERR_MEMORY, "no memory for the answer");
  if (a->options.json) {
    char *text = sntk_json_text(info);
    if (text) printf("%s\n", text);
    free(text);
  } else if (!a->options.quiet) {
    char memory[32];
    printf("softntk %s, commit %s\n", sntk_version(), sntk_git_commit());
    printf("backend %s, %d thread%s, memory available %s\n", sntk_context_backend(a->ctx), sntk_context_threads(a->ctx),
           sntk_context_threads(a->ctx) == 1 ? "" : "s", sntk_format_bytes(available, memory));
    size_t index;
    json_t *entry;
    json_array_foreach(list, index, entry) {
      const bool there = json_is_true(json_object_get(entry, "available"));
      printf("  %-4s  %s: %s\n", app_text(entry, "name"), there ? "available" : "not available",
             app_text(entry, there ? "device" : "reason"));
    }
  }
  json_decref(info);
  return SNTK_OK;
}

const app_command app_cmd_info = {"info", "What this build is and what this machine offers.", false, run};
