/**
 * @file memory.c
 * @brief How much memory the process may plan for.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/core.h"

/* First whole number after `key` in a file of "key number" lines, or the file's only number for key "". -1: not there.
 */
static int64_t read_number(const char *path, const char *key) {
  FILE *file = fopen(path, "r");
  if (!file) return -1;
  char line[256];
  int64_t result = -1;
  while (result < 0 && fgets(line, sizeof line, file)) {
    long long value;
    if (strncmp(line, key, strlen(key)) == 0 && sscanf(line + strlen(key), " %lld", &value) == 1) result = value;
  }
  fclose(file);
  return result;
}

static int64_t smaller(int64_t a, int64_t b) { return b >= 0 && b < a ? b : a; }

/* What is free now: the kernel's own estimate, less where a control group or a resource limit allows less. */
int64_t sntk_host_memory(void) {
  int64_t bytes = INT64_MAX;
  const int64_t kib = read_number("/proc/meminfo", "MemAvailable:");
  if (kib >= 0)
    bytes = kib * 1024;
  else if (sysconf(_SC_PHYS_PAGES) > 0)
    bytes = sntk_size_mul(sysconf(_SC_PHYS_PAGES), sysconf(_SC_PAGESIZE));
  static const struct {
    const char *limit, *used;
  } groups[] = {{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"},
                {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"}};
  for (size_t g = 0; g < sizeof groups / sizeof *groups; g++) {
    const int64_t limit = read_number(groups[g].limit, ""), used = read_number(groups[g].used, "");
    if (limit >= 0 && used >= 0) bytes = smaller(bytes, limit > used ? limit - used : 0);
  }
  struct rlimit address_space;
  if (getrlimit(RLIMIT_AS, &address_space) == 0 && address_space.rlim_cur != RLIM_INFINITY &&
      address_space.rlim_cur <= INT64_MAX)
    bytes = smaller(bytes, (int64_t)address_space.rlim_cur);
  return bytes;
}

int64_t sntk_host_budget(const sntk_context *ctx) {
  return ctx->memory_limit > 0 ? ctx->memory_limit : sntk_host_memory();
}
