#!/usr/bin/env python3
"""What the CUDA kernels' machine code says, without a GPU.

Compiles cuda/*.cu for the architectures below and writes bench/cuda_static.json and bench/cuda_static.md: for every
kernel its registers, shared memory, spills and resident blocks; for the fused passes the issue slots per (sample,
neuron), counted in the machine code.

    tools/cuda_static.py [--build DIR]            writes both files
    tools/cuda_static.py --check [--build DIR]    compares with the committed ones

How slots are counted: nvdisasm's listing is cut into basic blocks, natural loops are found by dominators, and each
loop is recognized by the source lines its instructions come from (-lineinfo), which gives its trip count for a shape.
Within a loop the dearest path is taken (so a branch that could be skipped is paid for), without the blocks listed in
COLD, which the shapes here do not reach. The multiply-adds found that way must be exactly those of the formulas, or
the count is an error.

The check: same compiler, then registers, shared memory and spills are equal and slots within 2%; another compiler,
then no spills.

Exit status: 0 done; 1 the check found differences; 77 nvcc or nvdisasm is not available (the reason is printed); 2
anything else.
Needs nvcc and nvdisasm; where nvdisasm is missing, it is installed from PyPI into a virtual environment in DIR
(build/cuda_static unless given).
SPDX-License-Identifier: MIT
"""

import argparse
import collections
import functools
import hashlib
import json
import math
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
ARCHITECTURES = (80, 90, 120)
SOURCES = ("features", "forward", "gradient", "init", "reduce", "tensor")
FLAGS = ["-std=c++17", "-O3", "-lineinfo", "-fmad=false", "-Xptxas=-v"]
SLOT_TOLERANCE = 0.02
SKIPPED = 77

# Per multiprocessor, from the CUDA C++ Programming Guide: "Technical Specifications per Compute Capability"
# (registers, threads, blocks, KiB of shared memory for all blocks and for one), and "Throughput of Native Arithmetic
# Instructions" (float32 multiply-adds and special functions a clock). A block also takes 1 KiB of shared memory for
# the system. Four schedulers each issue one instruction a clock.
LIMITS = {
    80: dict(
        registers=65536, threads=2048, blocks=32, shared_kib=164, block_shared_kib=163, fma=64, mufu=16, name="A100"
    ),
    90: dict(
        registers=65536, threads=2048, blocks=32, shared_kib=228, block_shared_kib=227, fma=128, mufu=16, name="H100"
    ),
    120: dict(
        registers=65536, threads=1536, blocks=24, shared_kib=100, block_shared_kib=99, fma=128, mufu=16, name="RTX 50"
    ),
}
SCHEDULERS, WARP = 4, 32
# Passes over shared memory (128 bytes a clock) of a warp's load or store, by bytes a thread. A 16-byte load whose
# lanes n and n ^ 1, or n and n ^ 2, share their addresses takes 2 instead of 4 (NVIDIA developer forum, thread 77228,
# for compute capability 7.x; later ones are not documented): so numbered are the lanes of the products' loads, see
# cuda/tile.cuh. `shared_bound_4` counts 4 for those too.
PASSES = {4: 1, 8: 2, 16: 4}
SHARED_PASSES = 2

ACTIVATIONS, LAYOUTS = ("softmax", "relu", "exp"), ("plain", "displaced", "paired")
TILE_THREADS, TILE_Y, TILE_X = 128, 16, 8
# The shape that loops around the tiles are counted for.
SAMPLES, WIDTH, MULTIPROCESSORS = 1024, 1 << 20, 132
SLOT_CASES = [
    ("plain", "softmax"),
    ("plain", "relu"),
    ("plain", "exp"),
    ("paired", "softmax"),
    ("paired", "relu"),
    ("paired", "exp"),
]
SLOT_DIMS = (8, 32, 128)


class Missing(Exception):
    """A tool that is not there: the check is skipped."""


class Surprise(Exception):
    """Machine code that this script does not understand."""


# ---- tools and compilation ------------------------------------------------------------------------------------------


def find_nvcc():
    for candidate in (
        os.environ.get("CUDACXX"),
        shutil.which("nvcc"),
        os.path.join(os.environ.get("CUDA_HOME", ""), "bin", "nvcc"),
    ):
        if candidate and os.access(candidate, os.X_OK):
            version = subprocess.run([candidate, "--version"], capture_output=True, text=True, check=True).stdout
            return candidate, re.search(r"V(\d+\.\d+\.\d+)", version).group(1)
    raise Missing("nvcc was not found: put it on the PATH, or set CUDACXX or CUDA_HOME")


def find_nvdisasm(nvcc, build):
    beside = pathlib.Path(nvcc).resolve().parent / "nvdisasm"
    for candidate in (shutil.which("nvdisasm"), beside):
        if candidate and os.access(candidate, os.X_OK):
            return str(candidate)
    environment = build / "tools"
    installed = sorted(environment.glob("lib/python3*/site-packages/nvidia/*/bin/nvdisasm"))
    if not installed:
        how = (
            "install the CUDA toolkit's nvdisasm, or the package nvidia-cuda-nvdisasm from PyPI, and put it on the PATH"
        )
        try:
            subprocess.run([sys.executable, "-m", "venv", str(environment)], capture_output=True, check=True)
            subprocess.run(
                [str(environment / "bin" / "pip"), "install", "--quiet", "nvidia-cuda-nvdisasm"],
                capture_output=True,
                check=True,
            )
        except (OSError, subprocess.CalledProcessError) as error:
            raise Missing(
                f"nvdisasm was not found and could not be installed into {environment} ({error}): {how}"
            ) from error
        installed = sorted(environment.glob("lib/python3*/site-packages/nvidia/*/bin/nvdisasm"))
        if not installed:
            raise Missing(f"nvdisasm was not found, and its package brought none into {environment}: {how}")
    return str(installed[0])


