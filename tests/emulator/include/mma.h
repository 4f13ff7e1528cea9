/**
 * @file mma.h
 * @brief Stands in for CUDA's header of this name: warp matrix products in TF32 (m16n16k8) with float accumulators.
 *
 * How a fragment's elements lie in the lanes is not specified by CUDA; here element i of lane l is element
 * l * num_elements + i of the matrix, row by row. Every operation takes the whole warp and orders no memory.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef EMU_MMA_H
#define EMU_MMA_H

#include <type_traits>

#include "cuda_runtime.h"

namespace emu {
/** Copy the `size` bytes at `mine` of every lane to all[lane * size]. */
EMU_API void warp_gather(const char *what, const void *mine, size_t size, void *all, Site site);
}  // namespace emu

namespace nvcuda {
namespace wmma {

struct matrix_a;
struct matrix_b;
struct accumulator;
struct row_major;
struct col_major;
namespace precision {
struct tf32;
}
enum layout_t { mem_row_major, mem_col_major };

template <class Use, int M, int N, int K, class T, class Layout = void>
struct fragment {
  static_assert(M == 16 && N == 16 && K == 8, "the emulator has the shape m16n16k8");
  static_assert(std::is_same<T, precision::tf32>::value || std::is_same<T, float>::value,
                "TF32, or float to accumulate");
  static constexpr int rows = std::is_same<Use, matrix_b>::value ? K : M;
  static constexpr int columns = std::is_same<Use, matrix_a>::value ? K : N;
  static constexpr int num_elements = rows * columns / 32;
  float x[num_elements];
};

template <class Use, int M, int N, int K, class T, class Layout>
inline void fill_fragment(fragment<Use, M, N, K, T, Layout> &f, float value) {
  for (float &element : f.x) element = value;
}

/* 10 bits of the fraction, rounded to nearest, ties away from zero. */
inline float __float_to_tf32(float value) { return __uint_as_float((__float_as_uint(value) + 0x1000u) & 0xffffe000u); }

template <class Use, int M, int N, int K, class T, class Layout>
inline void load_matrix_sync(fragment<Use, M, N, K, T, Layout> &f, const float *p, unsigned ld, EMU_SITE) {
  emu::warp_meet("load_matrix_sync", {file, line});
  for (int i = 0; i < f.num_elements; ++i) {
    const unsigned e = emu::lane() * (unsigned)f.num_elements + (unsigned)i;
    const unsigned row = e / (unsigned)f.columns, column = e % (unsigned)f.columns;
    f.x[i] = p[std::is_same<Layout, col_major>::value ? column * ld + row : row * ld + column];
  }
}

template <int M, int N, int K>
inline void store_matrix_sync(float *p, const fragment<accumulator, M, N, K, float> &f, unsigned ld, layout_t layout,
                              EMU_SITE) {
  emu::warp_meet("store_matrix_sync", {file, line});
  for (int i = 0; i < f.num_elements; ++i) {
    const unsigned e = emu::lane() * (unsigned)f.num_elements + (unsigned)i;
    const unsigned row = e / (unsigned)N, column = e % (unsigned)N;
    p[layout == mem_col_major ? column * ld + row : row * ld + column] = f.x[i];
  }
}

template <int M, int N, int K, class LayoutA, class LayoutB>
inline void mma_sync(fragment<accumulator, M, N, K, float> &d,
                     const fragment<matrix_a, M, N, K, precision::tf32, LayoutA> &a,
                     const fragment<matrix_b, M, N, K, precision::tf32, LayoutB> &b,
                     const fragment<accumulator, M, N, K, float> &c, EMU_SITE) {
  float all_a[M * K], all_b[K * N];
  emu::warp_gather("mma_sync", a.x, sizeof a.x, all_a, {file, line});
  emu::warp_gather("mma_sync", b.x, sizeof b.x, all_b, {file, line});
  for (int i = 0; i < d.num_elements; ++i) {
    const int e = (int)emu::lane() * d.num_elements + i, row = e / N, column = e % N;
    float sum = c.x[i];
    for (int k = 0; k < K; ++k) sum = fmaf(all_a[row * K + k], all_b[k * N + column], sum);
    d.x[i] = sum;
  }
}

}  // namespace wmma
}  // namespace nvcuda

#endif
