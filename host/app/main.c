/**
 * @file main.c
 * @brief The program softntk.
 *
 * SPDX-License-Identifier: MIT
 */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/app.h"
#include "core/files.h"

static sntk_status load_config(app *a) {
  const app_options *o = &a->options;
  SNTK_TRY(sntk_config_load(a->ctx, o->config_path, &a->config));
  for (int i = 0; i < o->set_count; i++) SNTK_TRY(sntk_config_set(a->ctx, a->config, o->sets[i]));
  for (int i = 0; i < o->key_count; i++)
    SNTK_TRY(sntk_config_set_value(a->ctx, a->config, o->keys[i].key, o->keys[i].value, o->keys[i].option));
  const struct {
    const char *key, *value, *origin;
  } overrides[] = {{"backend", o->backend, "--backend"},
                   {"precision", o->precision, "--precision"},
                   {"seed", o->seed, "--seed"},
                   {"threads", o->threads, "--threads"}};
  for (size_t i = 0; i < sizeof overrides / sizeof *overrides; i++)
    if (overrides[i].value)
      SNTK_TRY(sntk_config_set_value(a->ctx, a->config, overrides[i].key, overrides[i].value, overrides[i].origin));
  return SNTK_OK;
}

static sntk_status run(app *a, int argc, char **argv) {
  SNTK_TRY(app_parse(a, argc, argv));
  if (a->options.version) {
    printf("softntk %s (%s)\n", sntk_version(), sntk_git_commit());
    return SNTK_OK;
  }
  if (a->options.help) {
    app_print_help(a->options.command);
    return SNTK_OK;
  }
  SNTK_TRY(load_config(a));
  if (a->options.command->needs_config) SNTK_TRY(app_check_keys(a));
  app_catch_signals(a);
  SNTK_TRY(a->options.command->run(a));
  if (!a->untold) return SNTK_OK;
  return sntk_fail(a->ctx, SNTK_ERR_MEMORY, "no memory for all that was to be printed; what was computed is kept");
}

/* OpenMP and BLAS say what they lack and end the process where they find no memory or no thread. Points that were
 * recorded stay, as in a killed run. */
static bool returned;

static void at_exit(void) {
  if (!returned) _exit(sntk_status_exit_code(SNTK_ERR_MEMORY));
}

static int finish(sntk_status status) {
  returned = true;
  return sntk_status_exit_code(status);
}

/* Large arrays go back to the system when they are freed, and smaller ones soon: the C library would keep up to 64 MiB
 * of them, and the process then have more than it uses. */
static void return_freed_memory(void) {
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, 1 << 21);
  mallopt(M_TRIM_THRESHOLD, 1 << 23);
#endif
}

int main(int argc, char **argv) {
  return_freed_memory();
  app a = {0};
  atexit(at_exit);
  sntk_standard standard;
  sntk_standard_hold(&standard); /* for good: what is printed to a closed output is an error, and lands in no file */
  if (sntk_context_create(&a.ctx) != SNTK_OK) {
    fprintf(stderr, "softntk: no memory\n");
    return finish(SNTK_ERR_MEMORY);
  }
  sntk_status status = run(&a, argc, argv);
  app_progress_end(&a);
  if (status != SNTK_OK)
    app_line(stderr, "softntk: %s%s", status == SNTK_ERR_INTERRUPTED ? "" : "error: ", sntk_context_error(a.ctx));
  if (fflush(stdout) != 0 || ferror(stdout)) {
    if (status == SNTK_OK) app_line(stderr, "softntk: error: standard output cannot be written");
    if (status == SNTK_OK) status = SNTK_ERR_IO;
  }
  sntk_config_free(a.config);
  sntk_context_free(a.ctx);
  free(a.options.sets);
  free(a.options.keys);
  free(a.directory);
  return finish(status);
}
