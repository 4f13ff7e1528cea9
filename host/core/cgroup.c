/**
 * @file cgroup.c
 * @brief What the control groups that this process is in leave it of memory.
 *
 * /proc/self/cgroup names the process's group in each hierarchy, /proc/self/mountinfo where a hierarchy is mounted and
 * which of its groups the mount shows: either may be any, of version 1, version 2 or both at once. A group's limit
 * holds for its descendants too, so all from the process's own up to the mount are read and the tightest counts.
 *
 * SPDX-License-Identifier: MIT
 */
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/memory.h"

enum { PATH_CHARS = 4096, LINE_CHARS = 4 * PATH_CHARS };

/* Names of a version's files. A limit that is not there, or not a number ("max"), is none. */
typedef struct version {
  const char *type;         /* of the file system */
  const char *limits[2];    /* the second throttles until next to nothing moves: as good as a limit */
  const char *used;         /* with the page cache */
  const char *reclaimed[2]; /* keys of memory.stat: page cache, given up before the limit is felt */
} version;

static const version versions[] = {
    {"cgroup", {"memory.limit_in_bytes", NULL}, "memory.usage_in_bytes", {"total_inactive_file", "total_active_file"}},
    {"cgroup2", {"memory.max", "memory.high"}, "memory.current", {"inactive_file", "active_file"}}};

/* A path seen from the root of the process's cgroup namespace: so many levels up, then down along `names` ("" or
 * "/a/b"). */
typedef struct group_path {
  int up;
  char names[PATH_CHARS];
} group_path;

static void split(const char *text, group_path *path) {
  path->up = 0;
  for (; strncmp(text, "/..", 3) == 0 && (text[3] == '/' || text[3] == '\0'); text += 3) path->up++;
  snprintf(path->names, sizeof path->names, "%s", strcmp(text, "/") == 0 ? "" : text);
}

/* Is `word` an item of a list with commas? */
static bool listed(const char *list, const char *word) {
  const size_t length = strlen(word);
  for (const char *at = list; at; at = strchr(at, ',')) {
    at += *at == ',';
    if (strncmp(at, word, length) == 0 && (at[length] == ',' || at[length] == '\0')) return true;
  }
  return false;
}

static FILE *open_under(const char *root, const char *path) {
  char name[2 * PATH_CHARS];
  return snprintf(name, sizeof name, "%s%s", root, path) < (int)sizeof name ? fopen(name, "r") : NULL;
}

/* The process's group in the hierarchy of that version that has the memory controller. */
static bool own_group(const char *root, const version *v, group_path *path) {
  FILE *file = open_under(root, "/proc/self/cgroup");
  if (!file) return false;
  char line[LINE_CHARS];
  bool found = false;
  while (!found && fgets(line, sizeof line, file)) { /* number:controllers:path */
    line[strcspn(line, "\n")] = '\0';
    char *controllers = strchr(line, ':'), *at = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!at) continue;
    *at = '\0';
    found = v == &versions[1] ? strcmp(line, "0:") == 0 : listed(controllers + 1, "memory");
    if (found) split(at + 1, path);
  }
  fclose(file);
  return found;
}

/* mountinfo writes blanks and backslashes as \ooo. */
static void unescape(char *text) {
  char *to = text;
  for (const char *from = text; *from; to++) {
    unsigned code;
    const bool escape = from[0] == '\\' && sscanf(from + 1, "%3o", &code) == 1;
    *to = escape ? (char)code : *from;
    from += escape ? 4 : 1;
  }
  *to = '\0';
}

/* A mount of such a hierarchy on this line of mountinfo: the group that it shows as its root, and where.
 * id parent device root where options ... - type source options */
static bool mount_of(char *line, const version *v, group_path *shown, char *where) {
  char root[PATH_CHARS], type[64], options[PATH_CHARS] = "";
  char *rest = strstr(line, " - ");
  if (!rest || sscanf(rest, " - %63s %*s %4095s", type, options) < 1 || strcmp(type, v->type) != 0) return false;
  if (v == &versions[0] && !listed(options, "memory")) return false;
  if (sscanf(line, "%*s %*s %*s %4095s %4095s", root, where) != 2) return false;
  unescape(root);
  unescape(where);
  split(root, shown);
  return true;
}

static int64_t read_in(const char *folder, const char *name, const char *key) {
  char path[3 * PATH_CHARS];
  return snprintf(path, sizeof path, "%s/%s", folder, name) < (int)sizeof path ? sntk_read_number(path, key) : -1;
}

