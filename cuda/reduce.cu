/**
 * @file reduce.cu
 * @brief Merges in fixed order, the Gram matrix's elementwise parts, and the small operations on weights. Bound by
 * memory; not tuned further.
 *
 * SPDX-License-Identifier: MIT
 */
#include "device.cuh"
#include "kernels.cuh"

namespace {

constexpr int THREADS = 128;

__device__ __forceinline__ int64_t first_item() { return static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x; }
__device__ __forceinline__ int64_t item_step() { return static_cast<int64_t>(gridDim.x) * THREADS; }

/* A thread an output: each merges max and sum for itself, so that no thread waits for another. */
__global__ void __launch_bounds__(THREADS)
    merge_kernel(const double *partial, int64_t chunks, int64_t samples, int64_t outputs, double *out) {
  const int64_t width = outputs + 3;
  for (int64_t at = first_item(); at < samples * outputs; at += item_step()) {
    const int64_t i = at / outputs, l = at % outputs;
    double max = -INFINITY, sum = 0.0, t = 0.0, shift = 0.0;
    for (int64_t c = 0; c < chunks; c++) {
      const double *row = partial + (c * samples + i) * width;
      const double top = row[0] > max ? row[0] : max;
      const double w = max == top ? 1.0 : exp(max - top), w2 = row[0] == top ? 1.0 : exp(row[0] - top);
      max = top;
      sum = w * sum + w2 * row[1];
      t = w * t + w2 * row[3 + l];
      shift = row[2] > shift ? row[2] : shift;
    }
    double *to = out + i * width;
    to[3 + l] = t;
    if (l == 0) {
      to[0] = max;
      to[1] = sum;
      to[2] = shift;
    }
  }
}

/* One block: strided sums by thread, then a tree, always the same. */
__global__ void __launch_bounds__(THREADS) sum_pairs_kernel(const double *pairs, int64_t count, double *out) {
  __shared__ double sums[2][THREADS];
  double a = 0.0, b = 0.0;
  for (int64_t at = threadIdx.x; at < count; at += THREADS) {
    a += pairs[2 * at];
    b += pairs[2 * at + 1];
  }
  sums[0][threadIdx.x] = a;
  sums[1][threadIdx.x] = b;
  __syncthreads();
  for (int half = THREADS / 2; half > 0; half /= 2) {
    if (static_cast<int>(threadIdx.x) < half) {
      sums[0][threadIdx.x] += sums[0][threadIdx.x + half];
      sums[1][threadIdx.x] += sums[1][threadIdx.x + half];
    }
    __syncthreads();
  }
  if (threadIdx.x == 0) {
    out[0] = sums[0][0];
    out[1] = sums[1][0];
  }
}

__global__ void __launch_bounds__(THREADS) add_lower_kernel(const float *product, int64_t rows, double *gram) {
  for (int64_t at = first_item(); at < rows * rows; at += item_step())
    if (at % rows <= at / rows) gram[at] += static_cast<double>(product[at]);
}

template <class R>
__global__ void __launch_bounds__(THREADS) pad_kernel(const R *from, int64_t rows, int64_t cols, int64_t ld, R *to) {
  for (int64_t at = first_item(); at < rows * ld; at += item_step()) {
    const int64_t row = at / ld, col = at % ld;
    to[at] = col < cols ? from[row * cols + col] : R(0);
  }
}

__global__ void __launch_bounds__(THREADS) narrow_kernel(const double *from, int64_t count, float *to) {
  for (int64_t at = first_item(); at < count; at += item_step()) to[at] = static_cast<float>(from[at]);
}

__global__ void __launch_bounds__(THREADS)
    hadamard_kernel(const double *k, int64_t samples, int64_t size, double *gram) {
  for (int64_t at = first_item(); at < size * size; at += item_step()) {
    const int64_t a = at / size, c = at % size;
    if (c > a) continue; /* only the thread of the lower element reads or writes the pair */
    const int64_t i = a % samples, j = c % samples;
    const double value = gram[at] * (i >= j ? k[i * samples + j] : k[j * samples + i]);
    gram[at] = value;
    gram[c * size + a] = value;
  }
}

template <class R>
__global__ void __launch_bounds__(THREADS)
    widen_kernel(const R *base, int64_t ld, int64_t dim, int64_t count, double *out) {
  for (int64_t at = first_item(); at < dim * count; at += item_step())
    out[at] = static_cast<double>(base[at / count * ld + at % count]);
}

/* A thread a neuron. The maximum of non-negative doubles is that of their bits: an integer atomic, whose result no
 * order changes. */
template <class R>
__global__ void __launch_bounds__(THREADS)
    movement_kernel(const R *base, const R *shift, int64_t ld, const R *origin, int64_t ld_origin, int64_t dim,
                    int64_t count, unsigned long long *largest) {
  for (int64_t r = first_item(); r < count; r += item_step()) {
    double square = 0.0;
    for (int64_t k = 0; k < dim; k++) {
      double moved = shift ? static_cast<double>(shift[k * ld + r]) : 0.0;
      if (origin) moved += static_cast<double>(base[k * ld + r]) - static_cast<double>(origin[k * ld_origin + r]);
      square += moved * moved;
    }
    atomicMax(largest, static_cast<unsigned long long>(__double_as_longlong(sqrt(square))));
  }
}

/* base' = fl(base + shift), shift' = the exact remainder (two-sum in float64; exact for float32 values). */
template <class R>
__global__ void __launch_bounds__(THREADS) move_base_kernel(R *base, R *shift, int64_t ld, int64_t dim, int64_t count) {
  for (int64_t at = first_item(); at < dim * count; at += item_step()) {
    const int64_t here = at / count * ld + at % count;
    const double b = base[here], s = shift[here];
    const R moved = static_cast<R>(__dadd_rn(b, s));
    const double part = __dadd_rn(static_cast<double>(moved), -b);
    base[here] = moved;
    shift[here] =
        static_cast<R>(__dadd_rn(__dadd_rn(b, -__dadd_rn(static_cast<double>(moved), -part)), __dadd_rn(s, -part)));
  }
}

template <class R>
__global__ void __launch_bounds__(THREADS)
    unpair_kernel(const R *base, const R *shift0, const R *shift1, int64_t ld, R *to_base, R *to_shift, int64_t to_ld,
                  int64_t dim, int64_t pairs) {
  for (int64_t at = first_item(); at < dim * pairs * 2; at += item_step()) {
    const int64_t k = at / (2 * pairs), r = at % (2 * pairs);
    to_base[k * to_ld + r] = base[k * ld + r / 2];
    to_shift[k * to_ld + r] = (r % 2 ? shift1 : shift0)[k * ld + r / 2];
  }
}

__global__ void __launch_bounds__(THREADS)
    single_signs_kernel(const int8_t *signs, int64_t ld, int8_t *to, int64_t to_ld, int64_t outputs, int64_t count,
                        int each) {
  for (int64_t at = first_item(); at < outputs * count * each; at += item_step()) {
    const int64_t l = at / (each * count), r = at % (each * count);
    to[l * to_ld + r] = static_cast<int8_t>(r % each ? -signs[l * ld + r / each] : signs[l * ld + r / each]);
  }
}

template <class R>
__global__ void __launch_bounds__(THREADS) read_kernel(const R *base, const R *shift, int64_t ld, int64_t dim,
                                                       int64_t count, int step, int half, double *out, int64_t out_ld) {
  for (int64_t at = first_item(); at < dim * count; at += item_step()) {
    const int64_t k = at / count, r = at % count;
    out[k * out_ld + step * r + half] =
        static_cast<double>(base[k * ld + r]) + (shift ? static_cast<double>(shift[k * ld + r]) : 0.0);
  }
}

}  // namespace

