#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks that every #include follows the arrows between the layers.

    include <- host/core <- {host/data, host/backends/*, cuda, host/cluster} <- host/engine <- host/app, bench, tests

Backends know neither each other nor data, cluster or engine; a backend is known from outside only by its table,
host/backends/backend.h. Public headers need nothing but each other and the C library. Each foreign library has its
few files: a second place that knows MPI or HDF5 is a mistake here, however well it compiles.

    check_layers.py [ROOT]        exit 1 with "file:line: what is wrong" for each include against the arrows
    check_layers.py --self-test   plants a violation of each kind in a temporary tree and checks that it is found
"""

import argparse
import fnmatch
import os
import re
import sys
import tempfile

FOLDERS = ("include", "host", "cuda", "bench", "tests")
SUFFIXES = (".c", ".h", ".cc", ".cpp", ".hpp", ".cu", ".cuh", ".def", ".h.in", ".inc")
GENERATED = {"softntk/version.h": "include/softntk/version.h", "core/git_commit.h": "host/core/git_commit.h"}
INCLUDE_FOLDERS = ("include", "host", "")  # and the folder at the top that a file is in, as tests and bench have it
EMULATOR_FOLDERS = ("tests/emulator/include", "tests/emulator/src")  # a library of its own, with CUDA's headers in its name

# The headers of C11's library: all that a public header may use.
C_LIBRARY = set(
    "assert.h complex.h ctype.h errno.h fenv.h float.h inttypes.h iso646.h limits.h locale.h math.h setjmp.h signal.h "
    "stdalign.h stdarg.h stdatomic.h stdbool.h stddef.h stdint.h stdio.h stdlib.h stdnoreturn.h string.h tgmath.h "
    "threads.h time.h uchar.h wchar.h wctype.h".split())

# Layer -> the layers that it may include. "backends" is the table and the registry, "backend:X" one backend's own.
BELOW = {
    "include": {"include"},
    "core": {"include", "core"},
    "data": {"include", "core", "data"},
    "backends": {"include", "core", "backends"},
    "cuda": {"include", "core", "backends", "cuda"},
    "cluster": {"include", "core", "cluster"},
    "engine": {"include", "core", "backends", "data", "cluster", "engine"},
    "app": {"include", "core", "backends", "data", "cluster", "engine", "bench", "app"},
    "bench": {"include", "core", "backends", "backend", "cuda", "data", "cluster", "engine", "bench"},
    "tests": {"include", "core", "backends", "backend", "cuda", "data", "cluster", "engine", "bench", "app", "tests"},
    "example": {"include"},  # tests/example: what a user of the library may do
}

# Headers of foreign libraries -> the files that may include them.
FOREIGN = (
    ("MPI", ("mpi.h", "mpi-ext.h"), ("host/cluster/comm.c",)),
    ("HDF5", ("hdf5.h", "hdf5_hl.h", "H5*.h"), ("host/core/h5.c", "host/core/h5_write.c", "host/data/hdf5*", "tests/*")),
    ("CUDA", ("cuda*.h", "cuda/*", "cublas*.h", "cusolver*.h", "curand*.h", "cub/*", "thrust/*", "nvtx3/*", "nvml.h"),
     ("cuda/*", "bench/*", "tests/*")),
)


def layer_of(path):
    """The layer of a path from the root with forward slashes; None where it belongs to no layer."""
    parts = path.split("/")
    if path.startswith("tests/example/"):
        return "example"
    if parts[0] in ("include", "cuda", "bench", "tests"):
        return parts[0]
    if parts[0] == "host" and len(parts) > 2:
        if parts[1] == "backends":
            return "backend:" + parts[2] if len(parts) > 3 else "backends"
        return parts[1] if parts[1] in BELOW else None
    return None


def may_include(layer, target):
    if layer.startswith("backend:"):
        return target in ("include", "core", "backends", layer)
    return target.split(":")[0] in BELOW[layer]


def without_comments(text):
    """The text with comments blanked, its line numbers kept. Strings are stepped over, not kept apart from includes."""
    pattern = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)

    def blank(match):
        return match.group() if match.group()[0] in "\"'" else re.sub(r"[^\n]", " ", match.group())

    return pattern.sub(blank, text)


def includes_of(text):
    """(line, kind, name) of each include: kind '"', '<' or '?' for a macro."""
    for number, line in enumerate(without_comments(text).split("\n"), 1):
        match = re.match(r"\s*#\s*(?:include|include_next|import)\b\s*(.*)", line)
        if not match:
            continue
        rest = match.group(1).strip()
        quoted = re.match(r'"([^"]+)"|<([^>]+)>', rest)
        if quoted:
            yield number, '"' if quoted.group(1) else "<", quoted.group(1) or quoted.group(2)
        else:
            yield number, "?", rest


def resolve(root, path, name):
    """The path from the root of an included file of this project; None where there is none."""
    if name in GENERATED:
        return GENERATED[name]
    own = EMULATOR_FOLDERS if path.startswith(("tests/emulator/", "tests/faults/")) else ()
    for folder in (os.path.dirname(path), path.split("/")[0]) + own + INCLUDE_FOLDERS:
        candidate = os.path.normpath(os.path.join(folder, name)).replace(os.sep, "/")
        if not candidate.startswith("../") and os.path.isfile(os.path.join(root, candidate)):
            return candidate
    return None


def fault_of(root, path, kind, name):
    """What is wrong with one include; None where nothing is."""
    layer = layer_of(path)
    if layer is None:
        return "this folder has no place among the layers; see the head of tools/check_layers.py"
    if kind == "?":
        return "the include of a macro (%s) cannot be checked; name the file" % name
    for library, headers, places in FOREIGN:
        if any(fnmatch.fnmatchcase(name, header) for header in headers):
            if not any(fnmatch.fnmatchcase(path, place) for place in places):
                return "<%s> is %s, which only %s may know" % (name, library, ", ".join(places))
            return None
    target = resolve(root, path, name)
    if target is None:
        if kind == '"':
            return '"%s" is no file of this project; a system header is included with <>' % name
        if layer == "include" and name not in C_LIBRARY:
            return "<%s> is not of the C library; public headers need nothing else" % name
        return None
    if layer_of(target) is None:
        return '"%s" is outside the layers' % name
    if not may_include(layer, layer_of(target)):
        return "%s must not include %s (%s)" % (layer, layer_of(target), target)
    if layer == "engine" and layer_of(target) == "backends" and target != "host/backends/backend.h":
        return "the engine knows backends only by host/backends/backend.h, not %s" % target
    return None


def check(root):
    """The faults below root, each as "file:line: text", and the number of files and includes seen."""
    faults, files, includes = [], 0, 0
    for folder in FOLDERS:
        for directory, subfolders, names in os.walk(os.path.join(root, folder)):
            subfolders.sort()
            for file in sorted(names):
                if not file.endswith(SUFFIXES):
                    continue
                files += 1
                full = os.path.join(directory, file)
                path = os.path.relpath(full, root).replace(os.sep, "/")
                with open(full, encoding="utf-8", errors="replace") as stream:
                    text = stream.read()
                for line, kind, name in includes_of(text):
                    includes += 1
                    fault = fault_of(root, path, kind, name)
                    if fault:
                        faults.append("%s:%d: %s" % (path, line, fault))
    return faults, files, includes


# ---- self-test ------------------------------------------------------------------------------------------------------

CLEAN = {
    "include/softntk/status.h": "#include <stdint.h>\n",
    "include/softntk/run.h": '#include "softntk/status.h"\n#include "softntk/version.h"\n',
    "host/core/core.h": '#include <unistd.h>\n#include "softntk/status.h"\n',
    "host/core/core.c": '#include "core/core.h"\n#include "core/git_commit.h"\n',
    "host/core/h5.c": "#include <hdf5.h>\n",
    "host/data/data.h": '#include "core/core.h"\n',
    "host/data/hdf5.c": '#include <hdf5.h>\n#include "data/data.h"\n',
    "host/backends/backend.h": '#include "core/core.h"\n',
    "host/backends/backends.def": "",
    "host/backends/registry.c": '#include "backends/backends.def"\n',
    "host/backends/ref/ref.h": '#include "backends/backend.h"\n',
    "host/backends/cpu/cpu.h": '#include "backends/backend.h"\n',
    "host/backends/cpu/cpu.c": '#include "cpu.h"\n#include "backends/cpu/cpu.h"\n',
    "host/cluster/comm.h": '#include "core/core.h"\n',
    "host/cluster/comm.c": '#include <mpi.h>\n#include "cluster/comm.h"\n',
    "host/engine/engine.h": '#include "backends/backend.h"\n#include "cluster/comm.h"\n#include "data/data.h"\n',
    "host/app/app.h": '#include "engine/engine.h"\n#include "softntk/run.h"\n',
    "cuda/kernels.cuh": '#include <cuda_runtime.h>\n#include "backends/backend.h"\n#include "core/core.h"\n',
    "bench/timer.h": '#include "backends/cpu/cpu.h"\n',
    "tests/support.h": "",
    "tests/unit/test_run.c": '#include <hdf5.h>\n#include "support.h"\n#include "backends/ref/ref.h"\n#include "engine/engine.h"\n',
    "tests/example/train.c": '#include <softntk/status.h>\n/* #include "core/core.h" */\n// #include "core/core.h"\n',
}

