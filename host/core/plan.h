/**
 * @file plan.h
 * @brief How much memory a call will take: its allocations gone through in their order, without making them.
 *
 * A function that allocates has a plan beside it that names the same arrays. What has been freed again does not count
 * towards what comes later, so that the figure is the largest amount held at one moment, not a sum of everything.
 * Arrays count with what is written of them: memory that is never touched is never given.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SOFTNTK_PLAN_H
#define SOFTNTK_PLAN_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { SNTK_PLAN_SLOTS = 8 };

typedef struct sntk_plan {
  int64_t held;                     /* now; -1 once a size has not fitted 63 bits */
  int64_t peak;                     /* the most so far; -1 likewise */
  int64_t scratch[SNTK_PLAN_SLOTS]; /* buffers of the backend, which grow and are kept */
} sntk_plan;

/* An array of `count` elements. */
void sntk_plan_take(sntk_plan *plan, int64_t count, int64_t size);
/* Back to what was held at an earlier moment: what was taken since is freed. */
void sntk_plan_drop(sntk_plan *plan, int64_t held);
/* An array that is freed before the next is made. */
void sntk_plan_brief(sntk_plan *plan, int64_t count, int64_t size);
/* A buffer of the backend is at least so large. */
void sntk_plan_scratch(sntk_plan *plan, int slot, int64_t bytes);

/* The peak, with the backend's buffers; -1 where it does not fit 63 bits. */
int64_t sntk_plan_bytes(const sntk_plan *plan);

#ifdef __cplusplus
}
#endif

#endif
