/**
 * @file forward.cu
 * @brief Fused forward statistics: logits, online maximum, exponential sum and signed sums, nothing of size samples x
 * neurons stored.
 *
 * softmax: max_i, sum_i = sum_r exp(z_ir - max_i), t_il = sum_r A_lr exp(z_ir - max_i); exp and relu: t_il alone.
 * Layouts with a base add the change: E e, see pass.c.
 *
 * Work per (sample, neuron): d multiply-adds for the logit, 1 maximum, 1 multiply-add for the exponent, 1 exponential,
 * 1 + p for the sums: d + p + 3 FP32 slots and 1 of the 16-a-clock special function unit; the FP32 pipe binds from
 * d = 8 on. Bytes: W once, 4 d a neuron.
 *
 * A block takes a tile of samples and a chunk of neurons, keeps running (max, sum, t) per thread and sample, and meets
 * its lanes only at the end of the chunk. Partials of chunks are merged in order by a small kernel in float64: the same
 * shape gives the same bits. With several outputs the signed sums are a matrix product of their own: exponentials pass
 * through shared memory, tiled T2 x T2 a thread.
 *
 * SPDX-License-Identifier: MIT
 */
#include "elements.cuh"
#include "kernels.cuh"
#include "tile.cuh"

namespace {

struct forward_arguments {
  const void *x, *w[3];
  const int8_t *signs;
  int64_t ld, ld_signs, count, samples, chunk;
  unsigned sample_tiles;
  int dim, ld_x, dp, outputs, pp, stages;
  const double *fixed_max;
  double *partial; /* chunks x samples x (outputs + 3) */
};

/* Reals that the exponentials of a tile take, whose room later holds the signed sums. */
template <class S>
__host__ __device__ constexpr int exponentials(int pp) {
  return (S::TS + GAP_TILE) * S::TN > S::TS * pp ? (S::TS + GAP_TILE) * S::TN : S::TS * pp;
}

template <class R, int LAYOUT, int ACT, bool ONE, int TI>
__global__ void __launch_bounds__(TILE_THREADS, 2) forward_kernel(forward_arguments a) {
  typedef tile_shape<R, LAYOUT, TI> S;
  constexpr int TJ = S::TJ, TN = S::TN, TS = S::TS, M = S::matrices, V = S::V, T2 = S::T2;
  constexpr bool RUNNING_MAX = LAYOUT == SNTK_LAYOUT_PLAIN && ACT == SNTK_SOFTMAX;
  SNTK_DYNAMIC_SHARED(R, shared);
  const int thread = threadIdx.x, tx = tile_x(thread), ty = tile_y(thread);
  /* neighbouring blocks share a chunk of neurons, which comes from memory, and differ in samples, which stay in the
   * cache */
  const int64_t chunk_index = blockIdx.x / a.sample_tiles;
  const int64_t sample0 = static_cast<int64_t>(blockIdx.x % a.sample_tiles) * TS;
  const int64_t chunk0 = chunk_index * a.chunk;
  const int64_t chunk1 = chunk0 + a.chunk < a.count ? chunk0 + a.chunk : a.count;
  constexpr int X_STEP = vector_step<R>(TS, GAP_COPY), E_STEP = vector_step<R>(TS, GAP_TILE);
  const int dp = a.dp, pp = ONE ? 1 : a.pp;
  const int weight_tile = M * dp * TN;
  R *xs = shared;                                   /* TS x dp, by vectors */
  R *ws = xs + dp / V * X_STEP;                     /* stages x M x dp x TN */
  R *ss = ws + a.stages * weight_tile;              /* stages x pp x TN */
  R *es = ss + a.stages * pp * TN;                  /* ONE: unused; TS x TN by vectors, at the end TS x pp */
  R *factor = es + (ONE ? 0 : exponentials<S>(pp)); /* ONE: unused; TS */

  const int64_t rows = a.samples - sample0 < TS ? a.samples - sample0 : TS;
  copy_async<R>(xs, V, X_STEP, TS, dp, deal<R, TILE_THREADS>(dp, thread),
                static_cast<const R *>(a.x) + sample0 * a.ld_x, a.ld_x, rows, a.ld_x);
  const copy_turns weight_turns = deal<R, TILE_THREADS>(TN, thread);
  auto load_tile = [&](int stage, int64_t column) {
#pragma unroll
    for (int w = 0; w < M; w++)
      copy_async<R>(ws + stage * weight_tile + w * dp * TN, TN, V, dp, TN, weight_turns,
                    static_cast<const R *>(a.w[w]) + column, a.ld, a.dim, chunk1 - column);
    __pipeline_commit();
    load_signs<R, TN>(ss + stage * pp * TN, pp, a.signs, a.ld_signs, a.outputs, column, chunk1, thread);
  };

  /* running statistics of this thread's rows; with several outputs t lives in the second product's accumulators */
  R max[TI], sum[TI], t[TI], widest[TI];
  const bool shifted = LAYOUT != SNTK_LAYOUT_PLAIN;
#pragma unroll
  for (int i = 0; i < TI; i++) {
    const int64_t row = sample0 + ty + TILE_Y * i;
    max[i] = RUNNING_MAX ? lowest<R>() : shifted && ACT == SNTK_SOFTMAX && row < a.samples ? R(a.fixed_max[row]) : R(0);
    sum[i] = t[i] = widest[i] = R(0);
  }
  /* second product (several outputs): tiles of T2 rows, ROW_TILES apart, x T2 outputs, the columns dealt to groups of
   * threads */
  constexpr int ROW_TILES = TS / T2;
  const int tiles = ONE ? TILE_THREADS : ROW_TILES * (pp / T2), groups = TILE_THREADS / tiles;
  const int tile = thread % tiles, group = thread / tiles;
  const int tile_row = tile % ROW_TILES, tile_out = tile / ROW_TILES * T2;
  constexpr int A2 = ONE ? 1 : T2;
  R acc2[A2][A2];
  tile_zero<R, A2, A2>(acc2);

  R check = R(0); /* sizes of the weights, by the first tile of samples alone, and of the inputs, by the first chunk */
  /* two stages: the next tile comes while this one is worked on */
  const int64_t ahead = a.stages == 2 ? TN : 0;
  if (ahead) load_tile(0, chunk0);
  int stage = 0;
  for (int64_t column = chunk0; column < chunk1; column += TN) {
    const bool more = column + ahead < chunk1;
    if (more) load_tile(ahead ? 1 - stage : 0, column + ahead);
    if (ahead && more)
      __pipeline_wait_prior(1);
    else
      __pipeline_wait_prior(0);
    __syncthreads();

    if (sample0 == 0) check = add_sizes<TILE_THREADS>(ws + stage * weight_tile, TN, M * dp, TN, check);
    R acc[M][TI][TJ];
#pragma unroll
    for (int w = 0; w < M; w++) {
      tile_zero<R, TI, TJ>(acc[w]);
      tile_product<R, TI, TJ>(xs, ws + stage * weight_tile + w * dp * TN, dp, ty, tx, acc[w]);
    }
    const R *signs = ss + stage * pp * TN + tx * V;
    if (column + TN > chunk1) { /* columns beyond the end: a logit of -inf adds nothing to any network */
#pragma unroll
      for (int j = 0; j < TJ; j++)
        if (column + tile_column<R>(tx, j) >= chunk1)
#pragma unroll
          for (int i = 0; i < TI; i++) acc[0][i][j] = R(-INFINITY);
    }
    R sign[TJ];
#pragma unroll
    for (int j = 0; j < TJ; j += V) load16(signs + j * TILE_X, sign + j);
#pragma unroll
    for (int i = 0; i < TI; i++) {
      if (RUNNING_MAX) {
        R top = acc[0][i][0];
#pragma unroll
        for (int j = 1; j < TJ; j++) top = larger(top, acc[0][i][j]);
        if (!ONE) top = lanes_max<TILE_X, 2>(top); /* a row's factor must be one for all its columns */
        const R before = exp_shift(max[i]);
        max[i] = larger(max[i], top);
        const R scale = exp_rescale(before, exp_shift(max[i]));
        sum[i] *= scale;
        t[i] *= scale;
        if (!ONE && tx == 0) factor[ty + TILE_Y * i] = scale;
      }
      const R shift = ACT == SNTK_SOFTMAX ? exp_shift(max[i]) : R(0);
#pragma unroll
      for (int j = 0; j < TJ; j++) {
        R logits[M], phi, part;
#pragma unroll
        for (int w = 0; w < M; w++) logits[w] = acc[w][i][j];
        contribution<R, LAYOUT, ACT>(logits, shift, &phi, &part);
        if (ACT == SNTK_SOFTMAX) sum[i] += part;
        if (ONE) t[i] = fused(sign[j], phi, t[i]);
        if (shifted) {
#pragma unroll
          for (int w = 1; w < M; w++) widest[i] = larger(widest[i], fabs(logits[w]));
        }
        acc[0][i][j] = phi;
      }
      if (!ONE) {
#pragma unroll
        for (int j = 0; j < TJ; j += V)
          store16(es + (j / V * TILE_X + tx) * E_STEP + (ty + TILE_Y * i) * V, &acc[0][i][j]);
      }
    }
    if (!ONE) {
      __syncthreads();
      if (group < groups) {
        if (RUNNING_MAX) {
#pragma unroll
          for (int i = 0; i < A2; i++) {
            const R scale = factor[tile_row + i * ROW_TILES];
#pragma unroll
            for (int l = 0; l < A2; l++) acc2[i][l] *= scale;
          }
        }
        const R *out_signs = ss + stage * pp * TN;
        for (int j = group * V; j < TN; j += groups * V) {
          R ev[A2][V];
#pragma unroll
          for (int i = 0; i < A2; i++) load16(es + j / V * E_STEP + (tile_row + i * ROW_TILES) * V, ev[i]);
#pragma unroll
          for (int l = 0; l < A2; l++) {
            R av[V];
            load16(out_signs + (tile_out + l) * TN + j, av);
#pragma unroll
            for (int e = 0; e < V; e++)
#pragma unroll
              for (int i = 0; i < A2; i++) acc2[i][l] = fused(av[e], ev[i][e], acc2[i][l]);
          }
        }
      }
    }
    __syncthreads(); /* the stage, es and factor are written again next */
    if (ahead) stage = 1 - stage;
  }

  if (chunk_index == 0) check = add_sizes<TILE_THREADS>(xs, X_STEP, dp / V, TS * V, check);
  const double least = sample0 == 0 || chunk_index == 0 ? least_shift(check) : 0.0;
  /* the lanes of a row meet */
  const int64_t width = a.outputs + 3;
  double *out = a.partial + (chunk_index * a.samples + sample0) * width;
#pragma unroll
  for (int i = 0; i < TI; i++) {
    if (RUNNING_MAX && ONE) {
      const R top = lanes_max<TILE_X, 2>(max[i]);
      const R scale = exp_rescale(exp_shift(max[i]), exp_shift(top));
      sum[i] *= scale;
      t[i] *= scale;
      max[i] = top;
    }
    const R whole = lanes_sum<TILE_X, 2>(sum[i]), signed_sum = ONE ? lanes_sum<TILE_X, 2>(t[i]) : R(0),
            shift = lanes_max<TILE_X, 2>(widest[i]);
    const int row = ty + TILE_Y * i;
    if (tx == 0 && row < rows) {
      out[row * width + 0] = max[i];
      out[row * width + 1] = whole;
      out[row * width + 2] = shift > least ? shift : least;
      if (ONE) out[row * width + 3] = signed_sum;
    }
  }
  if (!ONE) { /* groups add their signed sums in order; es has room for TS x pp */
    for (int g = 0; g < groups; g++) {
      __syncthreads();
      if (group == g)
#pragma unroll
        for (int i = 0; i < A2; i++)
#pragma unroll
          for (int l = 0; l < A2; l++) {
            R *cell = es + (tile_row + i * ROW_TILES) * pp + tile_out + l;
            *cell = g == 0 ? acc2[i][l] : *cell + acc2[i][l];
          }
    }
    __syncthreads();
    for (int at = thread; at < TS * a.outputs; at += TILE_THREADS) {
      const int row = at / a.outputs, l = at % a.outputs;
      if (row < rows) out[row * width + 3 + l] = es[row * pp + l];
    }
  }
}

/* Does a shape fit `most` bytes of shared memory, with a tile of the second product a thread? */
template <class R, int LAYOUT, int TI>
bool fits(forward_plan *plan, const sntk_neurons &v, int stages, int64_t most) {
  typedef tile_shape<R, LAYOUT, TI> S;
  const bool one = v.outputs == 1;
  plan->rows = TI;
  plan->stages = stages;
  plan->dp = static_cast<int>((v.dim + S::V - 1) / S::V * S::V);
  plan->pp = one ? 1 : static_cast<int>((v.outputs + S::T2 - 1) / S::T2 * S::T2);
  const int64_t reals = static_cast<int64_t>(S::TS + GAP_COPY) * plan->dp +
                        static_cast<int64_t>(stages) * (S::matrices * plan->dp + plan->pp) * S::TN +
                        (one ? 0 : exponentials<S>(plan->pp) + S::TS);
  plan->fused =
      reals * static_cast<int64_t>(sizeof(R)) <= most && (one || S::TS / S::T2 * (plan->pp / S::T2) <= TILE_THREADS);
  if (plan->fused) plan->shared_bytes = static_cast<int>(reals * sizeof(R));
  return plan->fused;
}

template <class R, int LAYOUT, int ACT, bool ONE, int TI>
cudaError_t start(cudaStream_t stream, const forward_plan &plan, const forward_arguments &a) {
  typedef tile_shape<R, LAYOUT, TI> S;
  cudaError_t error = cudaFuncSetAttribute(forward_kernel<R, LAYOUT, ACT, ONE, TI>,
                                           cudaFuncAttributeMaxDynamicSharedMemorySize, plan.shared_bytes);
  if (error != cudaSuccess) return error;
  forward_arguments tiled = a;
  tiled.sample_tiles = static_cast<unsigned>((a.samples + S::TS - 1) / S::TS);
  return launch(forward_kernel<R, LAYOUT, ACT, ONE, TI>, dim3(static_cast<unsigned>(plan.chunks) * tiled.sample_tiles),
                dim3(TILE_THREADS), static_cast<size_t>(plan.shared_bytes), stream, tiled);
}

template <class R, int LAYOUT, bool ONE, int TI>
cudaError_t by_activation(cudaStream_t stream, const forward_plan &plan, const sntk_neurons &v,
                          const forward_arguments &a) {
  switch (v.activation) {
    case SNTK_SOFTMAX:
      return start<R, LAYOUT, SNTK_SOFTMAX, ONE, TI>(stream, plan, a);
    case SNTK_RELU:
      return start<R, LAYOUT, SNTK_RELU, ONE, TI>(stream, plan, a);
    default:
      return start<R, LAYOUT, SNTK_EXP, ONE, TI>(stream, plan, a);
  }
}

/* Not with several logits and several outputs: the second product would spill their accumulators. */
template <int LAYOUT>
bool may_be_tall(const sntk_neurons &v) {
  return v.outputs == 1 || LAYOUT == SNTK_LAYOUT_PLAIN;
}

template <class R, int LAYOUT, int TALL>
cudaError_t by_shape(cudaStream_t stream, const forward_plan &plan, const sntk_neurons &v, const forward_arguments &a) {
  constexpr int TALL_MANY = LAYOUT == SNTK_LAYOUT_PLAIN ? TALL : 4;
  if (v.outputs == 1)
    return plan.rows == TALL ? by_activation<R, LAYOUT, true, TALL>(stream, plan, v, a)
                             : by_activation<R, LAYOUT, true, 4>(stream, plan, v, a);
  return plan.rows == TALL ? by_activation<R, LAYOUT, false, TALL_MANY>(stream, plan, v, a)
                           : by_activation<R, LAYOUT, false, 4>(stream, plan, v, a);
}

template <class R, int TALL>
cudaError_t by_layout(cudaStream_t stream, const forward_plan &plan, const sntk_neurons &v,
                      const forward_arguments &a) {
  switch (v.layout) {
    case SNTK_LAYOUT_PLAIN:
      return by_shape<R, SNTK_LAYOUT_PLAIN, TALL>(stream, plan, v, a);
    case SNTK_LAYOUT_DISPLACED:
      return by_shape<R, SNTK_LAYOUT_DISPLACED, TALL>(stream, plan, v, a);
    default:
      return by_shape<R, SNTK_LAYOUT_PAIRED, TALL>(stream, plan, v, a);
  }
}

/* The first shape that fits: two blocks a multiprocessor come before tall tiles of samples, tall tiles before two
 * stages. */
template <class R, int LAYOUT, int TALL>
void choose(forward_plan *plan, const device_limits &limits, const sntk_neurons &v) {
  for (const int64_t most : {shared_for_two(limits.shared_bytes), static_cast<int64_t>(limits.shared_bytes)}) {
    if (may_be_tall<LAYOUT>(v) && (fits<R, LAYOUT, TALL>(plan, v, 2, most) || fits<R, LAYOUT, TALL>(plan, v, 1, most)))
      return;
    if (fits<R, LAYOUT, 4>(plan, v, 2, most) || fits<R, LAYOUT, 4>(plan, v, 1, most)) return;
  }
}

template <class R, int TALL>
void choose_by_layout(forward_plan *plan, const device_limits &limits, const sntk_neurons &v) {
  switch (v.layout) {
    case SNTK_LAYOUT_PLAIN:
      choose<R, SNTK_LAYOUT_PLAIN, TALL>(plan, limits, v);
      break;
    case SNTK_LAYOUT_DISPLACED:
      choose<R, SNTK_LAYOUT_DISPLACED, TALL>(plan, limits, v);
      break;
    default:
      choose<R, SNTK_LAYOUT_PAIRED, TALL>(plan, limits, v);
      break;
  }
}

}  // namespace

