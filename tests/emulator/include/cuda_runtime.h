/**
 * @file cuda_runtime.h
 * @brief Stands in for CUDA's header of this name: kernels and host code on the CPU.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef EMU_CUDA_RUNTIME_H
#define EMU_CUDA_RUNTIME_H

#include <stdlib.h>

#include "emu/kernel.h"
#include "emu/math.h"
#include "emu/runtime_api.h"
#include "emu/types.h"

#endif
