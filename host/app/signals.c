/**
 * @file signals.c
 * @brief The signals that ask a run to end: what is finished is kept, and the exit code is 75.
 *
 * SPDX-License-Identifier: MIT
 */
#include <signal.h>

#include "app/app.h"

/* From the terminal, a batch system's notice before its limit, a closed connection, the limit of processor time. */
static const struct {
  int number;
  bool impatient; /* a second one kills */
} ending[] = {{SIGINT, true}, {SIGTERM, true}, {SIGHUP, false}, {SIGUSR1, false}, {SIGUSR2, false}, {SIGXCPU, false}};

static volatile sig_atomic_t interrupted;

static void on_signal(int number) {
  (void)number;
  interrupted = 1;
}

/* SIGINT and SIGTERM come once for each time that somebody means it, so a second one of a kind kills. The others repeat
 * by themselves: a closing terminal sends SIGHUP twice, the kernel SIGXCPU every second. */
static void catch_one(int number, bool impatient, bool restart) {
  struct sigaction action = {.sa_handler = on_signal};
  action.sa_flags = (restart ? SA_RESTART : 0) | (impatient ? (int)SA_RESETHAND : 0);
  sigemptyset(&action.sa_mask);
  sigaction(number, &action, NULL);
}

void app_catch_signals(app *a) {
  for (size_t i = 0; i < sizeof ending / sizeof *ending; i++) {
    struct sigaction now;
    /* what was ignored at the start stays so: nohup's SIGHUP, a background job's SIGINT */
    if (sigaction(ending[i].number, NULL, &now) != 0) continue;
    if (now.sa_handler == SIG_IGN && ending[i].number != SIGTERM) continue;
    catch_one(ending[i].number, ending[i].impatient, true);
  }
  signal(SIGXFSZ, SIG_IGN); /* a file over the limit is then a write error with a message */
  sntk_context_set_interrupt(a->ctx, &interrupted);
}

void app_signals_end_calls(bool end) {
  for (size_t i = 0; i < sizeof ending / sizeof *ending; i++) {
    struct sigaction now;
    if (sigaction(ending[i].number, NULL, &now) == 0 && now.sa_handler == on_signal)
      catch_one(ending[i].number, ending[i].impatient, !end);
  }
}
