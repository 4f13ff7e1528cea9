/**
 * @file plan.c
 * @brief How much memory a call will take.
 *
 * SPDX-License-Identifier: MIT
 */
#include "core/plan.h"

#include "core/core.h"

void sntk_plan_take(sntk_plan *plan, int64_t count, int64_t size) {
  plan->held = sntk_size_add(plan->held, sntk_size_mul(count, size));
  if (plan->peak >= 0 && (plan->held < 0 || plan->held > plan->peak)) plan->peak = plan->held;
}

void sntk_plan_drop(sntk_plan *plan, int64_t held) {
  if (plan->held >= 0) plan->held = held;
}

void sntk_plan_brief(sntk_plan *plan, int64_t count, int64_t size) {
  const int64_t held = plan->held;
  sntk_plan_take(plan, count, size);
  sntk_plan_drop(plan, held);
}

void sntk_plan_scratch(sntk_plan *plan, int slot, int64_t bytes) {
  if (bytes < 0)
    plan->held = plan->peak = -1;
  else if (bytes > plan->scratch[slot])
    plan->scratch[slot] = bytes;
}

int64_t sntk_plan_bytes(const sntk_plan *plan) {
  int64_t bytes = plan->peak;
  for (int i = 0; i < SNTK_PLAN_SLOTS; i++) bytes = sntk_size_add(bytes, plan->scratch[i]);
  return bytes;
}
