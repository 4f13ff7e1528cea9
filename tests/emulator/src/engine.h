/**
 * @file engine.h
 * @brief Running a kernel: one fiber a thread, one block at a time.
 *
 * A thread runs until it reaches a barrier or a warp collective that others must still reach (or, with the race hooks,
 * until it is preempted); then the next thread that can run does: in the order they became ready, or with EMU_SEED in a
 * random one.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef EMU_ENGINE_H
#define EMU_ENGINE_H

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "emu/kernel.h"
#include "emu/runtime_api.h"
#include "fiber.h"
#include "symbols.h"

namespace emu {

constexpr int max_threads = 1024;
constexpr size_t default_shared = 48 << 10; /* static, or dynamic without the function's attribute */
constexpr size_t max_shared = 227 << 10;    /* static and dynamic together */
constexpr size_t reserved_shared = 1 << 10; /* of each resident block, by the driver */
constexpr size_t shared_per_multiprocessor = 228 << 10;

struct KernelLaunch {
  const void *function;
  dim3 grid, block;
  size_t dynamic_shared;
  std::shared_ptr<const Invocation> invocation;
  size_t invocation_size;
};

/** What is known of a kernel before it runs. */
struct Kernel {
  const void *function = nullptr;
  Module *module = nullptr;
  int owner = -1; /* its own static shared variables */
  size_t static_shared = 0;
  size_t max_dynamic_shared = default_shared; /* less static_shared, unless cudaFuncSetAttribute says */
  int carveout = -1;
  std::string name;
};
Kernel &kernel_of(const void *function);
/** Forget all attributes. */
void kernels_reset();

/** Run the kernel to its end. */
void run_kernel(const KernelLaunch &launch);

/** Where the running kernel stands, for a message; empty on the host. */
std::string engine_position();

enum class ThreadState : uint8_t { ready, at_barrier, in_collective, exited };

struct AsyncCopy {
  void *to;
  const void *from;
  size_t size, zero_fill;
  uint64_t stage;
  Site site;
};

struct EmulatedThread : Fiber {
  Thread *shared = nullptr; /* its indices, at the top of its stack */
  int id = 0, warp = 0;
  unsigned lane = 0;
  ThreadState state = ThreadState::exited;
  Site waits{};          /* where, if it waits */
  const char *what = ""; /* for what */
  std::vector<AsyncCopy> copies;
  uint64_t stage = 0; /* stages committed so far */
};

/** What the lanes of a warp put into a collective. */
struct Exchange {
  uint64_t value[32];
  unsigned arrived; /* lanes that took part */
};

/** Collective operations of a warp under one mask; `generation` alternates two results, so that a lane that has not
 * yet read one is not overtaken. */
struct Collective {
  unsigned mask;
  unsigned generation;
  Site site;
  const char *what;
  Exchange pending, done[2];
};

struct Warp {
  std::vector<std::unique_ptr<Collective>> collectives;
  size_t used = 0; /* of this block */
  unsigned existing = 0, exited = 0;
};

/** What the race hooks need to know and are told (race.cpp); absent in programs without them. */
class Detector {
 public:
  virtual ~Detector() = default;
  virtual void kernel_begins() = 0;
  virtual void kernel_ends() = 0;
  virtual void block_begins() = 0;
  virtual void barrier() = 0;
  virtual void warp_sync(int warp, unsigned mask) = 0;
  virtual void fence() = 0;
  virtual void atomic(void *address, size_t size) = 0;
  virtual void copy_issued(const AsyncCopy &copy) = 0;
  virtual void copy_done(const AsyncCopy &copy) = 0;
  virtual void memory_released(uint64_t allocation) = 0;
  virtual void reset() = 0;
  virtual void statistics(int64_t *accesses, int64_t *races) const = 0;
};
extern Detector *detector;

struct EngineCounts {
  int64_t kernels, blocks, barriers, collectives, switches;
};

class Engine {
 public:
  void run(const KernelLaunch &launch);
  std::string position() const;

  void barrier(Site site);
  int barrier_reduce(bool predicate, int *any, int *all, Site site);
  const Exchange &collective(const char *what, unsigned mask, uint64_t value, Site site);
  unsigned active_mask();
  void preempt();
  void issue_copy(const AsyncCopy &copy);
  void finish_copies(EmulatedThread &t, uint64_t before_stage);

  bool running() const { return running_; }
  EmulatedThread &current() { return *current_; }
  const KernelLaunch &launch() const { return *launch_; }
  const Kernel &kernel() const { return *kernel_; }
  uint64_t block_serial() const { return block_serial_; }
  char *dynamic_begin() const { return dynamic_; }
  size_t dynamic_size() const { return launch_->dynamic_shared; }
  const char *shared_name(const void *address) const; /* of a byte in this block's shared memory, else null */
  uint64_t &random() { return random_; }

  EngineCounts counts{};

 private:
  static void thread_main();
  void run_block(uint64_t index);
  void prepare(const KernelLaunch &launch);
  void poison_static_shared(bool all);
  void check_dynamic_guards();
  void reschedule();
  EmulatedThread *next();
  void switch_to(Fiber &from, Fiber &to) {
    ++counts.switches;
    fiber_switch(from, to);
  }
  void make_ready(EmulatedThread &t) {
    t.state = ThreadState::ready;
    ready_[tail_++ % max_threads] = &t;
  }
  void release_barrier();
  bool complete(Warp &warp, int warp_index, Collective &c);
  void thread_exits();
  Collective &collective_with(Warp &warp, unsigned mask);

  std::vector<std::unique_ptr<EmulatedThread>> threads_;
  std::vector<Warp> warps_;
  EmulatedThread *ready_[max_threads] = {}; /* a ring: each thread is in it at most once */
  unsigned head_ = 0, tail_ = 0;
  Fiber main_;
  EmulatedThread *current_ = nullptr;
  const KernelLaunch *launch_ = nullptr;
  Kernel *kernel_ = nullptr;
  int count_ = 0, live_ = 0, waiting_ = 0;
  int predicate_count_ = 0, barrier_result_[2] = {};
  unsigned barrier_parity_ = 0;
  Site barrier_site_{};
  uint64_t block_serial_ = 0, random_ = 0;
  bool running_ = false;
  char *dynamic_ = nullptr, *dynamic_memory_ = nullptr;
};
extern Engine *engine_instance;
Engine &engine_create();
/** The one engine; made at the first use, never destroyed: kernels may run until the very end. */
inline Engine &engine() { return engine_instance ? *engine_instance : engine_create(); }

}  // namespace emu

#endif
