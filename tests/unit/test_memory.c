/**
 * @file test_memory.c
 * @brief What control groups leave a process: trees of made-up files in place of /proc and the mounts.
 *
 * SPDX-License-Identifier: MIT
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/memory.h"

static const int64_t MIB = INT64_C(1) << 20;
static char folder[64];

static int make_folder(void **state) {
  (void)state;
  strcpy(folder, "/tmp/softntk_memory_XXXXXX");
  return !mkdtemp(folder);
}

static int remove_folder(void **state) {
  (void)state;
  char command[128];
  snprintf(command, sizeof command, "rm -rf '%s'", folder);
  return system(command);
}

/* A file of the tree, with the folders above it. */
static void put(const char *path, const char *text) {
  char name[512];
  snprintf(name, sizeof name, "%s%s", folder, path);
  for (char *slash = name + strlen(folder); (slash = strchr(slash + 1, '/'));) {
    *slash = '\0';
    mkdir(name, 0700);
    *slash = '/';
  }
  FILE *file = fopen(name, "w");
  assert_non_null(file);
  assert_true(fputs(text, file) >= 0);
  assert_int_equal(fclose(file), 0);
}

static void put_number(const char *group, const char *name, int64_t value) {
  char path[512], text[32];
  snprintf(path, sizeof path, "%s/%s", group, name);
  snprintf(text, sizeof text, "%lld\n", (long long)value);
  put(path, text);
}

/* The processes of a group: some that are not this one, and this one. */
static void put_this_process(const char *group) {
  char path[512], text[64];
  snprintf(path, sizeof path, "%s/cgroup.procs", group);
  snprintf(text, sizeof text, "0\n1\n%ld\n", (long)getpid());
  put(path, text);
}

/* A group of version 2, MiB; 0: "max". */
static void put_group(const char *group, int64_t max, int64_t high, int64_t current) {
  char path[512];
  const struct {
    const char *name;
    int64_t value;
  } limits[] = {{"memory.max", max}, {"memory.high", high}};
  for (size_t i = 0; i < 2; i++) {
    snprintf(path, sizeof path, "%s/%s", group, limits[i].name);
    if (limits[i].value > 0)
      put_number(group, limits[i].name, limits[i].value * MIB);
    else
      put(path, "max\n");
  }
  put_number(group, "memory.current", current * MIB);
}

/* A group of version 1, MiB; 0: the number that means no limit. */
static void put_group1(const char *group, int64_t limit, int64_t usage) {
  put_number(group, "memory.limit_in_bytes", limit > 0 ? limit * MIB : INT64_C(9223372036854771712));
  put_number(group, "memory.usage_in_bytes", usage * MIB);
  put_number(group, "memory.use_hierarchy", 1);
}

static void put_process(const char *cgroup, const char *mountinfo) {
  put("/proc/self/cgroup", cgroup);
  put("/proc/self/mountinfo", mountinfo);
}

static const char *const UNIFIED =
    "22 27 0:21 / /proc rw,relatime - proc proc rw\n"
    "31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n";

static void assert_left(int64_t mib) { assert_int_equal(sntk_cgroup_memory(folder), mib * MIB); }
static void assert_no_limit(void) { assert_int_equal(sntk_cgroup_memory(folder), INT64_MAX); }

static void test_nothing_there(void **state) {
  (void)state;
  assert_no_limit();
  put("/proc/self/cgroup", "0::/\n");
  assert_no_limit();
  put_process("", "");
  assert_no_limit();
  put_process("no colons\n:\n0:\n", "no dash\n - \n1 2 3 / /x rw - cgroup2\n");
  assert_no_limit();
  put_process("0::/\n", UNIFIED); /* the root of a machine has no limits' files */
  put("/sys/fs/cgroup/cgroup.procs", "1\n");
  assert_no_limit();
}

