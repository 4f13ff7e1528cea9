/**
 * @file guard.cpp
 * @brief Red zones.
 *
 * SPDX-License-Identifier: MIT
 */
#include "guard.h"

extern "C" {
void __asan_poison_memory_region(void const volatile *address, size_t size) __attribute__((weak));
void __asan_unpoison_memory_region(void const volatile *address, size_t size) __attribute__((weak));
void *__asan_region_is_poisoned(void *address, size_t size) __attribute__((weak));
}

#define NOT_SANITIZED __attribute__((no_sanitize("address"), noinline))

namespace emu {

bool address_sanitizer() { return __asan_poison_memory_region != nullptr; }

bool address_poisoned(const void *address, size_t size) {
  return __asan_region_is_poisoned && __asan_region_is_poisoned(const_cast<void *>(address), size);
}

void guard_poison(void *address, size_t size) {
  if (__asan_poison_memory_region) __asan_poison_memory_region(address, size);
}

void guard_unpoison(void *address, size_t size) {
  if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(address, size);
}

NOT_SANITIZED void guard_fill(void *address, size_t size, unsigned char value) {
  unsigned char *p = static_cast<unsigned char *>(address);
  const uint64_t word = value * UINT64_C(0x0101010101010101);
  size_t i = 0;
  while (i < size && (reinterpret_cast<uintptr_t>(p + i) & 7u)) p[i++] = value;
  /* volatile: otherwise the compiler makes it a call of memset, which AddressSanitizer replaces */
  for (; i + 8 <= size; i += 8) *reinterpret_cast<volatile uint64_t *>(p + i) = word;
  while (i < size) static_cast<volatile unsigned char *>(p)[i++] = value;
}

NOT_SANITIZED int64_t guard_first_damaged(const void *address, size_t size) {
  const unsigned char *p = static_cast<const unsigned char *>(address);
  for (size_t i = 0; i < size; ++i) {
    if (p[i] != guard_byte) return (int64_t)i;
  }
  return -1;
}

}  // namespace emu
