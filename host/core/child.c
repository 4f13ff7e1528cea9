/**
 * @file child.c
 * @brief Work in a process of its own.
 *
 * SPDX-License-Identifier: MIT
 */
#include "core/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

enum { POLL_MILLISECONDS = 100, FIRST_FREE = 3 /* behind the standard streams */ };

/* A pair of sockets, neither of which takes the place of a standard stream that is closed. */
static bool make_link(int ends[2]) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) return false;
  for (int e = 0; e < 2; e++) {
    ends[e] = fcntl(pair[e], F_DUPFD_CLOEXEC, FIRST_FREE);
    close(pair[e]);
  }
  if (ends[0] >= 0 && ends[1] >= 0) return true;
  for (int e = 0; e < 2; e++)
    if (ends[e] >= 0) close(ends[e]);
  return false;
}

/* Bytes of address space that the process has; 0: not known. */
static int64_t address_space(void) {
  FILE *file = fopen("/proc/self/statm", "r");
  long long pages = 0;
  if (!file) return 0;
  if (fscanf(file, "%lld", &pages) != 1) pages = 0;
  fclose(file);
  return sntk_size_mul(pages, sysconf(_SC_PAGESIZE));
}

static void limit(int resource, int64_t bytes) {
  struct rlimit now;
  if (getrlimit(resource, &now) != 0 || (now.rlim_cur != RLIM_INFINITY && now.rlim_cur <= (rlim_t)bytes)) return;
  now.rlim_cur = (rlim_t)bytes;
  setrlimit(resource, &now);
}

/* In the child, before its work. */
static void settle(int64_t space, pid_t parent) {
  static const int fatal[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGSYS, SIGPIPE};
  static const int requests[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGXCPU, SIGXFSZ};
  for (size_t s = 0; s < sizeof fatal / sizeof *fatal; s++) signal(fatal[s], SIG_DFL);
  for (size_t s = 0; s < sizeof requests / sizeof *requests; s++) signal(requests[s], SIG_IGN);
#ifdef __linux__
  prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
  if (getppid() != parent) _exit(1);
  limit(RLIMIT_CORE, 0);
  if (space > 0) limit(RLIMIT_AS, space);
  /* A library's last words are not the program's. */
  const int null = open("/dev/null", O_RDWR);
  for (int fd = 0; fd < FIRST_FREE; fd++)
    if (null >= 0) dup2(null, fd);
}

/* Too many processes or too little memory to start one, or too many files. */
static sntk_status cannot_start(sntk_context *ctx, const char *what, int reason) {
  if (reason == EMFILE || reason == ENFILE)
    return sntk_fail(ctx, SNTK_ERR_IO, "%s: no process of its own can be started: %s; allow more (ulimit -n)", what,
                     strerror(reason));
  return sntk_fail(ctx, SNTK_ERR_MEMORY, "%s: no process of its own can be started: %s", what, strerror(reason));
}

sntk_status sntk_child_start(sntk_context *ctx, const char *what, int64_t memory, sntk_child_fn work, void *user,
                             sntk_child *child) {
  int ends[2];
  if (!make_link(ends)) return cannot_start(ctx, what, errno);
  const int64_t now = address_space();
  const int64_t space = now > 0 ? sntk_size_add(now, memory) : 0;
  const pid_t parent = getpid();
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before); /* the parent's handlers must not run in the child */
  const pid_t pid = fork();
  if (pid == 0) {
    close(ends[0]);
    settle(space, parent);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    work(ends[1], user);
    _exit(0);
  }
  const int reason = errno;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  close(ends[1]);
  if (pid < 0) {
    close(ends[0]);
    return cannot_start(ctx, what, reason);
  }
  *child = (sntk_child){.pid = pid, .link = ends[0]};
  return SNTK_OK;
}

sntk_status sntk_child_read(sntk_context *ctx, const sntk_child *child, void *to, int64_t wanted, int64_t *got) {
  *got = 0;
  while (*got < wanted) {
    SNTK_TRY(sntk_check_interrupt(ctx));
    struct pollfd wait = {.fd = child->link, .events = POLLIN};
    const int ready = poll(&wait, 1, POLL_MILLISECONDS);
    if (ready == 0 || (ready < 0 && errno == EINTR)) continue;
    const ssize_t part = recv(child->link, (char *)to + *got, (size_t)(wanted - *got), 0);
    if (part < 0 && errno == EINTR) continue;
    if (part <= 0) break; /* the child ended, however */
    *got += part;
  }
  return SNTK_OK;
}

bool sntk_link_write(int link, const void *from, int64_t size) {
  for (int64_t done = 0; done < size;) {
    const ssize_t part = send(link, (const char *)from + done, (size_t)(size - done), MSG_NOSIGNAL);
    if (part < 0 && errno == EINTR) continue;
    if (part <= 0) return false;
    done += part;
  }
  return true;
}

bool sntk_link_read(int link, void *to, int64_t size) {
  for (int64_t done = 0; done < size;) {
    const ssize_t part = recv(link, (char *)to + done, (size_t)(size - done), 0);
    if (part < 0 && errno == EINTR) continue;
    if (part <= 0) return false;
    done += part;
  }
  return true;
}

int sntk_child_end(sntk_child *child) {
  int status = -1;
  close(child->link);
  /* Asked first: where the host program does not keep the status of children, one that has ended is gone, and its
   * number may be another process's by now. */
  pid_t ended;
  do {
    ended = waitpid(child->pid, &status, WNOHANG);
  } while (ended < 0 && errno == EINTR);
  if (ended != 0) return ended < 0 ? -1 : status;
  /* One that ends by itself meanwhile is not harmed: its status stays what it is. */
  kill(child->pid, SIGKILL);
  while (waitpid(child->pid, &status, 0) < 0)
    if (errno != EINTR) return -1;
  return status;
}
