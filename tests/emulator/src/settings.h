/**
 * @file settings.h
 * @brief What the environment asks for (the table in README.md).
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef EMU_SETTINGS_H
#define EMU_SETTINGS_H

#include <cstddef>
#include <cstdint>

namespace emu {

struct Settings {
  uint64_t seed;        /* EMU_SEED: 0, submission and thread order; else random orders */
  uint64_t approx_seed; /* EMU_APPROX_SEED: 0, correctly rounded; else perturbed within the documented bounds */
  uint64_t preempt;     /* EMU_PREEMPT: with the race hooks, yield before one access in so many; 0 never */
  bool early_copies;    /* EMU_ASYNC_COPY=early: asynchronous copies happen when issued instead of when waited for */
  int devices;          /* EMU_DEVICES */
  int multiprocessors;  /* EMU_MULTIPROCESSORS */
  size_t memory;        /* EMU_MEMORY: bytes of each device, with an optional suffix K, M or G */
  int64_t fail_at;      /* EMU_FAIL_AT: this fallible call fails; 0 none */
  bool keep_going;      /* after races: emu_keep_going_after_races */
};

/** The settings in force; read from the environment at the first use. */
Settings &settings();
/** Read the environment again. */
void settings_reload();

/** A step of a 64-bit xorshift generator (Marsaglia, J. Stat. Soft. 8(14), 2003); the state may not be 0. */
inline uint64_t random_step(uint64_t &state) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}
/** A nonzero state for a nonzero seed; seeds that differ by one start far apart (splitmix64). */
inline uint64_t random_state(uint64_t seed) {
  uint64_t z = seed * UINT64_C(0x9E3779B97F4A7C15);
  z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
  z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
  z ^= z >> 31;
  return z ? z : 1;
}

}  // namespace emu

#endif
