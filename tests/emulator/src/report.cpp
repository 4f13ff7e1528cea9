/**
 * @file report.cpp
 * @brief The emulator's messages.
 *
 * SPDX-License-Identifier: MIT
 */
#include "report.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "engine.h"

namespace emu {

static std::string format_text(const char *format, va_list arguments) {
  va_list copy;
  va_copy(copy, arguments);
  const int length = vsnprintf(nullptr, 0, format, copy);
  va_end(copy);
  std::vector<char> buffer((size_t)(length > 0 ? length : 0) + 1);
  vsnprintf(buffer.data(), buffer.size(), format, arguments);
  return buffer.data();
}

std::string text(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::string result = format_text(format, arguments);
  va_end(arguments);
  return result;
}

void note(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fprintf(stderr, "emulator: %s\n", format_text(format, arguments).c_str());
  va_end(arguments);
}

void fatal(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fprintf(stderr, "emulator: %s\n%s", format_text(format, arguments).c_str(), engine_position().c_str());
  va_end(arguments);
  fflush(nullptr);
  abort();
}

}  // namespace emu
