/* The fused passes for one type: included by kernels.c once a type, after simd.h and tile.h. See kernels.h.
 *
 * Order of the loops. Statistics, J v and features: chunk of tiles (packed, of second-level-cache size), block of
 * samples, tile: a block's running sums stay in the first-level cache and leave in float64 at the chunk's end, so a
 * lane adds at most a chunk's numbers in REAL. Gradient: tile, block of samples: the tile's gradient is whole before
 * its weights change, and a chunk's updated tiles are still packed when their statistics follow (one walk over W).
 *
 * Softmax's running maximum is one number a sample: raising it (rare) rescales the sums so far.
 *
 * Signed sums and (R A): p = 1 in the row loops, to LANE_OUTPUTS lane by lane, beyond as products of their own.
 *
 * SPDX-License-Identifier: MIT */

#ifndef SNTK_CPU_PASSES_H
#define SNTK_CPU_PASSES_H
enum { BLOCK = 48, LANE_OUTPUTS = 8, CHUNK_BYTES = 1 << 19, CHUNK_COLUMNS = 4096, LAYERS = 5 };
/* What multiplies the slopes. */
typedef enum pull_kind { PULL_NONE, PULL_ONE, PULL_MANY } pull_kind;
#endif

/* A packed tile. Columns past `valid` are zero. */
typedef struct FN(tile) {
  REAL *layer[LAYERS]; /* d x TILE each: base, shifts, then directions */
  REAL *signs;         /* p x TILE */
  REAL *signs_t;       /* TILE x ldt, where the signed sums are a product */
  int64_t at, valid;   /* first column, columns */
  bool unsafe;         /* a logit may not be finite: look at each */
} FN(tile);

/* The share's work space, cut up. */
typedef struct FN(space) {
  int64_t n, d, p, ldt; /* ldt: row length of t */
  const REAL *x;
  int layers, halves;
  int64_t chunk; /* tiles */
  REAL *packed;
  FN(tile) * tiles;
  REAL *gradient[2];             /* d x TILE */
  REAL *z, *d1, *d2, *ra, *dots; /* BLOCK x TILE: logits of base and shifts; R A or x . v1, and x . v2 */
  REAL *ref, *sum, *t;           /* of a block of samples: BLOCK, BLOCK x VL, BLOCK x ldt */
  REAL *max, *c, *r;             /* n, n, n x p (twice that for the Gram matrix): the pull, ready to multiply */
} FN(space);

static int64_t FN(padded)(int64_t count) { return sntk_size_mul(sntk_size_add(count, 15) / 16, 16); }

static int64_t FN(tile_reals)(int64_t d, int64_t p, int layers, int64_t ldt) {
  const int64_t rows = sntk_size_add(sntk_size_mul(d, layers), p);
  return sntk_size_mul(sntk_size_add(rows, p > LANE_OUTPUTS ? ldt : 0), TILE);
}

/* Row length of the signed sums' state. */
static int64_t FN(row_of_t)(int64_t p) {
  return p <= LANE_OUTPUTS ? p * VL : sntk_size_mul((sntk_size_add(p, VL - 1)) / VL, VL);
}

/* A chunk, at least a tile; or what gram_panel packs. */
static int64_t FN(packed_reals)(int64_t d, int64_t p, int64_t ldt) {
  const int64_t tile = FN(tile_reals)(d, p, LAYERS, ldt), chunk = CHUNK_BYTES / (int64_t)sizeof(REAL);
  const int64_t gram = sntk_size_add(sntk_size_mul(d, BLOCK), sntk_size_mul(p, 2 * TILE));
  const int64_t one = tile > gram ? tile : gram;
  return tile < 0 || gram < 0 ? -1 : FN(padded)(one > chunk ? one : chunk);
}

static int64_t FN(work_bytes)(int64_t n, int64_t d, int64_t p) {
  const int64_t ldt = FN(row_of_t)(p);
  int64_t reals = FN(packed_reals)(d, p, ldt);
  reals = sntk_size_add(reals, sntk_size_mul(d, 2 * TILE));
  reals = sntk_size_add(reals, 5 * BLOCK * TILE + BLOCK + BLOCK * VL);
  reals = sntk_size_add(reals, sntk_size_mul(ldt, BLOCK));
  reals = sntk_size_add(reals, sntk_size_mul(2, FN(padded)(n)));
  reals = sntk_size_add(reals, FN(padded)(sntk_size_mul(n, sntk_size_mul(2, p))));
  const int64_t tiles = CHUNK_COLUMNS / TILE * (int64_t)sizeof(FN(tile));
  return sntk_size_add(sntk_size_add(sntk_size_mul(reals, sizeof(REAL)), tiles), 64);
}

static FN(space) FN(space_of)(const sntk_cpu_share *share, int extra_layers) {
  const sntk_neurons *v = share->v;
  const int64_t n = share->s->count, d = v->dim, p = v->outputs, ldt = FN(row_of_t)(p);
  const int shifts = v->layout == SNTK_LAYOUT_PLAIN ? 0 : v->layout == SNTK_LAYOUT_PAIRED ? 2 : 1;
  FN(space) w = {.n = n, .d = d, .p = p, .ldt = ldt, .layers = 1 + shifts + extra_layers};
  w.halves = v->layout == SNTK_LAYOUT_PAIRED ? 2 : 1;
  w.x = REAL_TYPE == SNTK_F64 ? (const void *)share->s->x64 : share->s->x;
  const int64_t one = FN(tile_reals)(d, p, w.layers, ldt), fit = CHUNK_BYTES / (int64_t)sizeof(REAL) / one;
  w.chunk = fit < 1 ? 1 : fit > CHUNK_COLUMNS / TILE ? CHUNK_COLUMNS / TILE : fit;
  REAL *at = share->work;
  w.packed = at;
  at += FN(packed_reals)(d, p, ldt);
  for (int h = 0; h < 2; h++, at += d * TILE) w.gradient[h] = at;
  REAL **buffers[] = {&w.z, &w.d1, &w.d2, &w.ra, &w.dots};
  for (int b = 0; b < 5; b++, at += BLOCK * TILE) *buffers[b] = at;
  w.ref = at, at += BLOCK;
  w.sum = at, at += BLOCK * VL;
  w.t = at, at += BLOCK * ldt;
  w.max = at, at += FN(padded)(n);
  w.c = at, at += FN(padded)(n);
  w.r = at, at += FN(padded)(2 * n * p);
  w.tiles = (FN(tile) *)(void *)at;
  for (int64_t tile = 0; tile < w.chunk; tile++) {
    REAL *memory = w.packed + tile * one;
    for (int layer = 0; layer < w.layers; layer++, memory += d * TILE) w.tiles[tile].layer[layer] = memory;
    w.tiles[tile].signs = memory;
    w.tiles[tile].signs_t = memory + p * TILE;
  }
  return w;
}

/* ---- packing ---- */

