/**
 * @file softntk.h
 * @brief The whole public interface.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SOFTNTK_SOFTNTK_H
#define SOFTNTK_SOFTNTK_H

#include "softntk/context.h"
#include "softntk/data.h"
#include "softntk/network.h"
#include "softntk/ntk.h"
#include "softntk/perturb.h"
#include "softntk/rng.h"
#include "softntk/run.h"
#include "softntk/status.h"
#include "softntk/train.h"
#include "softntk/version.h"
#include "softntk/width.h"

#endif
