/**
 * @file fiber.h
 * @brief A stack of its own to run on, and the switch from one to another.
 *
 * x86-64 switches by a dozen instructions; elsewhere ucontext does (slower: it saves the signal mask by a system call).
 * AddressSanitizer is told of every switch where it is linked in.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef EMU_FIBER_H
#define EMU_FIBER_H

#include <cstddef>

#if !defined(__x86_64__) || defined(EMU_UCONTEXT)
#define EMU_USE_UCONTEXT 1
#include <ucontext.h>
#endif

extern "C" {
/* Present only in a program built with AddressSanitizer. */
void __sanitizer_start_switch_fiber(void **save, const void *bottom, size_t size) __attribute__((weak));
void __sanitizer_finish_switch_fiber(void *save, const void **bottom, size_t *size) __attribute__((weak));
#ifndef EMU_USE_UCONTEXT
void emu_switch_stack(void **save, void *load);
#endif
}

namespace emu {

struct Fiber {
#ifdef EMU_USE_UCONTEXT
  ucontext_t context;
#else
  void *stack_pointer = nullptr;
#endif
  char *stack = nullptr; /* lowest address; for the main fiber, what AddressSanitizer says it is */
  size_t stack_size = 0;
};

/** Give the fiber a stack, `guard` inaccessible bytes below it, `reserve` bytes left free at its top; entry never
 * returns. Sizes in whole pages, but for `reserve`. */
void fiber_create(Fiber &fiber, size_t stack_size, size_t reserve, size_t guard, void (*entry)());
/** To be called first in `entry`: `main` is the fiber that the first one was started from. */
void fiber_entered(Fiber &main);

inline void fiber_switch(Fiber &from, Fiber &to) {
  void *fake_stack = nullptr;
  if (__sanitizer_start_switch_fiber) __sanitizer_start_switch_fiber(&fake_stack, to.stack, to.stack_size);
#ifdef EMU_USE_UCONTEXT
  swapcontext(&from.context, &to.context);
#else
  emu_switch_stack(&from.stack_pointer, to.stack_pointer);
#endif
  if (__sanitizer_finish_switch_fiber) __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
}

}  // namespace emu

#endif
