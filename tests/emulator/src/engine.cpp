/**
 * @file engine.cpp
 * @brief Scheduling threads, barriers, warp collectives, asynchronous copies; poisoning of shared memory.
 *
 * SPDX-License-Identifier: MIT
 */
#include "engine.h"

#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <utility>

#include "guard.h"
#include "memory.h"
#include "mma.h"
#include "report.h"
#include "settings.h"

uint3 blockIdx;
dim3 blockDim, gridDim;

namespace emu {

Thread *thread = nullptr;
Detector *detector = nullptr;

static constexpr size_t stack_bytes = 256 << 10;
static constexpr size_t stack_guard_bytes = 1 << 20; /* a frame that large must not step over it */
static constexpr size_t top_of_stack_bytes = 64;

Engine *engine_instance = nullptr;

Engine &engine_create() {
  static Engine *made = new Engine;
  engine_instance = made;
  return *made;
}

std::string engine_position() { return engine().position(); }
void run_kernel(const KernelLaunch &launch) { engine().run(launch); }

/* ---- kernels ------------------------------------------------------------------------------------------------------
 */

static std::map<const void *, Kernel> &kernel_table() {
  static std::map<const void *, Kernel> table;
  return table;
}

Kernel &kernel_of(const void *function) {
  Kernel &kernel = kernel_table()[function];
  if (!kernel.function) {
    kernel.function = function;
    kernel.module = module_of(function);
    if (!kernel.module) fatal("%p was launched, which is not a function", function);
    kernel.name = function_name(function);
    kernel.owner = shared_owner_of(*kernel.module, function);
    if (kernel.owner >= 0) {
      SharedOwner &owner = kernel.module->owners[(size_t)kernel.owner];
      owner.is_kernel = true;
      kernel.static_shared = owner.size;
    }
    if (kernel.static_shared > default_shared) {
      fatal("kernel %s has %zu bytes of static shared memory: the compiler allows %zu", kernel.name.c_str(),
            kernel.static_shared, default_shared);
    }
    kernel.max_dynamic_shared = default_shared - kernel.static_shared;
  }
  return kernel;
}

void kernels_reset() {
  for (auto &entry : kernel_table()) {
    entry.second.max_dynamic_shared = default_shared - entry.second.static_shared;
    entry.second.carveout = -1;
  }
}

/* ---- faults of the machine ----------------------------------------------------------------------------------------
 */

/* A kernel that reads through a wild or null pointer, or overflows its stack: say which. */
static void on_fault(int signal, siginfo_t *info, void *) {
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  sigaction(signal, &standard, nullptr);
  if (!engine().running()) return; /* the instruction is repeated and ends the program in the usual way */
  const char *address = static_cast<const char *>(info->si_addr);
  const EmulatedThread &t = engine().current();
  if (address < t.stack && address >= t.stack - stack_guard_bytes) {
    fatal("stack overflow in a kernel: more than %zu bytes of local variables", stack_bytes);
  }
  fatal("a kernel accessed the invalid address %p%s", info->si_addr,
        address ? "" : " (or made a misaligned vector access)");
}

static void catch_faults() {
  static bool done = false;
  if (done || address_sanitizer()) return; /* whose own report is better */
  done = true;
  static char alternate_stack[256 << 10];
  stack_t stack{};
  stack.ss_sp = alternate_stack;
  stack.ss_size = sizeof alternate_stack;
  sigaltstack(&stack, nullptr);
  struct sigaction action {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigaction(SIGSEGV, &action, nullptr);
  sigaction(SIGBUS, &action, nullptr);
}

/* ---- scheduling ---------------------------------------------------------------------------------------------------
 */

inline EmulatedThread *Engine::next() {
  if (head_ == tail_) return nullptr;
  if (random_) {
    const unsigned other = head_ + (unsigned)(random_step(random_) % (tail_ - head_));
    std::swap(ready_[head_ % max_threads], ready_[other % max_threads]);
  }
  return ready_[head_++ % max_threads];
}

/* The current thread waits, ended, or is ready again in the queue: run another. */
void Engine::reschedule() {
  EmulatedThread *me = current_, *t = next();
  if (!t) {
    if (live_ > 0) fatal("deadlock: every thread of the block waits");
    current_ = nullptr;
    thread = nullptr;
    switch_to(*me, main_);
    return;
  }
  if (t == me) return;
  current_ = t;
  thread = t->shared;
  switch_to(*me, *t);
}

void Engine::preempt() {
  make_ready(*current_);
  reschedule();
}

void Engine::thread_main() {
  Engine &e = engine();
  fiber_entered(e.main_);
  for (;;) {
    e.launch_->invocation->run();
    e.thread_exits();
    e.reschedule(); /* comes back for the next block */
  }
}

void Engine::thread_exits() {
  EmulatedThread &me = *current_;
  if (!me.copies.empty()) {
    const Site site = me.copies.front().site;
    fatal("a thread ended with asynchronous copies that it did not wait for, the first issued at %s:%d", site.file,
          site.line);
  }
  me.state = ThreadState::exited;
  --live_;
  if (waiting_ > 0 && waiting_ == live_) {
    fatal("divergent barrier: a thread ended while the others of its block wait at __syncthreads()");
  }
  Warp &warp = warps_[(size_t)me.warp];
  warp.exited |= 1u << me.lane;
  /* A collective waits for the threads in its mask that have not ended. */
  for (size_t i = 0; i < warp.used; ++i) {
    Collective &c = *warp.collectives[i];
    if (c.pending.arrived && (c.mask >> me.lane & 1u)) complete(warp, me.warp, c);
  }
}

std::string Engine::position() const {
  if (!running_ || !launch_) return "";
  const dim3 g = launch_->grid;
  std::string where = text("  in kernel %s, block (%u,%u,%u) of (%u,%u,%u)", kernel_->name.c_str(), blockIdx.x,
                           blockIdx.y, blockIdx.z, g.x, g.y, g.z);
  if (current_) {
    const uint3 i = current_->shared->index;
    where += text(", thread (%u,%u,%u)", i.x, i.y, i.z);
  }
  int states[4] = {};
  for (int i = 0; i < count_; ++i) ++states[(int)threads_[(size_t)i]->state];
  where += text("\n  of its %d threads %d can run, %d wait at a barrier, %d in a warp collective, %d ended\n", count_,
                states[0], states[1], states[2], states[3]);
  int shown = 0;
  for (int i = 0; i < count_ && shown < 8; ++i) {
    const EmulatedThread &t = *threads_[(size_t)i];
    if (t.state != ThreadState::at_barrier && t.state != ThreadState::in_collective) continue;
    if (i > 0) {
      const EmulatedThread &previous = *threads_[(size_t)i - 1];
      if (previous.state == t.state && previous.waits.line == t.waits.line) continue;
    }
    ++shown;
    where += text("  thread %d waits in %s at %s:%d\n", i, t.what, t.waits.file, t.waits.line);
  }
  return where;
}

/* Two copies of a file's name may have two addresses. */
static bool same_site(Site a, Site b) { return a.line == b.line && (a.file == b.file || strcmp(a.file, b.file) == 0); }

/* ---- barriers -----------------------------------------------------------------------------------------------------
 */

void Engine::release_barrier() {
  waiting_ = 0;
  ++counts.barriers;
  barrier_result_[barrier_parity_] = predicate_count_;
  barrier_parity_ ^= 1u;
  predicate_count_ = 0;
  if (detector) detector->barrier();
  for (int i = 0; i < count_; ++i) make_ready(*threads_[(size_t)i]);
}

void Engine::barrier(Site site) {
  EmulatedThread &me = *current_;
  me.waits = site;
  me.what = "__syncthreads";
  me.state = ThreadState::at_barrier;
  if (live_ != count_)
    fatal("divergent barrier: __syncthreads() at %s:%d after %d threads of the block ended", site.file, site.line,
          count_ - live_);
  if (waiting_ == 0) {
    barrier_site_ = site;
  } else if (!same_site(barrier_site_, site)) {
    fatal("divergent barrier: threads of one block wait at different __syncthreads(), %s:%d and %s:%d",
          barrier_site_.file, barrier_site_.line, site.file, site.line);
  }
  if (++waiting_ == count_) release_barrier();
  reschedule();
}

int Engine::barrier_reduce(bool predicate, int *any, int *all, Site site) {
  const unsigned parity = barrier_parity_;
  predicate_count_ += predicate;
  barrier(site);
  const int count = barrier_result_[parity];
  *any = count > 0;
  *all = count == count_;
  return count;
}

/* Of all the collectives only this one orders memory. */
static const char syncwarp_name[] = "__syncwarp";

/* ---- warp collectives ---------------------------------------------------------------------------------------------
 */

Collective &Engine::collective_with(Warp &warp, unsigned mask) {
  for (size_t i = 0; i < warp.used; ++i) {
    if (warp.collectives[i]->mask == mask) return *warp.collectives[i];
  }
  if (warp.used == warp.collectives.size()) warp.collectives.push_back(std::make_unique<Collective>());
  Collective &c = *warp.collectives[warp.used++];
  c.mask = mask;
  c.generation = 0;
  c.pending.arrived = 0;
  return c;
}

/* If all lanes that must come have come, hand out the values and wake them. */
bool Engine::complete(Warp &warp, int warp_index, Collective &c) {
  if (c.pending.arrived != (c.mask & ~warp.exited)) return false;
  Exchange &done = c.done[c.generation & 1u];
  done = c.pending;
  c.pending.arrived = 0;
  ++c.generation;
  ++counts.collectives;
  if (detector && c.what == syncwarp_name) detector->warp_sync(warp_index, done.arrived);
  for (unsigned l = 0; l < 32; ++l) {
    if (!(done.arrived >> l & 1u)) continue;
    EmulatedThread &t = *threads_[(size_t)warp_index * 32 + l];
    if (&t != current_) make_ready(t);
  }
  return true;
}

const Exchange &Engine::collective(const char *what, unsigned mask, uint64_t value, Site site) {
  EmulatedThread &me = *current_;
  Warp &warp = warps_[(size_t)me.warp];
  me.waits = site;
  me.what = what;
  mask &= warp.existing;
  if (!(mask >> me.lane & 1u)) {
    fatal("%s at %s:%d: the calling lane %u is not in its own mask 0x%08x", what, site.file, site.line, me.lane, mask);
  }
  Collective &c = collective_with(warp, mask);
  for (size_t i = 0; i < warp.used; ++i) {
    const Collective &other = *warp.collectives[i];
    if (&other != &c && (other.pending.arrived & mask) && (other.mask >> me.lane & 1u)) {
      fatal("lanes of one warp disagree about the mask: 0x%08x in %s at %s:%d, 0x%08x in %s at %s:%d", other.mask,
            other.what, other.site.file, other.site.line, mask, what, site.file, site.line);
    }
  }
  if (!c.pending.arrived) {
    c.site = site;
    c.what = what;
  } else if (!same_site(c.site, site) || (c.what != what && strcmp(c.what, what) != 0)) {
    me.state = ThreadState::in_collective;
    fatal("lanes of one warp wait in different collectives: %s at %s:%d and %s at %s:%d", c.what, c.site.file,
          c.site.line, what, site.file, site.line);
  }
  c.pending.value[me.lane] = value;
  c.pending.arrived |= 1u << me.lane;
  const unsigned generation = c.generation;
  if (complete(warp, me.warp, c)) {
    if (random_) { /* else the last lane goes on at once */
      make_ready(me);
      reschedule();
    }
  } else {
    me.state = ThreadState::in_collective;
    reschedule();
  }
  return c.done[generation & 1u];
}

/* Which lanes are converged is not specified, only that the caller is: any answer that contains it is right. */
unsigned Engine::active_mask() {
  const EmulatedThread &me = *current_;
  const Warp &warp = warps_[(size_t)me.warp];
  const unsigned candidates = warp.existing & ~warp.exited;
  return (random_ ? candidates & (unsigned)random_step(random_) : candidates) | 1u << me.lane;
}

/* ---- asynchronous copies ------------------------------------------------------------------------------------------
 */

static void carry_out(const AsyncCopy &copy) {
  memcpy(copy.to, copy.from, copy.size - copy.zero_fill);
  memset(static_cast<char *>(copy.to) + copy.size - copy.zero_fill, 0, copy.zero_fill);
}

void Engine::issue_copy(const AsyncCopy &copy) {
  if (detector) detector->copy_issued(copy);
  if (settings().early_copies) carry_out(copy);
  current_->copies.push_back(copy);
}

void Engine::finish_copies(EmulatedThread &t, uint64_t before_stage) {
  size_t kept = 0;
  for (const AsyncCopy &copy : t.copies) {
    if (copy.stage >= before_stage) {
      t.copies[kept++] = copy;
      continue;
    }
    if (!settings().early_copies) carry_out(copy);
    if (detector) detector->copy_done(copy);
  }
  t.copies.resize(kept);
}

/* ---- shared memory ------------------------------------------------------------------------------------------------
 */

const char *Engine::shared_name(const void *address) const {
  const char *p = static_cast<const char *>(address);
  if (p >= dynamic_ && p < dynamic_ + launch_->dynamic_shared) return "dynamic shared memory";
  const SharedVariable *v = shared_variable_at(*kernel_->module, address);
  return v && !v->guard ? v->name.c_str() : nullptr;
}

/* NaNs, so that what a block does not write it cannot use unnoticed. Variables of other kernels are left alone after
 * the first block; those of device functions may be anyone's. */
void Engine::poison_static_shared(bool all) {
  for (const SharedVariable &v : kernel_->module->shared) {
    if (v.guard) {
      if (all) guard_poison(v.address, v.size);
    } else if (all || v.owner == kernel_->owner || !kernel_->module->owners[(size_t)v.owner].is_kernel) {
      guard_fill(v.address, v.size, 0xff);
    }
  }
}

void Engine::check_dynamic_guards() {
  const int64_t bad = guard_first_damaged(dynamic_ + launch_->dynamic_shared, guard_bytes);
  if (bad >= 0)
    fatal("out of bounds: a block wrote byte %lld behind the end of its %zu bytes of dynamic shared memory",
          (long long)bad, launch_->dynamic_shared);
  if (guard_first_damaged(dynamic_ - guard_bytes, guard_bytes) >= 0) {
    fatal("out of bounds: a block wrote before the start of its dynamic shared memory");
  }
}

/* ---- a kernel -----------------------------------------------------------------------------------------------------
 */

void Engine::prepare(const KernelLaunch &launch) {
  catch_faults();
  launch_ = &launch;
  kernel_ = &kernel_of(launch.function);
  count_ = (int)(launch.block.x * launch.block.y * launch.block.z);
  random_ = settings().seed ? random_state(settings().seed + (uint64_t)counts.kernels) : 0;
  ++counts.kernels;
  blockDim = launch.block;
  gridDim = launch.grid;
  while ((int)threads_.size() < count_) {
    threads_.push_back(std::make_unique<EmulatedThread>());
    EmulatedThread &t = *threads_.back();
    t.id = (int)threads_.size() - 1;
    t.lane = (unsigned)t.id & 31u;
    t.warp = t.id >> 5;
    fiber_create(t, stack_bytes, top_of_stack_bytes, stack_guard_bytes, thread_main);
    t.shared = reinterpret_cast<Thread *>(t.stack + t.stack_size - top_of_stack_bytes);
  }
  warps_.resize((size_t)(count_ + 31) / 32);
  if (!dynamic_memory_) {
    /* Aligned to 16 bytes and not to more, which is all that a kernel may count on. */
    dynamic_memory_ = static_cast<char *>(aligned_alloc(1024, max_shared + 3 * 1024));
    if (!dynamic_memory_) fatal("no memory for shared memory");
    dynamic_ = dynamic_memory_ + 1024 + 16;
  }
  guard_unpoison(dynamic_memory_, max_shared + 3 * 1024);
  guard_fill(dynamic_ - guard_bytes, guard_bytes, guard_byte);
  guard_fill(dynamic_ + launch.dynamic_shared, guard_bytes, guard_byte);
  guard_poison(dynamic_ - guard_bytes, guard_bytes);
  guard_poison(dynamic_ + launch.dynamic_shared,
               (size_t)(dynamic_memory_ + max_shared + 3 * 1024 - dynamic_) - launch.dynamic_shared);
}

void Engine::run_block(uint64_t index) {
  const dim3 g = launch_->grid, b = launch_->block;
  blockIdx = {(unsigned)(index % g.x), (unsigned)(index / g.x % g.y), (unsigned)(index / ((uint64_t)g.x * g.y))};
  live_ = count_;
  waiting_ = 0;
  predicate_count_ = 0;
  ++block_serial_;
  ++counts.blocks;
  head_ = tail_ = 0;
  for (size_t w = 0; w < warps_.size(); ++w) {
    const int lanes = count_ - (int)w * 32;
    warps_[w].used = 0;
    warps_[w].exited = 0;
    warps_[w].existing = lanes >= 32 ? 0xffffffffu : (1u << lanes) - 1u;
  }
  poison_static_shared(false);
  guard_fill(dynamic_, launch_->dynamic_shared, 0xff);
  for (int i = 0; i < count_; ++i) {
    EmulatedThread &t = *threads_[(size_t)i];
    const unsigned u = (unsigned)i;
    t.shared->index = {u % b.x, u / b.x % b.y, u / (b.x * b.y)};
    t.stage = 0;
    make_ready(t);
  }
  if (detector) detector->block_begins();
  current_ = next();
  thread = current_->shared;
  switch_to(main_, *current_);
  if (!address_sanitizer()) check_dynamic_guards();
}

void Engine::run(const KernelLaunch &launch) {
  prepare(launch);
  running_ = true;
  poison_static_shared(true);
  if (detector) detector->kernel_begins();
  const uint64_t total = (uint64_t)launch.grid.x * launch.grid.y * launch.grid.z;
  if (random_) {
    /* A random permutation without storing it: a walk by a step that has no factor in common with the number. */
    uint64_t step = random_step(random_) % total, at = random_step(random_) % total;
    const auto common = [](uint64_t a, uint64_t n) {
      while (a) {
        const uint64_t r = n % a;
        n = a;
        a = r;
      }
      return n;
    };
    while (common(step, total) != 1) step = (step + 1) % total;
    for (uint64_t i = 0; i < total; ++i, at = (at + step) % total) run_block(at);
  } else {
    for (uint64_t i = 0; i < total; ++i) run_block(i);
  }
  memory_check_guards(text("kernel %s", kernel_->name.c_str()).c_str());
  if (detector) detector->kernel_ends();
  running_ = false;
  launch_ = nullptr;
}

/* ---- what kernels call (emu/kernel.h) -----------------------------------------------------------------------------
 */

void barrier(Site site) { engine().barrier(site); }
int barrier_reduce(int predicate, int *any, int *all, Site site) {
  return engine().barrier_reduce(predicate != 0, any, all, site);
}
unsigned ballot(unsigned mask, bool predicate, Site site) {
  const Exchange &exchange = engine().collective("__ballot_sync", mask, predicate, site);
  unsigned result = 0;
  for (unsigned i = 0; i < 32; ++i) {
    if ((exchange.arrived >> i & 1u) && exchange.value[i]) result |= 1u << i;
  }
  return result;
}

void warp_meet(const char *what, Site site) {
  const Exchange &exchange = engine().collective(what, 0xffffffffu, 0, site);
  if (exchange.arrived != 0xffffffffu) fatal("%s at %s:%d needs a whole warp", what, site.file, site.line);
}

void warp_sync(unsigned mask, Site site) { engine().collective(syncwarp_name, mask, 0, site); }

unsigned active_mask() { return engine().active_mask(); }
unsigned lane() { return engine().current().lane; }
void memory_fence() {
  if (detector) detector->fence();
}

void kernel_fault(Site site, const char *format, ...) {
  char message[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  fatal("%s (%s:%d)", message, site.file, site.line);
}

char *dynamic_shared(size_t alignment, Site site) {
  if (alignment > 16) {
    fatal("dynamic shared memory at %s:%d is asked for with an alignment of %zu bytes: 16 is what CUDA gives",
          site.file, site.line, alignment);
  }
  if (engine().dynamic_size() == 0) {
    fatal("dynamic shared memory is used at %s:%d, but the launch asked for none", site.file, site.line);
  }
  return engine().dynamic_begin();
}

uint64_t shuffle(ShuffleKind kind, unsigned mask, uint64_t value, int argument, int width, Site site) {
  static const char *const names[] = {"__shfl_sync", "__shfl_up_sync", "__shfl_down_sync", "__shfl_xor_sync"};
  const char *name = names[(int)kind];
  if (width < 1 || width > 32 || (width & (width - 1)) != 0) {
    fatal("%s at %s:%d: the width %d is not a power of two from 1 to 32", name, site.file, site.line, width);
  }
  const Exchange &exchange = engine().collective(name, mask, value, site);
  const int me = (int)engine().current().lane, first = me & ~(width - 1);
  int source = me;
  switch (kind) {
    case ShuffleKind::index:
      source = first + (argument & (width - 1));
      break;
    case ShuffleKind::up:
      if (argument < 0 || argument > me - first) break;
      source = me - argument;
      break;
    case ShuffleKind::down:
      if (argument < 0 || argument >= width - (me - first)) break;
      source = me + argument;
      break;
    case ShuffleKind::exclusive_or:
      source = me ^ argument;
      if (source < 0 || source >= first + width) source = me;
      break;
  }
  if (!(exchange.arrived >> source & 1u)) {
    fatal("%s at %s:%d: lane %d reads lane %d, which does not take part (mask 0x%08x, taking part 0x%08x)", name,
          site.file, site.line, me, source, mask, exchange.arrived);
  }
  return exchange.value[source];
}

void warp_gather(const char *what, const void *mine, size_t size, void *all, Site site) {
  const Exchange &exchange = engine().collective(what, 0xffffffffu, reinterpret_cast<uintptr_t>(mine), site);
  if (exchange.arrived != 0xffffffffu) fatal("%s at %s:%d needs a whole warp", what, site.file, site.line);
  for (size_t i = 0; i < 32; ++i) {
    memcpy(static_cast<char *>(all) + i * size, reinterpret_cast<const void *>((uintptr_t)exchange.value[i]), size);
  }
  engine().collective(what, 0xffffffffu, 0, site); /* nobody goes on while another still reads */
}

void pipeline_copy(void *shared, const void *global, size_t size, size_t zero_fill, Site site) {
  Engine &e = engine();
  if ((size != 4 && size != 8 && size != 16) || zero_fill > size) {
    fatal("asynchronous copy at %s:%d of %zu bytes, %zu of them zero: 4, 8 or 16, and not more zero", site.file,
          site.line, size, zero_fill);
  }
  if ((reinterpret_cast<uintptr_t>(shared) | reinterpret_cast<uintptr_t>(global)) % size != 0) {
    fatal("misaligned: asynchronous copy at %s:%d of %zu bytes from %p to %p", site.file, site.line, size, global,
          shared);
  }
  char *to = static_cast<char *>(shared);
  if (!e.shared_name(to) || !e.shared_name(to + size - 1)) {
    fatal("out of bounds: asynchronous copy at %s:%d to %p, which is not shared memory of this block", site.file,
          site.line, shared);
  }
  if (zero_fill < size) {
    const Allocation *allocation = allocation_at(global);
    const char *end = static_cast<const char *>(global) + size - zero_fill;
    if (!allocation || end > allocation->base + allocation->size) {
      fatal("out of bounds: asynchronous copy at %s:%d of %zu bytes from %p, %s", site.file, site.line,
            size - zero_fill, global,
            allocation ? "which run over the end of their allocation" : "which is not device memory");
    }
  }
  e.issue_copy({shared, global, size, zero_fill, e.current().stage, site});
}

void pipeline_commit() { ++engine().current().stage; }

void pipeline_wait_prior(size_t stages) {
  EmulatedThread &t = engine().current();
  engine().finish_copies(t, t.stage > stages ? t.stage - stages : 0);
}

uint64_t atomic(Atomic operation, void *address, size_t size, bool is_signed, uint64_t operand, uint64_t expected) {
  if (reinterpret_cast<uintptr_t>(address) % size != 0) fatal("misaligned: atomic of %zu bytes at %p", size, address);
  if (address_poisoned(address, size)) fatal("out of bounds: atomic of %zu bytes at %p", size, address);
  if (detector) detector->atomic(address, size);
  uint64_t old = 0;
  memcpy(&old, address, size);
  const uint64_t keep = size == 8 ? UINT64_MAX : UINT32_MAX;
  operand &= keep;
  const bool less = is_signed ? (int32_t)operand < (int32_t)old : operand < old;
  uint64_t value = operand;
  switch (operation) {
    case Atomic::add:
      value = old + operand;
      break;
    case Atomic::minimum:
      value = less ? operand : old;
      break;
    case Atomic::maximum:
      value = less ? old : operand;
      break;
    case Atomic::bit_and:
      value = old & operand;
      break;
    case Atomic::bit_or:
      value = old | operand;
      break;
    case Atomic::bit_xor:
      value = old ^ operand;
      break;
    case Atomic::exchange:
      break;
    case Atomic::compare_exchange:
      value = old == (expected & keep) ? operand : old;
      break;
  }
  memcpy(address, &value, size);
  return old;
}

}  // namespace emu
