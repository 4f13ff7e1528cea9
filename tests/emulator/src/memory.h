/**
 * @file memory.h
 * @brief Device and pinned memory: what was allocated, with red zones.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef EMU_MEMORY_H
#define EMU_MEMORY_H

#include <cstddef>
#include <cstdint>

namespace emu {

enum class MemoryKind { device, pinned };

struct Allocation {
  char *base;
  size_t size;
  MemoryKind kind;
  int device;
  uint64_t serial; /* never used twice */
  char *raw;       /* what malloc gave */
};

/** New memory, filled with NaNs; null if the device's memory (or the host's) does not suffice. */
void *memory_allocate(size_t size, MemoryKind kind, int device);
/** Give it back; a pointer that is not the start of such memory ends the program. */
void memory_release(void *pointer, MemoryKind kind, const char *call);
/** The allocation that holds this address; null if none does. */
const Allocation *allocation_at(const void *address);
size_t memory_used(int device);
void memory_counts(int64_t *device_count, int64_t *device_bytes, int64_t *pinned_count, int64_t *pinned_bytes);
/** Without AddressSanitizer: have writes over the ends of allocations happened? `culprit`: since the last check. */
void memory_check_guards(const char *culprit);
void memory_reset();

}  // namespace emu

#endif
