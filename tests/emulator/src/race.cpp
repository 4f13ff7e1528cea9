/**
 * @file race.cpp
 * @brief The race detector: what -fsanitize=thread calls before every access, and what it finds.
 *
 * Kernels are compiled with -fsanitize=thread and the program is linked without it, so that the calls come here. This
 * object is taken from the library only by a program with such kernels.
 *
 * Two accesses to a byte race if one of them writes, not both are atomic, and nothing orders them. Within a block they
 * are ordered by __syncthreads() (counted by an epoch) and, within a warp, by __syncwarp() (vector clocks of the
 * lanes); shuffles and votes order nothing. Between blocks of one launch nothing orders them, except: a thread that
 * executes
 * __threadfence() and then an atomic hands on what is ordered before the fence to the blocks that later use the same
 * atomic ("the last block to finish"). Between launches everything is ordered: the shadow is forgotten.
 *
 * Also exact here: reads of shared memory that the block has not written, any access to the target of an asynchronous
 * copy before it was waited for, accesses outside allocations, shared variables and dynamic shared memory, to host
 * memory and to other threads' local variables, and misalignment.
 *
 * References: Flanagan, Freund: FastTrack, PLDI 2009 (epochs instead of full clocks where one suffices); CUDA C++
 * Programming Guide, "Memory Fence Functions" and "Warp Shuffle Functions".
 *
 * SPDX-License-Identifier: MIT
 */
#include <algorithm>
#include <array>
#include <cstring>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine.h"
#include "memory.h"
#include "report.h"
#include "settings.h"

namespace emu {

/* Who did it, and when by the clocks of its block. */
struct Access {
  uint64_t block;
  const void *pc;
  uint32_t epoch, clock;
  int32_t thread; /* -1: none */
};

static constexpr Access no_access{0, nullptr, 0, 0, -1};

/* What is remembered of a word (or, where parts of it were accessed, of a byte). */
struct Cell {
  uint64_t era = 0; /* of another block (shared) or launch (global): nothing is remembered */
  Access write = no_access, read = no_access;
  uint32_t lanes = 0; /* several lanes of one warp have read: their clocks are in lane_clocks[lanes - 1] */
  bool many_warps = false, many_blocks = false; /* several have read since the last write */
  bool atomic_write = false, pending_copy = false, split = false;
};

/* Shadow of a range of memory. */
struct Shadow {
  std::vector<Cell> words;
  std::unordered_map<size_t, std::array<Cell, 4>> bytes; /* of words that are split */
};

/* What a fence and an atomic after it hand on. */
struct Release {
  uint64_t block;
  uint32_t epoch;
  int warp;
  std::array<uint32_t, 32> clocks;
};
struct Synchronization {
  std::vector<Release> releases;
};

class RaceDetector final : public Detector {
 public:
  void kernel_begins() override;
  void kernel_ends() override;
  void block_begins() override;
  void barrier() override { ++epoch_; }
  void warp_sync(int warp, unsigned mask) override;
  void fence() override;
  void atomic(void *address, size_t size) override;
  void copy_issued(const AsyncCopy &copy) override;
  void copy_done(const AsyncCopy &copy) override;
  void memory_released(uint64_t allocation) override { global_.erase(allocation); }
  void reset() override;
  void statistics(int64_t *accesses, int64_t *races) const override {
    *accesses = accesses_;
    *races = races_;
  }

  void access(void *address, size_t size, bool write, const void *pc);

 private:
  enum class Kind { plain, atomic, copy_issue, copy_done };
  struct Place {
    Shadow *shadow; /* null: not looked at */
    size_t offset;
    bool shared;
    const char *name;
  };

