/**
 * @file runtime_api.h
 * @brief The part of the CUDA runtime's host interface that the emulator provides: names and values as CUDA's.
 *
 * Streams are queues: work runs when something waits for it, so that a missing synchronization shows (README.md).
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef EMU_RUNTIME_API_H
#define EMU_RUNTIME_API_H

#include <memory>
#include <tuple>
#include <utility>

#include "types.h"

#define CUDART_VERSION 12000

enum cudaError {
#define EMU_ERROR(name, number, text) name = number,
#include "errors.def"
#undef EMU_ERROR
};
typedef enum cudaError cudaError_t;

enum cudaMemcpyKind {
  cudaMemcpyHostToHost = 0,
  cudaMemcpyHostToDevice = 1,
  cudaMemcpyDeviceToHost = 2,
  cudaMemcpyDeviceToDevice = 3,
  cudaMemcpyDefault = 4
};

typedef struct CUstream_st *cudaStream_t;
typedef struct CUevent_st *cudaEvent_t;
typedef struct CUgraph_st *cudaGraph_t;
typedef struct CUgraphExec_st *cudaGraphExec_t;

#define cudaStreamDefault 0x00
#define cudaStreamNonBlocking 0x01
#define cudaStreamLegacy ((cudaStream_t)0x1)
#define cudaEventDefault 0x00
#define cudaEventBlockingSync 0x01
#define cudaEventDisableTiming 0x02
#define cudaHostAllocDefault 0x00

enum cudaStreamCaptureMode {
  cudaStreamCaptureModeGlobal = 0,
  cudaStreamCaptureModeThreadLocal = 1,
  cudaStreamCaptureModeRelaxed = 2
};
enum cudaStreamCaptureStatus {
  cudaStreamCaptureStatusNone = 0,
  cudaStreamCaptureStatusActive = 1,
  cudaStreamCaptureStatusInvalidated = 2
};

enum cudaDeviceAttr {
  cudaDevAttrMaxThreadsPerBlock = 1,
  cudaDevAttrMaxBlockDimX = 2,
  cudaDevAttrMaxBlockDimY = 3,
  cudaDevAttrMaxBlockDimZ = 4,
  cudaDevAttrMaxGridDimX = 5,
  cudaDevAttrMaxGridDimY = 6,
  cudaDevAttrMaxGridDimZ = 7,
  cudaDevAttrMaxSharedMemoryPerBlock = 8,
  cudaDevAttrWarpSize = 10,
  cudaDevAttrMaxRegistersPerBlock = 12,
  cudaDevAttrClockRate = 13,
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrConcurrentKernels = 31,
  cudaDevAttrMemoryClockRate = 36,
  cudaDevAttrGlobalMemoryBusWidth = 37,
  cudaDevAttrL2CacheSize = 38,
  cudaDevAttrMaxThreadsPerMultiProcessor = 39,
  cudaDevAttrAsyncEngineCount = 40,
  cudaDevAttrUnifiedAddressing = 41,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
  cudaDevAttrMaxSharedMemoryPerMultiprocessor = 81,
  cudaDevAttrMaxRegistersPerMultiprocessor = 82,
  cudaDevAttrSingleToDoublePrecisionPerfRatio = 87,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
  cudaDevAttrMaxBlocksPerMultiprocessor = 106,
  cudaDevAttrReservedSharedMemoryPerBlock = 111
};

/** The members that the project may read; those that CUDA 13 removed (clock rates) are attributes only. */
struct cudaDeviceProp {
  char name[256];
  size_t totalGlobalMem;
  size_t sharedMemPerBlock;
  int regsPerBlock;
  int warpSize;
  int maxThreadsPerBlock;
  int maxThreadsDim[3];
  int maxGridSize[3];
  size_t totalConstMem;
  int major;
  int minor;
  int multiProcessorCount;
  int integrated;
  int concurrentKernels;
  int ECCEnabled;
  int pciBusID;
  int pciDeviceID;
  int pciDomainID;
  int asyncEngineCount;
  int unifiedAddressing;
  int memoryBusWidth;
  int l2CacheSize;
  int maxThreadsPerMultiProcessor;
  size_t sharedMemPerMultiprocessor;
  int regsPerMultiprocessor;
  size_t sharedMemPerBlockOptin;
  int maxBlocksPerMultiProcessor;
  size_t reservedSharedMemPerBlock;
};

enum cudaFuncAttribute {
  cudaFuncAttributeMaxDynamicSharedMemorySize = 8,
  cudaFuncAttributePreferredSharedMemoryCarveout = 9
};
enum cudaSharedCarveout {
  cudaSharedmemCarveoutDefault = -1,
  cudaSharedmemCarveoutMaxL1 = 0,
  cudaSharedmemCarveoutMaxShared = 100
};
struct cudaFuncAttributes {
  size_t sharedSizeBytes;
  size_t constSizeBytes;
  size_t localSizeBytes;
  int maxThreadsPerBlock;
  int numRegs;
  int ptxVersion;
  int binaryVersion;
  int cacheModeCA;
  int maxDynamicSharedSizeBytes;
  int preferredShmemCarveout;
};

typedef struct cudaLaunchAttribute_st {
  int id;
  char val[64];
} cudaLaunchAttribute;
typedef struct cudaLaunchConfig_st {
  dim3 gridDim;
  dim3 blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  cudaLaunchAttribute *attrs;
  unsigned int numAttrs;
} cudaLaunchConfig_t;

