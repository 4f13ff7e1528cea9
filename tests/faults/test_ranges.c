/**
 * @file test_ranges.c
 * @brief The backend's NVTX ranges, as a profiler sees them: domain "softntk", the parts of a run, each pushed and
 * popped.
 *
 * test_ranges recorder MODULE: through the emulator's recorder. test_ranges injection: through the observer that
 * NVTX_INJECTION64_PATH names (nvtx_observer.c), which prints; what it printed is read back from the file that
 * SOFTNTK_NVTX_LOG names. SPDX-License-Identifier: MIT
 */
#include <stdbool.h>
#include <string.h>

#include "control.h"
#include "emu/control.h"
#include "small_run.h"

static const char *const expected[] = {"init", "forward", "gradient", "features", "SYRK", "eigen"};
enum { EXPECTED = sizeof expected / sizeof *expected };

static int depth, pushes[EXPECTED], others;

static void seen(bool push, const char *domain, const char *text) {
  depth += push ? 1 : -1;
  if (strcmp(domain, "softntk") != 0 || depth < 0) others++;
  for (int i = 0; i < EXPECTED && push; i++)
    if (strcmp(text, expected[i]) == 0) pushes[i]++;
}

static void read_recorder(const char *module) {
  int64_t (*count)(void);
  const emu_nvtx_record *(*at)(int64_t);
  *(void **)&count = module_function(module, "emu_nvtx_count");
  *(void **)&at = module_function(module, "emu_nvtx_at");
  for (int64_t i = 0; i < count(); i++) seen(at(i)->kind == EMU_NVTX_PUSH, at(i)->domain, at(i)->text);
}

static void read_log(const char *path) {
  char line[256], kind[8], domain[64], text[64];
  FILE *log = path ? fopen(path, "r") : NULL;
  while (log && fgets(line, sizeof line, log)) {
    const int fields = sscanf(line, "%7s %63s %63s", kind, domain, text);
    if (fields >= 2) seen(strcmp(kind, "push") == 0, domain, fields == 3 ? text : "");
  }
  if (log) fclose(log);
}

int main(int argc, char **argv) {
  const bool injected = argc == 2 && strcmp(argv[1], "injection") == 0;
  if (!injected && !(argc == 3 && strcmp(argv[1], "recorder") == 0)) {
    fprintf(stderr, "usage: test_ranges recorder MODULE | injection\n");
    return 2;
  }
  char error[1024];
  const sntk_status status = small_run(error, sizeof error);
  if (status != SNTK_OK) {
    printf("%s: %s\n", sntk_status_name(status), error);
    return injected && (status == SNTK_ERR_DEVICE || status == SNTK_ERR_BACKEND) ? 77 : 1;
  }
  if (injected)
    read_log(getenv("SOFTNTK_NVTX_LOG"));
  else
    read_recorder(argv[2]);
  int failures = others != 0 || depth != 0;
  printf("%d in another domain or popped too often, %d left open\n", others, depth);
  for (int i = 0; i < EXPECTED; i++) {
    printf("%s: %d\n", expected[i], pushes[i]);
    failures += pushes[i] == 0;
  }
  return failures ? 1 : 0;
}
