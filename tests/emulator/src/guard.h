/**
 * @file guard.h
 * @brief Red zones: poisoned for AddressSanitizer where it is linked in, else filled with a pattern that is checked.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef EMU_GUARD_H
#define EMU_GUARD_H

#include <cstddef>
#include <cstdint>

namespace emu {

constexpr size_t guard_bytes = 256;
constexpr unsigned char guard_byte = 0xa5;

bool address_sanitizer();
/** Is a byte of these in a red zone? Only AddressSanitizer can tell: else false. */
bool address_poisoned(const void *address, size_t size);
void guard_poison(void *address, size_t size);
void guard_unpoison(void *address, size_t size);
/** memset that AddressSanitizer does not look at. */
void guard_fill(void *address, size_t size, unsigned char value);
/** Offset of the first byte that is not guard_byte; -1 if all are. */
int64_t guard_first_damaged(const void *address, size_t size);

}  // namespace emu

#endif
