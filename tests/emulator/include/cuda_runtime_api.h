/**
 * @file cuda_runtime_api.h
 * @brief Stands in for CUDA's header of this name: the host interface.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef EMU_CUDA_RUNTIME_API_H
#define EMU_CUDA_RUNTIME_API_H

#include "emu/runtime_api.h"

#endif