/* The limit stands at the step of a job, at the job, at the user, or at the throttle. */
static void test_own_group_and_those_above(void **state) {
  (void)state;
  put_process("0::/system.slice/slurmstepd.scope/job_12/step_0/user/task_0\n", UNIFIED);
  put_group("/sys/fs/cgroup/system.slice", 0, 0, 5000);
  put_group("/sys/fs/cgroup/system.slice/slurmstepd.scope", 0, 0, 4000);
  put_group("/sys/fs/cgroup/system.slice/slurmstepd.scope/job_12", 4096, 0, 1024);
  put_group("/sys/fs/cgroup/system.slice/slurmstepd.scope/job_12/step_0", 4096, 0, 512);
  put_group("/sys/fs/cgroup/system.slice/slurmstepd.scope/job_12/step_0/user", 0, 0, 512);
  put_group("/sys/fs/cgroup/system.slice/slurmstepd.scope/job_12/step_0/user/task_0", 0, 0, 512);
  put_group("/sys/fs/cgroup/system.slice/slurmstepd.scope/job_13", 1, 1, 0); /* another's */
  assert_left(3072);                                                         /* what the job's other step has counts */
  put_group("/sys/fs/cgroup/system.slice/slurmstepd.scope/job_12/step_0/user/task_0", 1024, 0, 512);
  assert_left(512);
  put_group("/sys/fs/cgroup/system.slice/slurmstepd.scope", 0, 4100, 4000);
  assert_left(100);
  put_group("/sys/fs/cgroup/system.slice", 4000, 0, 5000);
  assert_left(0);
}

static void test_page_cache_is_given_up(void **state) {
  (void)state;
  put_process("0::/job\n", UNIFIED);
  put_group("/sys/fs/cgroup/job", 1000, 0, 990);
  assert_left(10);
  put("/sys/fs/cgroup/job/memory.stat",
      "anon 52428800\nfile 985661440\ninactive_anon 1\nactive_anon 2\ninactive_file 838860800\nactive_file "
      "104857600\n");
  assert_left(910);
  put_number("/sys/fs/cgroup/job", "memory.current", 1); /* read at another moment: never below nothing */
  assert_left(1000);
}

static void test_other_mount_points(void **state) {
  (void)state;
  put_process("0::/a b/job\n", "31 23 0:28 / /mnt/odd\\040name\\134x rw - cgroup2 none rw\n");
  put_group("/mnt/odd name\\x/a b/job", 300, 0, 100);
  assert_left(200);
  /* seen twice, the second time from further down: the tighter of what either shows */
  put_process("0::/a/b\n", "31 23 0:28 /a /one rw - cgroup2 none rw\n32 23 0:28 / /two rw - cgroup2 none rw\n");
  put_group("/one/b", 300, 0, 100);
  put_group("/two/a/b", 300, 0, 100);
  put_group("/two/a", 0, 0, 100);
  assert_left(200);
  put_group("/one", 150, 0, 100);
  assert_left(50);
}

static void test_version_1(void **state) {
  (void)state;
  put_process("9:name=systemd:/\n5:cpu,memory:/slurm/uid_1/job_2/step_batch\n3:cpuset:/other\n",
              "40 31 0:31 / /cg/cpuset rw - cgroup cgroup rw,cpuset\n"
              "41 31 0:32 / /cg/memory rw,relatime shared:9 master:1 - cgroup cgroup rw,cpu,memory\n");
  put_group1("/cg/memory", 0, 9000);
  put_group1("/cg/memory/slurm", 0, 9000);
  put_group1("/cg/memory/slurm/uid_1", 2000, 1000);
  put_group1("/cg/memory/slurm/uid_1/job_2", 0, 500);
  put_group1("/cg/memory/slurm/uid_1/job_2/step_batch", 800, 500);
  put_group1("/cg/cpuset/other", 1, 1);
  assert_left(300);
  put("/cg/memory/slurm/uid_1/job_2/step_batch/memory.stat",
      "cache 1\ninactive_file 1\ntotal_inactive_file 209715200\ntotal_active_file 104857600\n");
  assert_left(600);
  put_group1("/cg/memory/slurm/uid_1", 1500, 1000);
  assert_left(500);
  put_number("/cg/memory/slurm/uid_1", "memory.use_hierarchy", 0); /* its limit then is its own processes' */
  assert_left(600);
}

/* Both versions at once: the memory controller is in one of them. */
static void test_hybrid(void **state) {
  (void)state;
  static const char *const both =
      "41 31 0:32 / /cg/memory rw - cgroup cgroup rw,memory\n"
      "42 31 0:33 / /cg/unified rw - cgroup2 cgroup2 rw\n";
  put_process("4:memory:/job\n0::/scope\n", both);
  put_group1("/cg/memory/job", 700, 300);
  put("/cg/unified/scope/cgroup.procs", "1\n");
  assert_left(400);
  put_process("4:cpu:/job\n0::/scope\n", both);
  put_group("/cg/unified/scope", 90, 0, 30);
  assert_left(60);
}

