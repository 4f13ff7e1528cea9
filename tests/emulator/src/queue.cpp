/**
 * @file queue.cpp
 * @brief Streams, events, stream capture and graphs.
 *
 * SPDX-License-Identifier: MIT
 */
#include "queue.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <set>

#include "call.h"
#include "report.h"
#include "settings.h"

namespace emu {

/* Handles are never reused before emu_reset, so that the use of a destroyed one is recognized. */
static std::map<const void *, std::unique_ptr<CUstream_st>> streams;
static std::map<const void *, std::unique_ptr<CUevent_st>> events;
static std::map<const void *, std::unique_ptr<CUgraph_st>> graphs;
static std::map<const void *, std::unique_ptr<CUgraphExec_st>> graph_execs;
static std::map<int, cudaStream_t> legacy_streams; /* by device */
static std::vector<CapturePtr> captures;           /* active ones */
static std::list<OperationPtr> waiting;            /* in order of submission */
static uint64_t random_value = 0;

/* As many as a device's launch queue holds, about; then the oldest run. */
static constexpr size_t most_waiting = 1024;

static uint64_t random_number() {
  static uint64_t seeded_with = 0;
  if (!random_value || seeded_with != settings().seed) {
    seeded_with = settings().seed;
    random_value = random_state(seeded_with + 1);
  }
  return random_step(random_value);
}

/* ---- handles ------------------------------------------------------------------------------------------------------
 */

template <class T>
static void check_handle(const std::map<const void *, std::unique_ptr<T>> &known, const T *handle, const char *what,
                         const char *call) {
  const auto it = known.find(handle);
  if (it == known.end()) fatal("%s: %p is not %s", call, static_cast<const void *>(handle), what);
  if (!it->second->alive)
    fatal("%s: %s that was destroyed is used (%p)", call, what, static_cast<const void *>(handle));
}

template <class T>
static T *add_handle(std::map<const void *, std::unique_ptr<T>> &known) {
  auto object = std::make_unique<T>();
  T *handle = object.get();
  known[handle] = std::move(object);
  return handle;
}

static cudaStream_t legacy_stream(int device) {
  cudaStream_t &stream = legacy_streams[device];
  if (!stream) {
    stream = add_handle(streams);
    stream->device = device;
    stream->legacy = true;
  }
  return stream;
}

cudaStream_t stream_of(cudaStream_t handle, const char *call) {
  if (!handle || handle == cudaStreamLegacy) return legacy_stream(current_device());
  check_handle(streams, handle, "a stream", call);
  return handle;
}
void check_event(cudaEvent_t event, const char *call) { check_handle(events, event, "an event", call); }
void check_graph(cudaGraph_t graph, const char *call) { check_handle(graphs, graph, "a graph", call); }
void check_graph_exec(cudaGraphExec_t exec, const char *call) {
  check_handle(graph_execs, exec, "an executable graph", call);
}

cudaStream_t stream_create(bool blocking) {
  cudaStream_t stream = add_handle(streams);
  stream->device = current_device();
  stream->blocking = blocking;
  return stream;
}

cudaEvent_t event_create(unsigned flags) {
  cudaEvent_t event = add_handle(events);
  event->device = current_device();
  event->flags = flags;
  return event;
}

/* Work already submitted still runs, as on a device. */
void stream_destroy(cudaStream_t stream) {
  stream->alive = false;
  if (stream->capture && stream->capture->active) stream->capture->invalid = true;
}
void event_destroy(cudaEvent_t event) { event->alive = false; }
void graph_destroy(cudaGraph_t graph) {
  graph->alive = false;
  graph->nodes.clear();
}
void graph_exec_destroy(cudaGraphExec_t exec) {
  exec->alive = false;
  exec->nodes.clear();
}

/* ---- running ------------------------------------------------------------------------------------------------------
 */

static bool is_ready(const Operation &operation) {
  return std::all_of(operation.needs.begin(), operation.needs.end(), [](const OperationPtr &o) { return o->done; });
}

static void execute(const OperationPtr &operation) {
  const OperationPtr keep = operation;
  waiting.erase(keep->place);
  if (keep->work.run) keep->work.run();
  keep->time = std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  keep->done = true;
  keep->needs.clear();
  keep->work = Work{};
}

void run_one() {
  if (waiting.empty()) return;
  if (settings().seed == 0) return execute(OperationPtr(waiting.front()));
  /* The first is always ready; of a long queue only the beginning is looked at. */
  std::vector<OperationPtr> ready;
  int looked_at = 0;
  for (auto it = waiting.begin(); it != waiting.end() && looked_at < 64; ++it, ++looked_at) {
    if (is_ready(**it)) ready.push_back(*it);
  }
  execute(ready[random_number() % ready.size()]);
}

/* Run the operation and what it needs, and nothing else. */
static void finish_only(const OperationPtr &operation) {
  std::vector<OperationPtr> path{operation};
  while (!path.empty()) {
    const OperationPtr top = path.back();
    std::vector<OperationPtr> undone;
    for (const OperationPtr &need : top->needs) {
      if (!need->done) undone.push_back(need);
    }
    if (!undone.empty()) {
      path.push_back(undone[random_number() % undone.size()]);
      continue;
    }
    if (!top->done) execute(top);
    path.pop_back();
  }
}

void finish(const OperationPtr &operation) {
  if (!operation || operation->done) return;
  if (settings().seed != 0 && random_number() % 3 == 0) return finish_only(operation);
  while (!operation->done) run_one();
}

void finish_device(int device) {
  for (;;) {
    OperationPtr any;
    for (const OperationPtr &operation : waiting) {
      if (device < 0 || operation->device == device) any = operation;
    }
    if (!any) return;
    finish(any);
  }
}

std::string pending_user(const void *pinned_base) {
  for (const OperationPtr &operation : waiting) {
    const std::vector<const void *> &pinned = operation->work.pinned;
    if (std::find(pinned.begin(), pinned.end(), pinned_base) != pinned.end()) return operation->work.label;
  }
  return "";
}

int64_t pending_count() { return (int64_t)waiting.size(); }

/* ---- submitting ---------------------------------------------------------------------------------------------------
 */

static OperationPtr append(cudaStream_t stream, Work work, std::vector<OperationPtr> needs) {
  while (waiting.size() >= most_waiting) run_one();
  auto operation = std::make_shared<Operation>();
  operation->work = std::move(work);
  operation->device = stream->device;
  for (OperationPtr &need : needs) {
    if (need && !need->done) operation->needs.push_back(std::move(need));
  }
  waiting.push_back(operation);
  operation->place = std::prev(waiting.end());
  return operation;
}

/* What the next operation of a stream needs: its last one, and the rules of the legacy default stream, which waits for
 * all blocking streams and which they wait for. */
static std::vector<OperationPtr> stream_needs(cudaStream_t stream) {
  std::vector<OperationPtr> needs{stream->last};
  if (stream->legacy) {
    for (const auto &entry : streams) {
      const CUstream_st &other = *entry.second;
      if (other.device == stream->device && other.blocking && &other != stream) needs.push_back(other.last);
    }
  } else if (stream->blocking) {
    needs.push_back(legacy_stream(stream->device)->last);
  }
  return needs;
}

static bool capturing(cudaStream_t stream) { return stream->capture && stream->capture->active; }

/* The legacy stream waits for every blocking stream, which one that captures cannot be waited for. */
static cudaError_t check_legacy(cudaStream_t stream) {
  if (!stream->legacy) return cudaSuccess;
  cudaError_t error = cudaSuccess;
  for (const auto &entry : streams) {
    const cudaStream_t other = entry.second.get();
    if (other->device == stream->device && other->blocking && capturing(other)) {
      other->capture->invalid = true;
      error = cudaErrorStreamCaptureImplicit;
    }
  }
  return error;
}

cudaError_t submit(cudaStream_t stream, Work work) {
  if (capturing(stream)) {
    Capture &capture = *stream->capture;
    if (capture.invalid) return cudaErrorStreamCaptureInvalidated;
    capture.nodes.push_back({std::move(work), stream->tails});
    stream->tails = {capture.nodes.size() - 1};
    return cudaSuccess;
  }
  const cudaError_t error = check_legacy(stream);
  if (error != cudaSuccess) return error;
  stream->last = append(stream, std::move(work), stream_needs(stream));
  return cudaSuccess;
}

cudaError_t event_record(cudaEvent_t event, cudaStream_t stream) {
  if (capturing(stream)) {
    if (stream->capture->invalid) return cudaErrorStreamCaptureInvalidated;
    event->capture = stream->capture;
    event->tails = stream->tails;
    event->recorded = nullptr;
    return cudaSuccess;
  }
  const cudaError_t error = submit(stream, {"event record", nullptr, {}});
  if (error != cudaSuccess) return error;
  event->recorded = stream->last;
  event->capture = nullptr;
  return cudaSuccess;
}

cudaError_t stream_wait_event(cudaStream_t stream, cudaEvent_t event) {
  if (event->capture && event->capture->active) {
    const CapturePtr &capture = event->capture;
    if (capture->invalid) return cudaErrorStreamCaptureInvalidated;
    if (stream->legacy) {
      capture->invalid = true;
      return cudaErrorStreamCaptureImplicit;
    }
    if (capturing(stream) && stream->capture != capture) {
      capture->invalid = stream->capture->invalid = true;
      return cudaErrorStreamCaptureMerge;
    }
    if (!capturing(stream)) stream->tails.clear();
    stream->capture = capture;
    for (size_t node : event->tails) {
      if (std::find(stream->tails.begin(), stream->tails.end(), node) == stream->tails.end()) {
        stream->tails.push_back(node);
      }
    }
    return cudaSuccess;
  }
  if (event->capture) return cudaErrorCapturedEvent; /* of a capture that has ended */
  if (capturing(stream)) {
    if (stream->capture->invalid) return cudaErrorStreamCaptureInvalidated;
    if (!event->recorded) return cudaSuccess;
    stream->capture->invalid = true;
    return cudaErrorStreamCaptureIsolation;
  }
  if (!event->recorded) return cudaSuccess; /* never recorded: nothing to wait for */
  std::vector<OperationPtr> needs = stream_needs(stream);
  needs.push_back(event->recorded);
  stream->last = append(stream, {"wait for an event", nullptr, {}}, std::move(needs));
  return cudaSuccess;
}

/* ---- capture and graphs -------------------------------------------------------------------------------------------
 */

cudaError_t refuse_in_capture() {
  cudaError_t error = cudaSuccess;
  for (const CapturePtr &capture : captures) {
    const bool mine = capture->thread == std::this_thread::get_id();
    if (capture->mode == cudaStreamCaptureModeGlobal || (capture->mode == cudaStreamCaptureModeThreadLocal && mine)) {
      capture->invalid = true;
      error = cudaErrorStreamCaptureUnsupported;
    }
  }
  return error;
}

cudaError_t refuse_if_capturing(cudaStream_t stream) {
  if (capturing(stream)) {
    stream->capture->invalid = true;
    return cudaErrorStreamCaptureUnsupported;
  }
  return check_legacy(stream);
}

cudaError_t capture_begin(cudaStream_t stream, cudaStreamCaptureMode mode) {
  if (stream->legacy) return cudaErrorStreamCaptureUnsupported;
  if (capturing(stream)) return cudaErrorIllegalState;
  stream->capture = std::make_shared<Capture>(Capture{stream, mode, std::this_thread::get_id(), true, false, {}});
  stream->tails.clear();
  captures.push_back(stream->capture);
  return cudaSuccess;
}

/* Is every node reached backwards from the origin's last ones? */
static bool all_joined(const Capture &capture, const std::vector<size_t> &tails) {
  std::vector<bool> reached(capture.nodes.size(), false);
  for (size_t node : tails) reached[node] = true;
  for (size_t i = capture.nodes.size(); i-- > 0;) {
    if (!reached[i]) return false;
    for (size_t need : capture.nodes[i].needs) reached[need] = true;
  }
  return true;
}

cudaError_t capture_end(cudaStream_t stream, cudaGraph_t *graph) {
  *graph = nullptr;
  if (!capturing(stream)) return cudaErrorIllegalState;
  const CapturePtr capture = stream->capture;
  if (capture->origin != stream) return cudaErrorStreamCaptureUnmatched;
  if (capture->mode != cudaStreamCaptureModeRelaxed && capture->thread != std::this_thread::get_id()) {
    return cudaErrorStreamCaptureWrongThread;
  }
  capture->active = false;
  captures.erase(std::find(captures.begin(), captures.end(), capture));
  for (auto &entry : streams) {
    if (entry.second->capture == capture) entry.second->capture = nullptr;
  }
  if (capture->invalid) return cudaErrorStreamCaptureInvalidated;
  if (!all_joined(*capture, stream->tails)) return cudaErrorStreamCaptureUnjoined;
  *graph = add_handle(graphs);
  (*graph)->nodes = std::move(capture->nodes);
  return cudaSuccess;
}

cudaGraphExec_t graph_instantiate(cudaGraph_t graph) {
  cudaGraphExec_t exec = add_handle(graph_execs);
  exec->nodes = graph->nodes;
  return exec;
}

cudaError_t graph_launch(cudaGraphExec_t exec, cudaStream_t stream) {
  const cudaError_t error = refuse_if_capturing(stream); /* child graphs are not emulated */
  if (error != cudaSuccess) return error;
  std::vector<OperationPtr> before = stream_needs(stream), all;
  before.push_back(exec->last);
  for (const GraphNode &node : exec->nodes) {
    std::vector<OperationPtr> needs;
    for (size_t need : node.needs) needs.push_back(all[need]);
    if (needs.empty()) needs = before;
    all.push_back(append(stream, node.work, std::move(needs)));
  }
  all.insert(all.end(), before.begin(), before.end());
  stream->last = exec->last = append(stream, {"end of a graph", nullptr, {}}, std::move(all));
  return cudaSuccess;
}

/* ---- counts -------------------------------------------------------------------------------------------------------
 */

template <class T>
static int64_t count_alive(const std::map<const void *, std::unique_ptr<T>> &known) {
  return std::count_if(known.begin(), known.end(), [](const auto &entry) { return entry.second->alive; });
}

QueueCounts queue_counts() {
  QueueCounts counts{count_alive(streams), count_alive(events), count_alive(graphs), count_alive(graph_execs)};
  counts.streams -= (int64_t)legacy_streams.size();
  return counts;
}

void queue_reset() {
  waiting.clear();
  captures.clear();
  legacy_streams.clear();
  streams.clear();
  events.clear();
  graphs.clear();
  graph_execs.clear();
  random_value = 0;
}

}  // namespace emu
