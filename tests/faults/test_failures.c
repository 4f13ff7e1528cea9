/**
 * @file test_failures.c
 * @brief Every call of the CUDA runtime and its libraries fails once: each time a clean error that names the call, and
 * nothing left behind.
 *
 * test_failures MODULE, the cuda module that the backend is opened from. SPDX-License-Identifier: MIT
 */
#include <stdbool.h>
#include <string.h>

#include "control.h"
#include "emu/control.h"
#include "small_run.h"

/* The calls whose names a message may give; launchers stand for the kernels they start. */
static bool names_a_call(const char *error) {
  static const char *const prefixes[] = {"cudaGet",    "cudaSet",      "cudaMalloc", "cudaMem",     "cudaFree",
                                         "cudaStream", "cudaEvent",    "cudaGraph",  "cudaRuntime", "cudaDevice",
                                         "cudaFunc",   "cudaProfiler", "cublas",     "cusolver",    "launch_"};
  for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
    if (strstr(error, prefixes[i])) return true;
  return false;
}

int main(int argc, char **argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: test_failures MODULE\n");
    return 2;
  }
  void (*fail_at)(int64_t);
  int64_t (*call_count)(void), (*live)(void);
  void (*live_detail)(emu_live_counts *);
  *(void **)&fail_at = module_function(argv[1], "emu_fail_at");
  *(void **)&call_count = module_function(argv[1], "emu_call_count");
  *(void **)&live = module_function(argv[1], "emu_live");
  *(void **)&live_detail = module_function(argv[1], "emu_live_detail");
  char error[1024];
  int failures = 0;
  int64_t k = 1, by_status[2] = {0, 0};
  for (;; k++) {
    fail_at(k);
    const sntk_status status = small_run(error, sizeof error);
    const int64_t calls = call_count();
    const char *what = NULL;
    if (status == SNTK_OK && calls >= k) what = "the failure was swallowed";
    if (status != SNTK_OK && status != SNTK_ERR_DEVICE && status != SNTK_ERR_MEMORY)
      what = "neither a device's nor a memory's error";
    if (status != SNTK_OK && !names_a_call(error)) what = "the message does not name the call";
    if (live() != 0) what = "something was left behind";
    if (what) {
      emu_live_counts left;
      live_detail(&left);
      fprintf(stderr,
              "call %lld: %s: %s (%s); left: %lld device and %lld pinned allocations, %lld streams, %lld events, %lld "
              "graphs, %lld handles\n",
              (long long)k, what, sntk_status_name(status), error, (long long)left.device_allocations,
              (long long)left.pinned_allocations, (long long)left.streams, (long long)left.events,
              (long long)(left.graphs + left.graph_execs), (long long)left.library_handles);
      if (++failures == 20) break;
    }
    if (status == SNTK_OK && calls < k) break;
    if (status != SNTK_OK) by_status[status == SNTK_ERR_MEMORY]++;
  }
  fail_at(0);
  printf("%lld calls failed in turn: %lld device errors, %lld memory errors, %d wrong\n", (long long)(k - 1),
         (long long)by_status[0], (long long)by_status[1], failures);
  return failures || k < 100 ? 1 : 0; /* a run of fewer calls has not gone where it should */
}
