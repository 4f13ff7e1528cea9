/**
 * @file features.cu
 * @brief Kernels over a slab of logits that stands in memory: features U for the Gram matrix, J v, and the passes for
 * inputs too wide, or outputs too many, for the fused kernels.
 *
 * The slab (samples x b) comes from cuBLAS. These kernels read and write it once; beside the products with d or samples
 * x outputs columns on either side of them they are bound by memory and small.
 *
 * SPDX-License-Identifier: MIT
 */
#include "device.cuh"
#include "kernels.cuh"

namespace {

constexpr int THREADS = 128;
constexpr int64_t SLAB_CHUNK = 2048; /* columns whose statistics are summed in the computation's type */

template <class R>
__device__ __forceinline__ R slope(sntk_activation activation, R z, R shift) {
  return activation == SNTK_RELU ? (z > R(0) ? R(1) : R(0)) : exp_minus(z, shift);
}

/* z becomes the slope at z; or each shift given the slope at z + shift. */
template <class R>
__global__ void __launch_bounds__(THREADS)
    slopes_kernel(sntk_activation activation, int64_t samples, int64_t b, const double *max, R *z, R *d1, R *d2) {
  for (int64_t at = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x; at < samples * b;
       at += static_cast<int64_t>(gridDim.x) * THREADS) {
    const R shift = activation == SNTK_SOFTMAX ? exp_shift(static_cast<R>(max[at / b])) : R(0);
    if (d1) d1[at] = slope(activation, z[at] + d1[at], shift);
    if (d2) d2[at] = slope(activation, z[at] + d2[at], shift);
    if (!d1) z[at] = slope(activation, z[at], shift);
  }
}

/* Sum or maximum over the block in a fixed order; every thread gets it. */
template <class R, bool MAX>
__device__ __forceinline__ R block_reduce(R value, R *scratch) {
  const int thread = threadIdx.x;
  __syncthreads();
  scratch[thread] = value;
  __syncthreads();
  for (int half = THREADS / 2; half > 0; half /= 2) {
    if (thread < half)
      scratch[thread] =
          MAX ? larger(scratch[thread], scratch[thread + half]) : scratch[thread] + scratch[thread + half];
    __syncthreads();
  }
  return scratch[0];
}

template <class R>
__device__ __forceinline__ R relu(R z) {
  return z < R(0) ? R(0) : z;
}

/* A block a sample and chunk of columns. phi replaces z, so that the p signed sums need not recompute it. */
template <class R>
__global__ void __launch_bounds__(THREADS)
    slab_statistics_kernel(sntk_activation activation, int64_t samples, int64_t b, R *z, const R *d1, const R *d2,
                           const int8_t *signs, int64_t ld_signs, int64_t outputs, const double *fixed_max,
                           double *partial) {
  __shared__ R scratch[THREADS];
  const int thread = threadIdx.x;
  const int64_t i = blockIdx.x % samples, chunk = blockIdx.x / samples;
  const int64_t j0 = chunk * SLAB_CHUNK, j1 = j0 + SLAB_CHUNK < b ? j0 + SLAB_CHUNK : b;
  R *row = z + i * b;
  R max = R(0), widest = R(0), sum = R(0), check = R(0); /* check: NaN where a logit is not finite, -inf included */
  if (activation == SNTK_SOFTMAX && d1) {
    max = static_cast<R>(fixed_max[i]);
  } else if (activation == SNTK_SOFTMAX) {
    max = row[j0];
    for (int64_t j = j0 + thread; j < j1; j += THREADS) max = larger(max, row[j]);
    max = block_reduce<R, true>(max, scratch);
  }
  const R shift = activation == SNTK_SOFTMAX ? exp_shift(max) : R(0);
  for (int64_t j = j0 + thread; j < j1; j += THREADS) {
    const R zj = row[j], a = d1 ? d1[i * b + j] : R(0), c = d2 ? d2[i * b + j] : R(0);
    R phi, part = R(0);
    if (!d1) {
      phi = part = activation == SNTK_RELU ? relu(zj) : exp_minus(zj, shift);
    } else if (activation == SNTK_RELU) {
      const R other = d2 ? c : R(0);
      phi = zj + a > R(0) && zj + other > R(0) ? a - other : relu(zj + a) - relu(zj + other);
    } else {
      const R e = exp_minus(zj, shift), e1 = expm1_short(a), e2 = d2 ? expm1_short(c) : R(0);
      phi = e * (e1 - e2);
      part = e * (e1 + e2);
    }
    row[j] = phi;
    sum += part;
    check = fused(zj, R(0), check);
    widest = larger(widest, larger(fabs(a), fabs(c)));
  }
  sum = block_reduce<R, false>(sum, scratch);
  widest = block_reduce<R, true>(check == R(0) && widest < R(INFINITY) ? widest : R(INFINITY), scratch);
  double *out = partial + (chunk * samples + i) * (outputs + 3);
  if (thread == 0) {
    out[0] = max;
    out[1] = activation == SNTK_SOFTMAX ? static_cast<double>(sum) : 0.0;
    out[2] = widest;
  }
  for (int64_t l = 0; l < outputs; l++) {
    R t = R(0);
    for (int64_t j = j0 + thread; j < j1; j += THREADS) t = fused(R(signs[l * ld_signs + j]), row[j], t);
    t = block_reduce<R, false>(t, scratch);
    if (thread == 0) out[3 + l] = t;
  }
}

template <class R>
__global__ void __launch_bounds__(THREADS)
    pull_kernel(int64_t samples, int64_t b, R *slopes, const int8_t *signs, int64_t ld_signs, int64_t outputs,
                const R *coefficients, int64_t width, R flip) {
  for (int64_t at = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x; at < samples * b;
       at += static_cast<int64_t>(gridDim.x) * THREADS) {
    const R *c = coefficients + at / b * width;
    R ra = R(0);
    for (int64_t l = 0; l < outputs; l++) ra = fused(c[l], R(signs[l * ld_signs + at % b]), ra);
    slopes[at] *= flip * ra - c[width - 1];
  }
}

/* A block a sample: it alone adds to that sample's sums. */
template <class R>
__global__ void __launch_bounds__(THREADS)
    push_kernel(int64_t b, const R *slopes, const R *pushed, const int8_t *signs, int64_t ld_signs, int64_t outputs,
                double flip, const double *factor, double *dot, double *mean) {
  __shared__ double scratch[THREADS];
  const int64_t i = blockIdx.x;
  const R *s = slopes + i * b, *v = pushed + i * b;
  for (int64_t l = -1; l < outputs; l++) { /* -1: the plain sum */
    double sum = 0.0;
    for (int64_t j = threadIdx.x; j < b; j += THREADS)
      sum += (l < 0 ? 1.0 : static_cast<double>(signs[l * ld_signs + j])) * static_cast<double>(s[j] * v[j]);
    sum = block_reduce<double, false>(sum, scratch);
    if (threadIdx.x == 0) {
      if (l < 0)
        mean[i] += factor[i] * sum;
      else
        dot[i * outputs + l] += factor[i] * flip * sum;
    }
  }
}

template <class R>
__global__ void __launch_bounds__(THREADS)
    features_kernel(int64_t samples, int64_t b, const R *slopes, const int8_t *signs, int64_t ld_signs, int64_t outputs,
                    const double *factor, const double *away, R flip, R *u, int64_t ld, int64_t offset) {
  for (int64_t at = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x; at < samples * b;
       at += static_cast<int64_t>(gridDim.x) * THREADS) {
    const int64_t i = at / b, j = at % b;
    const R scaled = static_cast<R>(factor[i]) * slopes[at];
    for (int64_t l = 0; l < outputs; l++) {
      const double *by = away + 2 * (i * outputs + l);
      u[(i + samples * l) * ld + offset + j] =
          scaled * static_cast<R>(flip * R(signs[l * ld_signs + j]) > R(0) ? by[0] : by[1]);
    }
  }
}

/* Softmax: dS = S0 (e - delta) / (1 + delta) and dU = sqrt(m) (dS (A - f) - S0 df); relu: the jump of the slope; exp: E
 * e A. None of them is a difference of features. */
template <class R>
__global__ void __launch_bounds__(THREADS)
    feature_change_kernel(sntk_activation activation, int64_t samples, int64_t b, const R *z, const R *d,
                          const int8_t *signs, int64_t ld_signs, int64_t outputs, const double *coefficients, R flip,
                          R *du, R *um, int64_t ld, int64_t offset) {
  for (int64_t at = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x; at < samples * b;
       at += static_cast<int64_t>(gridDim.x) * THREADS) {
    const int64_t i = at / b, j = at % b;
    const double *c = coefficients + i * (4 + 5 * outputs);
    const R factor = static_cast<R>(c[1]), base = z[at], shift = d[at];
    const R size = factor * slope(activation, base, exp_shift(static_cast<R>(c[0])));
    R change; /* of the slope, over `size`; relu: times the factor */
    if (activation == SNTK_RELU)
      change = factor * slope(activation, base + shift, R(0)) - size;
    else
      change = (expm1_short(shift) - static_cast<R>(c[2])) * static_cast<R>(c[3]);
    for (int64_t l = 0; l < outputs; l++) {
      const R a = flip * R(signs[l * ld_signs + j]);
      const double *of = c + 4 + 5 * l + (a > R(0) ? 0 : 1); /* A - f of the base, of the network; df */
      const R before = static_cast<R>(of[0]), now = static_cast<R>(of[2]), df = static_cast<R>(c[8 + 5 * l]);
      const R by = activation == SNTK_RELU ? change * a : size * (change * now - df);
      const int64_t to = (i + samples * l) * ld + offset + j;
      du[to] = by;
      um[to] = fused(R(0.5), by, size * before);
    }
  }
}

/* z becomes the sum; each thread reads the logits of its own element alone. */
template <class R>
__global__ void __launch_bounds__(THREADS)
    kernel_pull_kernel(int64_t samples, int64_t b, R *z, const R *d, const R *pulled, const R *u, const int8_t *signs,
                       int64_t ld_signs, int64_t outputs, const double *band, double root) {
  for (int64_t at = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x; at < samples * b;
       at += static_cast<int64_t>(gridDim.x) * THREADS) {
    const int64_t i = at / b, j = at % b;
    const R logit = d ? z[at] + d[at] : z[at];
    const bool inside = band && fabs(static_cast<double>(logit)) < band[i];
    const R height = inside ? static_cast<R>(0.5 / (root * band[i])) : R(0);
    R sum = R(0);
    for (int64_t l = 0; l < outputs; l++) {
      const int64_t row = at + l * samples * b;
      const R w = band ? height * R(signs[l * ld_signs + j]) : u[row];
      sum = fused(pulled[row], w, sum);
    }
    z[at] = sum;
  }
}

/* A block a sample: it alone adds to that sample's sums. */
template <class R>
__global__ void __launch_bounds__(THREADS)
    slope_sums_kernel(int64_t samples, int64_t b, const R *slopes, const R *pulled, int64_t outputs,
                      const double *factor, double *sums) {
  __shared__ double scratch[THREADS];
  const int64_t i = blockIdx.x;
  for (int64_t l = 0; l < outputs; l++) {
    const R *v = pulled + (i + samples * l) * b;
    double sum = 0.0;
    for (int64_t j = threadIdx.x; j < b; j += THREADS) sum += static_cast<double>(slopes[i * b + j] * v[j]);
    sum = block_reduce<double, false>(sum, scratch);
    if (threadIdx.x == 0) sums[i * outputs + l] += factor[i] * sum;
  }
}

}  // namespace

