/**
 * @file control.h
 * @brief The emulator inside the cuda module: found by name, since the module is opened at run time.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SOFTNTK_TESTS_CONTROL_H
#define SOFTNTK_TESTS_CONTROL_H

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

/* The module's function; `module` is the file that the registry opens too. */
static inline void *module_function(const char *module, const char *name) {
  void *handle = dlopen(module, RTLD_NOW | RTLD_LOCAL);
  void *function = handle ? dlsym(handle, name) : NULL;
  if (!function) {
    const char *reason = dlerror();
    fprintf(stderr, "%s of %s: %s\n", name, module, reason ? reason : "not there");
    exit(1);
  }
  return function;
}

#endif
