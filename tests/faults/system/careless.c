/**
 * @file careless.c
 * @brief A program with one fault of its own, to see that the walk over failing calls finds it (walk.py --self-test).
 *
 *   careless FAULT [--resume]   leaves run/points.jsonl and run/run.json, and prints a line
 *
 * FAULT: none; or what it does where an allocation or a write fails: silent (goes on), crash, code (exit 1), hang,
 * lines (says too much), mute (says nothing), stuck (cannot be resumed).
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *fault;

static int is(const char *name) { return strcmp(fault, name) == 0; }

/* What a failing call leads to. */
static void failed(const char *call) {
  if (is("silent")) return;
  if (is("crash")) abort();
  if (is("hang"))
    for (;;) pause();
  if (is("stuck")) close(open("run/stuck", O_WRONLY | O_CREAT, 0666));
  if (!is("mute")) fprintf(stderr, "careless: error: %s: %s\n", call, strerror(errno));
  if (is("lines")) fprintf(stderr, "and more\n");
  exit(is("code") ? 1 : 2);
}

static void leave(const char *path, const char *text) {
  char *copy = malloc(strlen(text) + 1);
  if (!copy) failed("malloc");
  if (copy) strcpy(copy, text);
  const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
  if (fd < 0) failed("open");
  if (copy && fd >= 0 && write(fd, copy, strlen(copy)) != (ssize_t)strlen(copy)) failed("write");
  if (fd >= 0) close(fd);
  free(copy);
}

int main(int argc, char **argv) {
  fault = argc > 1 ? argv[1] : "none";
  if (mkdir("run", 0777) != 0 && errno != EEXIST) failed("mkdir");
  if (access("run/stuck", F_OK) == 0) {
    fprintf(stderr, "careless: error: stuck\n");
    return 2;
  }
  leave("run/points.jsonl",
        "{\"kind\":\"train\",\"loss\":0.5,\"train_seconds\":1}\n{\"kind\":\"train\",\"loss\":0.25}\n");
  leave("run/run.json", "{\"status\":\"done\"}\n");
  if (printf("done\n") < 0 || fflush(stdout) != 0) failed("printf");
  return 0;
}