static void FN(pack)(const void *matrix, sntk_precision type, int64_t ld, int64_t at, int64_t valid, int64_t d,
                     REAL *to) {
  for (int64_t k = 0; k < d; k++, to += TILE) {
    const int64_t from = k * ld + at;
    if (type == REAL_TYPE && valid == TILE) /* a constant size, without a call */
      memcpy(to, (const REAL *)matrix + from, TILE * sizeof *to);
    else if (type == REAL_TYPE)
      memcpy(to, (const REAL *)matrix + from, (size_t)valid * sizeof *to);
    else
      for (int64_t j = 0; j < valid; j++) to[j] = (REAL)((const float *)matrix)[from + j];
    if (valid < TILE) memset(to + valid, 0, (size_t)(TILE - valid) * sizeof *to);
  }
}

static void FN(pack_tile)(const sntk_cpu_share *share, const FN(space) * w, int64_t at, const void *const direction[2],
                          int64_t ld_direction, FN(tile) * tile) {
  const sntk_neurons *v = share->v;
  const int64_t left = share->first + share->count - at;
  tile->at = at;
  tile->valid = left < TILE ? left : TILE;
  int layer = 0;
  FN(pack)(v->base, v->type, v->ld, at, tile->valid, w->d, tile->layer[layer++]);
  if (v->layout != SNTK_LAYOUT_PLAIN)
    for (int h = 0; h < w->halves; h++)
      FN(pack)(v->shift[h], v->type, v->ld, at, tile->valid, w->d, tile->layer[layer++]);
  for (int h = 0; h < w->halves && direction; h++)
    FN(pack)(direction[h], v->type, ld_direction, at, tile->valid, w->d, tile->layer[layer++]);
  for (int64_t l = 0; l < w->p; l++) {
    const int8_t *from = v->signs + l * v->ld_signs + at;
    REAL *to = tile->signs + l * TILE;
    if (tile->valid == TILE) {
#pragma omp simd
      for (int j = 0; j < TILE; j++) to[j] = (REAL)from[j];
    } else {
      for (int64_t j = 0; j < TILE; j++) to[j] = j < tile->valid ? (REAL)from[j] : 0;
    }
  }
  if (w->p > LANE_OUTPUTS)
    for (int64_t j = 0; j < TILE; j++)
      for (int64_t l = 0; l < w->ldt; l++) tile->signs_t[j * w->ldt + l] = l < w->p ? tile->signs[l * TILE + j] : 0;
}

/* Packs the chunk that starts at column `at`: the number of tiles. */
static int64_t FN(pack_chunk)(const sntk_cpu_share *share, const FN(space) * w, int64_t at,
                              const void *const direction[2], int64_t ld_direction) {
  int64_t count = 0;
  for (; count < w->chunk && at < share->first + share->count; count++, at += TILE)
    FN(pack_tile)(share, w, at, direction, ld_direction, &w->tiles[count]);
  return count;
}

/* |x . w| <= max |x_k| sum_k |w_k|, here of all the chunk's neurons together: far below the largest number, none of its
 * logits needs to be looked at. */
static bool FN(is_unsafe)(const FN(space) * w, int64_t tiles, double input_size) {
  FN(v) sum[NV];
  REAL lanes[TILE];
  double total = 0.0;
  for (int j = 0; j < NV; j++) sum[j] = FN(all)(0);
  for (int64_t tile = 0; tile < tiles; tile++)
    for (int layer = 0; layer < w->layers; layer++) {
      const REAL *weights = w->tiles[tile].layer[layer];
      for (int64_t k = 0; k < w->d; k++, weights += TILE)
#pragma GCC unroll 8
        for (int j = 0; j < NV; j++) sum[j] += FN(size)(FN(load)(weights + j * VL));
    }
  memcpy(lanes, sum, sizeof lanes);
  for (int j = 0; j < TILE; j++) total += (double)lanes[j];
  /* an input beyond REAL is infinite there; a NaN is unsafe too */
  return !(total * (double)(REAL)input_size < 1e-6 * (double)FN(LARGEST));
}

/* ---- logits of a block of samples over a tile ---- */

static void FN(find_bad)(sntk_cpu_share *share, int64_t i0, int64_t rows, const REAL *z) {
  for (int64_t i = 0; i < rows; i++) {
    REAL check = 0;
    for (int j = 0; j < TILE; j++) check += z[i * TILE + j] * 0;
    if (!(check == 0) && i0 + i < share->bad) share->bad = i0 + i;
  }
}

/* Logits of base and shifts into z, d1, d2. Columns past the last neuron get a base logit of minus infinity: the
 * activation leaves nothing of them, and no maximum sees them. */
static inline void FN(project)(sntk_cpu_share *share, const FN(space) * w, const FN(tile) * tile, int64_t i0,
                               int64_t rows) {
  REAL *const to[] = {w->z, w->d1, w->d2};
  const int count = share->v->layout == SNTK_LAYOUT_PLAIN ? 1 : 1 + w->halves;
  for (int layer = 0; layer < count; layer++) {
    FN(product)(rows, w->d, w->x + i0 * w->d, w->d, tile->layer[layer], to[layer]);
    if (tile->unsafe) FN(find_bad)(share, i0, rows, to[layer]);
  }
  if (tile->valid < TILE)
    for (int64_t i = 0; i < rows; i++)
      for (int64_t j = tile->valid; j < TILE; j++) w->z[i * TILE + j] = -(REAL)INFINITY;
}

/* The largest |shift| of the block, lane by lane. */
static inline FN(v) FN(largest_shift)(const FN(space) * w, int64_t rows) {
  FN(v) top = FN(all)(0);
  const REAL *const from[] = {w->d1, w->d2};
  for (int h = 0; h < w->halves; h++)
    for (int64_t j = 0; j < rows * TILE; j += VL) top = FN(larger)(FN(size)(FN(load)(from[h] + j)), top);
  return top;
}

/* ---- sums over neurons, of a block of samples ---- */

static void FN(begin_block)(const sntk_cpu_share *share, const FN(space) * w, const double *max, int64_t i0,
                            int64_t rows) {
  for (int64_t i = 0; i < rows; i++) w->ref[i] = share->v->activation == SNTK_SOFTMAX ? (REAL)max[i0 + i] : 0;
  memset(w->sum, 0, (size_t)(rows * VL) * sizeof(REAL));
  memset(w->t, 0, (size_t)(rows * w->ldt) * sizeof(REAL));
}

/* Signed sums of the block's numbers phi (rows x TILE), p > 1. */
static void FN(add_outputs)(const FN(space) * w, const FN(tile) * tile, int64_t rows, const REAL *phi) {
  if (w->p > LANE_OUTPUTS) {
    FN(outputs_add)(rows, phi, tile->signs_t, w->t, w->ldt);
    return;
  }
  for (int64_t i = 0; i < rows; i++) {
    FN(v) value[NV];
#pragma GCC unroll 8
    for (int b = 0; b < NV; b++) value[b] = FN(load)(phi + i * TILE + b * VL);
    for (int64_t l = 0; l < w->p; l++) {
      REAL *to = w->t + i * w->ldt + l * VL;
      FN(v) t = FN(load)(to);
#pragma GCC unroll 8
      for (int b = 0; b < NV; b++) t += value[b] * FN(load)(tile->signs + l * TILE + b * VL);
      FN(store)(to, t);
    }
  }
}

