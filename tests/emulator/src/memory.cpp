/**
 * @file memory.cpp
 * @brief Device and pinned memory.
 *
 * SPDX-License-Identifier: MIT
 */
#include "memory.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <set>

#include "engine.h"
#include "guard.h"
#include "report.h"
#include "settings.h"

namespace emu {

static std::map<uintptr_t, Allocation> live; /* by base */
static std::set<uintptr_t> freed;            /* bases not used again since */
static uint64_t serials = 0;

static const char *kind_name(MemoryKind kind) { return kind == MemoryKind::device ? "device" : "pinned host"; }

size_t memory_used(int device) {
  size_t used = 0;
  for (const auto &entry : live) {
    if (entry.second.kind == MemoryKind::device && entry.second.device == device) used += entry.second.size;
  }
  return used;
}

void *memory_allocate(size_t size, MemoryKind kind, int device) {
  const size_t limit = settings().memory;
  if (kind == MemoryKind::device && (size > limit || memory_used(device) > limit - size)) return nullptr;
  if (size > SIZE_MAX - 4 * guard_bytes) return nullptr;
  /* CUDA's alignment: 256 bytes; the back red zone starts right behind the last byte. */
  char *raw = static_cast<char *>(malloc(size + 3 * guard_bytes));
  if (!raw) return nullptr;
  const uintptr_t aligned = (reinterpret_cast<uintptr_t>(raw) + 2 * guard_bytes - 1) / guard_bytes * guard_bytes;
  char *base = raw + (aligned - reinterpret_cast<uintptr_t>(raw));
  guard_fill(raw, (size_t)(base - raw), guard_byte);
  guard_fill(base, size, 0xff);
  guard_fill(base + size, guard_bytes, guard_byte);
  guard_poison(raw, (size_t)(base - raw));
  guard_poison(base + size, guard_bytes);
  live[aligned] = {base, size, kind, device, ++serials, raw};
  freed.erase(aligned);
  return base;
}

static void give_back(const Allocation &allocation) {
  if (detector) detector->memory_released(allocation.serial);
  guard_fill(allocation.base, allocation.size, 0xff);
  guard_unpoison(allocation.raw, (size_t)(allocation.base - allocation.raw) + allocation.size + guard_bytes);
  free(allocation.raw);
}

void memory_release(void *pointer, MemoryKind kind, const char *call) {
  const uintptr_t key = reinterpret_cast<uintptr_t>(pointer);
  const auto it = live.find(key);
  if (it == live.end()) {
    if (freed.count(key)) fatal("%s(%p): freed twice", call, pointer);
    const Allocation *inside = allocation_at(pointer);
    if (inside)
      fatal("%s(%p): not the start of an allocation, but %zd bytes into one", call, pointer,
            static_cast<char *>(pointer) - inside->base);
    fatal("%s(%p): not %s memory", call, pointer, kind_name(kind));
  }
  if (it->second.kind != kind) {
    fatal("%s(%p): this is %s memory", call, pointer, kind_name(it->second.kind));
  }
  memory_check_guards(call);
  give_back(it->second);
  live.erase(it);
  freed.insert(key);
}

const Allocation *allocation_at(const void *address) {
  const uintptr_t p = reinterpret_cast<uintptr_t>(address);
  auto it = live.upper_bound(p);
  if (it == live.begin()) return nullptr;
  --it;
  const Allocation &a = it->second;
  return p < it->first + std::max<size_t>(a.size, 1) ? &a : nullptr;
}

void memory_counts(int64_t *device_count, int64_t *device_bytes, int64_t *pinned_count, int64_t *pinned_bytes) {
  *device_count = *device_bytes = *pinned_count = *pinned_bytes = 0;
  for (const auto &entry : live) {
    const bool device = entry.second.kind == MemoryKind::device;
    ++*(device ? device_count : pinned_count);
    *(device ? device_bytes : pinned_bytes) += (int64_t)entry.second.size;
  }
}

void memory_check_guards(const char *culprit) {
  if (address_sanitizer()) return; /* which stops at the access itself */
  for (const auto &entry : live) {
    const Allocation &a = entry.second;
    const int64_t behind = guard_first_damaged(a.base + a.size, guard_bytes);
    if (behind >= 0) {
      fatal("out of bounds: %s wrote byte %lld behind the end of an allocation of %zu bytes at %p", culprit,
            (long long)behind, a.size, static_cast<void *>(a.base));
    }
    const size_t front = (size_t)(a.base - a.raw);
    if (guard_first_damaged(a.raw, front) >= 0) {
      fatal("out of bounds: %s wrote before the start of an allocation of %zu bytes at %p", culprit, a.size,
            static_cast<void *>(a.base));
    }
  }
}

void memory_reset() {
  for (const auto &entry : live) give_back(entry.second);
  live.clear();
  freed.clear();
}

}  // namespace emu
