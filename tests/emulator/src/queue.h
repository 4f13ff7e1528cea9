/**
 * @file queue.h
 * @brief Streams, events, stream capture and graphs: what may run when.
 *
 * Work is an operation that needs others to be done before it. It runs when the program waits for it: with EMU_SEED=0
 * everything in the order of submission, up to what is waited for; else in a random order that respects the needs, in
 * one wait out of three nothing but what is needed. So work that nothing orders, or that the host does not wait for, is
 * seen to be late.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef EMU_QUEUE_H
#define EMU_QUEUE_H

#include <functional>
#include <list>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "emu/runtime_api.h"

namespace emu {

struct Operation;
using OperationPtr = std::shared_ptr<Operation>;

/** What an operation does: its name for messages, its body, and the pinned memory that it uses. */
struct Work {
  std::string label;
  std::function<void()> run;
  std::vector<const void *> pinned;
};

struct Operation {
  Work work;
  int device;
  std::vector<OperationPtr> needs;
  bool done = false;
  double time = 0; /* seconds, when done */
  std::list<OperationPtr>::iterator place;
};

struct GraphNode {
  Work work;
  std::vector<size_t> needs; /* earlier nodes */
};

struct Capture {
  cudaStream_t origin;
  cudaStreamCaptureMode mode;
  std::thread::id thread;
  bool active, invalid;
  std::vector<GraphNode> nodes;
};
using CapturePtr = std::shared_ptr<Capture>;

}  // namespace emu

struct CUstream_st {
  int device = 0;
  bool legacy = false, blocking = true, alive = true;
  emu::OperationPtr last;
  emu::CapturePtr capture;
  std::vector<size_t> tails; /* nodes that the next captured node needs */
};

struct CUevent_st {
  int device = 0;
  unsigned flags = 0;
  bool alive = true;
  emu::OperationPtr recorded;
  emu::CapturePtr capture; /* if last recorded in a capturing stream */
  std::vector<size_t> tails;
};

struct CUgraph_st {
  bool alive = true;
  std::vector<emu::GraphNode> nodes;
};

struct CUgraphExec_st {
  bool alive = true;
  std::vector<emu::GraphNode> nodes;
  emu::OperationPtr last; /* launches of one executable graph do not overlap */
};

namespace emu {

/** The stream for a handle that a program gave: null and cudaStreamLegacy are the current device's default stream. A
 * destroyed or unknown one ends the program. */
cudaStream_t stream_of(cudaStream_t handle, const char *call);
void check_event(cudaEvent_t event, const char *call);
void check_graph(cudaGraph_t graph, const char *call);
void check_graph_exec(cudaGraphExec_t exec, const char *call);

cudaStream_t stream_create(bool blocking);
cudaEvent_t event_create(unsigned flags);
void stream_destroy(cudaStream_t stream);
void event_destroy(cudaEvent_t event);
void graph_destroy(cudaGraph_t graph);
void graph_exec_destroy(cudaGraphExec_t exec);

/** Put work into a stream, or into the graph that the stream's work is captured into. */
cudaError_t submit(cudaStream_t stream, Work work);
cudaError_t stream_wait_event(cudaStream_t stream, cudaEvent_t event);
cudaError_t event_record(cudaEvent_t event, cudaStream_t stream);
cudaError_t capture_begin(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t capture_end(cudaStream_t stream, cudaGraph_t *graph);
cudaGraphExec_t graph_instantiate(cudaGraph_t graph);
cudaError_t graph_launch(cudaGraphExec_t exec, cudaStream_t stream);

/** A call that stream capture forbids (it would allocate, or wait): invalidates the captures and says so. */
cudaError_t refuse_in_capture();
/** The same for a call on one stream. */
cudaError_t refuse_if_capturing(cudaStream_t stream);

/** Run until the operation is done (null: nothing to do). */
void finish(const OperationPtr &operation);
/** Run everything of a device; -1: of all. */
void finish_device(int device);
/** Run one operation, if any waits: a program that polls makes progress. */
void run_one();
/** The label of a waiting operation that uses this pinned memory; empty if none does. */
std::string pending_user(const void *pinned_base);
int64_t pending_count();

struct QueueCounts {
  int64_t streams, events, graphs, graph_execs;
};
QueueCounts queue_counts();
void queue_reset();

}  // namespace emu

#endif