/* One row's numbers: `sum` gets plus, t gets signs times phi; for p > 1 phi goes to `keep`. */
static inline __attribute__((always_inline)) void FN(add_row)(const FN(space) * w, const FN(tile) * tile,
                                                              const bool one, int64_t i, const FN(v) plus,
                                                              const FN(v) phi[NV], REAL *keep) {
  FN(store)(w->sum + i * VL, FN(load)(w->sum + i * VL) + plus);
  if (one) {
    FN(v) t = FN(load)(w->t + i * VL);
#pragma GCC unroll 8
    for (int b = 0; b < NV; b++) t += phi[b] * FN(load)(tile->signs + b * VL);
    FN(store)(w->t + i * VL, t);
  } else {
#pragma GCC unroll 8
    for (int b = 0; b < NV; b++) FN(store)(keep + i * TILE + b * VL, phi[b]);
  }
}

static inline FN(v) FN(total)(const FN(v) x[NV]) {
  FN(v) sum = x[0];
#pragma GCC unroll 8
  for (int b = 1; b < NV; b++) sum += x[b];
  return sum;
}

/* A larger logit than any before: the sums so far are rescaled. */
static __attribute__((noinline)) void FN(raise)(const FN(space) * w, int64_t i, FN(v) top) {
  const REAL before = w->ref[i], after = FN(max_lanes)(top);
  const FN(v) factor = FN(exp_negative)(FN(all)(before - after));
  w->ref[i] = after;
  for (int64_t j = 0; j < VL; j += VL) FN(store)(w->sum + i * VL + j, FN(load)(w->sum + i * VL + j) * factor);
  for (int64_t j = 0; j < w->ldt; j += VL) FN(store)(w->t + i * w->ldt + j, FN(load)(w->t + i * w->ldt + j) * factor);
}

static inline __attribute__((always_inline)) void FN(plain_rows)(const FN(space) * w, const FN(tile) * tile,
                                                                 const sntk_activation activation, const bool one,
                                                                 int64_t rows) {
  for (int64_t i = 0; i < rows; i++) {
    FN(v) z[NV], phi[NV];
#pragma GCC unroll 8
    for (int b = 0; b < NV; b++) z[b] = FN(load)(w->z + i * TILE + b * VL);
    if (activation == SNTK_SOFTMAX) {
      FN(v) top = z[0];
#pragma GCC unroll 8
      for (int b = 1; b < NV; b++) top = FN(larger)(top, z[b]);
      if (__builtin_expect(FN(any_above)(top, FN(all)(w->ref[i])), 0)) FN(raise)(w, i, top);
    }
    const FN(v) ref = FN(all)(w->ref[i]);
#pragma GCC unroll 8
    for (int b = 0; b < NV; b++)
      phi[b] = activation == SNTK_SOFTMAX ? FN(exp_negative)(z[b] - ref)
               : activation == SNTK_EXP   ? FN(exp)(z[b])
                                          : FN(larger)(z[b], FN(all)(0));
    FN(add_row)(w, tile, one, i, activation == SNTK_SOFTMAX ? FN(total)(phi) : FN(all)(0), phi, w->z);
  }
}

typedef enum FN(reach) { FN(TENTH), FN(ONE), FN(FAR) } FN(reach); /* of the block's shifts */

static inline __attribute__((always_inline)) FN(v) FN(expm1_of)(const FN(reach) reach, FN(v) x) {
  return reach == FN(TENTH) ? FN(expm1_tenth)(x) : reach == FN(ONE) ? FN(expm1_one)(x) : FN(expm1)(x);
}

/* max(z + d, 0) - max(z + e, 0), as d - e where both are positive; e = 0 for the change of one neuron. */
static inline FN(v) FN(relu_difference)(FN(v) z, FN(v) d, FN(v) e) {
  const FN(v) zero = FN(all)(0), a = z + d, c = z + e;
  const FN(v) direct = FN(larger)(a, zero) - FN(larger)(c, zero);
  return FN(positive)(FN(smaller)(a, c), d - e, direct);
}

static inline __attribute__((always_inline)) void FN(shifted_rows)(const FN(space) * w, const FN(tile) * tile,
                                                                   const bool relu, const FN(reach) reach,
                                                                   const bool paired, const bool one, int64_t rows) {
  for (int64_t i = 0; i < rows; i++) {
    FN(v) phi[NV], plus[NV];
    const FN(v) ref = FN(all)(w->ref[i]), zero = FN(all)(0);
#pragma GCC unroll 8
    for (int b = 0; b < NV; b++) {
      const int64_t at = i * TILE + b * VL;
      const FN(v) z = FN(load)(w->z + at), d1 = FN(load)(w->d1 + at);
      const FN(v) d2 = paired ? FN(load)(w->d2 + at) : FN(all)(0);
      if (relu) {
        phi[b] = FN(relu_difference)(z, d1, d2);
        plus[b] = zero;
      } else {
        const FN(v) e = FN(exp)(z - ref), e1 = FN(expm1_of)(reach, d1);
        const FN(v) e2 = paired ? FN(expm1_of)(reach, d2) : FN(all)(0);
        phi[b] = e * (e1 - e2);
        plus[b] = phi[b];
        if (paired) plus[b] = e * (e1 + e2);
      }
    }
    FN(add_row)(w, tile, one, i, FN(total)(plus), phi, w->z);
  }
}

/* Adds a block's sums to the share's, in float64: sum (NULL: not wanted) and t, merged at `ref`. */
static void FN(end_block)(sntk_cpu_share *share, const FN(space) * w, int64_t i0, int64_t rows, sntk_stats *own) {
  double outputs[LANE_OUTPUTS];
  const bool softmax = share->v->activation == SNTK_SOFTMAX, fixed = share->v->layout != SNTK_LAYOUT_PLAIN;
  for (int64_t i = 0; i < rows; i++) {
    const int64_t sample = i0 + i;
    const double sum = FN(sum_lanes)(w->sum + i * VL);
    double *t = own->t + sample * w->p, check = sum * 0.0;
    const REAL *from = w->t + i * w->ldt;
    /* These sums belong to `here`, those before to `before`. A fixed maximum stays, and `here` is it in REAL. */
    const double before = own->max[sample], here = (double)w->ref[i], top = fixed || before > here ? before : here;
    const double keep = before == top ? 1.0 : exp(before - top), take = here == top ? 1.0 : exp(here - top);
    if (w->p <= LANE_OUTPUTS)
      for (int64_t l = 0; l < w->p; l++) outputs[l] = FN(sum_lanes)(from + l * VL);
    for (int64_t l = 0; l < w->p; l++) {
      const double value = w->p <= LANE_OUTPUTS ? outputs[l] : (double)from[l];
      check += value * 0.0;
      t[l] = keep * t[l] + take * value;
    }
    own->max[sample] = top;
    if (softmax) own->sum[sample] = keep * own->sum[sample] + take * sum;
    if (!(check == 0.0) && sample < share->bad) share->bad = sample;
  }
}