  Place place_of(char *p, size_t size, bool write, const void *pc);
  Place in_module(char *p, size_t size, bool write, const void *pc);
  [[noreturn]] void stray(char *p, size_t size, bool write, const void *pc);
  void check(const Place &place, char *p, size_t size, bool write, Kind kind, const void *pc);
  bool check_cell(Cell &cell, const Place &place, char *p, bool write, Kind kind, const void *pc);
  bool reads_ordered(const Cell &cell) const;
  bool ordered(const Access &a) const;
  bool handed_on(const Access &a) const;
  bool everything_handed_on() const;
  void remember_read(Cell &cell, const Access &now);
  bool report(const char *what, const Place &place, const char *p, const Access &other, const void *pc);
  void uninitialised(const Place &place, const char *p, const void *pc);
  uint32_t clock_of(const EmulatedThread &t) const { return clocks_[(size_t)t.warp][t.lane][t.lane]; }

  Shadow dynamic_;
  std::unordered_map<const SharedVariable *, Shadow> static_;
  std::unordered_map<uint64_t, Shadow> global_;                  /* by allocation */
  std::unordered_map<uintptr_t, Shadow> module_;                 /* variables of the program, a word each */
  std::vector<std::array<std::array<uint32_t, 32>, 32>> clocks_; /* [warp][lane]: what the lane knows of each lane */
  std::vector<std::array<uint32_t, 32>> lane_clocks_;
  std::vector<Release> fences_;                                      /* by thread */
  std::unordered_map<uintptr_t, Synchronization> synchronizations_;  /* by address of the atomic */
  std::vector<std::pair<const Synchronization *, size_t>> acquired_; /* by this block: so many of its releases */
  std::set<std::pair<const void *, const void *>> reported_;
  /* The latest, looked at first. */
  const Allocation *last_allocation_ = nullptr;
  Shadow *last_shadow_ = nullptr;
  const SharedVariable *last_variable_ = nullptr;
  Shadow *last_variable_shadow_ = nullptr;
  uint64_t launch_era_ = 0;
  uint64_t blocks_before_ = 0, first_block_ = 0;
  uint32_t epoch_ = 0;
  int64_t accesses_ = 0, races_ = 0, races_before_ = 0, uninitialised_ = 0;
};

static RaceDetector *instance = [] {
  RaceDetector *made = new RaceDetector;
  detector = made;
  return made;
}();

/* ---- order --------------------------------------------------------------------------------------------------------
 */

void RaceDetector::kernel_begins() {
  ++launch_era_;
  races_before_ = races_;
  synchronizations_.clear();
  module_.clear();
  last_allocation_ = nullptr;
  last_variable_ = nullptr;
  blocks_before_ = 0;
  first_block_ = engine().block_serial() + 1;
  const KernelLaunch &launch = engine().launch();
  dynamic_.words.resize((launch.dynamic_shared + 3) / 4);
}

void RaceDetector::block_begins() {
  const dim3 b = engine().launch().block;
  const size_t threads = (size_t)b.x * b.y * b.z;
  epoch_ = 1;
  blocks_before_ = engine().block_serial() - first_block_;
  clocks_.assign((threads + 31) / 32, {});
  for (auto &warp : clocks_) {
    for (size_t lane = 0; lane < 32; ++lane) warp[lane][lane] = 1;
  }
  fences_.assign(threads, Release{0, 0, 0, {}});
  lane_clocks_.clear();
  acquired_.clear();
}

void RaceDetector::warp_sync(int warp, unsigned mask) {
  auto &lanes = clocks_[(size_t)warp];
  std::array<uint32_t, 32> joint{};
  for (unsigned l = 0; l < 32; ++l) {
    if (!(mask >> l & 1u)) continue;
    for (size_t i = 0; i < 32; ++i) joint[i] = std::max(joint[i], lanes[l][i]);
  }
  for (unsigned l = 0; l < 32; ++l) {
    if (!(mask >> l & 1u)) continue;
    lanes[l] = joint;
    ++lanes[l][l];
  }
}

void RaceDetector::fence() {
  const EmulatedThread &t = engine().current();
  auto &mine = clocks_[(size_t)t.warp][t.lane];
  fences_[(size_t)t.id] = {engine().block_serial(), epoch_, t.warp, mine};
  ++mine[t.lane]; /* what comes later is not handed on */
}

/* Was the access of another block handed on to this one? */
bool RaceDetector::handed_on(const Access &a) const {
  for (const auto &entry : acquired_) {
    for (size_t i = 0; i < entry.second; ++i) {
      const Release &r = entry.first->releases[i];
      if (r.block != a.block) continue;
      if (a.epoch < r.epoch) return true;
      if (a.epoch == r.epoch && a.thread / 32 == r.warp && a.clock <= r.clocks[(size_t)a.thread % 32]) return true;
    }
  }
  return false;
}

/* Has every block that ran before handed on to this one? */
bool RaceDetector::everything_handed_on() const {
  std::set<uint64_t> blocks;
  for (const auto &entry : acquired_) {
    for (size_t i = 0; i < entry.second; ++i) blocks.insert(entry.first->releases[i].block);
  }
  blocks.erase(engine().block_serial());
  return blocks.size() >= blocks_before_;
}

bool RaceDetector::ordered(const Access &a) const {
  if (a.block != engine().block_serial()) return handed_on(a);
  const EmulatedThread &me = engine().current();
  if (a.thread == me.id || a.epoch < epoch_) return true;
  return a.thread / 32 == me.warp && a.clock <= clocks_[(size_t)me.warp][me.lane][(size_t)a.thread % 32];
}

/* Are all reads since the last write ordered before the current access? */
bool RaceDetector::reads_ordered(const Cell &cell) const {
  if (cell.many_blocks && !everything_handed_on()) return false;
  if (cell.read.thread < 0) return true;
  if (cell.read.block != engine().block_serial() || cell.read.epoch < epoch_) return ordered(cell.read);
  if (cell.many_warps) return false;
  if (!cell.lanes) return ordered(cell.read);
  const EmulatedThread &me = engine().current();
  if (cell.read.thread / 32 != me.warp) return false;
  const auto &readers = lane_clocks_[cell.lanes - 1];
  for (size_t l = 0; l < 32; ++l) {
    if (l != me.lane && readers[l] > clocks_[(size_t)me.warp][me.lane][l]) return false;
  }
  return true;
}

void RaceDetector::remember_read(Cell &cell, const Access &now) {
  const Access before = cell.read;
  if (before.thread >= 0 && before.block != now.block) {
    cell.many_blocks = true;
    cell.many_warps = false;
    cell.lanes = 0;
  } else if (before.thread >= 0 && before.epoch == now.epoch && before.thread != now.thread) {
    if (before.thread / 32 != now.thread / 32) {
      cell.many_warps = true;
    } else if (!cell.many_warps) {
      if (!cell.lanes) {
        lane_clocks_.push_back({});
        cell.lanes = (uint32_t)lane_clocks_.size();
        lane_clocks_.back()[(size_t)before.thread % 32] = before.clock;
      }
    }
  } else if (before.epoch != now.epoch) {
    cell.many_warps = false;
    cell.lanes = 0;
  }
  if (cell.lanes) lane_clocks_[cell.lanes - 1][(size_t)now.thread % 32] = now.clock;
  cell.read = now;
}

/* ---- reports ------------------------------------------------------------------------------------------------------
 */

bool RaceDetector::report(const char *what, const Place &place, const char *p, const Access &other, const void *pc) {
  ++races_;
  if (!reported_.insert({pc, other.pc}).second || reported_.size() > 10) return true;
  const bool same_block = other.block == engine().block_serial();
  note("race: %s of %s memory%s%s at %p\n  thread %d: %s\n  %s %d: %s", what, place.shared ? "shared" : "global",
       place.name ? ", " : "", place.name ? place.name : "", static_cast<const void *>(p), engine().current().id,
       code_location(pc).c_str(), same_block ? "thread" : "another block's thread", other.thread,
       other.pc ? code_location(other.pc).c_str() : "an atomic or asynchronous copy");
  return true;
}

void RaceDetector::uninitialised(const Place &place, const char *p, const void *pc) {
  ++races_;
  ++uninitialised_;
  if (!reported_.insert({pc, nullptr}).second || reported_.size() > 10) return;
  note("uninitialised: read of shared memory%s%s at %p that the block has not written\n  thread %d: %s",
       place.name ? ", " : "", place.name ? place.name : "", static_cast<const void *>(p), engine().current().id,
       code_location(pc).c_str());
}

void RaceDetector::kernel_ends() {
  const int64_t found = races_ - races_before_;
  if (found == 0 || settings().keep_going) return;
  fatal("%lld racing or uninitialised accesses in kernel %s", (long long)found, engine().kernel().name.c_str());
}

void RaceDetector::reset() {
  global_.clear();
  reported_.clear();
  accesses_ = races_ = races_before_ = uninitialised_ = 0;
}

/* ---- where an access goes -----------------------------------------------------------------------------------------
 */

void RaceDetector::stray(char *p, size_t size, bool write, const void *pc) {
  const char *verb = write ? "write" : "read";
  const std::string where = code_location(pc);
  for (ptrdiff_t reach = 1; reach <= 4096; reach *= 2) {
    for (const ptrdiff_t shift : {-reach, reach}) {
      const Allocation *near =
          allocation_at(reinterpret_cast<void *>(reinterpret_cast<uintptr_t>(p) + (uintptr_t)shift));
      if (near) {
        fatal("out of bounds: %s of %zu bytes, %td from the start of an allocation of %zu bytes\n  %s", verb, size,
              p - near->base, near->size, where.c_str());
      }
    }
  }
  fatal("%s of %zu bytes at %p, which is host memory, freed memory, or another thread's local memory\n  %s", verb, size,
        static_cast<void *>(p), where.c_str());
}

RaceDetector::Place RaceDetector::in_module(char *p, size_t size, bool write, const void *pc) {
  const Engine &e = engine();
  const SharedVariable *v = last_variable_;
  if (v && p >= v->address && p + size <= v->address + v->size) {
    return {last_variable_shadow_, (size_t)(p - v->address), true, v->name.c_str()};
  }
  v = shared_variable_at(*e.kernel().module, p);
  const char *verb = write ? "write" : "read";
  if (!v) {
    Shadow &word = module_[reinterpret_cast<uintptr_t>(p) & ~(uintptr_t)3];
    if (word.words.empty()) word.words.resize(1 + (size + 3) / 4);
    return {&word, reinterpret_cast<uintptr_t>(p) & 3u, false, "a variable of the program"};
  }
  const SharedOwner &owner = e.kernel().module->owners[(size_t)v->owner];
  const bool foreign = owner.is_kernel && v->owner != e.kernel().owner;
  if (v->guard || foreign || p + size > v->address + v->size) {
    fatal("out of bounds: %s of %zu bytes beside a __shared__ variable (%s %s)\n  %s", verb, size,
          v->guard  ? "in a red zone of"
          : foreign ? "in another kernel's"
                    : "over the end of",
          v->name.c_str(), code_location(pc).c_str());
  }
  last_variable_ = v;
  last_variable_shadow_ = &static_[v];
  return {last_variable_shadow_, (size_t)(p - v->address), true, v->name.c_str()};
}

RaceDetector::Place RaceDetector::place_of(char *p, size_t size, bool write, const void *pc) {
  const Engine &e = engine();
  const Place nowhere{nullptr, 0, false, nullptr};
  const char *parameters = reinterpret_cast<const char *>(e.launch().invocation.get());
  if (p >= parameters && p < parameters + e.launch().invocation_size) return nowhere;
  const auto inside = [p](const void *object, size_t bytes) {
    const char *begin = static_cast<const char *>(object);
    return p >= begin && p < begin + bytes;
  };
  if (inside(&blockIdx, sizeof blockIdx) || inside(&blockDim, sizeof blockDim) || inside(&gridDim, sizeof gridDim) ||
      inside(&thread, sizeof thread)) {
    return nowhere;
  }
  char *dynamic = e.dynamic_begin();
  if (p + 1040 >= dynamic && p < dynamic + max_shared + 1024) {
    if (p < dynamic || p + size > dynamic + e.dynamic_size()) {
      fatal("out of bounds: %s of %zu bytes at byte %td of %zu bytes of dynamic shared memory\n  %s",
            write ? "write" : "read", size, p - dynamic, e.dynamic_size(), code_location(pc).c_str());
    }
    return {&dynamic_, (size_t)(p - dynamic), true, "dynamic"};
  }
  const auto in_allocation = [p](const Allocation *a) { return a && p >= a->base && p < a->base + a->size; };
  if (!in_allocation(last_allocation_)) {
    last_allocation_ = allocation_at(p);
    if (last_allocation_) last_shadow_ = &global_[last_allocation_->serial];
  }
  if (last_allocation_) {
    const Allocation &a = *last_allocation_;
    if (p + size > a.base + a.size) {
      fatal("out of bounds: %s of %zu bytes at byte %td of an allocation of %zu bytes\n  %s", write ? "write" : "read",
            size, p - a.base, a.size, code_location(pc).c_str());
    }
    return {last_shadow_, (size_t)(p - a.base), false, nullptr};
  }
  const uintptr_t value = reinterpret_cast<uintptr_t>(p);
  const Module *module = e.kernel().module;
  if (value >= module->begin && value < module->end) return in_module(p, size, write, pc);
  if (!module_of(p)) stray(p, size, write, pc);
  return nowhere; /* data of a library */
}

/* ---- the check ----------------------------------------------------------------------------------------------------
 */

/* Returns false once something was reported: one report an access is enough. */
bool RaceDetector::check_cell(Cell &cell, const Place &place, char *p, bool write, Kind kind, const void *pc) {
  Engine &e = engine();
  const EmulatedThread &me = e.current();
  const uint64_t era = place.shared ? e.block_serial() : launch_era_;
  if (cell.era != era) {
    const bool split = cell.split && cell.era == era;
    cell = Cell{};
    cell.split = split;
    cell.era = era;
  }
  const Access now{e.block_serial(), pc, epoch_, clock_of(me), me.id};
  bool clean = true;
  if (cell.pending_copy && kind != Kind::copy_done) {
    clean = !report(write ? "write over the target of an asynchronous copy that was not waited for,"
                          : "read of the target of an asynchronous copy that was not waited for,",
                    place, p, cell.write, pc);
  } else if (!write && place.shared && cell.write.thread < 0) {
    uninitialised(place, p, pc);
    clean = false;
  } else if (cell.write.thread >= 0 && !(kind == Kind::atomic && cell.atomic_write) && !ordered(cell.write)) {
    clean =
        !report(write ? "write after an unordered write" : "read after an unordered write", place, p, cell.write, pc);
  } else if (write && !reads_ordered(cell)) { /* what is remembered as read was read plainly */
    clean = !report("write after an unordered read", place, p, cell.read, pc);
  }
  if (write) {
    cell.write = now;
    cell.read = no_access;
    cell.lanes = 0;
    cell.many_warps = cell.many_blocks = false;
    cell.atomic_write = kind == Kind::atomic;
    cell.pending_copy = kind == Kind::copy_issue;
  } else {
    remember_read(cell, now);
  }
  return clean;
}

void RaceDetector::check(const Place &place, char *p, size_t size, bool write, Kind kind, const void *pc) {
  Shadow &shadow = *place.shadow;
  const uint64_t era = place.shared ? engine().block_serial() : launch_era_;
  const size_t words = (place.offset + size + 3) / 4;
  if (shadow.words.size() < words) {
    const Allocation *a = place.shared ? nullptr : last_allocation_;
    shadow.words.resize(std::max(words, a && !place.name ? (a->size + 3) / 4 : words));
  }
  for (size_t at = place.offset; at < place.offset + size;) {
    const size_t word = at / 4, first = at % 4, last = std::min((size_t)4, place.offset + size - word * 4);
    Cell &cell = shadow.words[word];
    if (first == 0 && last == 4 && !(cell.split && cell.era == era)) {
      if (!check_cell(cell, place, p + (at - place.offset), write, kind, pc)) return;
    } else {
      std::array<Cell, 4> &bytes = shadow.bytes[word];
      if (!(cell.split && cell.era == era)) {
        bytes.fill(cell);
        cell.split = true;
        cell.era = era;
      }
      for (size_t i = first; i < last; ++i) {
        if (!check_cell(bytes[i], place, p + (at - place.offset) + (i - first), write, kind, pc)) return;
      }
    }
    at = word * 4 + last;
  }
}

void RaceDetector::access(void *address, size_t size, bool write, const void *pc) {
  Engine &e = engine();
  if (!e.running() || !thread || size == 0) return;
  const EmulatedThread &t = e.current();
  if ((size_t)(static_cast<char *>(address) - t.stack) < t.stack_size) return; /* its own local variables */
  const Place place = place_of(static_cast<char *>(address), size, write, pc);
  if (!place.shadow) return;
  ++accesses_;
  check(place, static_cast<char *>(address), size, write, Kind::plain, pc);
  if (settings().preempt && e.random() && random_step(e.random()) % settings().preempt == 0) e.preempt();
}

void RaceDetector::atomic(void *address, size_t size) {
  char *p = static_cast<char *>(address);
  const Place place = place_of(p, size, true, nullptr);
  if (!place.shadow) return;
  ++accesses_;
  if (place.shared) {
    /* an atomic also reads: what the block has not written has no value to start from */
    Shadow &shadow = *place.shadow;
    const size_t word = place.offset / 4;
    if (shadow.words.size() <= word || shadow.words[word].era != engine().block_serial())
      uninitialised(place, p, nullptr);
  }
  const EmulatedThread &me = engine().current();
  Synchronization &s = synchronizations_[reinterpret_cast<uintptr_t>(p)];
  acquired_.emplace_back(&s, s.releases.size());
  check(place, p, size, true, Kind::atomic, nullptr);
  const Release &fence = fences_[(size_t)me.id];
  if (fence.block == engine().block_serial()) {
    s.releases.push_back(fence);
  }
}

void RaceDetector::copy_issued(const AsyncCopy &copy) {
  char *from = static_cast<char *>(const_cast<void *>(copy.from)), *to = static_cast<char *>(copy.to);
  if (copy.size > copy.zero_fill) {
    const Place source = place_of(from, copy.size - copy.zero_fill, false, nullptr);
    if (source.shadow) check(source, from, copy.size - copy.zero_fill, false, Kind::plain, nullptr);
  }
  const Place target = place_of(to, copy.size, true, nullptr);
  if (target.shadow) check(target, to, copy.size, true, Kind::copy_issue, nullptr);
}

void RaceDetector::copy_done(const AsyncCopy &copy) {
  char *to = static_cast<char *>(copy.to);
  const Place target = place_of(to, copy.size, true, nullptr);
  if (target.shadow) check(target, to, copy.size, true, Kind::copy_done, nullptr);
}

static void hook(void *address, size_t size, bool write, const void *pc) {
  if (instance) instance->access(address, size, write, static_cast<const char *>(pc) - 1);
}

/* The compiler calls the aligned hooks for accesses that it assumes to be naturally aligned (to 8 bytes at most). */
static void aligned_hook(void *address, size_t size, bool write, const void *pc) {
  const size_t alignment = std::min(size, (size_t)8);
  if (thread && reinterpret_cast<uintptr_t>(address) % alignment != 0) {
    fatal("misaligned: %s of %zu bytes at %p\n  %s", write ? "write" : "read", size, address,
          code_location(static_cast<const char *>(pc) - 1).c_str());
  }
  hook(address, size, write, pc);
}

}  // namespace emu

