/**
 * @file cuda_pipeline.h
 * @brief Stands in for CUDA's header of this name: the asynchronous copies from global to shared memory (cp.async).
 *
 * A copy is queued and carried out when its thread waits for it, so a missing wait leaves the old data in place.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef EMU_CUDA_PIPELINE_H
#define EMU_CUDA_PIPELINE_H

#include "cuda_runtime.h"

inline void __pipeline_memcpy_async(void *shared, const void *global, size_t size, size_t zero_fill = 0, EMU_SITE) {
  emu::pipeline_copy(shared, global, size, zero_fill, {file, line});
}
inline void __pipeline_commit() { emu::pipeline_commit(); }
inline void __pipeline_wait_prior(size_t stages) { emu::pipeline_wait_prior(stages); }

#endif