static void FN(block_statistics)(sntk_cpu_share *share, const FN(space) * w, const FN(tile) * tile, int64_t i0,
                                 int64_t rows, FN(v) * shift_top) {
  const sntk_activation activation = share->v->activation;
  const bool one = w->p == 1, paired = w->halves == 2;
  FN(project)(share, w, tile, i0, rows);
  if (share->v->layout == SNTK_LAYOUT_PLAIN) {
#define CASE(kind)                                                                                                     \
  if (activation == kind && one) FN(plain_rows)(w, tile, kind, true, rows);                                            \
  if (activation == kind && !one) FN(plain_rows)(w, tile, kind, false, rows);
    CASE(SNTK_SOFTMAX)
    CASE(SNTK_EXP)
    CASE(SNTK_RELU)
#undef CASE
  } else {
    const FN(v) top = FN(largest_shift)(w, rows);
    *shift_top = FN(larger)(*shift_top, top);
    const FN(reach) reach = !FN(any_above)(top, FN(all)((REAL)0.1)) ? FN(TENTH)
                            : !FN(any_above)(top, FN(all)(1))       ? FN(ONE)
                                                                    : FN(FAR);
#define CASE(relu, reach_, paired_)                                                                                    \
  if ((activation == SNTK_RELU) == (relu) && (relu || reach == (reach_)) && paired == (paired_)) {                     \
    if (one)                                                                                                           \
      FN(shifted_rows)(w, tile, relu, reach_, paired_, true, rows);                                                    \
    else                                                                                                               \
      FN(shifted_rows)(w, tile, relu, reach_, paired_, false, rows);                                                   \
  }
    CASE(false, FN(TENTH), false)
    CASE(false, FN(TENTH), true)
    CASE(false, FN(ONE), false)
    CASE(false, FN(ONE), true)
    CASE(false, FN(FAR), false)
    CASE(false, FN(FAR), true)
    CASE(true, FN(FAR), false)
    CASE(true, FN(FAR), true)
#undef CASE
  }
  if (!one) FN(add_outputs)(w, tile, rows, w->z);
}

static void FN(chunk_statistics)(sntk_cpu_share *share, const FN(space) * w, int64_t tiles, sntk_stats *own) {
  FN(v) shift_top = FN(all)(0);
  const bool unsafe = FN(is_unsafe)(w, tiles, share->input_size);
  for (int64_t tile = 0; tile < tiles; tile++) w->tiles[tile].unsafe = unsafe;
  for (int64_t i0 = 0; i0 < w->n; i0 += BLOCK) {
    const int64_t rows = w->n - i0 < BLOCK ? w->n - i0 : BLOCK;
    FN(begin_block)(share, w, own->max, i0, rows);
    for (int64_t tile = 0; tile < tiles; tile++) FN(block_statistics)(share, w, &w->tiles[tile], i0, rows, &shift_top);
    FN(end_block)(share, w, i0, rows, own);
  }
  const double top = (double)FN(max_lanes)(shift_top);
  if (top > own->shift_max) own->shift_max = top;
}

static void FN(statistics)(sntk_cpu_share *share, sntk_stats *own) {
  const FN(space) w = FN(space_of)(share, 0);
  for (int64_t at = share->first; at < share->first + share->count; at += w.chunk * TILE)
    FN(chunk_statistics)(share, &w, FN(pack_chunk)(share, &w, at, NULL, 0), own);
}

/* ---- slopes, and what they are multiplied by ---- */

/* The slopes are taken against the maximum in REAL: this factor makes them those of the maximum itself. */
static double FN(correction)(const sntk_cpu_share *share, const FN(space) * w, const double *max, int64_t i) {
  return share->v->activation == SNTK_SOFTMAX ? exp((double)w->max[i] - max[i]) : 1.0;
}

/* max, and (with a pull) scale / sum_i times r and c, in REAL. */
static void FN(ready_pull)(const sntk_cpu_share *share, const FN(space) * w, const double *max, const sntk_pull *pull) {
  const bool softmax = share->v->activation == SNTK_SOFTMAX;
  for (int64_t i = 0; i < w->n; i++) {
    w->max[i] = softmax ? (REAL)max[i] : 0;
    if (!pull) continue;
    const double factor = pull->scale * FN(correction)(share, w, max, i) / (softmax ? pull->sum[i] : 1.0);
    w->c[i] = (REAL)(factor * pull->c[i]);
    for (int64_t l = 0; l < w->p; l++) w->r[i * w->p + l] = (REAL)(factor * pull->r[i * w->p + l]);
  }
}

/* Slopes exp(z - max), exp(z) or [z > 0] at the weights in full, times (r A - c) and its kin: plain in place of z,
 * displaced of d1, paired of d1 and d2. With |d| <= 0.1 the two slopes of a pair share their exponential; else one
 * exponential of the sum keeps the relative error at eps |z + d - max|, where exp(z - max) (1 + expm1(d)) would lose
 * exp(|d|) for negative d. */
static inline __attribute__((always_inline)) void FN(slope_rows)(const FN(space) * w, const FN(tile) * tile,
                                                                 const sntk_activation activation,
                                                                 const sntk_layout layout, const pull_kind kind,
                                                                 const bool small, int64_t i0, int64_t rows) {
  const bool relu = activation == SNTK_RELU, paired = layout == SNTK_LAYOUT_PAIRED;
  REAL *const zs = w->z, *const d1s = w->d1, *const d2s = w->d2;
  const REAL *const ras = w->ra, *const signs = tile->signs;
  for (int64_t i = 0; i < rows; i++) {
    FN(v) max = FN(all)(w->max[i0 + i]), zero = FN(all)(0), unit = FN(all)(1);
    const FN(v) c = kind == PULL_NONE ? zero : FN(all)(w->c[i0 + i]);
    const FN(v) r = kind == PULL_ONE ? FN(all)(w->r[i0 + i]) : zero;
#pragma GCC unroll 8
    for (int b = 0; b < NV; b++) {
      const int64_t at = i * TILE + b * VL;
      const FN(v) z = FN(load)(zs + at);
      const FN(v) ra = kind == PULL_ONE ? r * FN(load)(signs + b * VL) : kind == PULL_MANY ? FN(load)(ras + at) : zero;
      FN(v) s1, s2 = zero;
      if (layout == SNTK_LAYOUT_PLAIN) {
        s1 = relu ? FN(positive)(z, unit, zero) : activation == SNTK_SOFTMAX ? FN(exp_negative)(z - max) : FN(exp)(z);
      } else {
        const FN(v) d1 = FN(load)(d1s + at), d2 = paired ? FN(load)(d2s + at) : zero;
        if (relu) {
          s1 = FN(positive)(z + d1, unit, zero);
          if (paired) s2 = FN(positive)(z + d2, unit, zero);
        } else if (paired && small) {
          const FN(v) e = FN(exp)(z - max);
          s1 = e + e * FN(expm1_tenth)(d1);
          s2 = e + e * FN(expm1_tenth)(d2);
        } else {
          s1 = FN(exp)((z - max) + d1);
          if (paired) s2 = FN(exp)((z - max) + d2);
        }
      }
      if (kind != PULL_NONE) {
        s1 *= ra - c;
        if (paired) s2 *= -ra - c;
      }
      FN(store)((layout == SNTK_LAYOUT_PLAIN ? zs : d1s) + at, s1);
      if (paired) FN(store)(d2s + at, s2);
    }
  }
}

