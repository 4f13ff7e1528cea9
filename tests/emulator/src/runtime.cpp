/**
 * @file runtime.cpp
 * @brief The runtime's host interface: devices, memory, copies, streams, events, graphs, launches.
 *
 * SPDX-License-Identifier: MIT
 */
#include "emu/runtime_api.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <vector>

#include "call.h"
#include "cuda_profiler_api.h"
#include "emu/control.h"
#include "engine.h"
#include "memory.h"
#include "queue.h"
#include "report.h"
#include "settings.h"

namespace emu {

static int64_t calls = 0, copies = 0;
static int profiling = 0;
static thread_local cudaError_t last_error = cudaSuccess;
static thread_local int chosen_device = 0;

std::recursive_mutex &call_mutex() {
  static std::recursive_mutex mutex;
  return mutex;
}
int current_device() { return chosen_device; }
bool call_must_fail() { return ++calls == settings().fail_at; }
void set_last_error(cudaError_t error) { last_error = error; }
cudaError_t check_device() { return settings().devices > 0 ? cudaSuccess : cudaErrorNoDevice; }
void check_host(const char *call) {
  if (engine().running()) fatal("%s was called from a kernel", call);
}
int64_t &library_handles() {
  static int64_t handles = 0;
  return handles;
}

/* ---- copies -------------------------------------------------------------------------------------------------------
 */

/* One end of a copy: rows of `width` bytes, `pitch` apart. */
struct Side {
  char *data;
  size_t pitch;
  const Allocation *allocation; /* null: pageable host memory */
  uint64_t serial;
};

/* Whose memory is this? A range that leaves its allocation ends the program. */
static Side side_of(const char *call, const char *which, const void *pointer, size_t pitch, size_t span) {
  Side side{static_cast<char *>(const_cast<void *>(pointer)), pitch, allocation_at(pointer), 0};
  if (side.allocation) {
    side.serial = side.allocation->serial;
    const size_t offset = (size_t)(side.data - side.allocation->base);
    if (span > side.allocation->size - offset) {
      fatal("%s: out of bounds: the %s is %zu bytes from byte %zu on of an allocation of %zu bytes", call, which, span,
            offset, side.allocation->size);
    }
  }
  return side;
}

static bool is_device(const Side &side) { return side.allocation && side.allocation->kind == MemoryKind::device; }

/* Memory that was freed after the operation was submitted (or captured) must not be touched by it. */
static void still_there(const Side &side, const char *label) {
  if (!side.serial) return;
  const Allocation *now = allocation_at(side.data);
  if (!now || now->serial != side.serial)
    fatal("%s: its memory at %p was freed before it ran", label, static_cast<void *>(side.data));
}

static void copy_rows(Side to, Side from, size_t width, size_t height, const char *label) {
  still_there(to, label);
  still_there(from, label);
  for (size_t row = 0; row < height; ++row) memcpy(to.data + row * to.pitch, from.data + row * from.pitch, width);
  ++copies;
}

/* Both kinds of copy. What the host may do when it returns is as CUDA documents it ("API synchronization behavior"):
 * pageable sources are staged, pageable destinations are waited for, pinned memory is read and written when the copy
 * runs; the synchronous call from a pageable source returns with the data staged, not arrived. */
static cudaError_t copy(const char *call, void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                        size_t height, cudaMemcpyKind kind, cudaStream_t stream, bool synchronous) {
  if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault) return cudaErrorInvalidMemcpyDirection;
  if (height > 1 && (to_pitch < width || from_pitch < width)) return cudaErrorInvalidPitchValue;
  if (synchronous) {
    const cudaError_t error = refuse_if_capturing(stream);
    if (error != cudaSuccess) return error;
    const cudaError_t unsafe = refuse_in_capture();
    if (unsafe != cudaSuccess) return unsafe;
  }
  if (width == 0 || height == 0) return cudaSuccess;
  if (!to || !from) return cudaErrorInvalidValue;
  const Side target = side_of(call, "destination", to, to_pitch, (height - 1) * to_pitch + width);
  const Side source = side_of(call, "source", from, from_pitch, (height - 1) * from_pitch + width);
  const bool to_device = kind == cudaMemcpyDefault ? is_device(target)
                                                   : kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDefault
                               ? is_device(source)
                               : kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (to_device != is_device(target)) {
    fatal("%s: the destination %p is %s memory, but the kind of copy says %s", call, to,
          is_device(target) ? "device" : "host", to_device ? "device" : "host");
  }
  if (from_device != is_device(source)) {
    fatal("%s: the source %p is %s memory, but the kind of copy says %s", call, from,
          is_device(source) ? "device" : "host", from_device ? "device" : "host");
  }
  if (target.data < source.data + (height - 1) * from_pitch + width &&
      source.data < target.data + (height - 1) * to_pitch + width) {
    if (height == 1 || target.data == source.data) fatal("%s: source and destination overlap", call);
  }
  const std::string label = text("%s of %zu x %zu bytes", call, height, width);
  const bool capturing = stream->capture && stream->capture->active;
  Work work{label, nullptr, {}};
  for (const Side *side : {&target, &source}) {
    if (side->allocation && side->allocation->kind == MemoryKind::pinned) work.pinned.push_back(side->allocation->base);
  }
  const bool pageable_source = !source.allocation, pageable_target = !target.allocation;
  if (pageable_source && to_device && !capturing) {
    auto staged = std::make_shared<std::vector<char>>(width * height);
    copy_rows({staged->data(), width, nullptr, 0}, source, width, height, call);
    --copies; /* counted when it arrives */
    work.run = [=] { copy_rows(target, {staged->data(), width, nullptr, 0}, width, height, label.c_str()); };
    return submit(stream, std::move(work));
  }
  work.run = [=] { copy_rows(target, source, width, height, label.c_str()); };
  const cudaError_t error = submit(stream, std::move(work));
  if (error != cudaSuccess) return error;
  const bool between_devices = to_device && from_device;
  if (!capturing && (pageable_target || pageable_source || (synchronous && !between_devices))) finish(stream->last);
  return cudaSuccess;
}