# (file, an include against the arrows)
PLANTED = (
    ("include/softntk/bad.h", '"core/core.h"'),
    ("include/softntk/bad.h", "<unistd.h>"),
    ("include/softntk/bad.h", "<hdf5.h>"),
    ("include/softntk/bad.h", "<cuda_runtime.h>"),
    ("host/core/bad.c", '"data/data.h"'),
    ("host/core/bad.c", '"engine/engine.h"'),
    ("host/core/bad.c", '"backends/backend.h"'),
    ("host/core/bad.c", "<hdf5.h>"),
    ("host/data/bad.c", '"backends/backend.h"'),
    ("host/data/bad.c", '"cluster/comm.h"'),
    ("host/data/bad.c", '"engine/engine.h"'),
    ("host/data/bad.c", "<H5Fpublic.h>"),
    ("host/backends/cpu/bad.c", '"backends/ref/ref.h"'),
    ("host/backends/ref/bad.c", '"../cpu/cpu.h"'),
    ("host/backends/cpu/bad.c", '"engine/engine.h"'),
    ("host/backends/cpu/bad.c", '"data/data.h"'),
    ("host/backends/cpu/bad.c", '"cluster/comm.h"'),
    ("host/backends/bad.c", '"backends/cpu/cpu.h"'),
    ("cuda/bad.cu", '"backends/cpu/cpu.h"'),
    ("cuda/bad.cu", '"engine/engine.h"'),
    ("host/backends/cpu/bad.c", '"cuda/kernels.cuh"'),
    ("host/cluster/bad.c", "<mpi.h>"),
    ("host/cluster/bad.c", '"engine/engine.h"'),
    ("host/engine/bad.c", '"backends/cpu/cpu.h"'),
    ("host/engine/bad.c", '"backends/backends.def"'),
    ("host/engine/bad.c", '"app/app.h"'),
    ("host/engine/bad.c", "<cublas_v2.h>"),
    ("host/app/bad.c", '"backends/cpu/cpu.h"'),
    ("host/app/bad.c", "<mpi.h>"),
    ("bench/bad.c", '"app/app.h"'),
    ("tests/unit/bad.c", '"no_such_file.h"'),
    ("tests/unit/bad.c", "<mpi.h>"),
    ("host/app/bad.c", "SOME_MACRO"),
    ("host/elsewhere/bad.c", "<stdio.h>"),
    ("tests/example/bad.c", '"core/core.h"'),
)