extern "C" {
EMU_API cudaError_t cudaRuntimeGetVersion(int *version);
EMU_API cudaError_t cudaDriverGetVersion(int *version);
EMU_API cudaError_t cudaGetDeviceCount(int *count);
EMU_API cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int device);
EMU_API cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device);
EMU_API cudaError_t cudaSetDevice(int device);
EMU_API cudaError_t cudaGetDevice(int *device);
EMU_API cudaError_t cudaDeviceSynchronize(void);
EMU_API cudaError_t cudaGetLastError(void);
EMU_API cudaError_t cudaPeekAtLastError(void);
EMU_API const char *cudaGetErrorName(cudaError_t error);
EMU_API const char *cudaGetErrorString(cudaError_t error);

EMU_API cudaError_t cudaMalloc(void **pointer, size_t size);
EMU_API cudaError_t cudaFree(void *pointer);
EMU_API cudaError_t cudaMallocHost(void **pointer, size_t size);
EMU_API cudaError_t cudaFreeHost(void *pointer);
EMU_API cudaError_t cudaMemGetInfo(size_t *free, size_t *total);
EMU_API cudaError_t cudaMemcpy(void *to, const void *from, size_t size, enum cudaMemcpyKind kind);
EMU_API cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t size, enum cudaMemcpyKind kind,
                                    cudaStream_t stream = nullptr);
EMU_API cudaError_t cudaMemcpy2D(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                                 size_t height, enum cudaMemcpyKind kind);
EMU_API cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                                      size_t height, enum cudaMemcpyKind kind, cudaStream_t stream = nullptr);
EMU_API cudaError_t cudaMemset(void *pointer, int value, size_t size);
EMU_API cudaError_t cudaMemsetAsync(void *pointer, int value, size_t size, cudaStream_t stream = nullptr);

EMU_API cudaError_t cudaStreamCreate(cudaStream_t *stream);
EMU_API cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags);
EMU_API cudaError_t cudaStreamDestroy(cudaStream_t stream);
EMU_API cudaError_t cudaStreamSynchronize(cudaStream_t stream);
EMU_API cudaError_t cudaStreamQuery(cudaStream_t stream);
EMU_API cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags = 0);
EMU_API cudaError_t cudaEventCreate(cudaEvent_t *event);
EMU_API cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags);
EMU_API cudaError_t cudaEventDestroy(cudaEvent_t event);
EMU_API cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream = nullptr);
EMU_API cudaError_t cudaEventSynchronize(cudaEvent_t event);
EMU_API cudaError_t cudaEventQuery(cudaEvent_t event);
EMU_API cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t stop);

EMU_API cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode);
EMU_API cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph);
EMU_API cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status);
EMU_API cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long flags = 0);
EMU_API cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream);
EMU_API cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);
EMU_API cudaError_t cudaGraphDestroy(cudaGraph_t graph);
}

namespace emu {

/** A kernel with its arguments, as taken at the launch. */
struct Invocation {
  virtual ~Invocation() = default;
  virtual void run() const = 0;
};

template <class... Parameters>
struct KernelInvocation final : Invocation {
  void (*kernel)(Parameters...);
  std::tuple<Parameters...> arguments;
  template <class... Arguments>
  explicit KernelInvocation(void (*kernel_)(Parameters...), Arguments &&...values)
      : kernel(kernel_), arguments(std::forward<Arguments>(values)...) {}
  void run() const override { std::apply(kernel, arguments); }
};

EMU_API cudaError_t launch(const cudaLaunchConfig_t *config, const void *function,
                           std::shared_ptr<const Invocation> invocation, size_t invocation_size);
EMU_API cudaError_t function_set_attribute(const void *function, cudaFuncAttribute attribute, int value);
EMU_API cudaError_t function_get_attributes(cudaFuncAttributes *attributes, const void *function);
EMU_API cudaError_t occupancy(int *blocks, const void *function, int block_size, size_t dynamic_shared);

}  // namespace emu

template <class... Parameters, class... Arguments>
inline cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *config, void (*kernel)(Parameters...),
                                      Arguments &&...arguments) {
  using Call = emu::KernelInvocation<Parameters...>;
  return emu::launch(config, reinterpret_cast<const void *>(kernel),
                     std::make_shared<const Call>(kernel, static_cast<Parameters>(arguments)...), sizeof(Call));
}
template <class T>
inline cudaError_t cudaFuncSetAttribute(T *function, cudaFuncAttribute attribute, int value) {
  return emu::function_set_attribute(reinterpret_cast<const void *>(function), attribute, value);
}
template <class T>
inline cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, T *function) {
  return emu::function_get_attributes(attributes, reinterpret_cast<const void *>(function));
}
template <class T>
inline cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, T function, int block_size,
                                                                 size_t dynamic_shared) {
  return emu::occupancy(blocks, reinterpret_cast<const void *>(function), block_size, dynamic_shared);
}
/* As CUDA: any pointer's address is taken without a cast. */
template <class T>
inline cudaError_t cudaMalloc(T **pointer, size_t size) {
  return cudaMalloc(reinterpret_cast<void **>(pointer), size);
}
template <class T>
inline cudaError_t cudaMallocHost(T **pointer, size_t size, unsigned = 0) {
  return cudaMallocHost(reinterpret_cast<void **>(pointer), size);
}

#endif