static void FN(block_slopes)(sntk_cpu_share *share, const FN(space) * w, const FN(tile) * tile, bool pulled, int64_t i0,
                             int64_t rows) {
  const sntk_activation activation = share->v->activation;
  const sntk_layout layout = share->v->layout;
  const pull_kind kind = !pulled ? PULL_NONE : w->p == 1 ? PULL_ONE : PULL_MANY;
  FN(project)(share, w, tile, i0, rows);
  if (kind == PULL_MANY) FN(product)(rows, w->p, w->r + i0 * w->p, w->p, tile->signs, w->ra);
  const bool small = layout == SNTK_LAYOUT_PAIRED && activation != SNTK_RELU &&
                     !FN(any_above)(FN(largest_shift)(w, rows), FN(all)((REAL)0.1));
#define CASE(activation_, layout_, small_)                                                                             \
  if (activation == activation_ && layout == layout_ && small == small_) {                                             \
    if (kind == PULL_ONE) FN(slope_rows)(w, tile, activation_, layout_, PULL_ONE, small_, i0, rows);                   \
    if (kind == PULL_MANY) FN(slope_rows)(w, tile, activation_, layout_, PULL_MANY, small_, i0, rows);                 \
    if (kind == PULL_NONE) FN(slope_rows)(w, tile, activation_, layout_, PULL_NONE, small_, i0, rows);                 \
    return;                                                                                                            \
  }
  CASE(SNTK_SOFTMAX, SNTK_LAYOUT_PLAIN, false)
  CASE(SNTK_SOFTMAX, SNTK_LAYOUT_DISPLACED, false)
  CASE(SNTK_SOFTMAX, SNTK_LAYOUT_PAIRED, false)
  CASE(SNTK_SOFTMAX, SNTK_LAYOUT_PAIRED, true)
  CASE(SNTK_EXP, SNTK_LAYOUT_PLAIN, false)
  CASE(SNTK_EXP, SNTK_LAYOUT_DISPLACED, false)
  CASE(SNTK_EXP, SNTK_LAYOUT_PAIRED, false)
  CASE(SNTK_EXP, SNTK_LAYOUT_PAIRED, true)
  CASE(SNTK_RELU, SNTK_LAYOUT_PLAIN, false)
  CASE(SNTK_RELU, SNTK_LAYOUT_DISPLACED, false)
  CASE(SNTK_RELU, SNTK_LAYOUT_PAIRED, false)
#undef CASE
}

/* What block_slopes left: of the neurons with the sign, and (paired) of those with its opposite. */
static REAL *FN(slopes_of)(const sntk_cpu_share *share, const FN(space) * w, int half) {
  return half ? w->d2 : share->v->layout == SNTK_LAYOUT_PLAIN ? w->z : w->d1;
}

/* ---- gradient and step ---- */

static void FN(tile_gradient)(sntk_cpu_share *share, const FN(space) * w, FN(tile) * tile) {
  tile->unsafe = false; /* looked at when these weights' statistics were taken */
  for (int h = 0; h < w->halves; h++) memset(w->gradient[h], 0, (size_t)(w->d * TILE) * sizeof(REAL));
  for (int64_t i0 = 0; i0 < w->n; i0 += BLOCK) {
    const int64_t rows = w->n - i0 < BLOCK ? w->n - i0 : BLOCK;
    FN(block_slopes)(share, w, tile, true, i0, rows);
    for (int h = 0; h < w->halves; h++)
      FN(transposed_add)(rows, w->d, w->x + i0 * w->d, w->d, FN(slopes_of)(share, w, h), w->gradient[h]);
  }
}

static void FN(gradient)(sntk_cpu_share *share, const sntk_pull *pull, void *const out[2], int64_t ld) {
  const FN(space) w = FN(space_of)(share, 0);
  FN(ready_pull)(share, &w, pull->max, pull);
  FN(tile) *tile = &w.tiles[0];
  for (int64_t at = share->first; at < share->first + share->count; at += TILE) {
    FN(pack_tile)(share, &w, at, NULL, 0, tile);
    FN(tile_gradient)(share, &w, tile);
    for (int h = 0; h < w.halves; h++)
      for (int64_t k = 0; k < w.d; k++)
        memcpy((REAL *)out[h] + k * ld + at, w.gradient[h] + k * TILE, (size_t)tile->valid * sizeof(REAL));
  }
}

/* w -= eta g over a tile, whose columns are then written back; norms: |update|^2, |stored - update|^2, lane by lane.
 * All in float64, so that an update below the type's smallest number still counts as lost. */
static void FN(descend)(const FN(space) * w, const FN(tile) * tile, double eta, REAL *gradient, REAL *packed,
                        REAL *weights, int64_t ld, v_f64 norms[2]) {
  v_f64 square = norms[0], lost = norms[1];
  for (int64_t k = 0; k < w->d; k++) {
    REAL *g = gradient + k * TILE, *row = packed + k * TILE;
    for (int64_t j = tile->valid; j < TILE; j++) g[j] = 0;
#pragma GCC unroll 8
    for (int j = 0; j < TILE; j += DL) {
      const v_f64 update = -eta * FN(widen)(g + j), before = FN(widen)(row + j);
      FN(add_narrowed)(row + j, update);
      const v_f64 miss = (FN(widen)(row + j) - before) - update;
      square += update * update;
      lost += miss * miss;
    }
    if (tile->valid == TILE)
      memcpy(weights + k * ld + tile->at, row, TILE * sizeof(REAL));
    else
      memcpy(weights + k * ld + tile->at, row, (size_t)tile->valid * sizeof(REAL));
  }
  norms[0] = square;
  norms[1] = lost;
}

static void FN(descent)(sntk_cpu_share *share, const sntk_pull *pull, double eta, sntk_stats *next) {
  const FN(space) w = FN(space_of)(share, 0);
  const sntk_neurons *v = share->v;
  const bool plain = v->layout == SNTK_LAYOUT_PLAIN;
  v_f64 norms[2] = {{0.0}, {0.0}};
  FN(ready_pull)(share, &w, pull->max, pull);
  for (int64_t at = share->first; at < share->first + share->count; at += w.chunk * TILE) {
    const int64_t tiles = FN(pack_chunk)(share, &w, at, NULL, 0);
    for (int64_t t = 0; t < tiles; t++) {
      FN(tile) *tile = &w.tiles[t];
      FN(tile_gradient)(share, &w, tile);
      for (int h = 0; h < w.halves; h++) FN(descend)
      (&w, tile, eta, w.gradient[h], tile->layer[plain ? 0 : 1 + h], plain ? v->base : v->shift[h], v->ld, norms);
    }
    if (next) FN(chunk_statistics)(share, &w, tiles, next);
  }
  for (int i = 0; i < 2; i++)
    for (int j = 0; j < DL; j++) share->norms[i] += norms[i][j];
}

/* ---- J v ---- */