/* ---- what the compiler calls (gcc and clang) ----------------------------------------------------------------------
 */

#define PC __builtin_return_address(0)
#define HOOKS(size)                                                                                                    \
  EMU_API void __tsan_read##size(void *p) { emu::aligned_hook(p, size, false, PC); }                                   \
  EMU_API void __tsan_write##size(void *p) { emu::aligned_hook(p, size, true, PC); }                                   \
  EMU_API void __tsan_unaligned_read##size(void *p) { emu::hook(p, size, false, PC); }                                 \
  EMU_API void __tsan_unaligned_write##size(void *p) { emu::hook(p, size, true, PC); }                                 \
  EMU_API void __tsan_volatile_read##size(void *p) { emu::aligned_hook(p, size, false, PC); }                          \
  EMU_API void __tsan_volatile_write##size(void *p) { emu::aligned_hook(p, size, true, PC); }                          \
  EMU_API void __tsan_read_write##size(void *p) {                                                                      \
    emu::aligned_hook(p, size, false, PC);                                                                             \
    emu::aligned_hook(p, size, true, PC);                                                                              \
  }                                                                                                                    \
  EMU_API void __tsan_unaligned_read_write##size(void *p) {                                                            \
    emu::hook(p, size, false, PC);                                                                                     \
    emu::hook(p, size, true, PC);                                                                                      \
  }