cudaError_t launch_slopes(cudaStream_t stream, const sntk_neurons &v, const logit_slab &s, const double *max) {
  const dim3 blocks(blocks_for(s.samples * s.b, THREADS));
  if (v.type == SNTK_F32)
    return launch(slopes_kernel<float>, blocks, dim3(THREADS), 0, stream, v.activation, s.samples, s.b, max,
                  static_cast<float *>(s.z), static_cast<float *>(s.d1), static_cast<float *>(s.d2));
  return launch(slopes_kernel<double>, blocks, dim3(THREADS), 0, stream, v.activation, s.samples, s.b, max,
                static_cast<double *>(s.z), static_cast<double *>(s.d1), static_cast<double *>(s.d2));
}

int64_t slab_statistics_chunks(int64_t b) { return (b + SLAB_CHUNK - 1) / SLAB_CHUNK; }

cudaError_t launch_slab_statistics(cudaStream_t stream, const sntk_neurons &v, const logit_slab &s,
                                   const double *fixed_max, double *partial, double *out) {
  const int64_t chunks = slab_statistics_chunks(s.b);
  const dim3 blocks(static_cast<unsigned>(chunks * s.samples));
  const cudaError_t error =
      v.type == SNTK_F32
          ? launch(slab_statistics_kernel<float>, blocks, dim3(THREADS), 0, stream, v.activation, s.samples, s.b,
                   static_cast<float *>(s.z), static_cast<const float *>(s.d1), static_cast<const float *>(s.d2),
                   v.signs, v.ld_signs, v.outputs, fixed_max, partial)
          : launch(slab_statistics_kernel<double>, blocks, dim3(THREADS), 0, stream, v.activation, s.samples, s.b,
                   static_cast<double *>(s.z), static_cast<const double *>(s.d1), static_cast<const double *>(s.d2),
                   v.signs, v.ld_signs, v.outputs, fixed_max, partial);
  return error == cudaSuccess ? launch_merge(stream, partial, chunks, s.samples, v.outputs, out) : error;
}