static void FN(block_push)(sntk_cpu_share *share, const FN(space) * w, const FN(tile) * tile, int64_t i0,
                           int64_t rows) {
  FN(block_slopes)(share, w, tile, false, i0, rows);
  REAL *const dots[] = {w->ra, w->dots};
  for (int h = 0; h < w->halves; h++)
    FN(product)(rows, w->d, w->x + i0 * w->d, w->d, tile->layer[w->layers - w->halves + h], dots[h]);
  const REAL *s1 = FN(slopes_of)(share, w, 0), *s2 = FN(slopes_of)(share, w, 1);
  const bool paired = w->halves == 2, one = w->p == 1;
  for (int64_t i = 0; i < rows; i++) {
    FN(v) phi[NV], plus[NV];
    for (int b = 0; b < NV; b++) {
      const int64_t at = i * TILE + b * VL;
      const FN(v) first = FN(load)(s1 + at) * FN(load)(w->ra + at);
      const FN(v) second = paired ? FN(load)(s2 + at) * FN(load)(w->dots + at) : FN(all)(0);
      phi[b] = first - second;
      plus[b] = first + second;
    }
    FN(add_row)(w, tile, one, i, FN(total)(plus), phi, w->z);
  }
  if (!one) FN(add_outputs)(w, tile, rows, w->z);
}

static void FN(push)(sntk_cpu_share *share, const double *max, const void *const direction[2], int64_t ld, double *dot,
                     double *mean) {
  const FN(space) w = FN(space_of)(share, share->v->layout == SNTK_LAYOUT_PAIRED ? 2 : 1);
  FN(ready_pull)(share, &w, max, NULL);
  for (int64_t at = share->first; at < share->first + share->count; at += w.chunk * TILE) {
    const int64_t tiles = FN(pack_chunk)(share, &w, at, direction, ld);
    for (int64_t i0 = 0; i0 < w.n; i0 += BLOCK) {
      const int64_t rows = w.n - i0 < BLOCK ? w.n - i0 : BLOCK;
      memset(w.sum, 0, (size_t)(rows * VL) * sizeof(REAL));
      memset(w.t, 0, (size_t)(rows * w.ldt) * sizeof(REAL));
      for (int64_t t = 0; t < tiles; t++) {
        w.tiles[t].unsafe = false;
        FN(block_push)(share, &w, &w.tiles[t], i0, rows);
      }
      for (int64_t i = 0; i < rows; i++) {
        const REAL *t = w.t + i * w.ldt;
        const double factor = FN(correction)(share, &w, max, i0 + i);
        mean[i0 + i] += factor * FN(sum_lanes)(w.sum + i * VL);
        for (int64_t l = 0; l < w.p; l++)
          dot[(i0 + i) * w.p + l] += factor * (w.p <= LANE_OUTPUTS ? FN(sum_lanes)(t + l * VL) : (double)t[l]);
      }
    }
  }
}

/* ---- features ---- */

/* `factors`: what the slopes of each sample are multiplied by. */
static void FN(block_features)(sntk_cpu_share *share, const FN(space) * w, const FN(tile) * tile, const REAL *factors,
                               const double *away, int64_t i0, int64_t rows, REAL *u, int64_t ld) {
  const bool softmax = share->v->activation == SNTK_SOFTMAX;
  FN(block_slopes)(share, w, tile, false, i0, rows);
  for (int64_t i = 0; i < rows; i++) {
    const FN(v) factor = FN(all)(factors[i0 + i]);
    for (int h = 0; h < w->halves; h++) {
      const REAL *s = FN(slopes_of)(share, w, h) + i * TILE;
      FN(v) scaled[NV];
      for (int b = 0; b < NV; b++) scaled[b] = factor * FN(load)(s + b * VL);
      for (int64_t l = 0; l < w->p; l++) {
        const double *by = away + 2 * ((i0 + i) * w->p + l);
        const FN(v) plus = FN(all)(softmax ? (REAL)by[0] : 1), minus = FN(all)(softmax ? (REAL)by[1] : -1);
        FN(v) row[NV];
        for (int b = 0; b < NV; b++) {
          const FN(v) sign = FN(load)(tile->signs + l * TILE + b * VL);
          row[b] = scaled[b] * FN(positive)(h ? -sign : sign, plus, minus);
        }
        memcpy(u + (i0 + i + w->n * l) * ld + tile->at + (h ? share->v->count : 0), row,
               (size_t)tile->valid * sizeof(REAL));
      }
    }
  }
}

static void FN(features)(sntk_cpu_share *share, const double *max, const double *sum, const double *away, void *u,
                         int64_t ld) {
  const FN(space) w = FN(space_of)(share, 0);
  const double root = sqrt((double)share->v->width);
  FN(ready_pull)(share, &w, max, NULL);
  for (int64_t i = 0; i < w.n; i++)
    w.c[i] =
        (REAL)(share->v->activation == SNTK_SOFTMAX ? root * FN(correction)(share, &w, max, i) / sum[i] : 1.0 / root);
  for (int64_t at = share->first; at < share->first + share->count; at += w.chunk * TILE) {
    const int64_t tiles = FN(pack_chunk)(share, &w, at, NULL, 0);
    for (int64_t i0 = 0; i0 < w.n; i0 += BLOCK)
      for (int64_t t = 0; t < tiles; t++) {
        w.tiles[t].unsafe = false;
        FN(block_features)(share, &w, &w.tiles[t], w.c, away, i0, w.n - i0 < BLOCK ? w.n - i0 : BLOCK, u, ld);
      }
  }
}

/* ---- the change of the features ---- */

/* du = U - U0 and um = U0 + du / 2 of a block. Softmax, with S0 = E / sum0 and e = expm1(d): dS = S0 (e - delta) / (1 +
 * delta), dU = sqrt(m) (dS (A - f) - S0 df): every term is as small as the change itself. */
static void FN(block_change)(sntk_cpu_share *share, const FN(space) * w, const FN(tile) * tile,
                             const sntk_change *change, int64_t i0, int64_t rows, REAL *du, REAL *um, int64_t ld) {
  const sntk_activation activation = share->v->activation;
  const bool softmax = activation == SNTK_SOFTMAX, relu = activation == SNTK_RELU;
  const FN(v) half = FN(all)((REAL)0.5), zero = FN(all)(0);
  FN(project)(share, w, tile, i0, rows);
  for (int64_t i = 0; i < rows; i++) {
    const int64_t sample = i0 + i;
    const double grown = softmax ? 1.0 + change->delta[sample] : 1.0;
    const FN(v) factor = FN(all)(w->c[sample]), max = FN(all)(w->max[sample]);
    const FN(v) delta = FN(all)(softmax ? (REAL)change->delta[sample] : 0), shrink = FN(all)((REAL)(1.0 / grown));
    for (int h = 0; h < w->halves; h++) {
      const REAL *shift = (h ? w->d2 : w->d1) + i * TILE;
      FN(v) s0[NV], ds[NV];
      for (int b = 0; b < NV; b++) {
        const FN(v) z = FN(load)(w->z + i * TILE + b * VL), d = FN(load)(shift + b * VL);
        if (relu) {
          s0[b] = FN(positive)(z, factor, zero);
          ds[b] = FN(positive)(z + d, factor, zero) - s0[b];
        } else {
          s0[b] = factor * FN(exp)(z - max);
          ds[b] = s0[b] * ((FN(expm1)(d) - delta) * shrink);
        }
      }
      for (int64_t l = 0; l < w->p; l++) {
        const int64_t il = sample * w->p + l;
        const double *now = change->away + 2 * il, *before = change->away0 + 2 * il;
        const FN(v) plus = FN(all)(softmax ? (REAL)now[0] : 1), minus = FN(all)(softmax ? (REAL)now[1] : -1);
        const FN(v) plus0 = FN(all)(softmax ? (REAL)before[0] : 1), minus0 = FN(all)(softmax ? (REAL)before[1] : -1);
        const FN(v) df = FN(all)(softmax ? (REAL)change->df[il] : 0);
        FN(v) row_du[NV], row_um[NV];
        for (int b = 0; b < NV; b++) {
          const FN(v) a = FN(load)(tile->signs + l * TILE + b * VL), sign = h ? -a : a;
          row_du[b] = ds[b] * FN(positive)(sign, plus, minus) - s0[b] * df;
          row_um[b] = s0[b] * FN(positive)(sign, plus0, minus0) + half * row_du[b];
        }
        const int64_t to = (sample + w->n * l) * ld + tile->at + (h ? share->v->count : 0);
        memcpy(du + to, row_du, (size_t)tile->valid * sizeof(REAL));
        memcpy(um + to, row_um, (size_t)tile->valid * sizeof(REAL));
      }
    }
  }
}

