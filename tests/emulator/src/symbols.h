/**
 * @file symbols.h
 * @brief The symbol tables of the program and its libraries: names of kernels, places of shared variables.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef EMU_SYMBOLS_H
#define EMU_SYMBOLS_H

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace emu {

/** One static __shared__ variable, or the guard before it. */
struct SharedVariable {
  char *address;
  size_t size;
  bool guard;
  int owner;        /* index into Module::owners */
  std::string name; /* as in the source */
};

/** The function that a shared variable belongs to. */
struct SharedOwner {
  std::string prefix; /* mangled names of its variables start so */
  size_t size;        /* bytes of its variables, guards excluded */
  bool is_kernel;     /* it was launched; else it may be a device function of any kernel */
};

/** An executable or a shared library. */
struct Module {
  uintptr_t base, begin, end; /* load address; span of its segments */
  std::string path;
  std::vector<SharedOwner> owners;
  std::vector<SharedVariable> shared; /* by address */
  struct Function {
    uintptr_t address;
    size_t size;
    std::string name;
  };
  std::vector<Function> functions; /* by address */
};

/** The module that holds this address; null if none does. */
Module *module_of(const void *address);
/** The shared variable (or guard) that holds the address; null if none does. */
const SharedVariable *shared_variable_at(const Module &module, const void *address);
/** The demangled name of the function at the address, or the address itself. */
std::string function_name(const void *address);
/** "function at file:line" by addr2line where it is installed, else the function's name. */
std::string code_location(const void *address);
/** The owner in the module that belongs to this kernel; -1 if it has no shared variables. */
int shared_owner_of(const Module &module, const void *kernel);

}  // namespace emu

#endif