/* What a group leaves; INT64_MAX: it has no limit. */
static int64_t left_by(const char *folder, const version *v) {
  int64_t limit = INT64_MAX, used = read_in(folder, v->used, "");
  for (int i = 0; i < 2 && v->limits[i]; i++) {
    const int64_t one = read_in(folder, v->limits[i], "");
    if (one >= 0 && one < limit) limit = one;
  }
  if (limit == INT64_MAX || used < 0) return limit;
  for (int i = 0; i < 2; i++) {
    const int64_t cache = read_in(folder, "memory.stat", v->reclaimed[i]);
    if (cache > 0) used = used > cache ? used - cache : 0;
  }
  return limit > used ? limit - used : 0;
}

/* The tightest of the group at mount + names and those above it, up to the mount. */
static int64_t left_along(const char *mount, const char *names, const version *v) {
  char folder[2 * PATH_CHARS];
  const size_t top = strlen(mount);
  int64_t left = INT64_MAX;
  if (snprintf(folder, sizeof folder, "%s%s", mount, names) >= (int)sizeof folder) return left;
  for (;;) {
    const int64_t here = left_by(folder, v);
    if (here < left) left = here;
    char *slash = strrchr(folder, '/');
    if (strlen(folder) <= top || !slash) return left;
    *slash = '\0';
    /* version 1 lets a group's limit end at the group itself */
    if (v == &versions[0] && read_in(folder, "memory.use_hierarchy", "") == 0) return left;
  }
}

static bool has_this_process(const char *folder) {
  char path[3 * PATH_CHARS];
  if (snprintf(path, sizeof path, "%s/cgroup.procs", folder) >= (int)sizeof path) return false;
  FILE *file = fopen(path, "r");
  if (!file) return false;
  long process = -1;
  while (process != (long)getpid() && fscanf(file, "%ld", &process) == 1) continue;
  fclose(file);
  return process == (long)getpid();
}

/* A namespace hides the names of the groups above its root: the process's own is so many levels below `names`, and then
 * along `rest`. Puts the whole path into `names` (PATH_CHARS). */
static bool find_group(const char *mount, int levels, const char *rest, char *names) {
  char folder[2 * PATH_CHARS];
  const size_t length = strlen(names);
  if (snprintf(folder, sizeof folder, "%s%s%s", mount, names, levels ? "" : rest) >= (int)sizeof folder) return false;
  if (levels == 0) {
    if (length + strlen(rest) >= PATH_CHARS || !has_this_process(folder)) return false;
    strcpy(names + length, rest);
    return true;
  }
  DIR *listing = opendir(folder);
  bool found = false;
  for (const struct dirent *entry; listing && !found && (entry = readdir(listing));) {
    if (entry->d_name[0] == '.' || (entry->d_type != DT_DIR && entry->d_type != DT_UNKNOWN)) continue;
    if (length + strlen(entry->d_name) + 2 > PATH_CHARS) continue;
    sprintf(names + length, "/%s", entry->d_name);
    found = find_group(mount, levels - 1, rest, names);
    if (!found) names[length] = '\0';
  }
  if (listing) closedir(listing);
  return found;
}

/* The way from the group that a mount shows down to the process's own; false: that one is not below it. */
static bool way_down(const group_path *own, const group_path *shown, const char *mount, char *names) {
  const size_t length = strlen(shown->names);
  names[0] = '\0';
  if (shown->up == own->up) {
    if (strncmp(own->names, shown->names, length) != 0 || (own->names[length] != '/' && own->names[length] != '\0'))
      return false;
    strcpy(names, own->names + length);
    return true;
  }
  if (shown->up < own->up || length > 0) return false;
  find_group(mount, shown->up - own->up, own->names, names); /* not found: the mount's own limit holds all the same */
  return true;
}

int64_t sntk_cgroup_memory(const char *root) {
  int64_t left = INT64_MAX;
  char line[LINE_CHARS], where[PATH_CHARS], mount[2 * PATH_CHARS], names[PATH_CHARS];
  for (size_t i = 0; i < sizeof versions / sizeof *versions; i++) {
    group_path own, shown;
    FILE *file = own_group(root, &versions[i], &own) ? open_under(root, "/proc/self/mountinfo") : NULL;
    while (file && fgets(line, sizeof line, file)) {
      if (!mount_of(line, &versions[i], &shown, where)) continue;
      snprintf(mount, sizeof mount, "%s%s", root, where);
      if (!way_down(&own, &shown, mount, names)) continue;
      const int64_t here = left_along(mount, names, &versions[i]);
      if (here < left) left = here;
    }
    if (file) fclose(file);
  }
  return left;
}