cudaError_t launch_merge(cudaStream_t stream, const double *partial, int64_t chunks, int64_t samples, int64_t outputs,
                         double *out) {
  return launch(merge_kernel, dim3(blocks_for(samples * outputs, THREADS)), dim3(THREADS), 0, stream, partial, chunks,
                samples, outputs, out);
}

cudaError_t launch_sum_pairs(cudaStream_t stream, const double *pairs, int64_t count, double *out) {
  return launch(sum_pairs_kernel, dim3(1), dim3(THREADS), 0, stream, pairs, count, out);
}

cudaError_t launch_add_lower(cudaStream_t stream, const float *product, int64_t rows, double *gram) {
  return launch(add_lower_kernel, dim3(blocks_for(rows * rows, THREADS)), dim3(THREADS), 0, stream, product, rows,
                gram);
}

cudaError_t launch_pad(cudaStream_t stream, sntk_precision type, const void *from, int64_t rows, int64_t cols,
                       int64_t ld, void *to) {
  const dim3 blocks(blocks_for(rows * ld, THREADS));
  if (type == SNTK_F32)
    return launch(pad_kernel<float>, blocks, dim3(THREADS), 0, stream, static_cast<const float *>(from), rows, cols, ld,
                  static_cast<float *>(to));
  return launch(pad_kernel<double>, blocks, dim3(THREADS), 0, stream, static_cast<const double *>(from), rows, cols, ld,
                static_cast<double *>(to));
}

cudaError_t launch_narrow(cudaStream_t stream, const double *from, int64_t count, float *to) {
  return launch(narrow_kernel, dim3(blocks_for(count, THREADS)), dim3(THREADS), 0, stream, from, count, to);
}

