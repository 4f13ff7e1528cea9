/**
 * @file memory.c
 * @brief How much memory the process has, and how much more it may take.
 *
 * SPDX-License-Identifier: MIT
 */
#include "core/memory.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

int64_t sntk_read_number(const char *path, const char *key) {
  FILE *file = fopen(path, "r");
  if (!file) return -1;
  char line[256];
  int64_t result = -1;
  const size_t length = strlen(key);
  while (result < 0 && fgets(line, sizeof line, file)) {
    long long value;
    if (strncmp(line, key, length) == 0 && (length == 0 || isspace((unsigned char)line[length])) &&
        sscanf(line + length, " %lld", &value) == 1)
      result = value;
  }
  fclose(file);
  return result;
}

static int64_t smaller(int64_t a, int64_t b) { return b < a ? b : a; }

/* A figure of /proc/self/status, which counts in KiB; 0 where it is not there. */
static int64_t own_bytes(const char *key) {
  const int64_t kib = sntk_read_number("/proc/self/status", key);
  return kib > 0 ? kib * 1024 : 0;
}

int64_t sntk_host_resident(void) { return own_bytes("VmRSS:"); }

int64_t sntk_host_peak(void) { return own_bytes("VmHWM:"); }

/* What a limit on the process leaves beyond what it has; INT64_MAX: no limit. */
static int64_t left_by_limit(int resource, const char *used) {
  struct rlimit limit;
  if (getrlimit(resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur > INT64_MAX)
    return INT64_MAX;
  const int64_t most = (int64_t)limit.rlim_cur, has = own_bytes(used);
  return most > has ? most - has : 0;
}

/* The kernel's own estimate, less where a control group or a resource limit allows less. */
int64_t sntk_host_memory(void) {
  int64_t bytes = INT64_MAX;
  const int64_t kib = sntk_read_number("/proc/meminfo", "MemAvailable:");
  if (kib >= 0)
    bytes = kib * 1024;
  else if (sysconf(_SC_PHYS_PAGES) > 0)
    bytes = sntk_size_mul(sysconf(_SC_PHYS_PAGES), sysconf(_SC_PAGESIZE));
  bytes = smaller(bytes, sntk_cgroup_memory(""));
  bytes = smaller(bytes, left_by_limit(RLIMIT_AS, "VmSize:"));
  return smaller(bytes, left_by_limit(RLIMIT_DATA, "VmData:"));
}

int64_t sntk_host_budget(const sntk_context *ctx) {
  return ctx->memory_limit > 0 ? ctx->memory_limit : sntk_host_memory();
}