/* Host code in the same file may use atomics (the guards of static variables do). */
#define ATOMIC_HOOKS(bits, type)                                                                                       \
  EMU_API type __tsan_atomic##bits##_load(const volatile type *p, int) {                                               \
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                                                       \
  }                                                                                                                    \
  EMU_API void __tsan_atomic##bits##_store(volatile type *p, type v, int) {                                            \
    __atomic_store_n(p, v, __ATOMIC_SEQ_CST);                                                                          \
  }                                                                                                                    \
  EMU_API type __tsan_atomic##bits##_exchange(volatile type *p, type v, int) {                                         \
    return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST);                                                                \
  }                                                                                                                    \
  EMU_API type __tsan_atomic##bits##_fetch_add(volatile type *p, type v, int) {                                        \
    return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST);                                                                 \
  }                                                                                                                    \
  EMU_API type __tsan_atomic##bits##_fetch_sub(volatile type *p, type v, int) {                                        \
    return __atomic_fetch_sub(p, v, __ATOMIC_SEQ_CST);                                                                 \
  }                                                                                                                    \
  EMU_API int __tsan_atomic##bits##_compare_exchange_strong(volatile type *p, type *e, type v, int, int) {             \
    return __atomic_compare_exchange_n(p, e, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                            \
  }                                                                                                                    \
  EMU_API int __tsan_atomic##bits##_compare_exchange_weak(volatile type *p, type *e, type v, int, int) {               \
    return __atomic_compare_exchange_n(p, e, v, true, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                             \
  }