static cudaError_t set_bytes(const char *call, void *pointer, int value, size_t size, cudaStream_t stream) {
  if (size == 0) return cudaSuccess;
  const Side target = side_of(call, "destination", pointer, size, size);
  if (!target.allocation) fatal("%s: %p is not device memory", call, pointer);
  const std::string label = text("%s of %zu bytes", call, size);
  return submit(stream, {label,
                         [=] {
                           still_there(target, label.c_str());
                           memset(target.data, value, size);
                         },
                         {}});
}

/* ---- launches -----------------------------------------------------------------------------------------------------
 */

cudaError_t launch(const cudaLaunchConfig_t *config, const void *function, std::shared_ptr<const Invocation> invocation,
                   size_t invocation_size) {
  return runtime_call("cudaLaunchKernelEx", cudaErrorLaunchFailure, [&] {
    cudaStream_t stream = stream_of(config->stream, "cudaLaunchKernelEx");
    if (stream->device != current_device()) return cudaErrorInvalidResourceHandle;
    const dim3 g = config->gridDim, b = config->blockDim;
    if (g.x == 0 || g.y == 0 || g.z == 0 || b.x == 0 || b.y == 0 || b.z == 0) return cudaErrorInvalidConfiguration;
    if (g.x > 0x7fffffffu || g.y > 65535 || g.z > 65535) return cudaErrorInvalidConfiguration;
    if (b.x > 1024 || b.y > 1024 || b.z > 64) return cudaErrorInvalidConfiguration;
    if ((uint64_t)b.x * b.y * b.z > (uint64_t)max_threads) return cudaErrorInvalidConfiguration;
    const Kernel &kernel = kernel_of(function);
    if (config->dynamicSmemBytes > kernel.max_dynamic_shared) return cudaErrorInvalidValue;
    const KernelLaunch work{function, g, b, config->dynamicSmemBytes, invocation, invocation_size};
    return submit(stream, {"kernel " + kernel.name, [work] { run_kernel(work); }, {}});
  });
}

cudaError_t function_set_attribute(const void *function, cudaFuncAttribute attribute, int value) {
  return runtime_call("cudaFuncSetAttribute", cudaErrorInvalidDeviceFunction, [&] {
    Kernel &kernel = kernel_of(function);
    switch (attribute) {
      case cudaFuncAttributeMaxDynamicSharedMemorySize:
        if (value < 0 || (size_t)value + kernel.static_shared > max_shared) return cudaErrorInvalidValue;
        kernel.max_dynamic_shared = (size_t)value;
        return cudaSuccess;
      case cudaFuncAttributePreferredSharedMemoryCarveout:
        if (value < -1 || value > 100) return cudaErrorInvalidValue;
        kernel.carveout = value;
        return cudaSuccess;
    }
    return cudaErrorInvalidValue;
  });
}

