/**
 * @file child.h
 * @brief Work in a process of its own: what may crash, hang or take all memory there does not here.
 *
 * The child is forked, so it sees what the parent has, but on one thread: it may use no thread pool, no device and no
 * stdio. It ends with its function and runs no exit handler. Signals that ask a program to stop do not stop it: the
 * parent decides, and the child ends with its parent at the latest.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SOFTNTK_CHILD_H
#define SOFTNTK_CHILD_H

#include <sys/types.h>

#include "core/core.h"

typedef struct sntk_child {
  pid_t pid;
  int link; /* a stream socket to the other side */
} sntk_child;

/* Runs in the child; `link` leads to the parent. */
typedef void (*sntk_child_fn)(int link, void *user);

/* Starts one that may take `memory` bytes more than the process has. `what` is for messages. */
sntk_status sntk_child_start(sntk_context *ctx, const char *what, int64_t memory, sntk_child_fn work, void *user,
                             sntk_child *child);

/* Waits for bytes of the child; fewer than wanted where it ended. The context's interrupt flag ends the wait. */
sntk_status sntk_child_read(sntk_context *ctx, const sntk_child *child, void *to, int64_t wanted, int64_t *got);

/* Either side. False where the other one is gone. */
bool sntk_link_write(int link, const void *from, int64_t size);
/* In the child. False where the parent is gone. */
bool sntk_link_read(int link, void *to, int64_t size);

/* Ends the child, if it still runs, and frees what it held. Its status as waitpid gives it, -1 where nobody knows. */
int sntk_child_end(sntk_child *child);

#endif
