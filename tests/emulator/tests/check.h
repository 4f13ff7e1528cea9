/**
 * @file check.h
 * @brief One line a check; a planted fault runs in a process of its own, which must end with the expected message.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef EMU_TESTS_CHECK_H
#define EMU_TESTS_CHECK_H

#include <cuda_runtime.h>
#include <emu/control.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <initializer_list>
#include <string>

static int failed_checks = 0, done_checks = 0;

static inline void check_line(bool ok, const char *what) {
  ++done_checks;
  failed_checks += !ok;
  printf("%s %s\n", ok ? "ok  " : "FAIL", what);
  fflush(stdout);
}
#define CHECK(condition) check_line((condition), #condition)
#define CHECK_NAMED(condition, name) check_line((condition), name)

static inline int check_summary() {
  printf("%d checks, %d failed\n", done_checks, failed_checks);
  return failed_checks ? 1 : 0;
}

/** cudaLaunchKernelEx, and nothing else. */
template <class... Parameters, class... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                   Arguments... arguments) {
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared;
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel, arguments...);
}

/** Run the function in a child process with these variables set; what it wrote to stderr, and whether it failed. */
static inline std::string run_apart(void (*body)(), std::initializer_list<const char *> environment, bool *failed) {
  int ends[2];
  if (pipe(ends) != 0) abort();
  fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], 2);
    close(ends[0]);
    close(ends[1]);
    for (const char *variable : environment) putenv(const_cast<char *>(variable));
    emu_reset();
    body();
    _exit(0);
  }
  close(ends[1]);
  std::string output;
  char buffer[4096];
  for (ssize_t n; (n = read(ends[0], buffer, sizeof buffer)) > 0;) output.append(buffer, (size_t)n);
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  *failed = !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  return output;
}

/** The fault must be found: the process fails and says `expected`. */
static inline void check_fault(const char *name, void (*body)(), const char *expected,
                               std::initializer_list<const char *> environment = {}) {
  bool failed;
  const std::string output = run_apart(body, environment, &failed);
  const bool found = failed && output.find(expected) != std::string::npos;
  check_line(found, name);
  if (!found) {
    printf("     %s; expected: %s\n     it said:\n%s\n", failed ? "it failed" : "it did not fail", expected,
           output.substr(0, 3000).c_str());
  }
}

/** The control: it must run without a word. */
static inline void check_clean(const char *name, void (*body)(), std::initializer_list<const char *> environment = {}) {
  bool failed;
  std::string output = run_apart(body, environment, &failed);
  /* AddressSanitizer dislikes the switch that is used on other machines than x86-64, and says so. */
  const size_t at = output.find("WARNING: ASan doesn't fully support makecontext/swapcontext");
  if (at != std::string::npos) output.erase(0, output.find('\n', at) + 1);
  check_line(!failed && output.empty(), name);
  if (failed || !output.empty()) printf("     it said:\n%s\n", output.substr(0, 3000).c_str());
}

/** For bodies: a result that the emulator cannot judge itself is compared, and a difference is the fault. */
static inline void require(bool ok, const char *message) {
  if (ok) return;
  fprintf(stderr, "%s\n", message);
  _exit(1);
}
static inline void require_success(cudaError_t error) { require(error == cudaSuccess, cudaGetErrorString(error)); }

#endif