/* Neurons summed in float32 by one thread stay below this times TJ / TN. */
constexpr int64_t CHUNK_MOST = 8192;

forward_plan plan_forward(const device_limits &limits, const sntk_neurons &v, int64_t samples) {
  forward_plan plan = {};
  if (v.dim > 4096 || v.outputs > 4096) return plan; /* far beyond shared memory */
  if (tensor_takes(limits, v) && tensor_shared_bytes(v, false) <= limits.shared_bytes) {
    plan.fused = plan.tensor = true;
    plan.rows = TENSOR_TILE_SAMPLES / TILE_Y;
    plan.dp = static_cast<int>((v.dim + 15) / 16 * 16);
    plan.shared_bytes = tensor_shared_bytes(v, false);
  } else if (v.type == SNTK_F32) {
    choose_by_layout<float, 8>(&plan, limits, v);
  } else {
    choose_by_layout<double, 4>(&plan, limits, v);
  }
  if (!plan.fused) return plan;
  /* at least two waves of blocks, two on a multiprocessor, each chunk a whole number of the widest tiles */
  const int64_t tiles = (samples + TILE_Y * plan.rows - 1) / (TILE_Y * plan.rows),
                wanted = (4 * limits.multiprocessors + tiles - 1) / tiles;
  int64_t chunk = (v.count + wanted - 1) / wanted;
  chunk = (chunk + 63) / 64 * 64;
  plan.chunk = chunk > CHUNK_MOST ? CHUNK_MOST : chunk;
  plan.chunks = (v.count + plan.chunk - 1) / plan.chunk;
  if (plan.chunks * tiles > INT32_MAX) plan.fused = false;
  return plan;
}