cudaError_t launch_pull(cudaStream_t stream, const sntk_neurons &v, int64_t samples, int64_t b, void *slope,
                        const void *coefficients, int64_t width, double flip) {
  const dim3 blocks(blocks_for(samples * b, THREADS));
  if (v.type == SNTK_F32)
    return launch(pull_kernel<float>, blocks, dim3(THREADS), 0, stream, samples, b, static_cast<float *>(slope),
                  v.signs, v.ld_signs, v.outputs, static_cast<const float *>(coefficients), width,
                  static_cast<float>(flip));
  return launch(pull_kernel<double>, blocks, dim3(THREADS), 0, stream, samples, b, static_cast<double *>(slope),
                v.signs, v.ld_signs, v.outputs, static_cast<const double *>(coefficients), width, flip);
}

cudaError_t launch_push(cudaStream_t stream, const sntk_neurons &v, int64_t samples, int64_t b, const void *slope,
                        const void *pushed, double flip, const double *factor, double *dot, double *mean) {
  const dim3 blocks(static_cast<unsigned>(samples));
  if (v.type == SNTK_F32)
    return launch(push_kernel<float>, blocks, dim3(THREADS), 0, stream, b, static_cast<const float *>(slope),
                  static_cast<const float *>(pushed), v.signs, v.ld_signs, v.outputs, flip, factor, dot, mean);
  return launch(push_kernel<double>, blocks, dim3(THREADS), 0, stream, b, static_cast<const double *>(slope),
                static_cast<const double *>(pushed), v.signs, v.ld_signs, v.outputs, flip, factor, dot, mean);
}

