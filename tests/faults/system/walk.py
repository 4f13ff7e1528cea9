#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Fails the calls of the program one by one, and looks at what becomes of its runs (standard library alone).

    walk.py --softntk PROGRAM --library libfail_calls.so [--h5-list PROGRAM] [--seconds S] [--jobs N]
    walk.py ... --command train --plan malloc:17        one of them, with all that can be said about it
    walk.py --softntk careless --library libfail_calls.so --self-test   are faults found?

The commands below are run once undisturbed, which gives their references and how often they call what can fail. Then
each is run again and again, and each time one call fails: the k-th allocation, write, fsync, open and so on, for every k
(or, with --seconds, for as many as fit, spread evenly over all commands, families and depths, always in the same order).

The rule: exit 0 means that points, run.json, run.h5 and standard output are those of the reference, but for keys that end
in _seconds or _time, checksums, and the memory that is in use or free at the moment; anything else is exit 2, 4 or 5 (75 where interrupted) with one line on standard
error, and --resume then completes the run and gives the reference. What breaks it:

    CRASH          ended by a signal
    EXIT CODE      none of 0, 2, 4, 5, 75
    HANG           did not end
    DIFFERENT      exit 0, and not the reference: a silent difference
    LINES          standard error is not one line (notes, "softntk: note:", and the empty line that libgomp prints
                   before its own are allowed beside it)
    NOT RESUMABLE  --resume does not end with 0, or does not give the reference

