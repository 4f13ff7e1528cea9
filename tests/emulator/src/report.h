/**
 * @file report.h
 * @brief The emulator's messages; a misuse ends the program.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef EMU_REPORT_H
#define EMU_REPORT_H

#include <string>

namespace emu {

/** Print "emulator: ..." and where the running kernel stands, then abort. */
[[noreturn]] void fatal(const char *format, ...) __attribute__((format(printf, 1, 2)));
/** Print "emulator: ..." and go on. */
void note(const char *format, ...) __attribute__((format(printf, 1, 2)));
/** printf into a string. */
std::string text(const char *format, ...) __attribute__((format(printf, 1, 2)));

}  // namespace emu

#endif