cudaError_t function_get_attributes(cudaFuncAttributes *attributes, const void *function) {
  return runtime_call("cudaFuncGetAttributes", cudaErrorInvalidDeviceFunction, [&] {
    const Kernel &kernel = kernel_of(function);
    *attributes = cudaFuncAttributes{};
    attributes->sharedSizeBytes = kernel.static_shared;
    attributes->maxThreadsPerBlock = max_threads;
    attributes->numRegs = 32;
    attributes->ptxVersion = attributes->binaryVersion = 90;
    attributes->maxDynamicSharedSizeBytes = (int)kernel.max_dynamic_shared;
    attributes->preferredShmemCarveout = kernel.carveout;
    return cudaSuccess;
  });
}

cudaError_t occupancy(int *blocks, const void *function, int block_size, size_t dynamic_shared) {
  return runtime_call("cudaOccupancyMaxActiveBlocksPerMultiprocessor", cudaErrorInvalidDeviceFunction, [&] {
    const Kernel &kernel = kernel_of(function);
    *blocks = 0;
    if (block_size <= 0) return cudaErrorInvalidValue;
    const size_t shared = kernel.static_shared + dynamic_shared;
    if (block_size > max_threads || dynamic_shared > kernel.max_dynamic_shared || shared > max_shared)
      return cudaSuccess;
    const size_t by_threads = 64 / ((size_t)(block_size + 31) / 32);
    const size_t by_shared = shared_per_multiprocessor / (shared + reserved_shared);
    *blocks = (int)std::min({by_threads, by_shared, (size_t)32});
    return cudaSuccess;
  });
}

static int attribute_value(cudaDeviceAttr attribute, bool *known) {
  *known = true;
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
    case cudaDevAttrMaxBlockDimX:
    case cudaDevAttrMaxBlockDimY:
      return max_threads;
    case cudaDevAttrMaxBlockDimZ:
      return 64;
    case cudaDevAttrMaxGridDimX:
      return 0x7fffffff;
    case cudaDevAttrMaxGridDimY:
    case cudaDevAttrMaxGridDimZ:
      return 65535;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      return (int)default_shared;
    case cudaDevAttrWarpSize:
      return 32;
    case cudaDevAttrMaxRegistersPerBlock:
    case cudaDevAttrMaxRegistersPerMultiprocessor:
      return 65536;
    case cudaDevAttrClockRate:
      return 1000000;
    case cudaDevAttrMultiProcessorCount:
      return settings().multiprocessors;
    case cudaDevAttrConcurrentKernels:
    case cudaDevAttrUnifiedAddressing:
      return 1;
    case cudaDevAttrMemoryClockRate:
      return 1000000;
    case cudaDevAttrGlobalMemoryBusWidth:
      return 64;
    case cudaDevAttrL2CacheSize:
      return 4 << 20;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      return 2048;
    case cudaDevAttrAsyncEngineCount:
      return 2;
    case cudaDevAttrComputeCapabilityMajor:
      return 9;
    case cudaDevAttrComputeCapabilityMinor:
      return 0;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      return (int)shared_per_multiprocessor;
    case cudaDevAttrSingleToDoublePrecisionPerfRatio:
      return 2;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      return (int)max_shared;
    case cudaDevAttrMaxBlocksPerMultiprocessor:
      return 32;
    case cudaDevAttrReservedSharedMemoryPerBlock:
      return (int)reserved_shared;
  }
  *known = false;
  return 0;
}