/* A container without a namespace of its own sees the host's paths, and a mount that begins inside them. */
static void test_mount_of_a_part(void **state) {
  (void)state;
  put_process("4:memory:/docker/abc/inner\n",
              "41 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n");
  put_group1("/sys/fs/cgroup/memory", 600, 100);
  put_group1("/sys/fs/cgroup/memory/inner", 0, 100);
  assert_left(500);
  /* another's part, and a name that only begins alike */
  put_process("4:memory:/docker/abcd\n", "41 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n");
  assert_no_limit();
  put_process("4:memory:/docker/abc\n", "41 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n");
  assert_left(500);
}

/* In a namespace paths begin at its root: a mount made outside shows groups above it, whose names are not told. */
static void test_namespaces(void **state) {
  (void)state;
  put_process("0::/\n", UNIFIED); /* mounted inside: the root is the container's own group */
  put_group("/sys/fs/cgroup", 250, 0, 50);
  assert_left(200);
  put_process("0::/in\n", "31 23 0:28 /../.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
  put_group("/sys/fs/cgroup", 0, 0, 50);
  put_group("/sys/fs/cgroup/other/b/in", 10, 0, 5);
  put("/sys/fs/cgroup/other/b/in/cgroup.procs", "1\n2\n");
  put_group("/sys/fs/cgroup/a/b/in", 1000, 0, 100);
  put_this_process("/sys/fs/cgroup/a/b/in");
  assert_left(900);
  put_group("/sys/fs/cgroup/a", 500, 0, 100);
  assert_left(400);
  put("/sys/fs/cgroup/a/b/in/cgroup.procs", ""); /* not found: what the mount itself allows */
  put_group("/sys/fs/cgroup", 300, 0, 50);
  assert_left(250);
  /* moved out of its namespace's root: beside it, or above */
  put_process("0::/../beside\n", "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
  assert_no_limit();
  put_process("0::/../beside\n", "31 23 0:28 /.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
  put_group("/sys/fs/cgroup/beside", 70, 0, 50);
  assert_left(20);
}

/* ---- the process ---- */

enum { BLOCK = 64 << 20 };

/* Mapped by itself: an allocator may keep what is freed. */
static void *map_block(void) { return mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); }

static void test_resident(void **state) {
  (void)state;
  const int64_t before = sntk_host_resident();
  assert_true(before > MIB);
  void *block = map_block();
  assert_ptr_not_equal(block, MAP_FAILED);
  memset(block, 1, BLOCK);
  assert_true(sntk_host_resident() >= before + 60 * MIB);
  assert_int_equal(munmap(block, BLOCK), 0);
  assert_true(sntk_host_resident() < before + 4 * MIB);
  assert_true(sntk_host_peak() >= before + 60 * MIB);
}

/* A limit on the address space or the data leaves what is not in use yet. */
static void test_resource_limits(void **state) {
  (void)state;
  static const struct {
    int resource;
    const char *used;
  } limits[] = {{RLIMIT_AS, "VmSize:"}, {RLIMIT_DATA, "VmData:"}};
  for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
    const int64_t most = sntk_read_number("/proc/self/status", limits[i].used) * 1024 + 512 * MIB;
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
      const void *held = map_block();
      const struct rlimit limit = {.rlim_cur = (rlim_t)most, .rlim_max = (rlim_t)most};
      if (held == MAP_FAILED || setrlimit(limits[i].resource, &limit) != 0) _exit(2);
      const int64_t left = sntk_host_memory();
      _exit(left > 256 * MIB && left <= 512 * MIB - BLOCK ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_nothing_there, make_folder, remove_folder),
      cmocka_unit_test_setup_teardown(test_own_group_and_those_above, make_folder, remove_folder),
      cmocka_unit_test_setup_teardown(test_page_cache_is_given_up, make_folder, remove_folder),
      cmocka_unit_test_setup_teardown(test_other_mount_points, make_folder, remove_folder),
      cmocka_unit_test_setup_teardown(test_version_1, make_folder, remove_folder),
      cmocka_unit_test_setup_teardown(test_hybrid, make_folder, remove_folder),
      cmocka_unit_test_setup_teardown(test_mount_of_a_part, make_folder, remove_folder),
      cmocka_unit_test_setup_teardown(test_namespaces, make_folder, remove_folder),
      cmocka_unit_test(test_resident),
      cmocka_unit_test(test_resource_limits),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
