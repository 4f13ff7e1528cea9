/* Products of small tiles, kept in registers: included by kernels.c once a type, after simd.h.
 *
 * A tile is NV vectors of neurons (TILE numbers) by up to NS rows; packed operands have TILE columns and are aligned.
 * Every sum runs over its terms in order, whatever the number of rows, so the bits do not depend on how rows are
 * grouped.
 *
 * SPDX-License-Identifier: MIT */

/* out (rows x TILE) = a (rows x terms, lda) b (terms x TILE), or (more) that added to what is there */
static inline __attribute__((always_inline)) void FN(product_rows)(const int rows, const bool more, int64_t terms,
                                                                   const REAL *restrict a, int64_t lda,
                                                                   const REAL *restrict b, REAL *restrict out) {
  FN(v) sum[NS][NV];
#pragma GCC unroll 8
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
    for (int j = 0; j < NV; j++) sum[i][j] = more ? FN(load)(out + i * TILE + j * VL) : FN(all)(0);
  for (int64_t k = 0; k < terms; k++) {
    FN(v) right[NV];
#pragma GCC unroll 8
    for (int j = 0; j < NV; j++) right[j] = FN(load)(b + k * TILE + j * VL);
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) {
      const FN(v) left = FN(all)(a[i * lda + k]);
#pragma GCC unroll 8
      for (int j = 0; j < NV; j++) sum[i][j] += left * right[j];
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
    for (int j = 0; j < NV; j++) FN(store)(out + i * TILE + j * VL, sum[i][j]);
}

/* out (terms x TILE) += a^T b over the rows of a (rows x terms, lda) and b (rows x TILE). The rows' own sum is made
 * first, then added: short chains of additions. */
static inline __attribute__((always_inline)) void FN(transposed_terms)(const int terms, int64_t rows,
                                                                       const REAL *restrict a, int64_t lda,
                                                                       const REAL *restrict b, REAL *restrict out) {
  FN(v) sum[NS][NV];
#pragma GCC unroll 8
  for (int k = 0; k < terms; k++)
#pragma GCC unroll 8
    for (int j = 0; j < NV; j++) sum[k][j] = FN(all)(0);
  for (int64_t i = 0; i < rows; i++) {
    FN(v) right[NV];
#pragma GCC unroll 8
    for (int j = 0; j < NV; j++) right[j] = FN(load)(b + i * TILE + j * VL);
#pragma GCC unroll 8
    for (int k = 0; k < terms; k++) {
      const FN(v) left = FN(all)(a[i * lda + k]);
#pragma GCC unroll 8
      for (int j = 0; j < NV; j++) sum[k][j] += left * right[j];
    }
  }
#pragma GCC unroll 8
  for (int k = 0; k < terms; k++)
#pragma GCC unroll 8
    for (int j = 0; j < NV; j++) {
      REAL *to = out + k * TILE + j * VL;
      FN(store)(to, FN(load)(to) + sum[k][j]);
    }
}

/* t (rows x ldt) += phi (rows x TILE) b (TILE x ldt), `vectors` vectors of columns. */
static inline __attribute__((always_inline)) void FN(outputs_rows)(const int rows, const int vectors,
                                                                   const REAL *restrict phi, const REAL *restrict b,
                                                                   REAL *restrict t, int64_t ldt) {
  FN(v) sum[NS][NV];
#pragma GCC unroll 8
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
    for (int j = 0; j < vectors; j++) sum[i][j] = FN(all)(0);
  for (int r = 0; r < TILE; r++) {
    FN(v) right[NV];
#pragma GCC unroll 8
    for (int j = 0; j < vectors; j++) right[j] = FN(load)(b + r * ldt + j * VL);
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) {
      const FN(v) left = FN(all)(phi[i * TILE + r]);
#pragma GCC unroll 8
      for (int j = 0; j < vectors; j++) sum[i][j] += left * right[j];
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
    for (int j = 0; j < vectors; j++) {
      REAL *to = t + i * ldt + j * VL;
      FN(store)(to, FN(load)(to) + sum[i][j]);
    }
}

/* `count` things in groups of at most NS, as equal as can be: calls f(size, start) with the size a constant. */
#define FOR_GROUPS(count, f)                                                                                           \
  for (int64_t groups_ = ((count) + NS - 1) / NS, group_ = 0, start_ = 0; group_ < groups_; group_++) {                \
    const int64_t size_ = (count) / groups_ + (group_ < (count) % groups_);                                            \
    switch (size_) {                                                                                                   \
      case 1:                                                                                                          \
        f(1, start_);                                                                                                  \
        break;                                                                                                         \
      case 2:                                                                                                          \
        f(2, start_);                                                                                                  \
        break;                                                                                                         \
      case 3:                                                                                                          \
        f(3, start_);                                                                                                  \
        break;                                                                                                         \
      case 4:                                                                                                          \
        f(4, start_);                                                                                                  \
        break;                                                                                                         \
      case 5:                                                                                                          \
        f(5, start_);                                                                                                  \
        break;                                                                                                         \
      default:                                                                                                         \
        f(6, start_);                                                                                                  \
        break;                                                                                                         \
    }                                                                                                                  \
    start_ += size_;                                                                                                   \
  }
_Static_assert(NS == 6, "FOR_GROUPS has a case for each size");

/* A piece of the terms at a time, whose rows of b then serve all rows of a from a cache. */
static void FN(product)(int64_t rows, int64_t terms, const REAL *a, int64_t lda, const REAL *b, REAL *out) {
  enum { PIECE = 512 };
  const int64_t first = terms < PIECE ? terms : PIECE;
#define GROUP(size, start) FN(product_rows)(size, false, first, a + (start)*lda, lda, b, out + (start)*TILE)
  FOR_GROUPS(rows, GROUP)
#undef GROUP
  for (int64_t k = PIECE; k < terms; k += PIECE) {
    const int64_t here = terms - k < PIECE ? terms - k : PIECE;
#define GROUP(size, start)                                                                                             \
  FN(product_rows)(size, true, here, a + (start)*lda + k, lda, b + k * TILE, out + (start)*TILE)
    FOR_GROUPS(rows, GROUP)
#undef GROUP
  }
}

static void FN(transposed_add)(int64_t rows, int64_t terms, const REAL *a, int64_t lda, const REAL *b, REAL *out) {
#define GROUP(size, start) FN(transposed_terms)(size, rows, a + (start), lda, b, out + (start)*TILE)
  FOR_GROUPS(terms, GROUP)
#undef GROUP
}

static void FN(outputs_add)(int64_t rows, const REAL *phi, const REAL *b, REAL *t, int64_t ldt) {
  int64_t l = 0;
#define GROUP(size, start) FN(outputs_rows)(size, NV, phi + (start)*TILE, b + l, t + (start)*ldt + l, ldt)
  for (; l + TILE <= ldt; l += TILE) FOR_GROUPS(rows, GROUP)
#undef GROUP
#define GROUP(size, start) FN(outputs_rows)(size, 1, phi + (start)*TILE, b + l, t + (start)*ldt + l, ldt)
  for (; l < ldt; l += VL) FOR_GROUPS(rows, GROUP)
#undef GROUP
}
#undef FOR_GROUPS