static cudaDeviceProp properties_of(int device) {
  cudaDeviceProp p{};
  snprintf(p.name, sizeof p.name, "emulated device");
  const auto value = [](cudaDeviceAttr attribute) {
    bool known;
    return attribute_value(attribute, &known);
  };
  p.totalGlobalMem = settings().memory;
  p.sharedMemPerBlock = default_shared;
  p.regsPerBlock = value(cudaDevAttrMaxRegistersPerBlock);
  p.warpSize = 32;
  p.maxThreadsPerBlock = max_threads;
  p.maxThreadsDim[0] = p.maxThreadsDim[1] = max_threads;
  p.maxThreadsDim[2] = value(cudaDevAttrMaxBlockDimZ);
  p.maxGridSize[0] = value(cudaDevAttrMaxGridDimX);
  p.maxGridSize[1] = p.maxGridSize[2] = value(cudaDevAttrMaxGridDimY);
  p.totalConstMem = 65536;
  p.major = value(cudaDevAttrComputeCapabilityMajor);
  p.minor = value(cudaDevAttrComputeCapabilityMinor);
  p.multiProcessorCount = settings().multiprocessors;
  p.concurrentKernels = 1;
  p.pciBusID = device;
  p.asyncEngineCount = value(cudaDevAttrAsyncEngineCount);
  p.unifiedAddressing = 1;
  p.memoryBusWidth = value(cudaDevAttrGlobalMemoryBusWidth);
  p.l2CacheSize = value(cudaDevAttrL2CacheSize);
  p.maxThreadsPerMultiProcessor = value(cudaDevAttrMaxThreadsPerMultiProcessor);
  p.sharedMemPerMultiprocessor = shared_per_multiprocessor;
  p.regsPerMultiprocessor = value(cudaDevAttrMaxRegistersPerMultiprocessor);
  p.sharedMemPerBlockOptin = max_shared;
  p.maxBlocksPerMultiProcessor = value(cudaDevAttrMaxBlocksPerMultiprocessor);
  p.reservedSharedMemPerBlock = reserved_shared;
  return p;
}

static bool event_is_captured(cudaEvent_t event) {
  if (!event->capture) return false;
  if (event->capture->active) event->capture->invalid = true;
  return true;
}

}  // namespace emu

using namespace emu;

/* ---- devices and errors -------------------------------------------------------------------------------------------
 */

cudaError_t cudaRuntimeGetVersion(int *version) {
  return runtime_call(__func__, cudaErrorInvalidValue, [&] {
    *version = CUDART_VERSION;
    return cudaSuccess;
  });
}

cudaError_t cudaDriverGetVersion(int *version) {
  return runtime_call(__func__, cudaErrorInvalidValue, [&] {
    *version = CUDART_VERSION;
    return cudaSuccess;
  });
}

