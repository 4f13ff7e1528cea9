/**
 * @file kernel.h
 * @brief What a kernel sees: its indices, barriers, warp collectives, integer atomics, dynamic shared memory.
 *
 * The source position of each call is taken by default arguments, so that a message can say which call it is about.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef EMU_KERNEL_H
#define EMU_KERNEL_H

#include <string.h>

#include "types.h"

namespace emu {

/** A position in a source file. */
struct Site {
  const char *file;
  int line;
};

/** The running thread's own part; it lies on the thread's stack. */
struct Thread {
  uint3 index;
};

EMU_API extern Thread *thread; /* null on the host */

EMU_API void barrier(Site site);
EMU_API int barrier_reduce(int predicate, int *any, int *all, Site site); /* returns the count */
EMU_API unsigned ballot(unsigned mask, bool predicate, Site site);
EMU_API void warp_meet(const char *what, Site site); /* the whole warp comes; orders no memory */
EMU_API void warp_sync(unsigned mask, Site site);
EMU_API unsigned active_mask();
EMU_API unsigned lane();
EMU_API void memory_fence();
[[noreturn]] EMU_API void kernel_fault(Site site, const char *format, ...) __attribute__((format(printf, 2, 3)));
EMU_API char *dynamic_shared(size_t alignment, Site site);
EMU_API void pipeline_copy(void *shared, const void *global, size_t size, size_t zero_fill, Site site);
EMU_API void pipeline_commit();
EMU_API void pipeline_wait_prior(size_t stages);

enum class Atomic { add, minimum, maximum, bit_and, bit_or, bit_xor, exchange, compare_exchange };
EMU_API uint64_t atomic(Atomic operation, void *address, size_t size, bool is_signed, uint64_t operand,
                        uint64_t expected);

/* The 8 bytes that carry a value through a collective. */
template <class T>
inline uint64_t to_bits(T value) {
  static_assert(sizeof(T) <= 8, "a shuffle moves at most 8 bytes");
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof value);
  return bits;
}
template <class T>
inline T from_bits(uint64_t bits) {
  T value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

enum class ShuffleKind { index, up, down, exclusive_or };
EMU_API uint64_t shuffle(ShuffleKind kind, unsigned mask, uint64_t value, int argument, int width, Site site);

}  // namespace emu

#define threadIdx (static_cast<const uint3 &>(emu::thread->index))
/* Variables, since cudaLaunchConfig_t has members of the same names. For kernels to read only. */
EMU_API extern uint3 blockIdx;
EMU_API extern dim3 blockDim, gridDim;
inline constexpr int warpSize = 32;

#define EMU_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

/** Dynamic shared memory as an array of `type`; the nvcc side of the macro is the project's. */
#define SNTK_DYNAMIC_SHARED(type, name)                                                                                \
  type *const name = reinterpret_cast<type *>(emu::dynamic_shared(alignof(type), {__FILE__, __LINE__}))

inline void __syncthreads(EMU_SITE) { emu::barrier({file, line}); }
inline int __syncthreads_count(int predicate, EMU_SITE) {
  int any, all;
  return emu::barrier_reduce(predicate, &any, &all, {file, line});
}
inline int __syncthreads_or(int predicate, EMU_SITE) {
  int any, all;
  emu::barrier_reduce(predicate, &any, &all, {file, line});
  return any;
}
inline int __syncthreads_and(int predicate, EMU_SITE) {
  int any, all;
  emu::barrier_reduce(predicate, &any, &all, {file, line});
  return all;
}

inline void __syncwarp(unsigned mask = 0xffffffffu, EMU_SITE) { emu::warp_sync(mask, {file, line}); }
inline unsigned __activemask() { return emu::active_mask(); }

#define EMU_SHUFFLE(name, kind, argument_type)                                                                         \
  template <class T>                                                                                                   \
  inline T name(unsigned mask, T value, argument_type argument, int width = 32, EMU_SITE) {                            \
    return emu::from_bits<T>(                                                                                          \
        emu::shuffle(emu::ShuffleKind::kind, mask, emu::to_bits(value), (int)argument, width, {file, line}));          \
  }