cudaError_t launch_forward(cudaStream_t stream, const forward_plan &plan, const sntk_neurons &v, const void *x,
                           int64_t ld_x, int64_t samples, const double *fixed_max, double *partial, double *out) {
  if (plan.tensor) {
    const cudaError_t error = launch_tensor_forward(stream, plan, v, x, ld_x, samples, fixed_max, partial);
    return error == cudaSuccess ? launch_merge(stream, partial, plan.chunks, samples, v.outputs, out) : error;
  }
  forward_arguments a = {};
  a.x = x;
  a.w[0] = v.base;
  a.w[1] = v.shift[0];
  a.w[2] = v.shift[1];
  a.signs = v.signs;
  a.ld = v.ld;
  a.ld_signs = v.ld_signs;
  a.count = v.count;
  a.samples = samples;
  a.chunk = plan.chunk;
  a.dim = static_cast<int>(v.dim);
  a.ld_x = static_cast<int>(ld_x);
  a.dp = plan.dp;
  a.outputs = static_cast<int>(v.outputs);
  a.pp = plan.pp;
  a.stages = plan.stages;
  a.fixed_max = fixed_max;
  a.partial = partial;
  const cudaError_t error =
      v.type == SNTK_F32 ? by_layout<float, 8>(stream, plan, v, a) : by_layout<double, 4>(stream, plan, v, a);
  if (error != cudaSuccess) return error;
  return launch_merge(stream, partial, plan.chunks, samples, v.outputs, out);
}
