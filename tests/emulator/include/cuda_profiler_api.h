/**
 * @file cuda_profiler_api.h
 * @brief Stands in for CUDA's header of this name.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef EMU_CUDA_PROFILER_API_H
#define EMU_CUDA_PROFILER_API_H

#include "emu/runtime_api.h"

extern "C" {
EMU_API cudaError_t cudaProfilerStart(void);
EMU_API cudaError_t cudaProfilerStop(void);
}

#endif