def write(root, path, text):
    full = os.path.join(root, path)
    os.makedirs(os.path.dirname(full), exist_ok=True)
    with open(full, "w", encoding="utf-8") as stream:
        stream.write(text)
    return full


def self_test():
    """The number of violations that were not found as they should be."""
    wrong = 0
    with tempfile.TemporaryDirectory() as root:
        for path, text in CLEAN.items():
            write(root, path, text)
        faults = check(root)[0]
        if faults:
            wrong += 1
            print("the clean tree has faults:", *faults, sep="\n  ")
        for path, name in PLANTED:
            full = write(root, path, "/* %s\n */\n#  include %s\n" % ("a comment", name))
            faults = check(root)[0]
            if len(faults) != 1 or not faults[0].startswith(path + ":3: "):
                wrong += 1
                print("%s: include of %s: expected one fault at line 3, got %s" % (path, name, faults or "none"))
            os.remove(full)
    print("%d violations planted, %d not found as they should be" % (len(PLANTED), wrong))
    return wrong


def main():
    parser = argparse.ArgumentParser(description="Checks that includes follow the arrows between the layers.")
    parser.add_argument("root", nargs="?", default=os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    parser.add_argument("--self-test", action="store_true", help="check the checker")
    arguments = parser.parse_args()
    if arguments.self_test:
        return 1 if self_test() else 0
    faults, files, includes = check(arguments.root)
    for fault in faults:
        print(fault, file=sys.stderr)
    if files == 0:
        print("%s: no source file below %s" % (arguments.root, ", ".join(FOLDERS)), file=sys.stderr)
        return 1
    print("%d files, %d includes, %d against the arrows" % (files, includes, len(faults)))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