def compile_all(nvcc, version, build):
    """Cubins and ptxas reports by (architecture, source); what is already there for the same sources, flags and
    compiler stays."""
    hashed = hashlib.sha256(repr((version, FLAGS)).encode())
    for path in sorted([*ROOT.glob("cuda/*.cu*"), *ROOT.glob("host/**/*.h"), *ROOT.glob("include/softntk/*.h")]):
        hashed.update(path.read_bytes())
    key = hashed.hexdigest()[:16]
    made = {}
    for architecture in ARCHITECTURES:
        folder = build / f"sm_{architecture}-{key}"
        if not folder.is_dir():
            for old in build.glob(f"sm_{architecture}-*"):
                shutil.rmtree(old)
            folder.mkdir(parents=True)
        for source in SOURCES:
            cubin, report = folder / f"{source}.cubin", folder / f"{source}.txt"
            if not report.exists():
                command = [
                    nvcc,
                    "-cubin",
                    f"-arch=sm_{architecture}",
                    *FLAGS,
                    f"-I{ROOT / 'include'}",
                    f"-I{ROOT / 'host'}",
                    f"-I{ROOT / 'cuda'}",
                    str(ROOT / "cuda" / f"{source}.cu"),
                    "-o",
                    str(cubin),
                ]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode != 0:
                    raise Surprise(f"nvcc failed on cuda/{source}.cu for sm_{architecture}:\n{done.stderr[-4000:]}")
                report.write_text(done.stderr)  # last: its presence says that the cubin is whole
            made[architecture, source] = cubin, report.read_text()
    return made


# ---- kernels' names and shapes --------------------------------------------------------------------------------------

Kernel = collections.namedtuple("Kernel", "source base arguments")  # arguments: types as f32/f64, numbers, booleans


def parse_name(source, mangled):
    """`_ZN..14forward_kernelIfLi0ELi0ELb1ELi8EEEv..` -> Kernel."""
    where = re.search(r"\d+([a-z_]+_kernel)(I|E)", mangled)
    arguments = []
    rest = mangled[where.end() :] if where.group(2) == "I" else ""
    while True:
        match = re.match(r"(f|d)|L(i|b)(\d+)E", rest)
        if not match:
            break
        rest = rest[match.end() :]
        arguments.append({"f": "f32", "d": "f64"}[match.group(1)] if match.group(1) else int(match.group(3)))
    return Kernel(source, re.sub(r"^.*?([a-z]+(_[a-z]+)*_kernel)$", r"\1", where.group(1)), tuple(arguments))


def readable(k):
    if k.source in ("forward", "gradient") and k.base == f"{k.source}_kernel":
        kind, layout, activation, one, rows = k.arguments
        return f"{k.source}<{kind}, {LAYOUTS[layout]}, {ACTIVATIONS[activation]}, {'p=1' if one else 'p>1'}, TI={rows}>"
    if k.source == "tensor":
        layout, activation, *tiles = k.arguments
        inputs = f", d<={16 * tiles[0]}" if tiles else ""
        return f"tensor_{k.base[:-7]}<{LAYOUTS[layout]}, {ACTIVATIONS[activation]}{inputs}>"
    inner = ", ".join(str(a) for a in k.arguments)
    return f"{k.base[:-7]}<{inner}>" if inner else k.base[:-7]


def up(n, to):
    return (n + to - 1) // to * to


Tile = collections.namedtuple("Tile", "V TI TJ TS TN T2 matrices halves size")


def tile_shape(kind, layout, rows):
    """tile_shape of cuda/tile.cuh."""
    v = 4 if kind == "f32" else 2
    tj = 2 * v if layout == "plain" else v
    return Tile(
        v,
        rows,
        tj,
        TILE_Y * rows,
        TILE_X * tj,
        2 * v,
        {"plain": 1, "displaced": 2, "paired": 3}[layout],
        2 if layout == "paired" else 1,
        4 if kind == "f32" else 8,
    )


Plan = collections.namedtuple("Plan", "rows stages dp pp shared_bytes")


def plan_forward(kind, layout, d, p, rows, stages):
    """fits of cuda/forward.cu, but for the limit."""
    s = tile_shape(kind, layout, rows)
    dp, pp = up(d, s.V), 1 if p == 1 else up(p, s.T2)
    reals = (s.TS + 1) * dp + stages * (s.matrices * dp + pp) * s.TN
    if p > 1:
        reals += max((s.TS + 2) * s.TN, s.TS * pp) + s.TS
        if s.TS // s.T2 * (pp // s.T2) > TILE_THREADS:
            return None
    return Plan(rows, stages, dp, pp, reals * s.size)


def plan_gradient(kind, layout, d, p, rows, stages):
    """fits of cuda/gradient.cu, but for the limit."""
    s = tile_shape(kind, layout, rows)
    cols, dp = s.TN * s.halves, up(d, s.T2)
    pp = (s.V - 2 if s.V > 2 else s.V) if p == 1 else up(p + 2, s.V) - 2
    if dp // s.T2 * (cols // s.T2) > TILE_THREADS:
        return None
    reals = max(s.TS, dp) * cols + (s.matrices * dp + pp) * s.TN + stages * ((s.TS + 1) * dp + s.TS * (pp + 2))
    return Plan(rows, stages, dp, pp, reals * s.size)


