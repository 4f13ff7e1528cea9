/**
 * @file types.h
 * @brief CUDA's qualifiers and built-in vector types, for a host compiler.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef EMU_TYPES_H
#define EMU_TYPES_H

#include <stddef.h>
#include <stdint.h>

#ifdef __CUDACC__
#error "The emulator's headers are for a host compiler: nvcc must find CUDA's own headers first"
#endif

/* Lets a source ask whether it is emulated. */
#define SNTK_EMULATED 1

#define EMU_API __attribute__((visibility("default")))

#define __host__
#define __device__
#define __global__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

/* A __shared__ variable is a function-local static: one block runs at a time. The array declared before it tells the
 * emulator, through the symbol table, which functions have shared variables (so that they can be poisoned before each
 * block, counted and checked), and is the red zone behind them. `used` keeps the compiler from reasoning that a
 * variable that is never written is zero. */
#define EMU_JOIN_(a, b) a##b
#define EMU_JOIN(a, b) EMU_JOIN_(a, b)
#define EMU_SHARED_GUARD_BYTES 64
#define __shared__                                                                                                     \
  static __attribute__((used, aligned(64))) char EMU_JOIN(emu_shared_, __COUNTER__)[EMU_SHARED_GUARD_BYTES];           \
  static __attribute__((used))

struct uint3 {
  unsigned x, y, z;
};

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

/* Vector types: alignment as CUDA's, so that a vector access needs the same alignment here. */
#define EMU_VECTOR1(name, type)                                                                                        \
  struct name##1 {                                                                                                     \
    type x;                                                                                                            \
  };                                                                                                                   \
  static inline name##1 make_##name##1(type x) { return name##1 {x}; }
#define EMU_VECTOR2(name, type, alignment)                                                                             \
  struct alignas(alignment) name##2 {                                                                                  \
    type x, y;                                                                                                         \
  };                                                                                                                   \
  static inline name##2 make_##name##2(type x, type y) { return name##2 {x, y}; }
#define EMU_VECTOR3(name, type)                                                                                        \
  struct name##3 {                                                                                                     \
    type x, y, z;                                                                                                      \
  };                                                                                                                   \
  static inline name##3 make_##name##3(type x, type y, type z) { return name##3 {x, y, z}; }
#define EMU_VECTOR4(name, type, alignment)                                                                             \
  struct alignas(alignment) name##4 {                                                                                  \
    type x, y, z, w;                                                                                                   \
  };                                                                                                                   \
  static inline name##4 make_##name##4(type x, type y, type z, type w) { return name##4 {x, y, z, w}; }

EMU_VECTOR1(float, float)
EMU_VECTOR2(float, float, 8)
EMU_VECTOR3(float, float)
EMU_VECTOR4(float, float, 16)
EMU_VECTOR1(double, double)
EMU_VECTOR2(double, double, 16)
EMU_VECTOR3(double, double)
EMU_VECTOR4(double, double, 16)
EMU_VECTOR1(int, int)
EMU_VECTOR2(int, int, 8)
EMU_VECTOR3(int, int)
EMU_VECTOR4(int, int, 16)
EMU_VECTOR1(uint, unsigned)
EMU_VECTOR2(uint, unsigned, 8)
static inline uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return uint3{x, y, z}; }
EMU_VECTOR4(uint, unsigned, 16)
EMU_VECTOR2(char, signed char, 2)
EMU_VECTOR4(char, signed char, 4)
EMU_VECTOR2(uchar, unsigned char, 2)
EMU_VECTOR4(uchar, unsigned char, 4)
EMU_VECTOR2(short, short, 4)
EMU_VECTOR4(short, short, 8)
EMU_VECTOR2(ushort, unsigned short, 4)
EMU_VECTOR4(ushort, unsigned short, 8)
EMU_VECTOR2(longlong, long long, 16)
EMU_VECTOR2(ulonglong, unsigned long long, 16)

#undef EMU_VECTOR1
#undef EMU_VECTOR2
#undef EMU_VECTOR3
#undef EMU_VECTOR4

#endif
