/**
 * @file settings.cpp
 * @brief Reading the environment; a value that is not what is asked for ends the program.
 *
 * SPDX-License-Identifier: MIT
 */
#include "settings.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "report.h"

namespace emu {

static uint64_t number(const char *name, uint64_t otherwise, uint64_t most, bool bytes = false) {
  const char *text = getenv(name);
  if (!text || !*text) return otherwise;
  char *end;
  errno = 0;
  unsigned long long value = strtoull(text, &end, 10);
  unsigned shift = 0;
  if (bytes && *end) {
    const char *suffixes = "KMG";
    const char *found = strchr(suffixes, *end);
    if (found) {
      shift = 10 * (unsigned)(found - suffixes + 1);
      ++end;
    }
  }
  if (errno || *end || *text == '-' || value > most >> shift) {
    fatal("%s=%s: not a number from 0 to %llu%s", name, text, (unsigned long long)most,
          bytes ? " (bytes, or with a suffix K, M or G)" : "");
  }
  return (uint64_t)value << shift;
}

static Settings read_environment() {
  Settings s{};
  s.seed = number("EMU_SEED", 0, UINT64_MAX);
  s.approx_seed = number("EMU_APPROX_SEED", 0, UINT64_MAX);
  s.preempt = number("EMU_PREEMPT", 0, UINT64_MAX);
  s.devices = (int)number("EMU_DEVICES", 1, 16);
  s.multiprocessors = (int)number("EMU_MULTIPROCESSORS", 4, 1024);
  s.memory = (size_t)number("EMU_MEMORY", (uint64_t)8 << 30, (uint64_t)1 << 46, true);
  s.fail_at = (int64_t)number("EMU_FAIL_AT", 0, INT64_MAX);
  const char *copies = getenv("EMU_ASYNC_COPY");
  if (copies && strcmp(copies, "early") != 0 && strcmp(copies, "late") != 0) {
    fatal("EMU_ASYNC_COPY=%s: neither early nor late", copies);
  }
  s.early_copies = copies && strcmp(copies, "early") == 0;
  return s;
}

Settings &settings() {
  static Settings current = read_environment();
  return current;
}

void settings_reload() { settings() = read_environment(); }

}  // namespace emu