cudaError_t launch_features(cudaStream_t stream, const sntk_neurons &v, int64_t samples, int64_t b, const void *slope,
                            const double *factor, const double *away, double flip, void *u, int64_t ld,
                            int64_t offset) {
  const dim3 blocks(blocks_for(samples * b, THREADS));
  if (v.type == SNTK_F32)
    return launch(features_kernel<float>, blocks, dim3(THREADS), 0, stream, samples, b,
                  static_cast<const float *>(slope), v.signs, v.ld_signs, v.outputs, factor, away,
                  static_cast<float>(flip), static_cast<float *>(u), ld, offset);
  return launch(features_kernel<double>, blocks, dim3(THREADS), 0, stream, samples, b,
                static_cast<const double *>(slope), v.signs, v.ld_signs, v.outputs, factor, away, flip,
                static_cast<double *>(u), ld, offset);
}

cudaError_t launch_feature_change(cudaStream_t stream, const sntk_neurons &v, const logit_slab &s, int half,
                                  const double *coefficients, void *du, void *um, int64_t ld, int64_t offset) {
  const dim3 blocks(blocks_for(s.samples * s.b, THREADS));
  const void *d = half ? s.d2 : s.d1;
  const double flip = half ? -1.0 : 1.0;
  if (v.type == SNTK_F32)
    return launch(feature_change_kernel<float>, blocks, dim3(THREADS), 0, stream, v.activation, s.samples, s.b,
                  static_cast<const float *>(s.z), static_cast<const float *>(d), v.signs, v.ld_signs, v.outputs,
                  coefficients, static_cast<float>(flip), static_cast<float *>(du), static_cast<float *>(um), ld,
                  offset);
  return launch(feature_change_kernel<double>, blocks, dim3(THREADS), 0, stream, v.activation, s.samples, s.b,
                static_cast<const double *>(s.z), static_cast<const double *>(d), v.signs, v.ld_signs, v.outputs,
                coefficients, flip, static_cast<double *>(du), static_cast<double *>(um), ld, offset);
}

cudaError_t launch_kernel_pull(cudaStream_t stream, const sntk_neurons &v, const logit_slab &s, const void *pulled,
                               const void *u, const double *band, double root) {
  const dim3 blocks(blocks_for(s.samples * s.b, THREADS));
  if (v.type == SNTK_F32)
    return launch(kernel_pull_kernel<float>, blocks, dim3(THREADS), 0, stream, s.samples, s.b,
                  static_cast<float *>(s.z), static_cast<const float *>(s.d1), static_cast<const float *>(pulled),
                  static_cast<const float *>(u), v.signs, v.ld_signs, v.outputs, band, root);
  return launch(kernel_pull_kernel<double>, blocks, dim3(THREADS), 0, stream, s.samples, s.b,
                static_cast<double *>(s.z), static_cast<const double *>(s.d1), static_cast<const double *>(pulled),
                static_cast<const double *>(u), v.signs, v.ld_signs, v.outputs, band, root);
}

cudaError_t launch_slope_sums(cudaStream_t stream, const sntk_neurons &v, int64_t samples, int64_t b, const void *slope,
                              const void *pulled, const double *factor, double *sums) {
  const dim3 blocks(static_cast<unsigned>(samples));
  if (v.type == SNTK_F32)
    return launch(slope_sums_kernel<float>, blocks, dim3(THREADS), 0, stream, samples, b,
                  static_cast<const float *>(slope), static_cast<const float *>(pulled), v.outputs, factor, sums);
  return launch(slope_sums_kernel<double>, blocks, dim3(THREADS), 0, stream, samples, b,
                static_cast<const double *>(slope), static_cast<const double *>(pulled), v.outputs, factor, sums);
}