Not failed are the calls made by the libraries in EXCLUDED, each for the reason given there; how many were left out is
printed.
"""

import argparse
import bisect
import collections
import gzip
import itertools
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time

# Libraries whose own calls are not failed: the beginning of the file's name, and why.
EXCLUDED = {}

# Family and how it fails; "+" after the number of a call: all from there on. STRIDE: of a family called so often, every
# so many calls where it is the same call that fails first, and others behind it.
VARIANTS = [
    ("malloc", ""), ("malloc", "+"),
    ("mmap", ""), ("mmap", "+"),
    ("open", ":EMFILE"), ("open", ":EACCES"), ("open", "+:EMFILE"),
    ("read", ":EIO"), ("read", ":EINTR"), ("read", ":short"), ("read", "+:EIO"),
    ("write", ":ENOSPC"), ("write", ":EINTR"), ("write", ":short"), ("write", "+:ENOSPC"),
    ("fsync", ":EIO"), ("fsync", ":EINTR"), ("fsync", "+:EIO"),
    ("rename", ":EIO"), ("close", ":EIO"), ("close", ":EINTR"),
    ("flock", ":ENOLCK"), ("flock", ":EINTR"),
    ("truncate", ":EIO"), ("truncate", ":ENOSPC"), ("truncate", ":EINTR"),
    ("mkdir", ":ENOSPC"), ("unlink", ":EIO"), ("stat", ":EIO"), ("stat", ":EACCES"), ("seek", ":EIO"),
    ("process", ":EAGAIN"),
]

STRIDE = {("malloc", "+"): 16}
WEIGHT = {("malloc", ""): 8}  # plans a turn, where only a sample is taken

GOOD = ("same", "refused")
WRONG = ("CRASH", "EXIT CODE", "HANG", "DIFFERENT", "LINES", "NOT RESUMABLE")

TINY = """network: {activation: softmax, width: 4}
data: {source: sphere, samples: 3, dim: 2}
train: {steps: 2, tolerance: 0}
width: {max_width: 8}
perturb: {radii: [0.1], ascent_steps: 2, max_radius: 0.5}
"""


class Command:
    """One command line. `half`: begins from half of its own finished run, with a torn line after it."""

    def __init__(self, name, text, run=True, half=False):
        self.name, self.run, self.half = name, run, half
        self.arguments = text.split()
        if run:
            self.arguments += ["--out", "run"] + (["--resume"] if half else [])

    def resuming(self):
        return self.arguments + (["--resume"] if self.run and not self.half else [])


COMMANDS = [
    Command("train", "train data/tiny.yaml --set save.weights=true --set train.kernel_every=1 --json"),
    Command("train_table", "train data/tiny.yaml --set train.linearized=true --set data.test_samples=1"),
    Command("train_teacher", "train data/tiny.yaml --set data.targets=teacher --set train.eta=theory --json"),
    Command("train_clusters", "train data/tiny.yaml --set data.source=clusters --set data.clusters=2 --set data.targets=harmonic"),
    Command("train_csv", "train data/csv.yaml --json --quiet"),
    Command("train_npy", "train data/npy.yaml --json --precision f64"),
    Command("train_hdf5", "train data/hdf5.yaml --json"),
    Command("train_idx", "train data/idx.yaml --json"),
    Command("train_ref", "train data/tiny.yaml --backend ref --json --quiet"),
    Command("train_threads", "train data/tiny.yaml --threads 2 --json --quiet --set network.width=20000"),
    Command("ntk", "ntk data/tiny.yaml --set ntk.prefixes=true --set ntk.min_prefix=2 --set save.weights=true --json"),
    Command("ntk_blocks", "ntk data/tiny.yaml --set ntk.matrix=blocks --set ntk.block=2 --set network.outputs=2 --json"),
    Command("ntk_diagonal", "ntk data/tiny.yaml --set ntk.matrix=diagonal --set network.outputs=2 --set precision=f64"),
    Command("ntk_trace", "ntk data/tiny.yaml --set ntk.matrix=trace --set network.outputs=2 --set network.activation=exp"),
    Command("ntk_lanczos", "ntk data/tiny.yaml --set data.samples=30 --set ntk.solver=lanczos"),
    Command("sweep", "sweep data/tiny.yaml --set grid.seed=[1,2,3] --json"),
    Command("sweep_table", "sweep data/tiny.yaml --set grid.network.width=[2,4,8] --set network.activation=relu --set train.kernel_every=1"),
    Command("sweep_resumed", "sweep data/tiny.yaml --set grid.seed=[1,2,3] --json", half=True),
    Command("sweep_shard", "sweep data/tiny.yaml --set grid.seed=[1,2,3,4] --shard 0/2 --quiet"),
    Command("sweep_ntk", "sweep data/tiny.yaml --set sweep.command=ntk --set grid.network.width=[4,8]"),
    Command("width", "width data/tiny.yaml --set grid.data.samples=[2,3] --json"),
    Command("width_table", "width data/tiny.yaml --set grid.data.samples=[2,3]"),
    Command("perturb", "perturb data/tiny.yaml --json"),
    Command("perturb_table", "perturb data/tiny.yaml --set grid.network.width=[4,8] --set perturb.ascent_steps=1"),
    Command("info", "info", run=False),
    Command("info_json", "info --json", run=False),
    Command("help", "train --help", run=False),
    Command("dry_run", "train data/tiny.yaml --dry-run --json", run=False),
    Command("dry_run_sweep", "sweep data/tiny.yaml --set grid.seed=[1,2] --dry-run", run=False),
]


# Faults of careless.c, and what they are to be found as; "none" where there is nothing to find.
SELF_TEST = {"none": None, "silent": "DIFFERENT", "crash": "CRASH", "code": "EXIT CODE", "hang": "HANG", "lines": "LINES",
             "mute": "LINES", "stuck": "NOT RESUMABLE"}


# ---- the data of the commands ------------------------------------------------------------------------------------------


def npy(path, kind, shape, values):
    header = "{'descr': '%s', 'fortran_order': False, 'shape': %s, }" % (kind, shape)
    header += " " * (63 - (10 + len(header)) % 64) + "\n"
    with open(path, "wb") as stream:
        stream.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode())
        stream.write(struct.pack("<%d%s" % (len(values), {"<f8": "d", "<f4": "f", "|i1": "b"}[kind]), *values))


def idx(path, shape, values):
    with open(path, "wb") as stream:
        stream.write(bytes([0, 0, 8, len(shape)]) + struct.pack(">%dI" % len(shape), *shape) + bytes(values))


def make_data(folder):
    os.makedirs(folder)
    texts = {
        "tiny.yaml": TINY,
        "csv.yaml": "{inputs: rows.csv.gz, label_columns: [-1], source: csv, header: yes}",
        "npy.yaml": "{source: npy, inputs: x.npy, labels: y.npy, targets: values}",
        "hdf5.yaml": "{source: hdf5, inputs: 'x.h5:/weights'}",
        "idx.yaml": "{source: idx, inputs: x.idx, labels: y.idx, targets: classes}",
    }
    for name, text in texts.items():
        if name != "tiny.yaml":
            network = "{activation: softmax, width: 4%s}" % (", weights: w.npy, signs: a.npy" if name == "npy.yaml" else "")
            text = "network: %s\ndata: %s\ntrain: {steps: 2, tolerance: 0}\n" % (network, text)
        with open(os.path.join(folder, name), "w", encoding="utf-8") as stream:
            stream.write(text)
    with gzip.GzipFile(os.path.join(folder, "rows.csv.gz"), "wb", mtime=0) as stream:
        stream.write(b"a,b,label\n0.5,1,2\n-1,0.25,1\n1e-1,3,0.5\n")
    npy(os.path.join(folder, "x.npy"), "<f8", (3, 2), [0.5, -1.0, 0.25, 0.75, -0.5, 0.125])
    npy(os.path.join(folder, "y.npy"), "<f4", (3, 1), [1.0, 0.0, -1.0])
    npy(os.path.join(folder, "w.npy"), "<f8", (2, 4), [0.1 * k - 0.3 for k in range(8)])
    npy(os.path.join(folder, "a.npy"), "|i1", (1, 4), [1, -1, 1, -1])
    idx(os.path.join(folder, "x.idx"), (4, 2, 2), [7 * k % 256 for k in range(16)])
    idx(os.path.join(folder, "y.idx"), (4,), [0, 1, 1, 0])


# ---- the program, forked for each request ------------------------------------------------------------------------------


class Outcome:
    def __init__(self, text):
        self.counts, self.skipped = {}, {}
        for line in text.splitlines():
            word, *rest = line.split()
            if word == "status":
                self.status = int(rest[0])
            elif word == "count":
                self.counts[rest[0]], self.skipped[rest[0]] = int(rest[1]), int(rest[2])
            elif word == "fired":
                self.fired, self.trace = int(rest[0]), rest[1:]
        self.hung = self.status == -1
        self.signal = os.WTERMSIG(self.status) if not self.hung and os.WIFSIGNALED(self.status) else 0
        self.code = os.WEXITSTATUS(self.status) if not self.hung and not self.signal else -1


def environment(options):
    variables = {key: value for key, value in os.environ.items()
                 if not key.startswith(("SLURM_", "OMPI_", "PMI_", "SOFTNTK_", "SNTK_", "FAIL_", "LD_", "OMP_"))}
    variables.update(LD_PRELOAD=os.path.abspath(options.library), OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1",
                     OMP_WAIT_POLICY="passive", CUDA_VISIBLE_DEVICES="", FAIL_SKIP=":".join(list(EXCLUDED) + options.exclude), LC_ALL="C")
    return variables


class Server:
    def __init__(self, options):
        request_in, self.requests = os.pipe()
        self.replies, reply_out = os.pipe()
        variables = environment(options)
        variables["FAIL_SERVER"] = "%d,%d" % (request_in, reply_out)
        self.process = subprocess.Popen([options.softntk], pass_fds=(request_in, reply_out), env=variables,
                                        stdin=subprocess.DEVNULL)
        os.close(request_in)
        os.close(reply_out)
        self.buffer = b""

    def run(self, folder, arguments, plan="", seconds=60):
        fields = [str(seconds), folder, os.path.join(folder, "out"), os.path.join(folder, "err"), plan, "softntk"]
        payload = b"".join(field.encode() + b"\0" for field in fields + arguments)
        os.write(self.requests, b"%08d" % len(payload) + payload)
        while not self.buffer.endswith(b"end\n"):
            part = os.read(self.replies, 65536)
            if not part:
                raise RuntimeError("the program did not start under the preloaded library, or its server ended")
            self.buffer += part
        text, self.buffer = self.buffer[:-4].decode(), b""
        return Outcome(text)

    def close(self):
        os.close(self.requests)
        self.process.wait()
        os.close(self.replies)


# ---- what a run left -----------------------------------------------------------------------------------------------------


def varies(key):
    return key in ("crc32", "memory_available_bytes", "memory_bytes") or key.endswith(("_seconds", "_time"))


def without_times(value):
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if not varies(key)}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def output_lines(text):
    """Standard output, line by line: JSON without what varies; of tables and sentences, all but columns and figures of time
    and free memory."""
    lines, drop = [], None
    for line in text.splitlines():
        if line.startswith("{"):
            lines.append(without_times(json.loads(line)))
            continue
        cells = re.split(r"  +", line.strip())
        if "seconds" in cells:
            drop = len(cells), cells.index("seconds")
        if drop and len(cells) == drop[0]:
            cells = cells[:drop[1]] + cells[drop[1] + 1:]
        line = "  ".join(cells)
        line = re.sub(r"memory available \S+ \S+|memory [0-9.]+ [KMGT]?i?B of [0-9.]+ [KMGT]iB|about \S+ s\b|[0-9.e+-]+ s\b", "<varies>", line)
        lines.append(line)
    return lines


def read(path):
    with open(path, encoding="utf-8") as stream:
        return stream.read()


class Left:
    """The files of a run: what of them must be the same in any two runs of the command."""

    def __init__(self, folder, run, contents):
        self.output = output_lines(read(os.path.join(folder, "out")))
        self.files, self.lines, self.documents, self.h5 = [], {}, {}, {}
        directory = os.path.join(folder, "run")
        if not run or not os.path.isdir(directory):
            return
        self.files = sorted(os.listdir(directory))
        for name in self.files:
            path = os.path.join(directory, name)
            if name.endswith(".jsonl"):
                self.lines[name] = sorted((without_times(json.loads(line)) for line in read(path).splitlines()),
                                          key=lambda point: json.dumps(point, sort_keys=True))
            elif name.endswith(".json"):
                self.documents[name] = without_times(json.loads(read(path)))
            elif name.endswith(".h5"):
                self.h5[name] = contents.of(path)

    def difference(self, other, resumed):
        """What is not as in `other`, the reference; None where all is."""
        if self.files != other.files:
            return "files %s, not %s" % (self.files, other.files)
        for name, points in self.lines.items():
            if points != other.lines[name]:
                return "%s: %d points, or their values" % (name, len(points))
        for name, document in self.documents.items():
            left, right = dict(document), dict(other.documents[name])
            if resumed:
                left.pop("resumed", None), right.pop("resumed", None)
            for key in sorted(set(left) | set(right)):
                if left.get(key) != right.get(key):
                    return "%s: %s is %s, not %s" % (name, key, left.get(key), right.get(key))
        for name, content in self.h5.items():
            if content != other.h5[name]:
                return "%s: its data" % name
        return None if resumed else self.output_difference(other)

    def output_difference(self, other):
        for number, (mine, wanted) in enumerate(zip(self.output, other.output)):
            if mine != wanted:
                return "standard output, line %d: %s, not %s" % (number + 1, mine, wanted)
        if len(self.output) != len(other.output):
            return "standard output: %d lines, not %d" % (len(self.output), len(other.output))
        return None


class H5Contents:
    """What HDF5 files hold, by the helper of the command-line tests where it is given (files of the same data in another
    order are then the same), else their bytes. The helper is a process: equal bytes are listed once."""

    def __init__(self, program):
        self.program, self.known, self.lock = program, {}, threading.Lock()

    def of(self, path):
        with open(path, "rb") as stream:
            data = stream.read()
        with self.lock:
            if data not in self.known:
                self.known[data] = self.list(path) if self.program else data
            return self.known[data]

    def list(self, path):
        listed = subprocess.run([self.program, path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        return listed.stdout if listed.returncode == 0 else b"cannot be read: " + listed.stdout


# ---- one failing call ----------------------------------------------------------------------------------------------------


class Finding:
    def __init__(self, command, plan, outcome, verdict, detail, stderr):
        self.command, self.plan, self.verdict, self.detail, self.stderr = command, plan, verdict, detail, stderr
        self.trace, self.code = outcome.trace, outcome.code


class Walker:
    """Runs commands in a folder of its own; one a thread."""

    def __init__(self, options, base, number, contents, references):
        self.options, self.contents, self.references = options, contents, references
        self.folder = os.path.join(base, "walker%d" % number)
        self.base = base
        os.makedirs(self.folder)
        os.symlink(os.path.join(base, "data"), os.path.join(self.folder, "data"))
        self.server = Server(options)

    def clear(self, command):
        directory = os.path.join(self.folder, "run")
        shutil.rmtree(directory, ignore_errors=True)
        if command.half:
            shutil.copytree(os.path.join(self.base, "half_" + command.name), directory)

    def left(self, command):
        return Left(self.folder, command.run, self.contents)

    def run(self, arguments, plan=""):
        return self.server.run(self.folder, arguments, plan, self.options.patience)

    def prepare_half(self, command):
        """A run killed in the middle of writing its second point."""
        whole = Command(command.name, "")
        whole.arguments = [argument for argument in command.arguments if argument != "--resume"]
        shutil.rmtree(os.path.join(self.folder, "run"), ignore_errors=True)
        if self.run(whole.arguments).code != 0:
            raise RuntimeError("%s: the undisturbed run failed: %s" % (command.name, read(self.folder + "/err")))
        points = os.path.join(self.folder, "run", "points.jsonl")
        lines = read(points).splitlines(True)
        with open(points, "w", encoding="utf-8") as stream:
            stream.write(lines[0] + lines[1][:len(lines[1]) // 2])
        shutil.copytree(os.path.join(self.folder, "run"), os.path.join(self.base, "half_" + command.name))

    def make_h5(self):
        """An HDF5 file to read, which the standard library cannot write: weights that the program saved."""
        command = Command("h5", "train data/tiny.yaml --set save.weights=true --quiet")
        self.clear(command)
        if self.run(command.arguments).code != 0:
            raise RuntimeError("no HDF5 file was made: %s" % read(self.folder + "/err"))
        shutil.move(os.path.join(self.folder, "run", "run.h5"), os.path.join(self.base, "data", "x.h5"))

    def reference(self, command):
        """Twice, since what differs by itself would be taken for a consequence of failing calls."""
        if command.half:
            self.prepare_half(command)
        for _ in range(2):
            self.clear(command)
            outcome = self.run(command.arguments)
            if outcome.code != 0:
                raise RuntimeError("%s: the undisturbed run ended with %d: %s"
                                   % (command.name, outcome.code, read(self.folder + "/err")))
            left = self.left(command)
            before = self.references.setdefault(command.name, left)
            difference = left.difference(before, False)
            if difference:
                raise RuntimeError("%s: two undisturbed runs differ: %s" % (command.name, difference))
        return outcome

    def judge(self, command, plan, outcome):
        """Verdict and detail of a disturbed run."""
        stderr = read(os.path.join(self.folder, "err"))
        if outcome.hung:
            return "HANG", "did not end"
        if outcome.signal:
            return "CRASH", signal.Signals(outcome.signal).name
        if outcome.code not in (0, 2, 4, 5, 75):
            return "EXIT CODE", "exit %d" % outcome.code
        if self.options.strict and plan.startswith(("malloc", "mmap")) and outcome.code not in (0, 4):
            return "EXIT CODE", "exit %d where memory is short" % outcome.code
        reference = self.references[command.name]
        if outcome.code == 0:
            difference = self.difference(command, reference, False)
            return ("DIFFERENT", difference) if difference else ("same", "")
        errors = [line for line in stderr.splitlines() if line and not line.startswith("softntk: note: ")]
        if len(errors) != 1 or not stderr.endswith("\n"):
            return "LINES", "%d lines on standard error" % len(errors)
        again = self.run(command.resuming())
        if again.code != 0:
            return "NOT RESUMABLE", "--resume: exit %d: %s" % (again.code, read(self.folder + "/err").strip())
        difference = self.difference(command, reference, True)
        return ("NOT RESUMABLE", "--resume gives other results: " + difference) if difference else ("refused", "")

    def difference(self, command, reference, resumed):
        try:
            return self.left(command).difference(reference, resumed)
        except (OSError, ValueError) as error:
            return "cannot be read: %s" % error

    def disturb(self, command, plan):
        """None where the call was never made."""
        self.clear(command)
        outcome = self.run(command.arguments, plan)
        stderr = read(os.path.join(self.folder, "err"))
        if outcome.fired == 0 and outcome.code == 0:
            return None
        verdict, detail = self.judge(command, plan, outcome)
        return Finding(command, plan, outcome, verdict, detail, stderr)

    def close(self):
        self.server.close()


# ---- all of them -----------------------------------------------------------------------------------------------------------


def spread(count):
    """1 to count: the last, the first, the middle, the quarters, and so on."""
    if count < 1:
        return
    yield count
    bits = max(count - 1, 1).bit_length()
    for index in range(1 << bits):
        value = int(format(index, "0%db" % bits)[::-1], 2) + 1
        if value < count:
            yield value


def plans(family, how, count):
    stride = STRIDE.get((family, how), 1)
    for k in spread((count + stride - 1) // stride):
        yield "%s:%d%s" % (family, (k - 1) * stride + 1, how)


def strata(commands, counts):
    """For each command, family and way of failing: how many plans a turn, and its plans."""
    for command in commands:
        for family, how in VARIANTS:
            count = counts[command.name].counts[family]
            if count:
                yield command, WEIGHT.get((family, how), 1), plans(family, how, count)


def planned(commands, counts):
    """How many calls fail where time allows all of them."""
    return sum(-(-counts[command.name].counts[family] // STRIDE.get((family, how), 1))
               for command in commands for family, how in VARIANTS)


def round_robin(parts):
    parts = list(parts)
    while parts:
        remaining = []
        for command, weight, items in parts:
            turn = list(itertools.islice(items, weight))
            yield from ((command, plan) for plan in turn)
            if len(turn) == weight:
                remaining.append((command, weight, items))
        parts = remaining


class Survey:
    def __init__(self, options, base, commands):
        self.options, self.base, self.commands = options, base, commands
        self.contents, self.references = H5Contents(options.h5_list), {}
        self.lock, self.findings, self.totals = threading.Lock(), [], collections.Counter()
        self.unreached, self.error, self.stopped = 0, None, False
        os.makedirs(base, exist_ok=True)
        make_data(os.path.join(base, "data"))
        first = Walker(options, base, 0, self.contents, self.references)
        if any("hdf5" in command.name for command in commands):
            first.make_h5()
        self.counts = {command.name: first.reference(command) for command in self.commands}
        self.walkers = [first] + [Walker(options, base, number, self.contents, self.references)
                                  for number in range(1, options.jobs)]

    def plans(self):
        if self.options.plan:
            return ((command, self.options.plan) for command in self.commands)
        return (item for item in round_robin(strata(self.commands, self.counts))
                if not self.options.family or item[1].split(":")[0] in self.options.family.split(","))

    def work(self, walker, items, deadline):
        try:
            while not self.error and not self.stopped and (deadline is None or time.monotonic() < deadline):
                with self.lock:
                    command, plan = next(items, (None, None))
                if command is None:
                    break
                finding = walker.disturb(command, plan)
                with self.lock:
                    self.take(command, plan, finding)
        except Exception as error:  # noqa: BLE001: told by the main thread
            self.error = error

    def take(self, command, plan, finding):
        if finding is None:
            self.unreached += 1
            return
        self.totals[plan.split(":")[0], finding.verdict] += 1
        self.totals[command.name, finding.verdict] += 1
        if finding.verdict in WRONG or self.options.plan:
            self.findings.append(finding)

    def walk(self):
        began = time.monotonic()
        deadline = began + self.options.seconds if self.options.seconds else None
        items = self.plans()
        threads = [threading.Thread(target=self.work, args=(walker, items, deadline)) for walker in self.walkers]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        except KeyboardInterrupt:  # what was seen so far is told
            self.stopped = True
            for thread in threads:
                thread.join()
        if self.error:
            raise self.error
        self.seconds = time.monotonic() - began
        self.complete = next(items, None) is None
        for walker in self.walkers:
            walker.close()

    # ---- the report

    def table(self, title, names):
        print("\n%-14s%8s%9s" % (title, *GOOD) + "".join("%15s" % word for word in WRONG))
        for name in names:
            row = [self.totals[name, verdict] for verdict in GOOD + WRONG]
            if sum(row):
                print("%-14s%8d%9d" % (name, *row[:2]) + "".join("%15d" % number for number in row[2:]))

    def location(self, trace):
        """Functions of the program (and the objects beneath) on the way to the failing call."""
        if not hasattr(self, "symbols"):
            self.symbols = Symbols(self.options.softntk)
        words = []
        for place in trace:
            name, offset = place.rsplit("+", 1)
            words.append(self.symbols.name(int(offset, 16)) if name == "program" else name.split(".so")[0])
        words = [word for i, word in enumerate(words) if i == 0 or word != words[i - 1]]
        return " < ".join(words[:self.options.frames])

    def groups(self):
        found = collections.defaultdict(list)
        for finding in self.findings:
            family = finding.plan.split(":")[0]
            found[finding.verdict, family, self.location(finding.trace)].append(finding)
        return sorted(found.items(), key=lambda item: (item[0][0], -len(item[1])))

    def report(self):
        families = list(dict.fromkeys(family for family, _ in VARIANTS))
        self.table("family", families)
        self.table("command", [command.name for command in self.commands])
        total = {verdict: sum(self.totals[family, verdict] for family in families) for verdict in GOOD + WRONG}
        skipped = sum(sum(outcome.skipped.values()) for outcome in self.counts.values())
        calls = sum(sum(outcome.counts.values()) for outcome in self.counts.values())
        for number, ((verdict, family, place), findings) in enumerate(self.groups()):
            if number == self.options.most:
                print("\n... and %d more kinds" % (len(self.groups()) - number))
                break
            self.show(verdict, family, place, findings)
        for name, why in EXCLUDED.items():
            print("\nnot failed, calls of %s*: %s" % (name, why))
        print("\n%d calls in %d commands, %d left out; %d failed in turn in %.0f s (%s of %d), %d not reached: %s"
              % (calls, len(self.commands), skipped, sum(total.values()), self.seconds,
                 "all" if self.complete else "a sample", planned(self.commands, self.counts), self.unreached,
                 ", ".join("%d %s" % (total[verdict], verdict) for verdict in GOOD + WRONG)))

    def show(self, verdict, family, place, findings):
        first = findings[0]
        names = collections.Counter(finding.command.name for finding in findings)
        print("\n%s, %d x %s: %s" % (verdict, len(findings), family, place))
        print("  in %s" % ", ".join("%s %d" % item for item in names.items()))
        for text in [first.detail] + first.stderr.splitlines()[:4]:
            print("  | %s" % text[:600])
        print("  %s --command %s --plan %s" % (again(self.options), first.command.name, first.plan))


class Symbols:
    """Names of the program's functions, from nm; without it, offsets."""

    def __init__(self, program):
        self.table = []
        try:
            listed = subprocess.run(["nm", "--defined-only", program], stdout=subprocess.PIPE, check=True, text=True).stdout
        except (OSError, subprocess.CalledProcessError):
            return
        for line in listed.splitlines():
            value, kind, name = line.split(maxsplit=2)
            if kind in "tTwW":
                self.table.append((int(value, 16), name))
        self.table.sort()

    def name(self, offset):
        at = bisect.bisect_right(self.table, (offset - 1, "\uffff")) - 1
        return self.table[at][1].split(".")[0] if at >= 0 else hex(offset)