static void FN(feature_change)(sntk_cpu_share *share, const sntk_change *change, void *du, void *um, int64_t ld) {
  const FN(space) w = FN(space_of)(share, 0);
  const bool softmax = share->v->activation == SNTK_SOFTMAX;
  const double root = sqrt((double)share->v->width);
  FN(ready_pull)(share, &w, change->max, NULL);
  for (int64_t i = 0; i < w.n; i++)
    w.c[i] = (REAL)(softmax ? root * FN(correction)(share, &w, change->max, i) / change->sum0[i] : 1.0 / root);
  for (int64_t at = share->first; at < share->first + share->count; at += w.chunk * TILE) {
    const int64_t tiles = FN(pack_chunk)(share, &w, at, NULL, 0);
    for (int64_t i0 = 0; i0 < w.n; i0 += BLOCK)
      for (int64_t t = 0; t < tiles; t++) {
        w.tiles[t].unsafe = false;
        FN(block_change)(share, &w, &w.tiles[t], change, i0, w.n - i0 < BLOCK ? w.n - i0 : BLOCK, du, um, ld);
      }
  }
}

/* ---- the Gram matrix, features never leaving the caches ---- */

#if defined(__AVX512F__) || defined(__AVX2__)

/* Features by panels of TILE rows (rows being i + n l): panel q holds u at (depth index) x TILE. So both operands of
 * U U^T are read in whole vectors, and lanes are samples: nothing is transposed. */

static void FN(gram_ready)(sntk_cpu_share *share, const double *max, const double *sum, const double *away) {
  const FN(space) w = FN(space_of)(share, 0);
  const bool softmax = share->v->activation == SNTK_SOFTMAX;
  const double root = sqrt((double)share->v->width);
  FN(ready_pull)(share, &w, max, NULL);
  for (int64_t i = 0; i < w.n; i++) {
    w.c[i] = (REAL)(softmax ? root * FN(correction)(share, &w, max, i) / sum[i] : 1.0 / root);
    for (int64_t l = 2 * i * w.p; l < 2 * (i + 1) * w.p; l++) w.r[l] = softmax ? (REAL)away[l] : (REAL)(l % 2 ? -1 : 1);
  }
}

/* Slopes of a block of neurons (rows) at the panel's samples (lanes), as slope_rows, and times `factor`. */
static inline __attribute__((always_inline)) void FN(panel_slopes)(const FN(space) * w,
                                                                   const sntk_activation activation,
                                                                   const sntk_layout layout, const FN(v) max[NV],
                                                                   const FN(v) factor[NV], int64_t rows) {
  REAL *const zs = w->z, *const d1s = w->d1, *const d2s = w->d2;
  for (int64_t r = 0; r < rows; r++)
#pragma GCC unroll 8
    for (int b = 0; b < NV; b++) {
      const int64_t at = r * TILE + b * VL;
      const FN(v) z = FN(load)(zs + at), zero = FN(all)(0), unit = FN(all)(1);
      if (layout == SNTK_LAYOUT_PLAIN) {
        const FN(v) s = activation == SNTK_RELU      ? FN(positive)(z, unit, zero)
                        : activation == SNTK_SOFTMAX ? FN(exp_negative)(z - max[b])
                                                     : FN(exp)(z);
        FN(store)(zs + at, factor[b] * s);
        continue;
      }
      for (int h = 0; h < (layout == SNTK_LAYOUT_PAIRED ? 2 : 1); h++) {
        REAL *to = (h ? d2s : d1s) + at;
        const FN(v) d = FN(load)(to);
        const FN(v) s = activation == SNTK_RELU ? FN(positive)(z + d, unit, zero) : FN(exp)((z - max[b]) + d);
        FN(store)(to, factor[b] * s);
      }
    }
}

/* One output's features of a block of neurons at VL samples, into row index `row` ... of the panels. by: what a neuron
 * of a negative and of a positive sign is multiplied with. */
static inline void FN(scatter)(const REAL *slopes, const int8_t *positive, const FN(v) by[2], int64_t rows, int64_t row,
                               int64_t valid, REAL *panels, int64_t stride) {
  if (valid == VL && row % VL == 0) {
    REAL *to = panels + row / TILE * stride * TILE + row % TILE;
    for (int64_t r = 0; r < rows; r++) FN(store)(to + r * TILE, FN(load)(slopes + r * TILE) * by[positive[r]]);
    return;
  }
  for (int64_t r = 0; r < rows; r++) {
    REAL u[VL];
    const FN(v) value = FN(load)(slopes + r * TILE) * by[positive[r]];
    memcpy(u, &value, sizeof u);
    for (int64_t j = 0; j < valid; j++) panels[((row + j) / TILE * stride + r) * TILE + (row + j) % TILE] = u[j];
  }
}

/* The panel's samples as lanes: x^T (d x TILE). */
static void FN(gram_inputs)(const sntk_cpu_share *share, int64_t panel, void *inputs) {
  const FN(space) w = FN(space_of)(share, 0);
  REAL *x = (REAL *)inputs + panel * w.d * TILE;
  for (int64_t j = 0; j < TILE; j++)
    for (int64_t k = 0; k < w.d; k++) x[k * TILE + j] = panel * TILE + j < w.n ? w.x[(panel * TILE + j) * w.d + k] : 0;
}