cudaError_t launch_hadamard(cudaStream_t stream, const double *k, int64_t samples, int64_t outputs, double *gram) {
  const int64_t size = samples * outputs;
  return launch(hadamard_kernel, dim3(blocks_for(size * size, THREADS)), dim3(THREADS), 0, stream, k, samples, size,
                gram);
}

cudaError_t launch_widen(cudaStream_t stream, const sntk_neurons &v, double *out) {
  const dim3 blocks(blocks_for(v.dim * v.count, THREADS));
  if (v.type == SNTK_F32)
    return launch(widen_kernel<float>, blocks, dim3(THREADS), 0, stream, static_cast<const float *>(v.base), v.ld,
                  v.dim, v.count, out);
  return launch(widen_kernel<double>, blocks, dim3(THREADS), 0, stream, static_cast<const double *>(v.base), v.ld,
                v.dim, v.count, out);
}

cudaError_t launch_movement(cudaStream_t stream, const sntk_neurons &v, int half, const void *origin, int64_t ld,
                            unsigned long long *largest) {
  const dim3 blocks(blocks_for(v.count, THREADS));
  if (v.type == SNTK_F32)
    return launch(movement_kernel<float>, blocks, dim3(THREADS), 0, stream, static_cast<const float *>(v.base),
                  static_cast<const float *>(v.shift[half]), v.ld, static_cast<const float *>(origin), ld, v.dim,
                  v.count, largest);
  return launch(movement_kernel<double>, blocks, dim3(THREADS), 0, stream, static_cast<const double *>(v.base),
                static_cast<const double *>(v.shift[half]), v.ld, static_cast<const double *>(origin), ld, v.dim,
                v.count, largest);
}

cudaError_t launch_move_base(cudaStream_t stream, const sntk_neurons &v) {
  const dim3 blocks(blocks_for(v.dim * v.count, THREADS));
  if (v.type == SNTK_F32)
    return launch(move_base_kernel<float>, blocks, dim3(THREADS), 0, stream, static_cast<float *>(v.base),
                  static_cast<float *>(v.shift[0]), v.ld, v.dim, v.count);
  return launch(move_base_kernel<double>, blocks, dim3(THREADS), 0, stream, static_cast<double *>(v.base),
                static_cast<double *>(v.shift[0]), v.ld, v.dim, v.count);
}

cudaError_t launch_unpair(cudaStream_t stream, const sntk_neurons &v, const sntk_neurons &to) {
  const dim3 blocks(blocks_for(2 * v.dim * v.count, THREADS));
  const cudaError_t error =
      v.type == SNTK_F32
          ? launch(unpair_kernel<float>, blocks, dim3(THREADS), 0, stream, static_cast<const float *>(v.base),
                   static_cast<const float *>(v.shift[0]), static_cast<const float *>(v.shift[1]), v.ld,
                   static_cast<float *>(to.base), static_cast<float *>(to.shift[0]), to.ld, v.dim, v.count)
          : launch(unpair_kernel<double>, blocks, dim3(THREADS), 0, stream, static_cast<const double *>(v.base),
                   static_cast<const double *>(v.shift[0]), static_cast<const double *>(v.shift[1]), v.ld,
                   static_cast<double *>(to.base), static_cast<double *>(to.shift[0]), to.ld, v.dim, v.count);
  if (error != cudaSuccess) return error;
  return launch_single_signs(stream, v, to.signs, to.ld_signs);
}

cudaError_t launch_single_signs(cudaStream_t stream, const sntk_neurons &v, int8_t *to, int64_t ld) {
  const int each = v.layout == SNTK_LAYOUT_PAIRED ? 2 : 1;
  return launch(single_signs_kernel, dim3(blocks_for(each * v.outputs * v.count, THREADS)), dim3(THREADS), 0, stream,
                v.signs, v.ld_signs, to, ld, v.outputs, v.count, each);
}

cudaError_t launch_read_weights(cudaStream_t stream, const sntk_neurons &v, int half, double *out, int64_t ld) {
  const dim3 blocks(blocks_for(v.dim * v.count, THREADS));
  const int step = v.layout == SNTK_LAYOUT_PAIRED ? 2 : 1;
  if (v.type == SNTK_F32)
    return launch(read_kernel<float>, blocks, dim3(THREADS), 0, stream, static_cast<const float *>(v.base),
                  static_cast<const float *>(v.shift[half]), v.ld, v.dim, v.count, step, half, out, ld);
  return launch(read_kernel<double>, blocks, dim3(THREADS), 0, stream, static_cast<const double *>(v.base),
                static_cast<const double *>(v.shift[half]), v.ld, v.dim, v.count, step, half, out, ld);
}