#pragma GCC diagnostic ignored "-Wmissing-declarations"
extern "C" {
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)
ATOMIC_HOOKS(8, unsigned char)
ATOMIC_HOOKS(16, unsigned short)
ATOMIC_HOOKS(32, unsigned)
ATOMIC_HOOKS(64, unsigned long long)
EMU_API void __tsan_atomic_thread_fence(int) {}
EMU_API void __tsan_atomic_signal_fence(int) {}
EMU_API void __tsan_init(void) {}
EMU_API void __tsan_func_entry(void *) {}
EMU_API void __tsan_func_exit(void) {}
EMU_API void __tsan_vptr_update(void **, void *) {}
EMU_API void __tsan_vptr_read(void **) {}
EMU_API void __tsan_ignore_thread_begin(void) {}
EMU_API void __tsan_ignore_thread_end(void) {}
EMU_API void __tsan_read_range(void *p, size_t size) { emu::hook(p, size, false, PC); }
EMU_API void __tsan_write_range(void *p, size_t size) { emu::hook(p, size, true, PC); }
EMU_API void *__tsan_memcpy(void *to, const void *from, size_t size) {
  emu::hook(const_cast<void *>(from), size, false, PC);
  emu::hook(to, size, true, PC);
  return memcpy(to, from, size);
}
EMU_API void *__tsan_memmove(void *to, const void *from, size_t size) {
  emu::hook(const_cast<void *>(from), size, false, PC);
  emu::hook(to, size, true, PC);
  return memmove(to, from, size);
}
EMU_API void *__tsan_memset(void *to, int value, size_t size) {
  emu::hook(to, size, true, PC);
  return memset(to, value, size);
}
}