cudaError_t cudaGetDeviceCount(int *count) {
  *count = settings().devices;
  return runtime_call(__func__, cudaErrorInsufficientDriver, [] { return cudaSuccess; });
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device) {
  return runtime_call(__func__, cudaErrorInitializationError, [&] {
    if (device < 0 || device >= settings().devices) return cudaErrorInvalidDevice;
    *properties = properties_of(device);
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device) {
  return runtime_call(__func__, cudaErrorInitializationError, [&] {
    if (device < 0 || device >= settings().devices) return cudaErrorInvalidDevice;
    bool known;
    *value = attribute_value(attribute, &known);
    return known ? cudaSuccess : cudaErrorInvalidValue;
  });
}

cudaError_t cudaSetDevice(int device) {
  return runtime_call(__func__, cudaErrorInitializationError, [&] {
    if (device < 0 || device >= settings().devices) return cudaErrorInvalidDevice;
    chosen_device = device;
    return cudaSuccess;
  });
}

cudaError_t cudaGetDevice(int *device) {
  return runtime_call(__func__, cudaErrorInitializationError, [&] {
    *device = current_device();
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceSynchronize(void) {
  return runtime_call(__func__, cudaErrorLaunchFailure, [] {
    const cudaError_t error = refuse_in_capture();
    if (error != cudaSuccess) return error;
    finish_device(current_device());
    return cudaSuccess;
  });
}

cudaError_t cudaGetLastError(void) {
  const cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}

cudaError_t cudaPeekAtLastError(void) { return last_error; }

const char *cudaGetErrorName(cudaError_t error) {
  switch (error) {
#define EMU_ERROR(name, number, text)                                                                                  \
  case name:                                                                                                           \
    return #name;
#include "emu/errors.def"
#undef EMU_ERROR
  }
  return "unrecognized error code";
}

const char *cudaGetErrorString(cudaError_t error) {
  switch (error) {
#define EMU_ERROR(name, number, text)                                                                                  \
  case name:                                                                                                           \
    return text;
#include "emu/errors.def"
#undef EMU_ERROR
  }
  return "unrecognized error code";
}

/* ---- memory -------------------------------------------------------------------------------------------------------
 */

static cudaError_t allocate(void **pointer, size_t size, MemoryKind kind) {
  const cudaError_t error = refuse_in_capture();
  if (error != cudaSuccess) return error;
  if (!pointer) return cudaErrorInvalidValue;
  *pointer = nullptr;
  if (size == 0) return cudaSuccess;
  *pointer = memory_allocate(size, kind, current_device());
  return *pointer ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaMalloc(void **pointer, size_t size) {
  return runtime_call("cudaMalloc", cudaErrorMemoryAllocation,
                      [&] { return allocate(pointer, size, MemoryKind::device); });
}

cudaError_t cudaMallocHost(void **pointer, size_t size) {
  return runtime_call("cudaMallocHost", cudaErrorMemoryAllocation,
                      [&] { return allocate(pointer, size, MemoryKind::pinned); });
}

/* Freeing waits for the whole device, as CUDA's does. */
cudaError_t cudaFree(void *pointer) {
  return runtime_release("cudaFree", [&] {
    if (!pointer) return cudaSuccess;
    const cudaError_t error = refuse_in_capture();
    if (error != cudaSuccess) return error;
    finish_device(-1);
    memory_release(pointer, MemoryKind::device, "cudaFree");
    return cudaSuccess;
  });
}

cudaError_t cudaFreeHost(void *pointer) {
  return runtime_release("cudaFreeHost", [&] {
    if (!pointer) return cudaSuccess;
    const cudaError_t error = refuse_in_capture();
    if (error != cudaSuccess) return error;
    const std::string user = pending_user(pointer);
    if (!user.empty()) fatal("cudaFreeHost(%p): a queued operation still uses this memory: %s", pointer, user.c_str());
    memory_release(pointer, MemoryKind::pinned, "cudaFreeHost");
    return cudaSuccess;
  });
}

cudaError_t cudaMemGetInfo(size_t *free, size_t *total) {
  return runtime_call(__func__, cudaErrorInitializationError, [&] {
    *total = settings().memory;
    *free = *total - memory_used(current_device());
    return cudaSuccess;
  });
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t size, cudaMemcpyKind kind) {
  return runtime_call(__func__, cudaErrorLaunchFailure, [&] {
    return copy("cudaMemcpy", to, size, from, size, size, 1, kind, stream_of(nullptr, "cudaMemcpy"), true);
  });
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t size, cudaMemcpyKind kind, cudaStream_t stream) {
  return runtime_call(__func__, cudaErrorLaunchFailure, [&] {
    return copy("cudaMemcpyAsync", to, size, from, size, size, 1, kind, stream_of(stream, "cudaMemcpyAsync"), false);
  });
}

cudaError_t cudaMemcpy2D(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height,
                         cudaMemcpyKind kind) {
  return runtime_call(__func__, cudaErrorLaunchFailure, [&] {
    return copy("cudaMemcpy2D", to, to_pitch, from, from_pitch, width, height, kind, stream_of(nullptr, "cudaMemcpy2D"),
                true);
  });
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
  return runtime_call(__func__, cudaErrorLaunchFailure, [&] {
    return copy("cudaMemcpy2DAsync", to, to_pitch, from, from_pitch, width, height, kind,
                stream_of(stream, "cudaMemcpy2DAsync"), false);
  });
}

cudaError_t cudaMemset(void *pointer, int value, size_t size) {
  return runtime_call(__func__, cudaErrorLaunchFailure, [&] {
    const cudaError_t error = refuse_in_capture();
    if (error != cudaSuccess) return error;
    return set_bytes("cudaMemset", pointer, value, size, stream_of(nullptr, "cudaMemset"));
  });
}

cudaError_t cudaMemsetAsync(void *pointer, int value, size_t size, cudaStream_t stream) {
  return runtime_call(__func__, cudaErrorLaunchFailure, [&] {
    return set_bytes("cudaMemsetAsync", pointer, value, size, stream_of(stream, "cudaMemsetAsync"));
  });
}

/* ---- streams and events -------------------------------------------------------------------------------------------
 */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) {
  return runtime_call(__func__, cudaErrorMemoryAllocation, [&] {
    if (flags > cudaStreamNonBlocking) return cudaErrorInvalidValue;
    *stream = stream_create(flags != cudaStreamNonBlocking);
    return cudaSuccess;
  });
}

cudaError_t cudaStreamCreate(cudaStream_t *stream) { return cudaStreamCreateWithFlags(stream, cudaStreamDefault); }

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  return runtime_release(__func__, [&] {
    stream = stream_of(stream, "cudaStreamDestroy");
    if (stream->legacy) return cudaErrorInvalidResourceHandle;
    stream_destroy(stream);
    return cudaSuccess;
  });
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return runtime_call(__func__, cudaErrorLaunchFailure, [&] {
    stream = stream_of(stream, "cudaStreamSynchronize");
    const cudaError_t error = refuse_if_capturing(stream);
    if (error != cudaSuccess) return error;
    if (stream->legacy) { /* it also waits for what its next operation would wait for */
      const cudaError_t mark = submit(stream, {"synchronization", nullptr, {}});
      if (mark != cudaSuccess) return mark;
    }
    finish(stream->last);
    return cudaSuccess;
  });
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  return runtime_call(__func__, cudaErrorLaunchFailure, [&] {
    stream = stream_of(stream, "cudaStreamQuery");
    const cudaError_t error = refuse_if_capturing(stream);
    if (error != cudaSuccess) return error;
    run_one();
    return !stream->last || stream->last->done ? cudaSuccess : cudaErrorNotReady;
  });
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
  return runtime_call(__func__, cudaErrorInvalidResourceHandle, [&] {
    stream = stream_of(stream, "cudaStreamWaitEvent");
    check_event(event, "cudaStreamWaitEvent");
    if (flags != 0) return cudaErrorInvalidValue;
    return stream_wait_event(stream, event);
  });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) {
  return runtime_call(__func__, cudaErrorMemoryAllocation, [&] {
    if (flags > (cudaEventBlockingSync | cudaEventDisableTiming)) return cudaErrorInvalidValue;
    *event = event_create(flags);
    return cudaSuccess;
  });
}

cudaError_t cudaEventCreate(cudaEvent_t *event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  return runtime_release(__func__, [&] {
    check_event(event, "cudaEventDestroy");
    event_destroy(event);
    return cudaSuccess;
  });
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return runtime_call(__func__, cudaErrorInvalidResourceHandle, [&] {
    stream = stream_of(stream, "cudaEventRecord");
    check_event(event, "cudaEventRecord");
    if (event->device != stream->device) return cudaErrorInvalidResourceHandle;
    return event_record(event, stream);
  });
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return runtime_call(__func__, cudaErrorLaunchFailure, [&] {
    check_event(event, "cudaEventSynchronize");
    if (event_is_captured(event)) return cudaErrorCapturedEvent;
    finish(event->recorded);
    return cudaSuccess;
  });
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  return runtime_call(__func__, cudaErrorLaunchFailure, [&] {
    check_event(event, "cudaEventQuery");
    if (event_is_captured(event)) return cudaErrorCapturedEvent;
    run_one();
    return !event->recorded || event->recorded->done ? cudaSuccess : cudaErrorNotReady;
  });
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t stop) {
  return runtime_call(__func__, cudaErrorLaunchFailure, [&] {
    check_event(start, "cudaEventElapsedTime");
    check_event(stop, "cudaEventElapsedTime");
    if (event_is_captured(start) || event_is_captured(stop)) return cudaErrorCapturedEvent;
    if ((start->flags | stop->flags) & cudaEventDisableTiming) return cudaErrorInvalidResourceHandle;
    if (!start->recorded || !stop->recorded) return cudaErrorInvalidResourceHandle;
    if (!start->recorded->done || !stop->recorded->done) return cudaErrorNotReady;
    *milliseconds = (float)(1e3 * (stop->recorded->time - start->recorded->time));
    return cudaSuccess;
  });
}

/* ---- graphs -------------------------------------------------------------------------------------------------------
 */

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  return runtime_call(__func__, cudaErrorStreamCaptureUnsupported,
                      [&] { return capture_begin(stream_of(stream, "cudaStreamBeginCapture"), mode); });
}

/* Made to fail, the capture still ends, as on a device where something in it went wrong. */
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
  bool must_fail = true;
  const cudaError_t error = runtime_call(__func__, cudaErrorStreamCaptureInvalidated, [&] {
    must_fail = false;
    return capture_end(stream_of(stream, "cudaStreamEndCapture"), graph);
  });
  if (must_fail && check_device() == cudaSuccess) {
    const std::lock_guard<std::recursive_mutex> lock(call_mutex());
    stream = stream_of(stream, "cudaStreamEndCapture");
    if (stream->capture) stream->capture->invalid = true;
    capture_end(stream, graph);
  }
  return error;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status) {
  return runtime_call(__func__, cudaErrorInvalidResourceHandle, [&] {
    const cudaStream_t s = stream_of(stream, "cudaStreamIsCapturing");
    *status = !s->capture || !s->capture->active ? cudaStreamCaptureStatusNone
              : s->capture->invalid              ? cudaStreamCaptureStatusInvalidated
                                                 : cudaStreamCaptureStatusActive;
    return cudaSuccess;
  });
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long flags) {
  return runtime_call(__func__, cudaErrorMemoryAllocation, [&] {
    check_graph(graph, "cudaGraphInstantiate");
    if (flags != 0) return cudaErrorInvalidValue;
    *exec = graph_instantiate(graph);
    return cudaSuccess;
  });
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  return runtime_call(__func__, cudaErrorLaunchFailure, [&] {
    check_graph_exec(exec, "cudaGraphLaunch");
    return graph_launch(exec, stream_of(stream, "cudaGraphLaunch"));
  });
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  return runtime_release(__func__, [&] {
    check_graph_exec(exec, "cudaGraphExecDestroy");
    graph_exec_destroy(exec);
    return cudaSuccess;
  });
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  return runtime_release(__func__, [&] {
    check_graph(graph, "cudaGraphDestroy");
    graph_destroy(graph);
    return cudaSuccess;
  });
}

cudaError_t cudaProfilerStart(void) {
  return runtime_call(__func__, cudaErrorNotSupported, [] {
    profiling = 1;
    return cudaSuccess;
  });
}

cudaError_t cudaProfilerStop(void) {
  return runtime_call(__func__, cudaErrorNotSupported, [] {
    profiling = 0;
    return cudaSuccess;
  });
}

/* ---- what a test asks (emu/control.h) -----------------------------------------------------------------------------
 */

void emu_reset(void) {
  const std::lock_guard<std::recursive_mutex> lock(call_mutex());
  check_host("emu_reset");
  queue_reset();
  memory_reset();
  kernels_reset();
  libraries_reset();
  nvtx_reset();
  if (detector) detector->reset();
  settings_reload();
  engine().counts = EngineCounts{};
  calls = copies = 0;
  profiling = 0;
  chosen_device = 0;
  last_error = cudaSuccess;
}

void emu_fail_at(int64_t k) {
  settings().fail_at = k;
  calls = 0;
}

int64_t emu_call_count(void) { return calls; }

void emu_live_detail(emu_live_counts *counts) {
  memory_counts(&counts->device_allocations, &counts->device_bytes, &counts->pinned_allocations, &counts->pinned_bytes);
  const QueueCounts q = queue_counts();
  counts->streams = q.streams;
  counts->events = q.events;
  counts->graphs = q.graphs;
  counts->graph_execs = q.graph_execs;
  counts->library_handles = library_handles();
}

int64_t emu_live(void) {
  emu_live_counts c;
  emu_live_detail(&c);
  return c.device_allocations + c.pinned_allocations + c.streams + c.events + c.graphs + c.graph_execs +
         c.library_handles;
}

int64_t emu_pending(void) { return pending_count(); }

void emu_get_statistics(emu_statistics *s) {
  const EngineCounts &c = engine().counts;
  *s = emu_statistics{c.kernels, c.blocks, c.barriers, c.collectives, c.switches, copies, 0, 0};
  if (detector) detector->statistics(&s->checked_accesses, &s->races);
}

void emu_set_seed(uint64_t seed) { settings().seed = seed; }
void emu_keep_going_after_races(int keep_going) { settings().keep_going = keep_going != 0; }
int emu_profiler_running(void) { return profiling; }