def again(options):
    words = ["--softntk", options.softntk, "--library", options.library]
    if options.h5_list:
        words += ["--h5-list", options.h5_list]
    return " ".join([sys.argv[0]] + words)


def self_test(options, base):
    """Every call of each careless program: its fault is found, and nothing else."""
    wrong = 0
    options.patience = 1
    for fault, verdict in SELF_TEST.items():
        command = Command(fault, fault)
        command.arguments = [fault]
        survey = Survey(options, os.path.join(base, fault), [command])
        survey.walk()
        found = {finding.verdict for finding in survey.findings}
        failed = sum(survey.totals[fault, word] for word in GOOD + WRONG)
        print("%-8s %d calls failed: %s" % (fault, failed, ", ".join(sorted(found)) or "nothing found"))
        wrong += found != ({verdict} if verdict else set()) or failed < 10 or not survey.complete
    return 1 if wrong else 0


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--softntk", required=True, help="the program")
    parser.add_argument("--library", required=True, help="libfail_calls.so")
    parser.add_argument("--h5-list", help="the helper that lists HDF5 files; without it their bytes are compared")
    parser.add_argument("--seconds", type=float, help="time to spend; without it, every call fails once")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--command", help="of these commands alone, separated by commas")
    parser.add_argument("--family", help="of these families alone")
    parser.add_argument("--plan", help="this failing call alone, as in malloc:17 or write:3+:ENOSPC")
    parser.add_argument("--patience", type=int, default=60, help="seconds after which a program hangs")
    parser.add_argument("--self-test", action="store_true", help="the program is careless.c")
    parser.add_argument("--strict", action="store_true", help="an allocation that fails must end in exit 4 or in success")
    parser.add_argument("--exclude", action="append", default=[], metavar="LIBRARY", help="leave its calls alone too (repeat)")
    parser.add_argument("--frames", type=int, default=6, help="how much of the way to a failing call is told")
    parser.add_argument("--most", type=int, default=40, help="kinds of findings that are told in full")
    return parser.parse_args()


def main():
    options = parse()
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # syncing to a disk would take most of the time
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    base = tempfile.mkdtemp(prefix="softntk_walk_", dir=memory)
    try:
        if options.self_test:
            return self_test(options, base)
        names = options.command.split(",") if options.command else None
        survey = Survey(options, base, [command for command in COMMANDS if not names or command.name in names])
        survey.walk()
    finally:
        shutil.rmtree(base, ignore_errors=True)
    survey.report()
    return 1 if any(finding.verdict in WRONG for finding in survey.findings) else 0


if __name__ == "__main__":
    sys.exit(main())