EMU_SHUFFLE(__shfl_sync, index, int)
EMU_SHUFFLE(__shfl_up_sync, up, unsigned)
EMU_SHUFFLE(__shfl_down_sync, down, unsigned)
EMU_SHUFFLE(__shfl_xor_sync, exclusive_or, int)
#undef EMU_SHUFFLE

inline unsigned __ballot_sync(unsigned mask, int predicate, EMU_SITE) {
  return emu::ballot(mask, predicate != 0, {file, line});
}
inline int __any_sync(unsigned mask, int predicate, EMU_SITE) {
  return __ballot_sync(mask, predicate, file, line) != 0;
}
inline int __all_sync(unsigned mask, int predicate, EMU_SITE) {
  return __ballot_sync(mask, !predicate, file, line) == 0;
}

inline void __threadfence() { emu::memory_fence(); }
inline void __threadfence_block() { emu::memory_fence(); }
inline void __threadfence_system() { emu::memory_fence(); }
[[noreturn]] inline void __trap(EMU_SITE) { emu::kernel_fault({file, line}, "__trap() was reached"); }

/* An assumption that does not hold is undefined behaviour under nvcc: here it is reported. */
#define __builtin_assume(condition)                                                                                    \
  ((condition) ? (void)0 : emu::kernel_fault({__FILE__, __LINE__}, "assumption does not hold: %s", #condition))

/* Atomics on integers. Floating-point ones are forbidden: their order, and so the bits of a sum, would vary. */
#define EMU_ATOMICS(T, is_signed)                                                                                      \
  inline T atomicAdd(T *p, T v) { return (T)emu::atomic(emu::Atomic::add, p, sizeof v, is_signed, (uint64_t)v, 0); }   \
  inline T atomicSub(T *p, T v) {                                                                                      \
    return (T)emu::atomic(emu::Atomic::add, p, sizeof v, is_signed, 0 - (uint64_t)v, 0);                               \
  }                                                                                                                    \
  inline T atomicMin(T *p, T v) {                                                                                      \
    return (T)emu::atomic(emu::Atomic::minimum, p, sizeof v, is_signed, (uint64_t)v, 0);                               \
  }                                                                                                                    \
  inline T atomicMax(T *p, T v) {                                                                                      \
    return (T)emu::atomic(emu::Atomic::maximum, p, sizeof v, is_signed, (uint64_t)v, 0);                               \
  }                                                                                                                    \
  inline T atomicAnd(T *p, T v) {                                                                                      \
    return (T)emu::atomic(emu::Atomic::bit_and, p, sizeof v, is_signed, (uint64_t)v, 0);                               \
  }                                                                                                                    \
  inline T atomicOr(T *p, T v) { return (T)emu::atomic(emu::Atomic::bit_or, p, sizeof v, is_signed, (uint64_t)v, 0); } \
  inline T atomicXor(T *p, T v) {                                                                                      \
    return (T)emu::atomic(emu::Atomic::bit_xor, p, sizeof v, is_signed, (uint64_t)v, 0);                               \
  }                                                                                                                    \
  inline T atomicExch(T *p, T v) {                                                                                     \
    return (T)emu::atomic(emu::Atomic::exchange, p, sizeof v, is_signed, (uint64_t)v, 0);                              \
  }                                                                                                                    \
  inline T atomicCAS(T *p, T expected, T v) {                                                                          \
    return (T)emu::atomic(emu::Atomic::compare_exchange, p, sizeof v, is_signed, (uint64_t)v, (uint64_t)expected);     \
  }
EMU_ATOMICS(int, true)
EMU_ATOMICS(unsigned, false)
EMU_ATOMICS(unsigned long long, false)
#undef EMU_ATOMICS
float atomicAdd(float *, float) = delete;
double atomicAdd(double *, double) = delete;
float atomicExch(float *, float) = delete;

/* Loads and stores with cache hints: the hint has no meaning here. */
template <class T>
inline T __ldg(const T *p) {
  return *p;
}
template <class T>
inline T __ldcg(const T *p) {
  return *p;
}
template <class T>
inline T __ldcs(const T *p) {
  return *p;
}
template <class T>
inline void __stcg(T *p, T value) {
  *p = value;
}
template <class T>
inline void __stcs(T *p, T value) {
  *p = value;
}

#endif