/* The features of columns [first, first + count) at the panel's samples, into the panels of their rows. */
static void FN(gram_panel)(sntk_cpu_share *share, int64_t panel, const void *inputs, int64_t first, int64_t count,
                           void *panels, int64_t stride) {
  const FN(space) w = FN(space_of)(share, 0);
  const sntk_neurons *v = share->v;
  const sntk_layout layout = v->layout;
  const void *const layers[] = {v->base, v->shift[0], v->shift[1]};
  const REAL *x = (const REAL *)inputs + panel * w.d * TILE;
  REAL *const logits[] = {w.z, w.d1, w.d2}, *const weights = w.packed; /* d x BLOCK */
  REAL *const by = w.packed + w.d * BLOCK;                             /* p x 2 x TILE: negative, positive */
  const int64_t i0 = panel * TILE, lanes = w.n - i0 < TILE ? w.n - i0 : TILE;
  REAL max_lanes[TILE] = {0}, factor_lanes[TILE] = {0};
  FN(v) max[NV], factor[NV];
  for (int64_t l = 0; l < w.p; l++)
    for (int64_t j = 0; j < 2 * TILE; j++)
      by[2 * l * TILE + j] = j % TILE < lanes ? w.r[2 * ((i0 + j % TILE) * w.p + l) + (j < TILE)] : 0;
  memcpy(max_lanes, w.max + i0, (size_t)lanes * sizeof(REAL));
  memcpy(factor_lanes, w.c + i0, (size_t)lanes * sizeof(REAL));
  memcpy(max, max_lanes, sizeof max);
  memcpy(factor, factor_lanes, sizeof factor);
  for (int64_t at = 0; at < count; at += BLOCK) {
    const int64_t rows = count - at < BLOCK ? count - at : BLOCK;
    for (int layer = 0; layer < w.layers; layer++) {
      for (int64_t k = 0; k < w.d; k++) {
        const REAL *from = (const REAL *)layers[layer] + k * v->ld + first + at;
        if (rows == BLOCK) /* a constant size, without a call */
          memcpy(weights + k * BLOCK, from, BLOCK * sizeof(REAL));
        else
          memcpy(weights + k * BLOCK, from, (size_t)rows * sizeof(REAL));
      }
      memset(logits[layer], 0, (size_t)(rows * TILE) * sizeof(REAL));
      FN(transposed_add)(w.d, rows, weights, BLOCK, x, logits[layer]);
    }
#define CASE(activation_, layout_)                                                                                     \
  if (v->activation == activation_ && layout == layout_) FN(panel_slopes)(&w, activation_, layout_, max, factor, rows);
    CASE(SNTK_SOFTMAX, SNTK_LAYOUT_PLAIN)
    CASE(SNTK_SOFTMAX, SNTK_LAYOUT_DISPLACED)
    CASE(SNTK_SOFTMAX, SNTK_LAYOUT_PAIRED)
    CASE(SNTK_EXP, SNTK_LAYOUT_PLAIN)
    CASE(SNTK_EXP, SNTK_LAYOUT_DISPLACED)
    CASE(SNTK_EXP, SNTK_LAYOUT_PAIRED)
    CASE(SNTK_RELU, SNTK_LAYOUT_PLAIN)
    CASE(SNTK_RELU, SNTK_LAYOUT_DISPLACED)
    CASE(SNTK_RELU, SNTK_LAYOUT_PAIRED)
#undef CASE
    for (int64_t l = 0; l < w.p; l++)
      for (int h = 0; h < w.halves; h++) {
        const REAL *slopes = layout == SNTK_LAYOUT_PLAIN ? w.z : h ? w.d2 : w.d1;
        const int8_t *from = v->signs + l * v->ld_signs + first + at;
        int8_t positive[BLOCK];
        for (int64_t r = 0; r < rows; r++) positive[r] = (h ? -from[r] : from[r]) > 0;
        for (int64_t b = 0; b < lanes; b += VL) {
          const FN(v) either[2] = {FN(load)(by + 2 * l * TILE + b), FN(load)(by + (2 * l + 1) * TILE + b)};
          FN(scatter)
          (slopes + b, positive, either, rows, i0 + b + w.n * l, lanes - b < VL ? lanes - b : VL,
           (REAL *)panels + (at + h * count) * TILE, stride);
        }
      }
  }
}

/* Block row `row` of the products: blocks (row, 0 ... row), TILE x TILE each, += panels^T panels over their depth. A
 * few depth indices at a time, so that the row's own piece stays at hand. */
static void FN(gram_row)(int64_t row, const void *panels, int64_t depth, int64_t stride, void *blocks) {
  enum { DEPTH = 128 };
  const REAL *from = panels;
  REAL *to = (REAL *)blocks + row * (row + 1) / 2 * TILE * TILE;
  for (int64_t k = 0; k < depth; k += DEPTH) {
    const int64_t terms = depth - k < DEPTH ? depth - k : DEPTH;
    const REAL *a = from + (row * stride + k) * TILE;
    for (int64_t column = 0; column <= row; column++)
      FN(transposed_add)(terms, TILE, a, TILE, from + (column * stride + k) * TILE, to + column * TILE * TILE);
  }
}

/* gram (rows x rows, lower triangle) += the products of block row `row`. */
static void FN(gram_flush)(int64_t row, const void *blocks, int64_t rows, double *gram) {
  const REAL *from = (const REAL *)blocks + row * (row + 1) / 2 * TILE * TILE;
  for (int64_t a = row * TILE; a < (row + 1) * TILE && a < rows; a++)
    for (int64_t column = 0; column <= row; column++) {
      const REAL *block = from + column * TILE * TILE + (a - row * TILE) * TILE;
      const int64_t c0 = column * TILE, left = a + 1 - c0, count = left < TILE ? left : TILE;
      for (int64_t j = 0; j < count; j++) gram[a * rows + c0 + j] += (double)block[j];
    }
}

#endif

/* ---- the exponentials and multiply-adds alone, for tests and the machine's limits ---- */

static inline __attribute__((always_inline)) void FN(map)(int64_t count, const REAL *x, REAL *out, const bool minus_one,
                                                          const FN(reach) reach) {
  for (int64_t at = 0; at < count; at += VL) {
    const bool whole = count - at >= VL;
    const size_t bytes = whole ? VECTOR_BYTES : (size_t)(count - at) * sizeof(REAL);
    FN(v) in = FN(all)(0);
    if (whole)
      memcpy(&in, x + at, VECTOR_BYTES);
    else
      memcpy(&in, x + at, bytes);
    const FN(v) value = minus_one ? FN(expm1_of)(reach, in) : FN(exp)(in);
    if (whole)
      memcpy(out + at, &value, VECTOR_BYTES);
    else
      memcpy(out + at, &value, bytes);
  }
}

static void FN(exp_array)(int64_t count, const REAL *x, REAL *out) { FN(map)(count, x, out, false, FN(FAR)); }

static void FN(expm1_array)(int64_t count, double bound, const REAL *x, REAL *out) {
  if (bound <= 0.1)
    FN(map)(count, x, out, true, FN(TENTH));
  else if (bound <= 1.0)
    FN(map)(count, x, out, true, FN(ONE));
  else
    FN(map)(count, x, out, true, FN(FAR));
}

/* NS x NV independent chains of multiply-adds in registers: the processor's own limit. */
static double FN(multiply_adds)(int64_t rounds, double factor) {
  FN(v) chain[NS][NV];
  const FN(v) x = FN(all)((REAL)factor);
#pragma GCC unroll 8
  for (int i = 0; i < NS; i++)
#pragma GCC unroll 8
    for (int j = 0; j < NV; j++) chain[i][j] = FN(all)((REAL)(i * NV + j));
  for (int64_t round = 0; round < rounds; round++)
#pragma GCC unroll 8
    for (int i = 0; i < NS; i++)
#pragma GCC unroll 8
      for (int j = 0; j < NV; j++) chain[i][j] = chain[i][j] * x + x;
  FN(v) total = FN(all)(0);
#pragma GCC unroll 8
  for (int i = 0; i < NS; i++) total += FN(total)(chain[i]);
  return (double)total[0];
}
