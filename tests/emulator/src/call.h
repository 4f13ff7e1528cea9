/**
 * @file call.h
 * @brief What all calls of the host interface have in common: one at a time, counted, made to fail on request.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef EMU_CALL_H
#define EMU_CALL_H

#include <mutex>

#include "emu/runtime_api.h"

namespace emu {

std::recursive_mutex &call_mutex();
/** The device of the calling thread (cudaSetDevice). */
int current_device();
/** Count a fallible call; true if it is the one to fail. */
bool call_must_fail();
void set_last_error(cudaError_t error);
/** cudaErrorNoDevice where EMU_DEVICES=0. */
cudaError_t check_device();
/** Called from a kernel? That ends the program: kernels cannot call the host interface. */
void check_host(const char *call);

/** A runtime call: `natural` is the error it fails with on request; the body returns the call's own. */
template <class Body>
cudaError_t runtime_call(const char *name, cudaError_t natural, Body body) {
  const std::lock_guard<std::recursive_mutex> lock(call_mutex());
  check_host(name);
  cudaError_t error = check_device();
  if (error == cudaSuccess) error = call_must_fail() ? natural : body();
  if (error != cudaSuccess) set_last_error(error);
  return error;
}

/** A call that gives something back: never made to fail, since what it frees would then be reported as a leak. */
template <class Body>
cudaError_t runtime_release(const char *name, Body body) {
  const std::lock_guard<std::recursive_mutex> lock(call_mutex());
  check_host(name);
  const cudaError_t error = body();
  if (error != cudaSuccess) set_last_error(error);
  return error;
}

/** A call of another library, which has its own errors. */
template <class Status, class Body>
Status library_call(const char *name, Status natural, Body body) {
  const std::lock_guard<std::recursive_mutex> lock(call_mutex());
  check_host(name);
  return call_must_fail() ? natural : body();
}

/** Library handles alive (cuBLAS, cuSOLVER): counted by the libraries, cleared by emu_reset. */
int64_t &library_handles();
void libraries_reset();
void nvtx_reset();

}  // namespace emu

#endif