def choose(source, kind, layout, d, p, architecture):
    """choose of cuda/forward.cu and cuda/gradient.cu: the plan, or None where nothing fits and the backend goes
    through cuBLAS."""
    most = LIMITS[architecture]["block_shared_kib"] * 1024
    heights = [8] if kind == "f32" and (source == "gradient" or p == 1 or layout == "plain") else []
    for limit in ((most - 1024) // 2, most):
        for rows in heights + [4]:
            for stages in (2, 1):
                plan = (plan_forward if source == "forward" else plan_gradient)(kind, layout, d, p, rows, stages)
                if plan and plan.shared_bytes <= limit:
                    return plan
    return None


def tensor_bytes(base, layout, dp):
    """forward_bytes and gradient_bytes of cuda/tensor.cu."""
    matrices, halves = {"plain": 1, "displaced": 2, "paired": 3}[layout], 2 if layout == "paired" else 1
    tn = 64 if layout == "plain" else 32
    if base == "forward_kernel":
        return 4 * (128 * (dp + 8) + 2 * matrices * dp * (tn + 8) + 2 * tn)
    return 4 * (128 * (tn * halves + 8) + matrices * dp * (tn + 8) + tn + 2 * 128 * (dp + 8) + 2 * 128 * 4)


def dynamic_shared(k, architecture):
    """(shape in words, bytes of dynamic shared memory) of a kernel at a typical shape that uses this instance."""
    if k.source == "tensor":
        layout, _, *tiles = k.arguments
        dp = 16 * tiles[0] if tiles else 32
        return f"d={dp}", tensor_bytes(k.base, LAYOUTS[layout], dp)
    if k.base in ("forward_kernel", "gradient_kernel"):
        kind, layout, _, one, rows = k.arguments
        p = 1 if one else 10
        for d in (32, 64, 128, 16, 8, 48, 96, 192, 256):
            plan = choose(k.source, kind, LAYOUTS[layout], d, p, architecture)
            if plan and plan.rows == rows:
                return f"d={d} p={p}", plan.shared_bytes
        return "not chosen", None
    return "", 0


def resident_blocks(architecture, threads, registers, shared):
    """Blocks on a multiprocessor; warps take registers in units of 256."""
    limit = LIMITS[architecture]
    warps = threads // WARP
    by_registers = limit["registers"] // (up(registers * WARP, 256) * warps)
    by_shared = limit["shared_kib"] * 1024 // (up(shared, 128) + 1024)
    return min(by_registers, by_shared, limit["threads"] // threads, limit["blocks"])


def threads_of(k):
    """Block size: the THREADS of its file."""
    return 256 if k.source in ("init", "reduce") else 128


def parse_report(source, text):
    """ptxas -v: {Kernel: resources}."""
    found = {}
    for part in text.split("Compiling entry function '")[1:]:
        spills = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", part)
        used = re.search(r"Used (\d+) registers", part)
        shared = re.search(r"(\d+) bytes smem", part)
        found[parse_name(source, part[: part.index("'")])] = dict(
            registers=int(used.group(1)),
            shared_static=int(shared.group(1)) if shared else 0,
            spill_stores=int(spills.group(1)),
            spill_loads=int(spills.group(2)),
        )
    return found


# ---- machine code ---------------------------------------------------------------------------------------------------

Instruction = collections.namedtuple(
    "Instruction", "op text target conditional frames"
)  # frames: ((file, line), ...), innermost first


def disassemble(nvdisasm, cubin, wanted):
    """{mangled name: [Instruction]} with branch targets as indices, for the names that `wanted` accepts."""
    listing = subprocess.run([nvdisasm, "-c", "-gi", str(cubin)], capture_output=True, text=True, check=True).stdout
    functions = {}
    for part in re.split(r"^\s*\.section\s+\.text\.", listing, flags=re.M)[1:]:
        name = part[: part.index(",")]
        if wanted(name):
            functions[name] = parse_function(part)
    return functions


def parse_function(text):
    labels, rows, frames, fresh = {}, [], (), True
    for line in text.splitlines():
        if line.lstrip().startswith("//## File"):
            here = [(pathlib.Path(f).name, int(n)) for f, n in re.findall(r'"([^"]+)", line (\d+)', line)[:1]]
            frames, fresh = (tuple(here) if fresh else frames + tuple(here)), False
            continue
        label = re.match(r"(\.L_x_\d+):", line)
        if label:
            labels[label.group(1)] = len(rows)
            continue
        code = re.match(r"\s*/\*[0-9a-f]+\*/\s+(.*?)\s*;", line)
        if code:
            rows.append((code.group(1), frames))
            fresh = True
    instructions = []
    for body, where in rows:
        predicate = re.match(r"@(!?U?P\w+)\s+", body)
        bare = body[predicate.end() :] if predicate else body
        op = bare.split()[0]
        name = op.split(".")[0]
        target, conditional = None, bool(predicate)
        if name in ("BRA", "CALL") and "`(" in bare:
            label = re.search(r"`\((\.L_x_\d+)\)", bare)
            if not label:
                raise Surprise(f"a call of another function: {body}")
            target = labels.get(label.group(1))
            # an operand before the target is a second predicate, or the lanes of a branch on divergence, which is
            # never taken here
            conditional = conditional or bare[len(op) : bare.index("`")].strip(" ,") != ""
            if ".DIV" in op:
                target = None
        elif name in ("BRX", "JMP", "JMX"):
            raise Surprise(f"an indirect branch: {body}")
        instructions.append(Instruction(name, bare, target, conditional, where))
    return instructions


class Block:
    """A basic block: instructions [first, last)."""

    def __init__(self, first, last):
        self.first, self.last, self.successors, self.predecessors = first, last, [], []


def basic_blocks(code):
    starts = {0}
    for i, ins in enumerate(code):
        if ins.target is not None:
            starts |= {ins.target, i + 1}
        elif ins.op in ("EXIT", "RET"):
            starts.add(i + 1)
    edges = sorted(s for s in starts if s < len(code)) + [len(code)]
    blocks = [Block(a, b) for a, b in zip(edges, edges[1:])]
    at = {b.first: n for n, b in enumerate(blocks)}
    for n, b in enumerate(blocks):
        end = code[b.last - 1]
        if end.target is not None and end.op in ("BRA", "CALL"):
            b.successors.append(at[end.target])
        # a call of a label of the same function is a long jump: nothing returns
        if b.last < len(code) and (
            end.conditional or end.op not in ("BRA", "CALL", "EXIT", "RET") or (end.op == "BRA" and end.target is None)
        ):
            b.successors.append(at[b.last])
    # what is reached
    seen, stack = {0}, [0]
    while stack:
        for s in blocks[stack.pop()].successors:
            if s not in seen:
                seen.add(s)
                stack.append(s)
    for n in seen:
        for s in blocks[n].successors:
            blocks[s].predecessors.append(n)
    return blocks, seen


def dominators(blocks, reached):
    order, state = [], set()

    def visit(root):
        stack = [(root, iter(blocks[root].successors))]
        state.add(root)
        while stack:
            node, successors = stack[-1]
            step = next((s for s in successors if s not in state), None)
            if step is None:
                order.append(node)
                stack.pop()
            else:
                state.add(step)
                stack.append((step, iter(blocks[step].successors)))

    visit(0)
    order.reverse()
    of = {n: set(reached) for n in reached}
    of[0] = {0}
    changed = True
    while changed:
        changed = False
        for n in order[1:]:
            new = {n} | set.intersection(*(of[p] for p in blocks[n].predecessors))
            if new != of[n]:
                of[n], changed = new, True
    return of


def natural_loops(blocks, reached):
    """{header: blocks of the loop}."""
    of, loops = dominators(blocks, reached), {}
    for n in reached:
        for s in blocks[n].successors:
            if s in of[n]:
                body, stack = loops.setdefault(s, {s}), [n]
                while stack:
                    m = stack.pop()
                    if m not in body:
                        body.add(m)
                        stack.extend(blocks[m].predecessors)
    return loops


# ---- source lines ---------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=None)
def source_lines(name):
    return (ROOT / "cuda" / name).read_text().splitlines()


def region(name, start, end, after=None):
    """Lines of cuda/`name` from the first that matches `start` (behind one that matches `after`) to the next that
    matches `end`."""
    lines, first = source_lines(name), 0
    for pattern in ([after] if after else []) + [start]:
        first = next((i for i in range(first, len(lines)) if re.search(pattern, lines[i])), None)
        if first is None:
            raise Surprise(
                f"cuda/{name} has no line that matches {pattern!r}; REGIONS in this script name lines of the sources"
            )
    last = next((i for i in range(first + 1, len(lines)) if re.search(end, lines[i])), None)
    if last is None:
        raise Surprise(f"cuda/{name} has no line that matches {end!r} after line {first + 1}")
    return name, first + 1, last + 1


def regions():
    return {
        "product": region("tile.cuh", r"tile_product\(", r"^}"),
        "signs": region("tile.cuh", r"load_signs\(", r"^}"),
        "copy elements": region("device.cuh", r"void copy_elements\(", r"^}"),
        "copy": region("device.cuh", r"for \(; row < last;", r"^    }", after=r"void copy_async\("),
        "copy zeros": region("device.cuh", r"for \(; row < to_rows;", r"^    }", after=r"void copy_async\("),
        "copy mixed": region("device.cuh", r"while \(row < to_rows\)", r"^}", after=r"void copy_async\("),
        "beyond the end": region("forward.cu", r"columns beyond the end", r"-INFINITY"),
        "check": region("elements.cuh", r"add_sizes\(", r"^}"),
        "second product": region("gradient.cu", r"if \(group < groups\)", r"gs and the stage"),
        "groups meet": region("gradient.cu", r"for \(int g = 0; g < groups; g\+\+\)", r"store_gradient"),
        "store": region("elements.cuh", r"void store_gradient\(", r"^}"),
    }


# Work that the shapes here (dimensions of 8, aligned, whole tiles) do not reach, and what tells its blocks from the
# tests around them.
COLD = {"copy elements": ("LDGSTS", "STS"), "copy zeros": ("STS",), "beyond the end": ("FSEL",)}


class Counter:
    """Counts the slots of one fused kernel at one shape."""

    def __init__(self, code, k, d, plan):
        self.code, self.gradient = code, k.source == "gradient"
        kind, layout, activation, one, rows = k.arguments
        self.s = tile_shape(kind, LAYOUTS[layout], rows)
        self.d, self.plan = d, plan
        self.blocks, self.reached = basic_blocks(code)
        self.loops = natural_loops(self.blocks, self.reached)
        self.regions = regions()
        s = self.s
        self.cols = s.TN * s.halves
        second_tiles = plan.dp // s.T2 * (self.cols // s.T2)
        self.groups = TILE_THREADS // second_tiles
        self.sample_tiles = -(-SAMPLES // s.TS)
        if self.gradient:
            neuron_tiles = -(-(WIDTH // s.halves) // s.TN)
            splits = max(1, min(4 * MULTIPROCESSORS // neuron_tiles, (self.sample_tiles + 1) // 2))
            self.tiles = -(-self.sample_tiles // splits)
        else:
            columns = WIDTH // s.halves
            wanted = -(-4 * MULTIPROCESSORS // self.sample_tiles)
            self.tiles = min(up(-(-columns // wanted), 64), 8192) // s.TN
            self.chunks = -(-columns // (self.tiles * s.TN))
        self.parent = {
            h: min(
                (o for o in self.loops if o != h and h in self.loops[o]), key=lambda o: len(self.loops[o]), default=None
            )
            for h in self.loops
        }
        self.inner = {
            n: min((h for h in self.loops if n in self.loops[h]), key=lambda h: len(self.loops[h]), default=None)
            for n in self.reached
        }
        self.kinds = {n: self.block_kind(n) for n in self.reached}
        self.trips = self.all_trips()

    def where(self, ins):
        """Region of an instruction, the innermost frame that lies in one."""
        for name, line in ins.frames:
            for label, (file, first, last) in self.regions.items():
                if name == file and first <= line <= last:
                    return label
        return "rest"

    def block_kind(self, n):
        return self.majority(self.code[self.blocks[n].first : self.blocks[n].last])

    def own(self, header):
        """Instructions of a loop that are in no inner loop."""
        return [
            i
            for n in sorted(self.loops[header])
            if self.inner[n] == header
            for i in self.code[self.blocks[n].first : self.blocks[n].last]
        ]

    def called_for(self, instructions):
        """What a copy fills: the array named in the call of copy_async."""
        votes = collections.Counter()
        for ins in instructions:
            for name, line in ins.frames:
                if name in ("forward.cu", "gradient.cu"):
                    match = re.search(r"copy_async<R>\((\w)s\b", " ".join(source_lines(name)[line - 1 : line + 1]))
                    if match:
                        votes[match.group(1)] += 1
        if not votes:
            raise Surprise(f"a copy loop that belongs to no call of copy_async: {instructions[0].frames}")
        return votes.most_common(1)[0][0]

    def is_ahead(self, instructions):
        """Do they belong to the tile that is loaded before the loop over tiles, where there are two stages?"""
        lines = {
            (name, n + 1)
            for name in ("forward.cu", "gradient.cu")
            for n, text in enumerate(source_lines(name))
            if "if (ahead) load_tile" in text
        }
        if len(lines) != 2:
            raise Surprise("cuda/forward.cu and cuda/gradient.cu have no line `if (ahead) load_tile(...)` each")
        return sum(any(f in lines for f in i.frames) for i in instructions) * 2 > len(instructions)

    def vectors(self, array):
        """(vectors of a row, rows) of what a copy fills."""
        s, plan = self.s, self.plan
        return {"x": (plan.dp // s.V, s.TS), "w": (s.TN // s.V, plan.dp), "c": ((plan.pp + 2) // s.V, s.TS)}[array]

    def all_trips(self):
        trips, stores = {}, []
        s, plan = self.s, self.plan
        for header in self.loops:
            own, kind = self.own(header), self.loop_kind(header)
            fma = sum(i.op == "FFMA" for i in own)
            if kind == "product":
                trips[header] = (plan.dp // s.V) // max(1, fma // (s.TI * s.TJ * s.V))
            elif kind == "second product":
                trips[header] = (s.TS // self.groups) // max(1, fma // s.T2**2)
            elif kind in ("copy", "copy mixed"):
                row, rows = self.vectors(self.called_for(own))
                whole = TILE_THREADS % row == 0
                trips[header] = rows * row / TILE_THREADS if whole == (kind == "copy") else 0
                if plan.stages == 1 and self.is_ahead(own):
                    trips[header] = 0
            elif kind == "signs":
                trips[header] = plan.pp * s.TN / TILE_THREADS
            elif kind in COLD:
                trips[header] = 0
            elif kind == "check" and self.parent[header] is None:  # of the inputs, by the blocks of the first chunk
                trips[header] = plan.dp * s.TS / TILE_THREADS / self.chunks
            elif kind == "check":  # of the weights, by the blocks of the first tile of samples
                trips[header] = s.matrices * plan.dp * s.TN / TILE_THREADS / self.sample_tiles
            elif kind == "groups meet":
                trips[header] = self.groups
            elif kind == "store":
                stores.append((sum(i.op == "LDS" for i in own), header))
            elif kind == "tiles":
                trips[header] = self.tiles
            else:
                lines = sorted({f for i in own for f in i.frames})
                raise Surprise(f"a loop with unknown trip count, from {lines}")
        left = self.d * self.cols // TILE_THREADS  # an unrolled loop and its rest
        for unroll, header in sorted(stores, reverse=True):
            trips[header], left = left // max(1, unroll), left % max(1, unroll)
        return trips

    def factor(self, n):
        """How often a block runs where its loop's body runs once, if not once."""
        kind = self.kinds[n]
        body = self.code[self.blocks[n].first : self.blocks[n].last]
        if kind in COLD and any(i.op in COLD[kind] for i in body):
            return 0
        if kind == "product" and self.is_rest(n, self.s.TI * self.s.TJ * self.s.V, self.plan.dp // self.s.V):
            return 0
        if kind == "second product" and self.is_rest(n, self.s.T2**2, self.s.TS // self.groups):
            return 0
        if kind == "groups meet":
            lanes = min(self.groups, max(1, WARP * self.groups // TILE_THREADS))  # groups of a warp take turns
            return lanes / self.groups
        return 1

    def is_rest(self, n, fma, times):
        """Is block n the odd step of an unrolled product of `times` steps, where the unrolled loop leaves none?"""
        body = self.code[self.blocks[n].first : self.blocks[n].last]
        mine = sum(i.op == "FFMA" for i in body) // fma
        loop = self.inner[n]
        if not mine or (loop is not None and self.loop_kind(loop) == self.kinds[n]):
            return False
        unrolls = [
            sum(i.op == "FFMA" for i in self.own(h)) // fma for h in self.loops if self.loop_kind(h) == self.kinds[n]
        ]
        return not unrolls or times % max(unrolls) == 0

    def loop_kind(self, header):
        """The loop over tiles is the one around the product; others by their own instructions, or by all where those
        are but the way to an inner loop."""
        inner = [h for h in self.loops if h != header and h in self.loops[header]]
        if any(self.majority(self.own(h)) == "product" for h in inner):
            return "tiles"
        own = self.majority(self.own(header))
        return (
            own
            if own != "rest"
            else self.majority(
                [i for n in self.loops[header] for i in self.code[self.blocks[n].first : self.blocks[n].last]]
            )
        )

    def majority(self, instructions):
        return collections.Counter(self.where(i) for i in instructions).most_common(1)[0][0]

    def block_cost(self, n):
        b, cost, factor = self.blocks[n], collections.Counter(), self.factor(n)
        for ins in self.code[b.first : b.last]:
            for label in classes(ins, self.where(ins)):
                cost[label] += factor
        return cost

    def path(self, header, body):
        """Dearest way through `body` from `header` to a back edge (or, of the whole kernel, to an exit), inner loops
        taken as one step."""
        within = {n for n in body if self.inner[n] == header}
        steps = {n: (n, self.block_cost(n)) for n in within}
        for h in self.loops:
            if self.parent[h] == header:
                inner = collections.Counter() if self.trips[h] == 0 else self.path(h, self.loops[h])
                steps[h] = (h, collections.Counter({label: count * self.trips[h] for label, count in inner.items()}))

        def successors(n):
            members = self.loops[n] if n in self.loops and n != header else {n}
            out = {t for m in members for t in self.blocks[m].successors if t not in members}
            result = set()
            for t in out:
                if t == header or t not in body:
                    continue
                while t not in steps:  # an edge into the middle of a collapsed loop would not be a natural loop's
                    t = self.inner[t]
                result.add(t)
            return result

        @functools.lru_cache(maxsize=None)
        def best(n):
            cost, onward = steps[n][1], successors(n)
            if not onward:
                return cost["slots"], cost
            ways = [way for way in (best(t) for t in onward if self.allowed(t)) if way is not None]
            if not ways:
                return None  # this block leads to work that is not reached
            further = max(ways, key=lambda way: way[0])
            return cost["slots"] + further[0], cost + further[1]

        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(max(limit, 10000))
        try:
            way = best(header if header is not None else 0)
        finally:
            sys.setrecursionlimit(limit)
        if way is None:
            raise Surprise("no way through a loop without work that these shapes do not reach")
        return way[1]

    def allowed(self, n):
        return not (n in self.trips and self.trips[n] == 0) and self.factor(n) > 0

    def count(self):
        """Slots per (sample, neuron), by class, loops around the tiles spread over their tiles."""
        total = self.path(None, self.reached)
        per = self.s.TI * self.s.TJ * self.s.halves * self.tiles
        found = {label: count / per for label, count in total.items()}
        self.must_be(found, "product FFMA", self.d * self.s.matrices / self.s.halves)
        if self.gradient:  # every thread has T2^2 sums over TS / groups samples
            per = self.s.TI * self.s.TJ * self.s.halves
            self.must_be(found, "second product FFMA", self.s.T2**2 * (self.s.TS // self.groups) / per)
        return found

    @staticmethod
    def must_be(found, label, wanted):
        if abs(found.get(label, 0) - wanted) > 1e-9:
            raise Surprise(f"{label}: {found.get(label, 0):g} per element in the code, {wanted:g} in the formula")


FP32 = {"FADD", "FMUL", "FFMA"}
COMPARE = {"FMNMX", "FMNMX3", "FSETP", "FSET", "FSEL", "FCHK"}
SHARED = {"LDS", "STS"}
GLOBAL = {"LDG", "STG", "LDGSTS", "LDL", "STL", "LD", "ST"}
CONTROL = {
    "BRA",
    "BAR",
    "BSSY",
    "BSYNC",
    "WARPSYNC",
    "EXIT",
    "CALL",
    "RET",
    "NOP",
    "DEPBAR",
    "LDGDEPBAR",
    "BREAK",
    "BMOV",
    "YIELD",
    "ERRBAR",
    "MEMBAR",
}
CONVERT = {"I2F", "F2I", "F2F", "FRND", "I2FP", "F2FP"}


def classes(ins, where):
    """Labels that an instruction adds one to."""
    yield "slots"
    if ins.op in FP32:
        yield ins.op
        if ins.op == "FFMA" and where in ("product", "second product"):
            yield f"{where} FFMA"
    elif ins.op in COMPARE:
        yield "compare"
    elif ins.op == "MUFU":
        yield "MUFU"
    elif ins.op in SHARED:
        yield "shared"
        width = 16 if ".128" in ins.text.split()[0] else 8 if ".64" in ins.text.split()[0] else 4
        dummy = "[RZ]" in ins.text  # issued before an asynchronous copy, with a false predicate
        kind = (
            f"{where} loads" if ins.op == "LDS" and width == 16 and where in ("product", "second product") else "passes"
        )
        kind = "conflicting" if ins.op == "STS" and width == 16 else kind
        if not dummy:
            for _ in range(PASSES[width]):
                yield kind
    elif ins.op in GLOBAL:
        yield "global"
        if ins.op == "LDGSTS":
            for _ in range(PASSES[16]):
                yield "passes"
    elif ins.op in CONTROL:
        yield "control"
    elif ins.op in CONVERT:
        yield "convert"
    else:
        yield "integer"


CLASSES = ("FFMA", "FADD", "FMUL", "compare", "MUFU", "convert", "shared", "global", "integer", "control")


def bounds(found, architecture, merges):
    """`merges`: the second product's loads of G share addresses pairwise. Shares of the FP32 rate that each unit
    allows: this pass's FP32 time over the unit's time."""
    limit = LIMITS[architecture]
    pipe = sum(found.get(op, 0) for op in FP32)
    # clocks of a multiprocessor for a warp's instruction
    fp32 = pipe * WARP / limit["fma"]
    product, second = found.get("product loads", 0), found.get("second product loads", 0)
    # stores of G: two rows of eight threads meet in a bank
    other = found.get("passes", 0) + 2 * found.get("conflicting", 0)
    merged = product * SHARED_PASSES / PASSES[16] + second * (
        SHARED_PASSES / PASSES[16] if merges else (SHARED_PASSES + PASSES[16]) / 2 / PASSES[16]
    )
    result = {
        "issue_bound": fp32 / (found["slots"] / SCHEDULERS),
        "mufu_bound": fp32 / (found["MUFU"] * WARP / limit["mufu"]) if found.get("MUFU") else math.inf,
        "shared_bound": fp32 / (other + merged),
        "shared_bound_4": fp32 / (other + product + second),
    }
    result = {name: round(min(1.0, value), 4) for name, value in result.items()}
    result["peak_share"] = min(result["issue_bound"], result["mufu_bound"], result["shared_bound"])
    return result


def hand_count(gradient, layout, activation, d):
    """Formula slots per (sample, neuron) at p = 1, exponentials apart; see cuda/forward.cu and gradient.cu. Pairs
    share their base's logit."""
    if layout != "plain":
        return None
    exponential = activation != "relu"
    if gradient:
        return 2 * d + 1 + 2 + exponential  # RA, minus c, times S, and the exponent
    return d + 1 + exponential + (2 if activation == "softmax" else 0)  # signed sum, exponent, maximum and sum


# ---- the tables -----------------------------------------------------------------------------------------------------


def measure(build):
    nvcc, version = find_nvcc()
    nvdisasm = find_nvdisasm(nvcc, build)
    made = compile_all(nvcc, version, build)
    kernels, slots = {}, []
    for architecture in ARCHITECTURES:
        for source in SOURCES:
            for k, resources in parse_report(source, made[architecture, source][1]).items():
                shape, dynamic = dynamic_shared(k, architecture)
                resources["threads"] = threads_of(k)
                resources["shape"] = shape
                resources["shared_dynamic"] = dynamic
                total = None if dynamic is None else resources["shared_static"] + dynamic
                resources["resident_blocks"] = (
                    0
                    if total is None
                    else resident_blocks(architecture, resources["threads"], resources["registers"], total)
                )
                kernels.setdefault(readable(k), {})[f"sm_{architecture}"] = resources
        for source in ("forward", "gradient"):
            wanted = {}
            for layout, activation in SLOT_CASES:
                for d in SLOT_DIMS:
                    plan = choose(source, "f32", layout, d, 1, architecture)
                    if plan:
                        k = Kernel(
                            source,
                            f"{source}_kernel",
                            ("f32", LAYOUTS.index(layout), ACTIVATIONS.index(activation), 1, plan.rows),
                        )
                        wanted.setdefault(k, []).append((layout, activation, d, plan))
            code = disassemble(
                nvdisasm, made[architecture, source][0], lambda n: "_kernel" in n and parse_name(source, n) in wanted
            )
            for mangled, instructions in code.items():
                k = parse_name(source, mangled)
                for layout, activation, d, plan in wanted[k]:
                    found = Counter(instructions, k, d, plan).count()
                    row = dict(
                        arch=f"sm_{architecture}",
                        kernel=source,
                        layout=layout,
                        activation=activation,
                        d=d,
                        rows=plan.rows,
                        stages=plan.stages,
                        slots=round(found["slots"], 3),
                    )
                    row.update({c: round(found.get(c, 0), 3) for c in CLASSES})
                    row["ffma_share"] = round(found["FFMA"] / found["slots"], 4)
                    row["hand_count"] = hand_count(source == "gradient", layout, activation, d)
                    row.update(bounds(found, architecture, plan.dp // 8 % 2 == 0))
                    slots.append(row)
    slots.sort(
        key=lambda r: (
            int(r["arch"][3:]),
            r["kernel"],
            r["layout"] != "plain",
            ACTIVATIONS.index(r["activation"]),
            r["d"],
        )
    )
    return dict(
        nvcc=version,
        flags=" ".join(FLAGS),
        samples=SAMPLES,
        width=WIDTH,
        kernels=dict(sorted(kernels.items())),
        slots=slots,
    )


def as_json(table):
    """One record a line, so that a change shows as such."""
    lines = ["{"]
    for key in ("nvcc", "flags", "samples", "width"):
        lines.append(f' "{key}": {json.dumps(table[key])},')
    lines.append(' "kernels": {')
    lines.append(",\n".join(f"  {json.dumps(name)}: {json.dumps(record)}" for name, record in table["kernels"].items()))
    lines.append(' },\n "slots": [')
    lines.append(",\n".join(f"  {json.dumps(record)}" for record in table["slots"]))
    lines.append(" ]\n}\n")
    return "\n".join(lines)


def percent(share):
    return f"{100 * share:.0f}%"


def as_markdown(table):
    out = [
        "# Static evidence for the CUDA kernels",
        "",
        f"Made by `tools/cuda_static.py` with nvcc {table['nvcc']} (`{table['flags']}`). **Read from machine code, not "
        "measured on a GPU.** [MODEL.md](MODEL.md) says what the figures mean and what they leave out.",
        "",
        "## Issue slots of the fused passes",
        "",
        f"Per (sample, neuron), float32, p = 1, at n = {table['samples']}, m = {table['width']}; work around the tiles "
        "(copies in front, sums at the end) is spread over them. `tile` is the samples of a tile and the stages of its "
        "copies. `hand` is the formula's count of FP32 slots, maxima among them, exponentials apart. `issue`, `MUFU` "
        "and `shared` are the shares of the FP32 rate that the schedulers, the special function unit and shared memory "
        "allow (`shared/4`: if no 16-byte load merged equal addresses); `predicted` is the least of the first three.",
        "",
    ]
    head = [
        "pass",
        "layout",
        "activation",
        "d",
        "tile",
        "slots",
        *CLASSES,
        "hand",
        "FFMA share",
        "issue",
        "MUFU",
        "shared",
        "shared/4",
        "predicted",
    ]
    for architecture in ARCHITECTURES:
        limit = LIMITS[architecture]
        out += [
            f"### sm_{architecture} ({limit['name']}: {limit['fma']} multiply-adds a clock and multiprocessor)",
            "",
            "| " + " | ".join(head) + " |",
            "|" + " --- |" * len(head),
        ]
        for r in table["slots"]:
            if r["arch"] != f"sm_{architecture}":
                continue
            cells = [
                r["kernel"],
                r["layout"],
                r["activation"],
                str(r["d"]),
                f"{16 * r['rows']} x{r['stages']}",
                f"{r['slots']:.1f}",
                *(f"{r[c]:.2f}" for c in CLASSES),
                "" if r["hand_count"] is None else str(r["hand_count"]),
                percent(r["ffma_share"]),
                percent(r["issue_bound"]),
                percent(r["mufu_bound"]),
                percent(r["shared_bound"]),
                percent(r["shared_bound_4"]),
                percent(r["peak_share"]),
            ]
            out.append("| " + " | ".join(cells) + " |")
        out.append("")
    spilled = sum(r["spill_stores"] + r["spill_loads"] for record in table["kernels"].values() for r in record.values())
    out += [
        "## Registers, shared memory, resident blocks",
        "",
        f"{len(table['kernels'])} kernels; bytes spilled, over all of them and all architectures: {spilled}. Shared "
        "memory is static + dynamic bytes a block, dynamic at the shape named, the first of a few for which the plans "
        "choose this instance; blocks are those resident on a multiprocessor. Where architectures differ: "
        f"{' / '.join(f'sm_{a}' for a in ARCHITECTURES)}.",
        "",
        "| kernel | threads | registers | shared memory | shape | blocks |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, record in table["kernels"].items():
        each = [record[f"sm_{a}"] for a in ARCHITECTURES]
        shared = ["-" if r["shared_dynamic"] is None else str(r["shared_static"] + r["shared_dynamic"]) for r in each]
        columns = [
            [str(r["registers"]) for r in each],
            shared,
            [r["shape"] for r in each],
            [str(r["resident_blocks"]) if r["resident_blocks"] else "-" for r in each],
        ]
        cells = [c[0] if len(set(c)) == 1 else " / ".join(c) for c in columns]
        out.append(f"| `{name}` | {each[0]['threads']} | " + " | ".join(cells) + " |")
    return "\n".join(out) + "\n"


def differences(old, new):
    """What a check finds; notes are for the reader."""
    found, notes = [], []
    for name, record in new["kernels"].items():
        for architecture, r in record.items():
            if r["spill_stores"] or r["spill_loads"]:
                spilled = f"{r['spill_stores']} bytes stored, {r['spill_loads']} loaded"
                found.append(f"{name}, {architecture}: spills {spilled}; 0 wanted")
    if old["nvcc"] != new["nvcc"] or old["flags"] != new["flags"]:
        notes.append(
            f"the committed table is nvcc {old['nvcc']}'s, this compiler is {new['nvcc']}: only spills are compared"
        )
        return found, notes
    for name in sorted(old["kernels"].keys() ^ new["kernels"].keys()):
        found.append(f"{name}: {'is gone' if name in old['kernels'] else 'is not in the committed table'}")
    for name in sorted(old["kernels"].keys() & new["kernels"].keys()):
        for architecture, r in new["kernels"][name].items():
            was = old["kernels"][name].get(architecture, {})
            changed = [f"{key} {was.get(key)} -> {r[key]}" for key in r if was.get(key) != r[key]]
            if changed:
                found.append(f"{name}, {architecture}: {', '.join(changed)}")

    def case(r):
        return tuple(r[key] for key in ("arch", "kernel", "layout", "activation", "d"))

    before = {case(r): r for r in old["slots"]}
    for r in new["slots"]:
        was = before.pop(case(r), None)
        if was is None:
            found.append(f"slots of {case(r)} are not in the committed table")
            continue
        for key in ("slots", "FFMA", "FADD", "FMUL", "compare", "MUFU", "shared"):
            if abs(r[key] - was[key]) > SLOT_TOLERANCE * was["slots"]:
                found.append(f"{key} of {case(r)}: {was[key]} -> {r[key]}")
    found += [f"slots of {gone} are gone" for gone in before]
    return found, notes


def main():
    parser = argparse.ArgumentParser(
        description="Registers, shared memory, spills and issue slots of the CUDA kernels, from their machine code."
    )
    parser.add_argument("--check", action="store_true", help="compare with the committed table and write nothing")
    parser.add_argument(
        "--build", type=pathlib.Path, default=ROOT / "build" / "cuda_static", help="folder for cubins and tools"
    )
    arguments = parser.parse_args()
    arguments.build.mkdir(parents=True, exist_ok=True)
    try:
        table = measure(arguments.build.resolve())
    except Missing as reason:
        print(f"skipped: {reason}")
        return SKIPPED
    except Surprise as reason:
        print(f"cuda_static.py: {reason}", file=sys.stderr)
        return 2
    if not arguments.check:
        (ROOT / "bench" / "cuda_static.json").write_text(as_json(table))
        (ROOT / "bench" / "cuda_static.md").write_text(as_markdown(table))
        print(
            f"bench/cuda_static.json and .md written: {len(table['kernels'])} kernels, {len(table['slots'])} counts, "
            f"nvcc {table['nvcc']}"
        )
        return 0
    found, notes = differences(json.loads((ROOT / "bench" / "cuda_static.json").read_text()), table)
    for note in notes:
        print(f"note: {note}")
    for difference in found:
        print(difference)
    if found:
        print(f"{len(found)} differences; where they are meant, run tools/cuda_static.py and commit the tables")
        return 1
    kernels = f"{len(table['kernels'])} kernels on {', '.join(f'sm_{a}' for a in ARCHITECTURES)}, no spills"
    print(
        kernels if notes else f"as committed: {kernels}, {len(table['slots'])} slot counts within {SLOT_TOLERANCE:.0%}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
