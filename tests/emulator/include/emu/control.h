/**
 * @file control.h
 * @brief What a test asks of the emulator: failure injection, leak counts, statistics, NVTX records.
 *
 * Plain C, so that a C test can take it as it is. The environment (README.md) sets the rest; emu_reset reads it again.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef EMU_CONTROL_H
#define EMU_CONTROL_H

#include <stdint.h>

#ifndef EMU_API
#define EMU_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/** Everything that the program holds. */
typedef struct emu_live_counts {
  int64_t device_allocations, device_bytes, pinned_allocations, pinned_bytes;
  int64_t streams, events, graphs, graph_execs, library_handles;
} emu_live_counts;

/** What was done since the start or the last emu_reset. */
typedef struct emu_statistics {
  int64_t kernels, blocks, barriers, collectives, thread_switches, copies, checked_accesses, races;
} emu_statistics;

/** One NVTX call. */
typedef enum emu_nvtx_kind { EMU_NVTX_PUSH, EMU_NVTX_POP, EMU_NVTX_MARK } emu_nvtx_kind;
typedef struct emu_nvtx_record {
  emu_nvtx_kind kind;
  const char *domain; /* "" for the default one */
  const char *text;   /* "" for a pop */
  int depth;          /* ranges open before a push or mark, after a pop */
} emu_nvtx_record;

/** Forget everything: memory, streams, handles, counts, last error; read the environment again. */
EMU_API void emu_reset(void);
/** Let the k-th fallible call from now on fail with its natural error; 0: none. */
EMU_API void emu_fail_at(int64_t k);
/** Fallible calls since the start, the last emu_reset or the last emu_fail_at. */
EMU_API int64_t emu_call_count(void);
/** Objects alive, all kinds together. */
EMU_API int64_t emu_live(void);
EMU_API void emu_live_detail(emu_live_counts *counts);
/** Operations submitted and not yet executed. */
EMU_API int64_t emu_pending(void);
EMU_API void emu_get_statistics(emu_statistics *statistics);
/** As EMU_SEED, for work from now on. */
EMU_API void emu_set_seed(uint64_t seed);
/** Do not abort at the end of a kernel in which a race was found: count and go on. */
EMU_API void emu_keep_going_after_races(int keep_going);
EMU_API int emu_profiler_running(void);
EMU_API int64_t emu_nvtx_count(void);
EMU_API const emu_nvtx_record *emu_nvtx_at(int64_t i);

#ifdef __cplusplus
}
#endif

#endif
