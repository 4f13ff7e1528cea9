/**
 * @file fiber.cpp
 * @brief Stacks and the switch between them.
 *
 * SPDX-License-Identifier: MIT
 */
#include "fiber.h"

#include <sys/mman.h>

#include <cstdint>

#include "report.h"

#ifndef EMU_USE_UCONTEXT
/* Save what the System V ABI lets a callee not change, swap stacks, restore, return on the new stack. */
asm(R"(
.text
.globl emu_switch_stack
.hidden emu_switch_stack
.type emu_switch_stack, @function
emu_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emu_switch_stack, . - emu_switch_stack
)");
#endif

namespace emu {

void fiber_create(Fiber &fiber, size_t stack_size, size_t reserve, size_t guard, void (*entry)()) {
  char *memory = static_cast<char *>(
      mmap(nullptr, stack_size + guard, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  if (memory == MAP_FAILED || mprotect(memory, guard, PROT_NONE) != 0) {
    fatal("cannot map %zu bytes for the stack of an emulated thread", stack_size);
  }
  fiber.stack = memory + guard;
  fiber.stack_size = stack_size;
  const size_t usable = (stack_size - reserve) / 16 * 16;
#ifdef EMU_USE_UCONTEXT
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack;
  fiber.context.uc_stack.ss_size = usable;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, entry, 0);
#else
  void **top = reinterpret_cast<void **>(fiber.stack + usable);
  *--top = nullptr; /* the return address of entry, which keeps the stack aligned as after a call */
  *--top = reinterpret_cast<void *>(entry);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  fiber.stack_pointer = top;
#endif
}

void fiber_entered(Fiber &main) {
  if (!__sanitizer_finish_switch_fiber) return;
  const void *bottom = nullptr;
  size_t size = 0;
  __sanitizer_finish_switch_fiber(nullptr, &bottom, &size);
  if (!main.stack) {
    main.stack = const_cast<char *>(static_cast<const char *>(bottom));
    main.stack_size = size;
  }
}

}  // namespace emu
